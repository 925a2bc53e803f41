"""Reading rows into series: the hot path, and the last word of rows that leave the kernel.

A row is looked up by its raw key; one that did not change costs one lookup and one comparison.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from flowlens import metrics
from flowlens.series import book, rows
from flowlens.series.store import Store

if TYPE_CHECKING:
    from flowlens.kernel import reading

MAX_GONE = 65536
"""Rows that left the kernel and may still wait for their owner's name."""
_GAUGES = frozenset(metric.number for metric in metrics.CATALOGUE if metric.kind is metrics.Kind.GAUGE)


def absorb(store: Store, table: reading.Table, now: int) -> None:
    """Adds what each row gained since it was last read to the series it belongs to."""
    if not table.count:
        return
    position = store.rows.index.get
    seen_counts, seen_sums = store.rows.counts, store.rows.sums
    keys = struct.iter_unpack(f"{len(table.keys) // table.count}s", table.keys)
    for (key,), (count, total) in zip(keys, struct.iter_unpack("<QQ", table.values), strict=True):
        row = position(key)
        if row is None:
            _adopt(store, key, (count, total), now)
        elif count != seen_counts[row] or total != seen_sums[row]:
            _advance(store, key, (count, total), now)


def _advance(store: Store, key: bytes, value: tuple[int, int], now: int) -> None:
    known, row = store.rows, store.rows.index[key]
    count, total = value
    before, sum_before = known.counts[row], known.sums[row]
    if count < before and key[rows.METRIC_AT] not in _GAUGES:
        before = sum_before = 0  # somebody deleted the row, and the kernel made it anew
        store.offsets.pop(key, None)
    store.credit(known.slots[row], count - before, total - sum_before, now)
    known.counts[row], known.sums[row], known.touched[row] = count, total, now
    store.blamed[known.blame[row]] += count - before


def _adopt(store: Store, key: bytes, value: tuple[int, int], now: int) -> None:
    """A row that is not known: a new one, or one that expired and was not deleted yet."""
    count = value[0]
    if not count and key.startswith(rows.NO_OWNER):
        return  # made in advance, not needed so far
    ghost = store.ghosts.get(key)
    if ghost == value:
        store.ghosts_seen.add(key)
        return
    store.ghosts.pop(key, None)
    if ghost and count < ghost[0] and key[rows.METRIC_AT] not in _GAUGES:
        ghost = None  # deleted and made anew
        store.offsets.pop(key, None)
    place = store.place(key)
    if place is None:
        store.rows.add(key, (book.TRASH, 0), value, now)
        store.unplaced[key] = ghost is None
        return
    slot, blame = place
    row = store.rows.add(key, place, value, now)
    store.credit(slot, *store.share(key, row), now)
    store.blamed[blame] += count - ghost[0] if ghost else count


def settle_names(store: Store, now: int) -> None:
    """Places the rows whose names have arrived."""
    for key, is_new in list(store.unplaced.items()):
        place = store.place(key)
        if place is not None:
            _settle(store, key, place, now, is_new=is_new)


def _settle(store: Store, key: bytes, place: tuple[int, int], now: int, *, is_new: bool) -> None:
    slot, blame = place
    row = store.rows.index[key]
    store.rows.slots[row], store.rows.blame[row] = slot, blame
    store.credit(slot, *store.share(key, row), now)
    del store.unplaced[key]
    if is_new:
        store.blamed[blame] += store.rows.counts[row]
    if key in store.gone:
        _leave(store, key)


def lay_ghosts(store: Store) -> None:
    """Forgets expired rows that the last update did not find any more."""
    for key in store.ghosts.keys() - store.ghosts_seen:
        del store.ghosts[key]
        if key not in store.rows.index:
            store.offsets.pop(key, None)
    store.ghosts_seen.clear()


def retire(store: Store, table: reading.Table, now: int) -> None:
    """Takes the final values of rows that the kernel deleted, and forgets the rows."""
    if not table.count:
        return
    absorb(store, table, now)
    for (key,) in struct.iter_unpack(f"{len(table.keys) // table.count}s", table.keys):
        store.ghosts.pop(key, None)
        if key not in store.rows.index:
            store.offsets.pop(key, None)
        elif key not in store.unplaced:
            _leave(store, key)
        elif len(store.gone) < MAX_GONE:
            store.gone.add(key)
        else:
            _give_up_waiting(store, key, now)


def _give_up_waiting(store: Store, key: bytes, now: int) -> None:
    place = store.place(key, may_wait=False)
    if place is not None:
        _settle(store, key, place, now, is_new=store.unplaced[key])
    _leave(store, key)


def _leave(store: Store, key: bytes) -> None:
    row = store.rows.index[key]
    slot = store.rows.slots[row]
    if key[rows.METRIC_AT] in _GAUGES:
        store.credit(slot, -store.rows.counts[row], 0, 0)
    store.anchor(key, slot)
    store.forget(key)

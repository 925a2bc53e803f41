"""New labels, new names, another selection: rows count into other series from now on.

No value is lost or counted twice: what a row gave to the series it leaves stays there (`offsets`),
and what rows gave that the kernel has no more is carried over label by label.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flowlens import config, metrics
from flowlens.series import book, labels, naming, rows
from flowlens.series.store import Store


class Settled(NamedTuple):
    """What a series holds that no row accounts for any more: numbers per slot."""

    text: str
    counts: list[int]
    sums: list[int]
    touched: int
    anchor: bytes | None
    is_other: bool


def rebuild(store: Store, number: int, wanted: config.MetricConfig | None, now: int) -> None:
    """Opens the book of a metric anew under other labels or buckets; None: the metric is off.

    Other buckets, or off: what has been counted so far is dropped, as far as no row holds it.
    """
    old = store.books.pop(number, None)
    members = store.rows.of_metric(number)
    settled = _settled(store, old, members) if old else []
    if old:
        old.close()
    if wanted is None:
        _set_aside(store, members)
        return
    new = store.books[number] = book.Book(wanted, store.slots, store.budget)
    for key, row in members:
        _place_again(store, key, row, now)
    if old and old.wanted.buckets == wanted.buckets:
        for entry in settled:
            _carry_over(store, new, entry)


def _settled(store: Store, old: book.Book, members: Iterable[tuple[bytes, int]]) -> list[Settled]:
    for key, row in members:
        slot = store.rows.slots[row]
        if slot != book.TRASH:
            count, total = store.share(key, row)
            store.credit(slot, -count, -total, 0)
    found = []
    for text, base in old.names.items():
        span = slice(base, base + old.width)
        counts, sums = store.slots.counts[span].tolist(), store.slots.sums[span].tolist()
        if any(counts) and not old.is_gauge:
            touched = max(store.slots.touched[span])
            found.append(Settled(text, counts, sums, touched, old.anchors.get(base), base in old.others))
    return found


def _set_aside(store: Store, members: Iterable[tuple[bytes, int]]) -> None:
    for key, row in members:
        store.rows.slots[row], store.rows.blame[row] = book.TRASH, 0
        store.unplaced.pop(key, None)
        if key in store.gone:
            store.forget(key)


def _place_again(store: Store, key: bytes, row: int, now: int) -> None:
    if key in store.unplaced:
        return
    place = store.place(key)
    if place is None:
        store.unplaced[key] = False
        place = (book.TRASH, store.rows.blame[row])
    store.rows.slots[row], store.rows.blame[row] = place
    store.credit(place[0], *store.share(key, row), min(now, store.rows.touched[row]))


def _carry_over(store: Store, new: book.Book, entry: Settled) -> None:
    """Labels that the old set did not have are shown as `other`: nobody can say them any more."""
    had = labels.read(entry.text)
    values = {label: had.get(label, metrics.OTHER) for label in new.wanted.labels}
    if "node" in values:
        values["node"] = store.namer.node.node
    kept = (
        (label, value if naming.keeps(new.metric, label) else metrics.OTHER)
        for label, value in values.items()
    )
    base = store.series_slot(new, labels.write(values.items()), labels.write(kept))
    for index, (count, total) in enumerate(zip(entry.counts, entry.sums, strict=True)):
        store.credit(base + index, count, total, entry.touched)
    if entry.is_other:
        new.others.add(base)
    if entry.anchor is not None and not new.wanted.flow_labels:
        new.anchors[base] = entry.anchor


def move(store: Store, keys: Iterable[bytes], now: int) -> None:
    """Names these rows again; those that are called otherwise now count elsewhere from here on.

    A series that loses its last row because the row is not to be exposed any more is dropped. A row
    that was not exposed brings all it has into a series that it opens, nothing into an existing one.
    """
    existing = [frozenset(pages.names.values()) for pages in store.books.values()]
    known = frozenset().union(*existing)
    hidden: dict[int, list[bytes]] = {}
    for key in keys:
        row = store.rows.index[key]
        place = None if key in store.unplaced else store.place(key)
        if place is None or place[0] == store.rows.slots[row]:
            continue
        slot, store.rows.blame[row] = place
        before, store.rows.slots[row] = store.rows.slots[row], slot
        if slot == book.TRASH:
            hidden.setdefault(before, []).append(key)
        elif before == book.TRASH:
            _expose(store, key, row, now, is_known=_base(store, key, slot) in known)
        else:
            _leave_for(store, key, row, before, now)
    if hidden:
        _drop_deserted(store, hidden)


def _base(store: Store, key: bytes, slot: int) -> int:
    """First slot of the series that a row's slot belongs to."""
    pages = store.books[key[rows.METRIC_AT]]
    if not pages.is_histogram:
        return slot
    return slot - min(int.from_bytes(key[rows.DETAIL_AT : rows.PORTS_AT], "little"), pages.width - 1)


def _is_gauge(store: Store, key: bytes) -> bool:
    return store.books[key[rows.METRIC_AT]].is_gauge


def _expose(store: Store, key: bytes, row: int, now: int, *, is_known: bool) -> None:
    if is_known and not _is_gauge(store, key):
        store.offsets[key] = (store.rows.counts[row], store.rows.sums[row])
    store.credit(store.rows.slots[row], *store.share(key, row), now)


def _leave_for(store: Store, key: bytes, row: int, before: int, now: int) -> None:
    if _is_gauge(store, key):
        store.credit(before, -store.rows.counts[row], 0, 0)
        store.credit(store.rows.slots[row], store.rows.counts[row], 0, now)
    else:
        store.offsets[key] = (store.rows.counts[row], store.rows.sums[row])
        store.anchor(key, before)


def _drop_deserted(store: Store, hidden: dict[int, list[bytes]]) -> None:
    """Series whose last row was hidden go; where others remain, what the row gave remains too."""
    occupied = frozenset(store.rows.slots)
    deserted: dict[int, set[int]] = {}
    for slot, keys in hidden.items():
        number = keys[0][rows.METRIC_AT]
        pages, base = store.books[number], _base(store, keys[0], slot)
        if occupied.isdisjoint(range(base, base + pages.width)):
            deserted.setdefault(number, set()).add(base)
            continue
        for key in keys:
            row = store.rows.index[key]
            if pages.is_gauge:
                store.credit(slot, -store.rows.counts[row], 0, 0)
            else:
                store.offsets[key] = (store.rows.counts[row], store.rows.sums[row])
    for number, bases in deserted.items():
        pages = store.books[number]
        for text in [text for text, base in pages.names.items() if base in bases]:
            pages.drop(text)

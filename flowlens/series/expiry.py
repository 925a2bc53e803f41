"""Forgetting: flows that have been still for long, and what owners left that are gone.

A series goes with its last row; one that still has rows keeps what the expired ones gave. Rows of
collapsed label sets leave their numbers in the `other` row, which stays.
"""

from __future__ import annotations

from collections.abc import Callable

from flowlens import identity, metrics
from flowlens.series import book, naming, rows
from flowlens.series.store import Store

Alive = Callable[[identity.Owner], bool]
_CONNECTIONS = metrics.BY_NAME["connections"].number


def expire(store: Store, before: int, alive: Alive) -> list[bytes]:
    """Drops what has not moved since second `before`; keys of the rows that the kernel may delete.

    An owner with open connections keeps its rows, and so do the rows made in advance.
    """
    living = _Living(store, alive)
    doomed = [key for key, row in store.rows.index.items() if _is_doomed(store, key, row, before, living)]
    left = []
    for key in doomed:
        row = store.rows.index[key]
        store.ghosts[key] = (store.rows.counts[row], store.rows.sums[row])
        left.append(store.rows.slots[row])
        store.rows.remove(key)
    dropped = _drop_empty(store, before, living)
    for key, slot in zip(doomed, left, strict=True):
        if slot != book.TRASH and slot not in dropped:
            store.offsets[key] = store.ghosts[key]
    return list(store.ghosts)


class _Living:
    """Who is there, asked once per owner."""

    def __init__(self, store: Store, alive: Alive) -> None:
        self._alive = alive
        self._known: dict[bytes, bool] = {rows.NO_OWNER: True}
        for key, row in store.rows.of_metric(_CONNECTIONS):
            if store.rows.counts[row]:
                self._known[key[: rows.OWNER_BYTES]] = True

    def __contains__(self, owner: bytes) -> bool:
        if owner not in self._known:
            self._known[owner] = self._alive(naming.as_owner(owner))
        return self._known[owner]


def _is_doomed(store: Store, key: bytes, row: int, before: int, living: _Living) -> bool:
    if store.rows.touched[row] > before or key in store.unplaced:
        return False
    return len(key) == rows.FLOW_KEY or key[: rows.OWNER_BYTES] not in living


def _drop_empty(store: Store, before: int, living: _Living) -> set[int]:
    """Drops series without rows; returns the slots they had."""
    occupied = frozenset(store.rows.slots)
    dropped: set[int] = set()
    for pages in store.books.values():
        if pages.is_live:
            continue
        for text, base in list(pages.names.items()):
            span = range(base, base + pages.width)
            if occupied.isdisjoint(span) and _may_go(store, pages, base, before, living):
                pages.drop(text)
                dropped.update(span)
    return dropped


def _may_go(store: Store, pages: book.Book, base: int, before: int, living: _Living) -> bool:
    if pages.is_gauge:
        return True
    if base in pages.others or max(store.slots.touched[base : base + pages.width]) > before:
        return False
    anchor = pages.anchors.get(base)
    return anchor is None or anchor not in living

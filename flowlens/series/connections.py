"""Open connections by flow labels: counted afresh at each reading, since they come one row each.

Nothing is remembered of a connection that has closed; a series without connections is not shown.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from flowlens import metrics
from flowlens.series import book, rows
from flowlens.series.store import Store

if TYPE_CHECKING:
    from flowlens.kernel import reading

_NUMBER = metrics.BY_NAME["connections"].number


class Open:
    """Slots of the connections that were open at the last reading, by raw key."""

    def __init__(self) -> None:
        self._slots: dict[bytes, int] = {}

    def forget(self, owners: frozenset[bytes] | None = None) -> None:
        """Names the connections of these owners (None: all) again at the next reading."""
        kept = self._slots.items() if owners is not None else ()
        self._slots = {key: slot for key, slot in kept if key[: rows.OWNER_BYTES] not in (owners or ())}

    def count(self, store: Store, table: reading.Table, now: int) -> None:
        """Sets every series of the metric to what is open now."""
        pages = store.books.get(_NUMBER)
        if pages is None or not pages.is_live:
            self._slots = {}
            return
        for slot in pages.names.values():
            store.slots.counts[slot] = 0
        if table.count:
            self._slots = self._tally(store, table, now)
        else:
            self._slots = {}
        for text in [text for text, slot in pages.names.items() if not store.slots.counts[slot]]:
            pages.drop(text)

    def _tally(self, store: Store, table: reading.Table, now: int) -> dict[bytes, int]:
        slots: dict[bytes, int] = {}
        keys = struct.iter_unpack(f"{rows.FLOW_KEY}s", table.keys)
        for (key,), (count, _) in zip(keys, struct.iter_unpack("<QQ", table.values), strict=True):
            slot = self._slots.get(key)
            if slot is None:
                place = store.place(key)
                if place is None:
                    continue  # held back until its owner has a name
                slot = place[0]
            slots[key] = slot
            if slot != book.TRASH:
                store.credit(slot, count, 0, now)
        return slots

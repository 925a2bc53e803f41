"""What the ledger keeps: books, rows, and where each row counts.

State that must change together, and the few steps that change it for one row. The operations on all
rows are beside it: `counting`, `relabelling`, `expiry`.
"""

from __future__ import annotations

from collections.abc import Mapping

from flowlens import config, metrics
from flowlens.series import book, eras, naming, rows

Place = tuple[int, int]
"""Slot that a row counts into, and its number for `Store.blamed` (0: it has a name)."""
NOWHERE: Place = (book.TRASH, 0)


class Store:
    """`offsets`: key -> (count, sum) of a row that belong to a series it counted into before.

    `unplaced`: rows that wait for a name -> whether they never had one. `gone`: those of them that the
    kernel has no more. `ghosts`: key -> (count, sum) of expired rows until the kernel has deleted them.
    `blamed`: events counted per (metric, cause); `collapsed`: label sets that found no room, per metric.
    """

    def __init__(self, identify: naming.Identify, reset_reasons: Mapping[int, str]) -> None:
        self.slots = book.Slots()
        self.budget = book.Budget()
        self.books: dict[int, book.Book] = {}
        self.eras: dict[int, eras.Eras] = {}
        self.rows = rows.Rows()
        self.offsets: dict[bytes, tuple[int, int]] = {}
        self.unplaced: dict[bytes, bool] = {}
        self.gone: set[bytes] = set()
        self.ghosts: dict[bytes, tuple[int, int]] = {}
        self.ghosts_seen: set[bytes] = set()
        self.collapsed: dict[str, int] = {metric.name: 0 for metric in metrics.CATALOGUE}
        self.causes: list[tuple[str, str]] = [("", "")]
        self.blamed: list[int] = [0]
        self.identify = identify
        self.reset_reasons = reset_reasons
        self.namer = naming.Namer(config.default_config(), identify, reset_reasons)

    def place(self, key: bytes, *, may_wait: bool = True) -> Place | None:
        """Where a row counts under the configuration in force; None while its name is expected."""
        pages = self.books.get(key[rows.METRIC_AT])
        if pages is None or (pages.is_live and len(key) == rows.ROW_KEY):
            return NOWHERE
        era = self._era(key)
        if pages.is_histogram and (era is None or era.buckets != pages.wanted.buckets):
            return NOWHERE
        stem = self.namer.stem(key, pages.wanted, era)
        if stem is None:
            if may_wait:
                return None
            stem = self.namer.nameless_stem(key, pages.wanted, era)
        if stem is naming.UNEXPOSED:
            return NOWHERE
        slot = self.series_slot(pages, naming.text_of(stem, key), stem.collapsed)
        if pages.is_histogram:
            slot += min(int.from_bytes(key[rows.DETAIL_AT : rows.PORTS_AT], "little"), pages.width - 1)
        return slot, self._blame(pages, stem.cause)

    def _era(self, key: bytes) -> eras.Era | None:
        known = self.eras.get(key[rows.METRIC_AT])
        generation = int.from_bytes(key[rows.GENERATION_AT : rows.FAMILY_AT], "little")
        return known.at(generation) if known else None

    def series_slot(self, pages: book.Book, text: str, collapsed: str) -> int:
        """First slot of a series; counts a label set that found no room."""
        slot, is_new = pages.slot(text, collapsed)
        self.collapsed[pages.metric.name] += is_new
        return slot

    def _blame(self, pages: book.Book, cause: str) -> int:
        if not cause or pages.is_gauge:
            return 0
        pair = (pages.metric.name, cause)
        if pair not in self.causes:
            self.causes.append(pair)
            self.blamed.append(0)
        return self.causes.index(pair)

    def credit(self, slot: int, count: int, total: int, now: int) -> None:
        """Adds to a slot."""
        slots = self.slots
        slots.counts[slot] = (slots.counts[slot] + count) & book.MASK
        slots.sums[slot] = (slots.sums[slot] + total) & book.MASK
        slots.touched[slot] = max(now, slots.touched[slot])

    def share(self, key: bytes, row: int) -> tuple[int, int]:
        """What a row has given (or, not yet exposed, would give) to the series it counts into."""
        count, total = self.offsets.get(key, (0, 0))
        return self.rows.counts[row] - count, self.rows.sums[row] - total

    def forget(self, key: bytes) -> None:
        """The kernel has this row no more; its series keeps what it gave."""
        self.rows.remove(key)
        self.offsets.pop(key, None)
        self.unplaced.pop(key, None)
        self.gone.discard(key)

    def anchor(self, key: bytes, slot: int) -> None:
        """Lets a series that counts by owner live as long as the owner of a row that it lost."""
        pages = self.books.get(key[rows.METRIC_AT])
        if pages is None or slot == book.TRASH or pages.wanted.flow_labels:
            return
        if pages.is_histogram:
            slot -= min(int.from_bytes(key[rows.DETAIL_AT : rows.PORTS_AT], "little"), pages.width - 1)
        pages.anchors[slot] = key[: rows.OWNER_BYTES]

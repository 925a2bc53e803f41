"""The series of one metric, and the numbers of all.

A book maps label texts to slots, the numbers stand in three arrays: no object per series but its
text. A counter has one slot, a histogram one per bucket (the last is +Inf), side by side.
"""

from __future__ import annotations

from array import array

from flowlens import config, metrics

TRASH = 0
"""The slot of rows that are not exposed: it takes their numbers and nobody reads it."""
MASK = (1 << 64) - 1
"""Numbers are kept modulo 2^64: a gauge's two's complement then needs no case of its own."""
COLLAPSED_REMEMBERED = 65536


class Slots:
    """Per slot: count, sum (ns, of histograms) and second of the last change."""

    def __init__(self) -> None:
        self.counts = array("Q", [0])
        self.sums = array("Q", [0])
        self.touched = array("I", [0])
        self._free: dict[int, list[int]] = {}

    def allocate(self, width: int) -> int:
        """First of `width` neighbouring slots, all zero."""
        free = self._free.get(width)
        if free:
            return free.pop()
        base = len(self.counts)
        for numbers in (self.counts, self.sums, self.touched):
            numbers.extend([0] * width)
        return base

    def release(self, base: int, width: int) -> None:
        """Gives slots back; their numbers are forgotten."""
        for slot in range(base, base + width):
            self.counts[slot] = self.sums[slot] = self.touched[slot] = 0
        self._free.setdefault(width, []).append(base)


class Budget:
    """How many Prometheus time series all metrics together may have, and how many they have."""

    def __init__(self) -> None:
        self.limit = 0
        self.used = 0


class Book:
    """The series of one metric under one label set.

    `names`: label text -> first slot. `others`: slots of series that took what had no room.
    `anchors`: slot -> the 16 bytes of an owner whose last row left the kernel while it lived.
    """

    def __init__(self, wanted: config.MetricConfig, slots: Slots, budget: Budget) -> None:
        self.wanted = wanted
        self.metric = wanted.metric
        self.is_histogram = self.metric.kind is metrics.Kind.HISTOGRAM
        self.is_gauge = self.metric.kind is metrics.Kind.GAUGE
        self.is_live = self.is_gauge and bool(wanted.flow_labels)
        self.width = len(wanted.buckets) + 1 if self.is_histogram else 1
        self.weight = self.width + 2 if self.is_histogram else 1
        self.names: dict[str, int] = {}
        self.others: set[int] = set()
        self.anchors: dict[int, bytes] = {}
        self._slots = slots
        self._budget = budget
        self._collapsed: set[int] = set()

    @property
    def series(self) -> int:
        """Prometheus time series that it has: a histogram's label set counts its buckets + 2."""
        return len(self.names) * self.weight

    @property
    def is_limited(self) -> bool:
        """Whether label sets are kept out now; of a limit that was lifted only the series remains."""
        return bool(self._collapsed and self.others)

    def accept(self, wanted: config.MetricConfig, *, has_more_room: bool) -> None:
        """A configuration that differs in limits only. A higher one lets collapsed label sets in again."""
        if has_more_room or wanted.max_series > self.wanted.max_series:
            self._collapsed.clear()
        self.wanted = wanted

    def slot(self, text: str, collapsed: str) -> tuple[int, bool]:
        """First slot of the series `text`, or of `collapsed` when there is no room for a new one.

        Also whether this collapsed a label set that was not collapsed before.
        """
        slot = self.names.get(text)
        if slot is not None:
            return slot, False
        mark = hash(text)
        if mark not in self._collapsed and self._has_room():
            return self._open(text), False
        other = self.names.get(collapsed)
        if other is None:
            other = self._open(collapsed)
        self.others.add(other)
        return other, self._remember(mark)

    def _has_room(self) -> bool:
        more = self.weight
        return self.series + more <= self.wanted.max_series and self._budget.used + more <= self._budget.limit

    def _open(self, text: str) -> int:
        slot = self.names[text] = self._slots.allocate(self.width)
        self._budget.used += self.weight
        return slot

    def _remember(self, mark: int) -> bool:
        """A label set stays collapsed; bounded, so that past the bound one may be counted again."""
        if mark in self._collapsed:
            return False
        if len(self._collapsed) >= COLLAPSED_REMEMBERED:
            self._collapsed.clear()
        self._collapsed.add(mark)
        return True

    def drop(self, text: str) -> None:
        """The series is exposed no more."""
        slot = self.names.pop(text)
        self.others.discard(slot)
        self.anchors.pop(slot, None)
        self._slots.release(slot, self.width)
        self._budget.used -= self.weight

    def close(self) -> None:
        """Drops every series."""
        for text in list(self.names):
            self.drop(text)

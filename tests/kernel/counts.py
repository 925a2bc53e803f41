"""Rows of a tracer summed up for one namespace, the way tests ask for them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flowlens import metrics
from flowlens.kernel import layout, tracer
from tests.kernel import namespace


@dataclass(frozen=True, slots=True)
class Row:
    """One row, decoded."""

    metric: str
    netns: int
    cgroup: int
    pid: int
    family: int
    role: metrics.Role
    detail: int
    local_port: int
    remote_port: int
    local: bytes
    remote: bytes
    count: int
    sum: int


class Counts:
    """Reads the tracer's maps anew at each question."""

    def __init__(self, running: tracer.Tracer) -> None:
        self.tracer = running
        self.retired: list[Row] = []
        # Inodes of namespaces are used again soon: what an earlier test's namespace counted is not ours.
        self._before = {key: count for key, count, _ in self._raw()}

    def rows(self, netns: int, name: str) -> list[Row]:
        found = [row for row in self._all() if row.netns == netns and row.metric == name and row.count]
        return found + [row for row in self.retired if row.netns == netns and row.metric == name]

    def _raw(self) -> Iterator[tuple[bytes, int, int]]:
        reading = self.tracer.read()
        for tables, size in ((reading.totals, layout.KEY.size), (reading.flows, layout.FLOW.size)):
            for table in tables:
                yield from table.rows(size)

    def _all(self) -> Iterator[Row]:
        for key, count, total in self._raw():
            yield decode(key, (count - self._before.get(key, 0)) % (1 << 64), total)

    def apply(self, settings: layout.Settings) -> None:
        """Changes settings the way the agent does: former flows are added up, then discarded."""
        former = self.tracer.apply(settings)
        self.retired += [decode(key, count, total) for key, count, total in former.rows(layout.FLOW.size)]
        self.tracer.discard(former)

    def total(self, process: namespace.Process, name: str, **where: object) -> int:
        return sum(
            row.count
            for row in self.rows(process.netns, name)
            if all(getattr(row, field) == value for field, value in where.items())
        )

    def details(self, process: namespace.Process, name: str, **where: object) -> Counter[tuple[str, ...]]:
        """Counts by the values of the metric's own labels, as a user reads them."""
        result: Counter[tuple[str, ...]] = Counter()
        metric = metrics.BY_NAME[name]
        for row in self.rows(process.netns, name):
            if all(getattr(row, field) == value for field, value in where.items()):
                values = metrics.detail_values(metric, row.detail, self.tracer.reset_reasons)
                result[tuple(values[label] for label in metric.labels if label != "role")] += row.count
        return result


def decode(key: bytes, count: int, total: int) -> Row:
    fields = layout.KEY.unpack(key[: layout.KEY.size])
    cgroup, netns, pid, _, family, role, number, _, detail, local_port, remote_port, _ = fields
    name = next(metric.name for metric in metrics.CATALOGUE if metric.number == number)
    if name == "connections" and count >= 1 << 63:
        count -= 1 << 64
    ends = key[layout.KEY.size :].ljust(32, b"\0")
    return Row(
        name, netns, cgroup, pid, family, metrics.Role(role), detail, local_port, remote_port,
        ends[:16], ends[16:], count, total,
    )  # fmt: skip


def until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    """Waits for a condition, not for a time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.01)

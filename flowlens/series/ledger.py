"""The ledger: what every series counts, as the rows of the kernel, the names and the labels change.

Not thread-safe: whoever reads the kernel owns it. Seconds are those of one monotonic clock.
"""

from __future__ import annotations

import itertools
import math
import operator
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from flowlens import config, identity, metrics
from flowlens.series import connections, counting, eras, expiry, naming, relabelling, rows
from flowlens.series import store as stores

if TYPE_CHECKING:
    from flowlens.kernel import reading

_SELECTION = operator.attrgetter(
    "namespaces_include", "namespaces_exclude", "pod_selector", "include_host", "pod_labels", "node"
)


class View(NamedTuple):
    """The series of one metric: label text -> first slot in `counts` and `sums` (ns).

    A histogram has one slot per bucket, +Inf last; a gauge's count is in two's complement. Valid
    until the ledger changes.
    """

    metric: metrics.Metric
    buckets: tuple[float, ...]
    names: Mapping[str, int]
    counts: array[int]
    sums: array[int]


class Ledger:
    """Running totals per label set. Nothing is exposed before the first `configure`."""

    def __init__(
        self,
        *,
        identify: naming.Identify,
        alive: expiry.Alive,
        reset_reasons: Mapping[int, str] | None = None,
        now: float = 0.0,
    ) -> None:
        """`identify`: owner -> workload, None while its name is expected. `alive`: is the owner there?

        `reset_reasons`: this kernel's names of reset reasons. `now`: the clock when the agent started.
        """
        self._store = stores.Store(identify, reset_reasons or {})
        self._alive = alive
        self._start = now
        self._open = connections.Open()
        self._config: config.NodeConfig | None = None

    def _second(self, now: float) -> int:
        return max(0, int(now - self._start))

    def configure(self, node: config.NodeConfig, generation: int, now: float) -> None:
        """Goes over to another configuration; rows of `generation` and later are made under it.

        Metrics whose labels and buckets did not change keep every series. New labels: all series are
        made anew, and their sum stays. New buckets: the histogram starts from zero.
        """
        store, before = self._store, self._config
        self._config = node
        has_more_room = node.max_series > store.budget.limit
        store.budget.limit = node.max_series
        store.namer = naming.Namer(node, store.identify, store.reset_reasons)
        wanted = {each.metric.number: each for each in node.metrics.values()}
        for number, each in wanted.items():
            store.eras.setdefault(number, eras.Eras()).begin(generation, each, node)
        for number in store.books.keys() | wanted.keys():
            self._configure_metric(number, wanted.get(number), self._second(now), has_more_room=has_more_room)
        if before and _SELECTION(before) != _SELECTION(node):
            relabelling.move(store, list(store.rows.index), self._second(now))
        self._open.forget()

    def _configure_metric(
        self, number: int, wanted: config.MetricConfig | None, now: int, *, has_more_room: bool
    ) -> None:
        pages = self._store.books.get(number)
        if (
            pages
            and wanted
            and (pages.wanted.labels, pages.wanted.buckets) == (wanted.labels, wanted.buckets)
        ):
            pages.accept(wanted, has_more_room=has_more_room)
        else:
            relabelling.rebuild(self._store, number, wanted, now)

    def update(self, read: reading.Reading, now: float) -> None:
        """Takes one reading of the kernel's maps."""
        store, second = self._store, self._second(now)
        store.namer.forget()
        for table in itertools.chain(read.totals, read.flows):
            counting.absorb(store, table, second)
        counting.settle_names(store, second)
        self._open.count(store, read.live, second)
        counting.lay_ghosts(store)
        store.namer.forget()

    def retire(self, table: reading.Table, now: float) -> None:
        """Takes the final values of rows that the kernel has deleted."""
        self._store.namer.forget()
        counting.retire(self._store, table, self._second(now))

    def regroup(self, owners: Iterable[identity.Owner], now: float) -> None:
        """These owners are called otherwise now: what they count from here on has the new name."""
        packed = frozenset(map(naming.pack_owner, owners))
        self._store.namer.forget()
        relabelling.move(self._store, self._store.rows.of_owners(packed), self._second(now))
        self._open.forget(packed)

    def expire(self, now: float) -> list[bytes]:
        """Forgets what is stale; raw keys (32 or 64 bytes) of rows that the kernel may delete.

        A row that moves before it is deleted comes back with all it has: give the deleted rows' final
        values to `retire`. Keys are repeated until an update finds the row gone.
        """
        if self._config is None:
            return []
        self._store.namer.forget()
        # Not clamped as `_second` does: while the ledger is younger than staleAfter nothing is stale.
        before = math.floor(now - self._config.stale_after_seconds - self._start)
        return expiry.expire(self._store, before, self._alive)

    def views(self) -> Iterator[View]:
        """The series of every metric that is on, in the catalogue's order."""
        slots = self._store.slots
        for number in sorted(self._store.books):
            pages = self._store.books[number]
            yield View(pages.metric, pages.wanted.buckets, pages.names, slots.counts, slots.sums)

    def owners(self) -> frozenset[identity.Owner]:
        """Owners of the rows that the kernel was seen to have."""
        packed = {key[: rows.OWNER_BYTES] for key in self._store.rows.index}
        return frozenset(map(naming.as_owner, packed))

    @property
    def series(self) -> dict[str, int]:
        """Prometheus time series per metric (name as in the configuration)."""
        return {pages.metric.name: pages.series for _, pages in sorted(self._store.books.items())}

    @property
    def collapsed(self) -> dict[str, int]:
        """Label sets that found no room since the agent started, per metric that is on."""
        return {name: self._store.collapsed[name] for name in self.series}

    @property
    def limited(self) -> frozenset[str]:
        """Metrics of which a limit keeps label sets out now."""
        return frozenset(pages.metric.name for pages in self._store.books.values() if pages.is_limited)

    @property
    def unattributed(self) -> dict[tuple[str, str], int]:
        """Events counted without a name since the agent started, by metric and cause."""
        store = self._store
        return dict(zip(store.causes[1:], store.blamed[1:], strict=True))

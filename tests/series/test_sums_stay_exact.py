"""Whatever happens, in whatever order: counters never go down, and their sum is what happened.

The machine plays the kernel: events go into a row of `flows` where labels ask for flow fields and
there is room, else into a row of `totals`; a new configuration begins a generation, and the rows of
the old one are drained. The model is one number per metric.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flowlens import identity
from tests.series import kernel_rows as kr

COUNTERS = ("connect", "connect_failures")
HISTOGRAM = "connect_duration"
LABELS = (
    ("pod",),
    ("namespace", "role"),
    ("dst_port",),
    ("pod", "dst_port", "dst_ip"),
    ("workload", "role", "pid"),
    (),
)
FIELDS = {"dst_port": 0, "dst_ip": "", "pid": 0}

cgroups = st.integers(1, 4)
workloads = st.sampled_from(
    [
        identity.Workload(namespace="shop", pod="a", workload="w"),
        identity.Workload(namespace="shop", pod="b", workload="w"),
        identity.Workload(namespace="lab", pod='quote"d', workload="x"),
        identity.Workload(cause="pod_unknown"),
        None,
    ]
)


class Kernel(RuleBasedStateMachine):
    """Events, readings, names, labels and limits."""

    def __init__(self) -> None:
        super().__init__()
        self.names = kr.Names()
        self.generation, self.now = 1, 1.0
        self.labels = dict.fromkeys((*COUNTERS, HISTOGRAM), LABELS[0])
        self.limits = (4, 6, 30)
        self.ledger = self.names.ledger(self.spec(), self.generation)
        self.rows: dict[kr.Key, int] = {}
        self.events = dict.fromkeys((*COUNTERS, HISTOGRAM, "connections"), 0)
        self.exposed: dict[tuple[str, str], list[int]] = {}
        self.is_read = True
        self.has_expired = False

    def spec(self) -> str:
        max_flows, per_metric, node_wide = self.limits
        entries = "".join(
            f"{{name: {name}, labels: [{','.join(labels)}], maxSeries: {per_metric}}}, "
            for name, labels in self.labels.items()
        )
        return (
            f"{{defaults: {{labels: [pod], staleAfter: 60s}}, metrics: [{entries}],"
            f" limits: {{maxSeries: {node_wide}, maxFlows: {max_flows}}}}}"
        )

    def add(self, key: kr.Key, **fields: Any) -> None:
        wanted = {name: value for name, value in fields.items() if name in self.labels[key.metric]}
        if wanted:
            at = {"dst_ip": "dst"}
            flow = key._replace(
                generation=self.generation,
                flow=True,
                **{at.get(name, name): value for name, value in wanted.items()},
            )
            if flow in self.rows or sum(each.flow for each in self.rows) < self.limits[0]:
                key = flow
        self.rows[key] = self.rows.get(key, 0) + 1
        self.events[key.metric] += 1
        self.is_read = False

    @rule(
        metric=st.sampled_from(COUNTERS),
        cgroup=cgroups,
        role=st.integers(0, 2),
        port=st.integers(1, 4),
        pid=cgroups,
    )
    def event(self, metric: str, cgroup: int, role: int, port: int, pid: int) -> None:
        key = kr.Key(metric, cgroup=cgroup, role=role, detail=port if metric == "connect_failures" else 0)
        self.add(key, dst_port=port, dst_ip=f"10.0.0.{port}", pid=pid)

    @rule(cgroup=cgroups, bucket=st.sampled_from([0, 3, 14, 0xFFFF]), port=st.integers(1, 3))
    def observation(self, cgroup: int, bucket: int, port: int) -> None:
        key = kr.Key(HISTOGRAM, cgroup=cgroup, detail=bucket, generation=1)
        self.add(key, dst_port=port, dst_ip="10.0.0.1", pid=port)

    @rule(cgroup=cgroups, change=st.sampled_from([1, 1, -1]))
    def connection(self, cgroup: int, change: int) -> None:
        key = kr.Key("connections", cgroup=cgroup)
        self.rows[key] = self.rows.get(key, 0) + change
        self.events["connections"] += change
        self.is_read = False

    @rule()
    def scrape(self) -> None:
        self.now += 1
        self.ledger.update(kr.read(self.rows), self.now)
        self.is_read = True

    @rule(cgroup=cgroups, workload=workloads, is_told=st.booleans())
    def name(self, cgroup: int, workload: identity.Workload | None, is_told: bool) -> None:
        self.names.workloads[cgroup] = workload
        self.is_read = False
        if is_told:
            pids = {key.pid for key in self.rows}
            self.ledger.regroup([identity.Owner(cgroup, kr.Key().netns, pid) for pid in pids], self.now)

    @rule(
        metric=st.sampled_from((*COUNTERS, HISTOGRAM)),
        labels=st.sampled_from(LABELS),
        is_drained_first=st.booleans(),
    )
    def relabel(self, metric: str, labels: tuple[str, ...], is_drained_first: bool) -> None:
        self.labels[metric] = labels  # type: ignore[assignment]
        self.reconfigure(is_drained_first)

    @rule(limits=st.tuples(st.integers(1, 6), st.integers(1, 20), st.integers(1, 60)))
    def limit(self, limits: tuple[int, int, int]) -> None:
        self.limits = limits
        self.reconfigure(False)

    def reconfigure(self, is_drained_first: bool) -> None:
        drained = {key: self.rows.pop(key) for key in list(self.rows) if key.flow}
        self.generation += 1
        if is_drained_first:
            self.ledger.retire(kr.table(drained), self.now)
        self.ledger.configure(kr.configuration(self.spec()), self.generation, self.now)
        if not is_drained_first:
            self.ledger.retire(kr.table(drained), self.now)

    def shown(self) -> dict[tuple[str, str], list[int]]:
        exposed = {}
        for view in self.ledger.views():
            width = len(view.buckets) + 1
            for text, at in view.names.items():
                exposed[view.metric.name, text] = list(view.counts[at : at + width])
        return exposed

    @invariant()
    def counters_never_go_down(self) -> None:
        exposed = self.shown()
        for series in exposed.keys() & self.exposed.keys():
            if series[0] != "connections":
                assert all(
                    now >= then for now, then in zip(exposed[series], self.exposed[series], strict=True)
                )
        self.exposed = exposed

    @invariant()
    def sums_are_what_happened(self) -> None:
        is_waiting = None in self.names.workloads.values()
        for name, events in self.events.items():
            total = sum(kr.series(self.ledger, name).values())
            if self.is_read and not is_waiting and not self.has_expired:
                assert total == events
            elif name != "connections":
                assert total <= events


class ForgetfulKernel(Kernel):
    """The same with owners that die and flows that go stale: sums fall only where something expired."""

    @rule(cgroup=cgroups, is_dead=st.booleans())
    def die(self, cgroup: int, is_dead: bool) -> None:
        (self.names.dead.add if is_dead else self.names.dead.discard)(cgroup)

    @rule(is_deleted=st.booleans(), is_told=st.booleans())
    def expire(self, is_deleted: bool, is_told: bool) -> None:
        self.now += 61
        before = self.ledger.series
        packed = set(self.ledger.expire(self.now))
        # What expired and has an event a moment later is a new series, that begins anew.
        still = self.shown()
        self.exposed = {series: counts for series, counts in self.exposed.items() if series in still}
        self.has_expired = self.has_expired or bool(packed) or self.ledger.series != before
        gone = [key for key in self.rows if key.packed in packed and is_deleted]
        final = {key: self.rows.pop(key) for key in gone}
        if is_told:
            for flow in (False, True):  # a table holds keys of one length
                part = {key: count for key, count in final.items() if key.flow is flow}
                self.ledger.retire(kr.table(part), self.now)
        elif final:
            self.ledger.update(kr.read(self.rows), self.now)


TestKernel = Kernel.TestCase
TestKernel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestForgetfulKernel = ForgetfulKernel.TestCase
TestForgetfulKernel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

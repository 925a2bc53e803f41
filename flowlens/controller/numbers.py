"""The controller's own metrics, under flow_lens_controller_, in a registry of its own."""

from __future__ import annotations

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_PREFIX = "flow_lens_controller_"
_VISIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Numbers:
    """What happened and how things stand. Gauges are set before each rendering by `running`."""

    def __init__(self, version: str) -> None:
        # Else each counter has a second series that nobody reads.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self.registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        info = Gauge(f"{_PREFIX}build_info", "Version of the controller.", ["version"], registry=registry)
        info.labels(version).set(1)
        self.objects = Gauge(f"{_PREFIX}objects", "FlowLensConfigs known.", registry=registry)
        self.nodes = Gauge(f"{_PREFIX}nodes", "Nodes known.", registry=registry)
        self.agents = Gauge(
            f"{_PREFIX}agents",
            "Agents by state: answering, unreachable, behind (they run something else than they should)"
            " or unknown (not asked yet).",
            ["state"],
            registry=registry,
        )
        self.visits = Counter(
            f"{_PREFIX}visits", "Agents asked for their status, by result.", ["result"], registry=registry
        )
        self.visit_seconds = Histogram(
            f"{_PREFIX}visit_duration_seconds",
            "Time from asking an agent to having its answer.",
            buckets=_VISIT_BUCKETS,
            registry=registry,
        )
        self.visits_waiting = Gauge(
            f"{_PREFIX}visits_waiting", "Agents that are due and wait for their turn.", registry=registry
        )
        self.writes = Counter(
            f"{_PREFIX}writes",
            "Requests that write to the API server, by what (status, event) and result.",
            ["what", "result"],
            registry=registry,
        )
        self.watch_up = Gauge(
            f"{_PREFIX}watch_up", "Whether a watch is established.", ["resource"], registry=registry
        )
        self.watch_failures = Counter(
            f"{_PREFIX}watch_failures", "Lists and watches that failed.", ["resource"], registry=registry
        )
        self.watch_behind = Gauge(
            f"{_PREFIX}watch_behind_seconds",
            "How long the watch of FlowLensConfigs owes a change that a list has shown.",
            registry=registry,
        )
        self.judge_seconds = Histogram(
            f"{_PREFIX}judge_duration_seconds",
            "Time to work out the statuses of all objects.",
            buckets=_VISIT_BUCKETS,
            registry=registry,
        )

    def visited(self, result: str, seconds: float) -> None:
        """One agent was asked."""
        self.visits.labels(result).inc()
        self.visit_seconds.observe(seconds)

    def wrote(self, what: str, result: str) -> None:
        """One writing request."""
        self.writes.labels(what, result).inc()

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return prometheus_client.generate_latest(self.registry)

"""The controller's own metrics as live instruments, in a registry of its own. What they are called: `metrics`."""

from __future__ import annotations

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from flowlens import metrics


class Numbers:
    """What happened and how things stand. Gauges are set before each rendering by `running`."""

    def __init__(self, version: str) -> None:
        # Else each counter has a second series that nobody reads.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        self._gauge(metrics.CONTROLLER_BUILD_INFO).labels(version).set(1)
        self.objects = self._gauge(metrics.CONTROLLER_OBJECTS)
        self.nodes = self._gauge(metrics.CONTROLLER_NODES)
        self.agents = self._gauge(metrics.CONTROLLER_AGENTS)
        self.visits = self._counter(metrics.CONTROLLER_VISITS)
        self.visit_seconds = self._histogram(metrics.CONTROLLER_VISIT_SECONDS)
        self.visits_waiting = self._gauge(metrics.CONTROLLER_VISITS_WAITING)
        self.writes = self._counter(metrics.CONTROLLER_WRITES)
        self.watch_up = self._gauge(metrics.CONTROLLER_WATCH_UP)
        self.watch_failures = self._counter(metrics.CONTROLLER_WATCH_FAILURES)
        self.watch_behind = self._gauge(metrics.CONTROLLER_WATCH_BEHIND)
        self.judge_seconds = self._histogram(metrics.CONTROLLER_JUDGE_SECONDS)

    def _gauge(self, of: metrics.HealthMetric) -> Gauge:
        return Gauge(of.exposed, of.help, of.labels, registry=self.registry)

    def _counter(self, of: metrics.HealthMetric) -> Counter:
        return Counter(of.exposed, of.help, of.labels, registry=self.registry)

    def _histogram(self, of: metrics.HealthMetric) -> Histogram:
        return Histogram(of.exposed, of.help, of.labels, buckets=of.buckets, registry=self.registry)

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

"""A `Spec` worked out for one node: what the kernel, the series and the agent read.

Nothing is left to interpret here: every metric that is on has its labels, its limit and its
buckets; ranges are sorted and merged; durations are seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from msgspec import UNSET

from flowlens import metrics
from flowlens.config import definitions, notation, selectors

PortRange = tuple[int, int]
"""First and last port, both included."""


@dataclass(frozen=True, slots=True)
class MetricConfig:
    """One metric that is on. `labels` is its exact label set, in the order to be shown.

    `buckets` are upper bounds in seconds without +Inf; () unless the metric is a histogram.
    """

    metric: metrics.Metric
    labels: tuple[str, ...]
    max_series: int
    buckets: tuple[float, ...]

    @property
    def flow_labels(self) -> tuple[str, ...]:
        """Its labels that need a row per flow in the kernel."""
        return tuple(label for label in self.labels if label in metrics.FLOW_LABELS)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The configuration that one node applies.

    `metrics` holds only those that are on, in the catalogue's order. Prefixes are bits kept of an
    address; 0 means that src_ip and dst_ip are shown empty. Port ranges are sorted and apart; the
    port they speak of is the server's end: remote for a client's socket, local for a server's.
    `pod_labels` are keys of pod labels; `notation.pod_label` names the metric label of each.
    """

    name: str
    generation: int
    node: str
    metrics: Mapping[str, MetricConfig]
    ports_include: tuple[PortRange, ...]
    ports_exclude: tuple[PortRange, ...]
    v4_prefix: int
    v6_prefix: int
    namespaces_include: tuple[str, ...]
    namespaces_exclude: tuple[str, ...]
    pod_selector: selectors.Selector
    include_host: bool
    pod_labels: tuple[str, ...]
    stale_after_seconds: float
    max_series: int
    max_flows: int
    uid: str = ""


def resolve(
    spec: definitions.Spec, *, name: str, generation: int, uid: str = "", node: str = ""
) -> NodeConfig:
    """The spec of the configuration `name`, generation `generation`, for the node named `node`. `uid`: of an object.

    A metric that the spec does not name is on with the defaults, unless `defaults.enabled` is
    false; naming it turns it on, unless its entry says `enabled: false`.
    """
    prefix = spec.addresses.mode != "none"
    return NodeConfig(
        name=name,
        generation=generation,
        node=node,
        metrics=MappingProxyType(_metrics(spec)),
        ports_include=_ranges(spec.ports.include),
        ports_exclude=_ranges(spec.ports.exclude),
        v4_prefix=spec.addresses.v4_prefix if prefix else 0,
        v6_prefix=spec.addresses.v6_prefix if prefix else 0,
        namespaces_include=spec.namespaces.include,
        namespaces_exclude=spec.namespaces.exclude,
        pod_selector=spec.pod_selector,
        include_host=spec.include_host,
        pod_labels=spec.pod_labels,
        stale_after_seconds=notation.duration_seconds(spec.defaults.stale_after),
        max_series=spec.limits.max_series,
        max_flows=spec.limits.max_flows,
        uid=uid,
    )


@functools.lru_cache(maxsize=4)
def default_config(node: str = "") -> NodeConfig:
    """What a node applies when nobody configured anything: every metric, the default labels."""
    return resolve(definitions.Spec(), name="default", generation=0, node=node)


def _metrics(spec: definitions.Spec) -> dict[str, MetricConfig]:
    resolved = {}
    for metric in metrics.CATALOGUE:
        entry = spec.settings.get(metric.name)
        if entry.enabled if entry else spec.defaults.enabled:
            resolved[metric.name] = _metric(
                spec, metric, entry or definitions.MetricSettings(name=metric.name)
            )
    return resolved


def _metric(
    spec: definitions.Spec, metric: metrics.Metric, entry: definitions.MetricSettings
) -> MetricConfig:
    own_limit = spec.limits.max_series if entry.max_series is UNSET else entry.max_series
    return MetricConfig(
        metric=metric,
        labels=default_labels(spec, metric) if entry.labels is UNSET else entry.labels,
        max_series=min(own_limit, spec.limits.max_series),
        buckets=metric.buckets if entry.buckets is UNSET else entry.buckets,
    )


def default_labels(spec: definitions.Spec, metric: metrics.Metric) -> tuple[str, ...]:
    """Labels of a metric that names none: the defaults that it can carry, pod labels, its own."""
    pod_labels = tuple(map(notation.pod_label, spec.pod_labels))
    allowed = {*metric.allowed_labels, *pod_labels}
    wanted = (*spec.defaults.labels, *pod_labels, *metric.labels)
    return tuple(dict.fromkeys(label for label in wanted if label in allowed))


def _ranges(entries: Iterable[int | str]) -> tuple[PortRange, ...]:
    merged: list[PortRange] = []
    for low, high in sorted(map(notation.port_range, entries)):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)

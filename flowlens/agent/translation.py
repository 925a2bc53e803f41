"""From what is wished (NodeConfig) to what the kernel side is told (Settings)."""

from __future__ import annotations

import functools
import operator

from flowlens import config, metrics
from flowlens.kernel import layout

_NS = 1_000_000_000


def settings_of(node: config.NodeConfig, *, owner_pid: bool) -> layout.Settings:
    """The label set, pushed down: which fields the kernel keeps in the keys of each metric's rows.

    `owner_pid`: cgroups do not tell containers apart on this host (cgroup v1 only), so pids must.
    """
    return layout.Settings(
        enabled=frozenset(node.metrics),
        masks={name: mask_of(wanted) for name, wanted in node.metrics.items()},
        bounds={
            name: tuple(round(bound * _NS) for bound in wanted.buckets)
            for name, wanted in node.metrics.items()
            if wanted.metric.kind is metrics.Kind.HISTOGRAM
        },
        include_ports=node.ports_include,
        exclude_ports=node.ports_exclude,
        v4_prefix=node.v4_prefix,
        v6_prefix=node.v6_prefix,
        max_flows=node.max_flows,
        owner_pid=owner_pid,
    )


def mask_of(wanted: config.MetricConfig) -> int:
    """OR of the fields that its flow labels need; 0: one row per owner is enough."""
    return functools.reduce(operator.or_, (layout.FIELDS[label] for label in wanted.flow_labels), 0)

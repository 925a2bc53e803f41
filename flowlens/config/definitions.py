"""What can be written in a FlowLensConfig: every field with its type, bounds, default and meaning.

This is the one source: files and API objects are decoded with these types, and the CRD's schema
and the reference page are generated from them. A field's description is written for the reader of
`kubectl explain`. Rules that join several fields are in `rules`;
label selectors are in `selectors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from flowlens import metrics
from flowlens.config import notation, selectors

GROUP, VERSION, KIND, PLURAL = "flowlens.io", "v1alpha1", "FlowLensConfig", "flowlensconfigs"
API_VERSION = f"{GROUP}/{VERSION}"

MAX_BUCKETS = 32
MAX_FLOWS = 131072
MAX_POD_LABELS = 8
MAX_PORT_RANGES = 16
MAX_NAMESPACES = 32
COMMON_LABELS = (*metrics.OWNER_LABELS, *metrics.FLOW_LABELS)
"""Labels that are not a metric's own; what `defaults.labels` may name, apart from pod labels."""


NamespacePattern = Annotated[str, Meta(min_length=1, max_length=63, pattern=notation.NAMESPACE_PATTERN)]
MetricLabel = Annotated[str, Meta(min_length=1, max_length=128, pattern=notation.EXPOSED_LABEL_PATTERN)]
Ports = Annotated[
    int | str,
    Meta(
        extra_json_schema={
            "x-kubernetes-int-or-string": True,
            "pattern": notation.PORTS_PATTERN,
            "minimum": 1,
            "maximum": notation.PORT_MAX,
            "maxLength": 11,
        }
    ),
]
MetricLabels = Annotated[tuple[MetricLabel, ...], Meta(max_length=32)]
Buckets = Annotated[
    tuple[Annotated[float, Meta(ge=0.000001, le=1_000_000)], ...],
    Meta(min_length=1, max_length=MAX_BUCKETS),
]
MaxSeries = Annotated[int, Meta(ge=1, le=1_000_000)]


class Namespaces(selectors.Section, frozen=True):
    """Namespaces by name or pattern."""

    include: Annotated[
        tuple[NamespacePattern, ...],
        Meta(
            max_length=MAX_NAMESPACES,
            description="Only pods of namespaces that match one of these are measured. `*` stands for any "
            "text, `?` for one character. Empty: all namespaces.",
        ),
    ] = ()
    exclude: Annotated[
        tuple[NamespacePattern, ...],
        Meta(
            max_length=MAX_NAMESPACES,
            description="Pods of namespaces that match one of these are not measured, included or not.",
        ),
    ] = ()


class Defaults(selectors.Section, frozen=True):
    """What holds for every metric that does not say otherwise."""

    enabled: Annotated[
        bool,
        Meta(
            description="Whether metrics that `spec.metrics` does not name are on. With false, only the "
            "named ones are measured, and the kernel programs that nothing needs any more are "
            "detached."
        ),
    ] = True
    labels: Annotated[
        MetricLabels,
        Meta(
            description="Labels of every metric that has no `labels` of its own. The metric's own labels"
            " (such as reason or kind) and the pod labels of `spec.podLabels` are added by"
            f" themselves. Allowed: {', '.join(COMMON_LABELS)}, and label_<name> of a pod label. Of these,"
            f" {', '.join(metrics.FLOW_LABELS)} cost one row per connection or peer.",
        ),
    ] = metrics.IDENTITY_LABELS
    stale_after: Annotated[
        str,
        Meta(
            max_length=24,
            pattern=notation.DURATION_PATTERN,
            description="A series whose owner is gone or that has not moved for this long is dropped, "
            "after its last value was scraped. A duration such as 90s, 5m or 1h30m, from 10s "
            "to 168h.",
        ),
    ] = "5m"


class MetricSettings(selectors.Section, frozen=True):
    """What is different for one metric."""

    name: Annotated[
        str,
        Meta(
            extra_json_schema={"enum": list(metrics.BY_NAME)},
            description="Which metric: "
            + ", ".join(f"{metric.name} ({metric.exposed})" for metric in metrics.CATALOGUE)
            + ".",
        ),
    ]
    enabled: Annotated[
        bool,
        Meta(
            description="With false the metric is not exposed, and kernel programs that nothing else needs "
            "are detached."
        ),
    ] = True
    labels: Annotated[
        MetricLabels | UnsetType,
        Meta(
            description="Exactly the labels of this metric, in this order; its own labels too must be "
            "named to be shown. Not given: `defaults.labels`, the pod labels of "
            "`spec.podLabels`, and the metric's own labels.",
        ),
    ] = UNSET
    max_series: Annotated[
        MaxSeries | UnsetType,
        Meta(
            description="Most series this metric may have on a node; what comes later is summed in a row "
            "whose labels say `other`. Not given: `limits.maxSeries`."
        ),
    ] = UNSET
    buckets: Annotated[
        Buckets | UnsetType,
        Meta(
            description="Upper bounds of a histogram's buckets in seconds, ascending; +Inf is added. Only for"
            f" histograms: {', '.join(m.name for m in metrics.CATALOGUE if m.buckets)}.",
        ),
    ] = UNSET


class PortFilter(selectors.Section, frozen=True):
    """Connections by the port of the server's end: remote for a client's socket, local for a server's."""

    include: Annotated[
        tuple[Ports, ...],
        Meta(
            max_length=MAX_PORT_RANGES,
            description='Only connections to these ports are measured: numbers (443) or ranges ("8000-8100").'
            " Empty: all ports.",
        ),
    ] = ()
    exclude: Annotated[
        tuple[Ports, ...],
        Meta(
            max_length=MAX_PORT_RANGES,
            description="Connections to these ports are not measured.",
        ),
    ] = ()


class Addresses(selectors.Section, frozen=True):
    """How much of an address the labels src_ip and dst_ip show."""

    mode: Annotated[
        Literal["full", "prefix", "none"],
        Meta(
            description="full: whole addresses. prefix: addresses are cut to v4Prefix and v6Prefix bits in "
            "the kernel, which saves rows. none: src_ip and dst_ip are empty, and addresses "
            "cost no rows."
        ),
    ] = "full"
    v4_prefix: Annotated[
        int,
        Meta(
            ge=0,
            le=32,
            description="Bits kept of an IPv4 address with mode prefix; 0 leaves the label empty.",
        ),
    ] = 32
    v6_prefix: Annotated[
        int,
        Meta(
            ge=0,
            le=128,
            description="Bits kept of an IPv6 address with mode prefix; 0 leaves the label empty.",
        ),
    ] = 128


class Limits(selectors.Section, frozen=True):
    """What a node may spend."""

    max_series: Annotated[
        MaxSeries,
        Meta(
            description="Most series on a node over all metrics; what comes later is summed in rows whose "
            "labels say `other`, so that sums stay exact."
        ),
    ] = 20000
    max_flows: Annotated[
        int,
        Meta(
            ge=1,
            le=MAX_FLOWS,
            description="Most rows per connection or peer that the kernel keeps (about 150 bytes each), "
            "over all metrics whose labels ask for addresses, ports or pid; the rest is summed "
            "in rows whose labels say `other`.",
        ),
    ] = 65536


class Spec(selectors.Section, frozen=True):
    """What is measured, on which nodes, and with which labels."""

    priority: Annotated[
        int,
        Meta(
            ge=-1_000_000,
            le=1_000_000,
            description="Where several objects select a node, the highest priority wins, then the oldest, "
            "then the first by name. The winner applies alone; nothing is merged.",
        ),
    ] = 0
    node_selector: Annotated[
        selectors.Selector,
        Meta(description="Nodes, by their labels, that this configuration is for. Empty: all."),
    ] = selectors.Selector()
    namespaces: Annotated[
        Namespaces,
        Meta(description="Pods of which namespaces are measured; exclude wins over include."),
    ] = Namespaces()
    pod_selector: Annotated[
        selectors.Selector,
        Meta(
            description="Only pods with matching labels are measured. Empty: all. Host processes are ruled "
            "by includeHost alone."
        ),
    ] = selectors.Selector()
    include_host: Annotated[
        bool,
        Meta(description="Whether processes outside of containers (host services) are measured."),
    ] = True
    defaults: Annotated[
        Defaults, Meta(description="What holds for every metric that does not say otherwise.")
    ] = Defaults()
    metrics: Annotated[
        tuple[MetricSettings, ...],
        Meta(
            max_length=32,
            description="What is different for single metrics. Metrics not named here keep the defaults.",
        ),
    ] = ()
    ports: Annotated[
        PortFilter,
        Meta(
            description="Which connections are measured, by the port of the server's end: the remote port "
            "for a client's socket, the local port for a server's."
        ),
    ] = PortFilter()
    addresses: Annotated[
        Addresses, Meta(description="How much of an address the labels src_ip and dst_ip show.")
    ] = Addresses()
    pod_labels: Annotated[
        tuple[selectors.LabelKey, ...],
        Meta(
            max_length=MAX_POD_LABELS,
            description="Pod labels copied to metrics as label_<name> (characters that a metric label "
            "cannot have become `_`: app.kubernetes.io/name is label_app_kubernetes_io_name).",
        ),
    ] = ()
    limits: Annotated[Limits, Meta(description="What a node may spend.")] = Limits()

    @property
    def settings(self) -> Mapping[str, MetricSettings]:
        """`metrics` by name."""
        return {entry.name: entry for entry in self.metrics}

"""The catalogue: every metric and every label a user can see, as data.

A name, a help text, a type or a unit is written here and nowhere else. The configuration, the
kernel side, the series, the exposition and the generated reference all read this module; it
imports nothing of ours. Metric numbers and detail numbers are shared with `bpf/records.h`, and a
test compares them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple

PREFIX = "ebpf_tcp_"
OTHER = "other"
"""Label value of the rows that hold what a limit kept from having a series of its own."""


class Kind(enum.StrEnum):
    """Prometheus metric types that we expose."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Role(enum.IntEnum):
    """Which end of a connection a socket is. Numbers are `enum fl_role` of `bpf/records.h`."""

    UNKNOWN = 0
    CLIENT = 1
    SERVER = 2


IDENTITY_LABELS = ("namespace", "pod", "container", "workload", "workload_kind")
"""Who owns the socket; the default label set."""
OWNER_LABELS = (*IDENTITY_LABELS, "role", "ip_version", "netns", "cgroup", "node")
"""Labels that follow from the key of an owner's row; they cost no row of their own in the kernel."""
FLOW_LABELS = ("src_ip", "src_port", "dst_ip", "dst_port", "pid")
"""Labels that need a row per flow. `src` is the observed socket's own end, `dst` its peer."""
POD_LABEL_PREFIX = "label_"

LABEL_HELP: Mapping[str, str] = {
    "namespace": "Kubernetes namespace of the pod; empty for host processes and plain containers.",
    "pod": "Name of the pod.",
    "container": "Name of the container in its pod, or the container's short id on a plain host.",
    "workload": "What the pod belongs to (Deployment, StatefulSet, ...), or the host service's unit.",
    "workload_kind": "Kind of the workload: Deployment, DaemonSet, Job, ..., SystemdService, Docker, Host, ...",
    "role": "Which end the socket is: client (it connected), server (it accepted) or unknown.",
    "ip_version": "4 or 6; IPv4-mapped IPv6 addresses count as 4.",
    "netns": "Inode number of the socket's network namespace.",
    "cgroup": "Path of the socket's cgroup.",
    "node": "Name of the node the agent runs on.",
    "src_ip": "Address of the observed socket's own end.",
    "src_port": "Port of the observed socket's own end.",
    "dst_ip": "Address of its peer.",
    "dst_port": "Port of its peer.",
    "pid": "Process that connected, or that listens, in the host's pid namespace.",
    "reason": "Why: see the values of each metric.",
    "kind": "What made the kernel retransmit.",
    "phase": "Part of the connection's life.",
    "direction": "inbound (the peer sent it) or outbound (we sent it).",
    "state": "TCP state of the socket at that moment.",
}

CONNECT_FAILURE_REASONS = ("refused", "timeout", "unreachable", "reset", "aborted", OTHER)
RETRANSMIT_KINDS = ("syn", "rto", "fast", "tlp", "reorder", OTHER)
RETRANSMIT_PHASES = ("connect", "data", "close")
DIRECTIONS = ("inbound", "outbound")
TCP_STATES = (
    "none",
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "new_syn_recv",
)
"""By number, as in the kernel's include/net/tcp_states.h; "none": there was no socket."""

DETAIL_OTHER = 0xFFFF
"""Detail number of the row that takes events when a map is full and their own row is missing."""
RESET_REASON_BITS, RESET_STATE_BITS = 8, 4
"""`reset` details are reason | state << 8 | direction << 12."""


class Metric(NamedTuple):
    """One metric family.

    `name` is what a FlowLensConfig calls it; `exposed` what Prometheus sees. `number` is its
    `enum fl_metric`. `labels` are its own labels, `hooks` the probes that it wants.
    """

    number: int
    name: str
    exposed: str
    kind: Kind
    help: str
    hooks: tuple[str, ...]
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def allowed_labels(self) -> tuple[str, ...]:
        """Every label that this metric can carry, its own last (pod labels apart)."""
        owner = tuple(label for label in OWNER_LABELS if label not in self.labels)
        return (*owner, *FLOW_LABELS, *self.labels)


SET_STATE, RETRANSMIT, SYNACK = "inet_sock_set_state", "tcp_retransmit_skb", "tcp_retransmit_synack"
ERROR_REPORT = "inet_sk_error_report"
SEND_RESET, RECEIVE_RESET = "tcp_send_reset", "tcp_receive_reset"

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LIFETIME_BUCKETS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)

CATALOGUE: tuple[Metric, ...] = (
    Metric(
        0,
        "connect",
        PREFIX + "connect_total",
        Kind.COUNTER,
        "Connections that a process tried to open (SYN_SENT entered).",
        (SET_STATE,),
    ),
    Metric(
        1,
        "accept",
        PREFIX + "accept_total",
        Kind.COUNTER,
        "Connections that a listening socket established (SYN_RECV to ESTABLISHED).",
        (SET_STATE,),
    ),
    Metric(
        2,
        "connect_failures",
        PREFIX + "connect_failures_total",
        Kind.COUNTER,
        "Connection attempts that failed, by reason; aborted means that the application gave up.",
        (SET_STATE, ERROR_REPORT),
        ("reason",),
    ),
    Metric(
        3,
        "connect_duration",
        PREFIX + "connect_duration_seconds",
        Kind.HISTOGRAM,
        "Time from SYN_SENT to ESTABLISHED of connections that were opened.",
        (SET_STATE,),
        (),
        LATENCY_BUCKETS,
    ),
    Metric(
        4,
        "connections",
        PREFIX + "connections",
        Kind.GAUGE,
        "Connections that are open now, from ESTABLISHED until the socket closes.",
        (SET_STATE,),
        ("role",),
    ),
    Metric(
        5,
        "connection_duration",
        PREFIX + "connection_duration_seconds",
        Kind.HISTOGRAM,
        "Time from ESTABLISHED until the socket closed; connections older than the agent are left out.",
        (SET_STATE,),
        ("role",),
        LIFETIME_BUCKETS,
    ),
    Metric(
        6,
        "retransmit",
        PREFIX + "retransmit_total",
        Kind.COUNTER,
        "Retransmissions (calls; one call may carry many segments).",
        (RETRANSMIT,),
        ("role", "kind", "phase"),
    ),
    Metric(
        7,
        "retransmit_segments",
        PREFIX + "retransmit_segments_total",
        Kind.COUNTER,
        "Segments retransmitted; with synack_retransmit_total equal to the kernel's RetransSegs.",
        (SET_STATE, RETRANSMIT),
        ("role", "kind", "phase"),
    ),
    Metric(
        8,
        "synack_retransmit",
        PREFIX + "synack_retransmit_total",
        Kind.COUNTER,
        "SYN-ACKs that a listening socket retransmitted.",
        (SYNACK,),
    ),
    Metric(
        9,
        "reset",
        PREFIX + "reset_total",
        Kind.COUNTER,
        "TCP resets sent (outbound) and received (inbound) with the socket's state and the kernel's reason.",
        (SEND_RESET, RECEIVE_RESET),
        ("direction", "state", "reason"),
    ),
)


class HealthMetric(NamedTuple):
    """One family about flow-lens itself; `labels` in the order shown, `buckets` in seconds without +Inf."""

    exposed: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _health(name: str, kind: Kind, text: str, *labels: str) -> HealthMetric:
    return HealthMetric(f"flow_lens_{name}", kind, text, labels)


def _controller(
    name: str, kind: Kind, text: str, *labels: str, buckets: tuple[float, ...] = ()
) -> HealthMetric:
    return HealthMetric(f"flow_lens_controller_{name}", kind, text, labels, buckets)


BUILD_INFO = _health(
    "build_info",
    Kind.GAUGE,
    "Version, engine and the way it takes, kernel release; always 1.",
    "version",
    "engine",
    "way",
    "kernel",
)
PROBE_UP = _health(
    "probe_up", Kind.GAUGE, "1 if the probe is attached, else 0 with the reason.", "probe", "reason"
)
MAP_ENTRIES = _health("map_entries", Kind.GAUGE, "Rows in a kernel map at the last read.", "map")
MAP_CAPACITY = _health("map_capacity", Kind.GAUGE, "Rows that fit into a kernel map.", "map")
MAP_ERRORS = _health(
    "map_errors_total",
    Kind.COUNTER,
    "Entries that a kernel map did not take; their numbers went to `other` rows.",
    "map",
    "errno",
)
MISSED_RUNS = _health(
    "program_missed_runs_total",
    Kind.COUNTER,
    "Events that no program saw because they interrupted the only one (the kernel's recursion_misses).",
    "probe",
)
SERIES = _health("series", Kind.GAUGE, "Time series exposed, by metric.", "metric")
SERIES_COLLAPSED = _health(
    "series_collapsed_total",
    Kind.COUNTER,
    "Label sets that a limit sent into the metric's `other` series.",
    "metric",
)
UNATTRIBUTED = _health(
    "unattributed_total",
    Kind.COUNTER,
    "Events counted without the name of their owner, by cause.",
    "metric",
    "cause",
)
CONFIG_INFO = _health(
    "config_info", Kind.GAUGE, "The configuration in force; state is applied, or rejected when a newer one was refused.",
    "config", "generation", "state",
)  # fmt: skip
CONFIG_ERRORS = _health(
    "config_apply_errors_total",
    Kind.COUNTER,
    "Configurations that were refused, once per generation of an object or content of a file; and attempts to apply"
    " one that failed, each.",
)
CONFIG_APPLIED = _health(
    "config_last_applied_timestamp_seconds",
    Kind.GAUGE,
    "When the configuration in force was applied (Unix time).",
)
COLLECT_SECONDS = _health(
    "scrape_duration_seconds",
    Kind.GAUGE,
    "Time that the last scrape spent reading the kernel and updating series.",
)
SCRAPES = _health("scrapes_total", Kind.COUNTER, "Scrapes served.")
IDENTITY_ERRORS = _health(
    "identity_errors_total", Kind.COUNTER, "Facts about owners that could not be read, by what.", "what"
)

HEALTH: tuple[HealthMetric, ...] = (
    BUILD_INFO,
    PROBE_UP,
    MAP_ENTRIES,
    MAP_CAPACITY,
    MAP_ERRORS,
    MISSED_RUNS,
    SERIES,
    SERIES_COLLAPSED,
    UNATTRIBUTED,
    CONFIG_INFO,
    CONFIG_ERRORS,
    CONFIG_APPLIED,
    COLLECT_SECONDS,
    SCRAPES,
    IDENTITY_ERRORS,
)

VISIT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

CONTROLLER_BUILD_INFO = _controller(
    "build_info", Kind.GAUGE, "Version of the controller; always 1.", "version"
)
CONTROLLER_OBJECTS = _controller("objects", Kind.GAUGE, "FlowLensConfigs known.")
CONTROLLER_NODES = _controller("nodes", Kind.GAUGE, "Nodes known.")
CONTROLLER_AGENTS = _controller(
    "agents",
    Kind.GAUGE,
    "Agents by state: answering, unreachable, behind (they run something else than they should)"
    " or unknown (not asked yet).",
    "state",
)
CONTROLLER_VISITS = _controller(
    "visits_total", Kind.COUNTER, "Agents asked for their status, by result: answered or failed.", "result"
)
CONTROLLER_VISIT_SECONDS = _controller(
    "visit_duration_seconds",
    Kind.HISTOGRAM,
    "Time from asking an agent to having its answer.",
    buckets=VISIT_BUCKETS,
)
CONTROLLER_VISITS_WAITING = _controller(
    "visits_waiting", Kind.GAUGE, "Agents that are due and wait for their turn."
)
CONTROLLER_WRITES = _controller(
    "writes_total",
    Kind.COUNTER,
    "Requests that write to the API server, by what (status, event) and result"
    " (written, repeated, gone, refused, failed).",
    "what",
    "result",
)
CONTROLLER_WATCH_UP = _controller(
    "watch_up",
    Kind.GAUGE,
    "1 if a watch is established, else 0; resource is nodes or endpointslices.",
    "resource",
)
CONTROLLER_WATCH_FAILURES = _controller(
    "watch_failures_total", Kind.COUNTER, "Lists and watches that failed.", "resource"
)
CONTROLLER_WATCH_BEHIND = _controller(
    "watch_behind_seconds",
    Kind.GAUGE,
    "How long the watch of FlowLensConfigs owes a change that a list has shown.",
)
CONTROLLER_JUDGE_SECONDS = _controller(
    "judge_duration_seconds",
    Kind.HISTOGRAM,
    "Time to work out the statuses of all objects.",
    buckets=VISIT_BUCKETS,
)

CONTROLLER: tuple[HealthMetric, ...] = (
    CONTROLLER_BUILD_INFO,
    CONTROLLER_OBJECTS,
    CONTROLLER_NODES,
    CONTROLLER_AGENTS,
    CONTROLLER_VISITS,
    CONTROLLER_VISIT_SECONDS,
    CONTROLLER_VISITS_WAITING,
    CONTROLLER_WRITES,
    CONTROLLER_WATCH_UP,
    CONTROLLER_WATCH_FAILURES,
    CONTROLLER_WATCH_BEHIND,
    CONTROLLER_JUDGE_SECONDS,
)

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in CATALOGUE}


def detail_values(metric: Metric, detail: int, reset_reasons: Mapping[int, str]) -> dict[str, str]:
    """Values of a metric's own detail labels (not `role`) for a detail number of its rows.

    `reset_reasons` maps this kernel's `enum sk_rst_reason` to names; numbers differ per kernel.
    """
    if detail == DETAIL_OTHER:
        return {label: OTHER for label in metric.labels if label != "role"}
    match metric.name:
        case "connect_failures":
            return {"reason": CONNECT_FAILURE_REASONS[detail]}
        case "retransmit" | "retransmit_segments":
            kind, phase = divmod(detail, len(RETRANSMIT_PHASES))
            return {"kind": RETRANSMIT_KINDS[kind], "phase": RETRANSMIT_PHASES[phase]}
        case "reset":
            return _reset_values(detail, reset_reasons)
        case _:
            return {}


def _reset_values(detail: int, reset_reasons: Mapping[int, str]) -> dict[str, str]:
    reason = detail & ((1 << RESET_REASON_BITS) - 1)
    state = (detail >> RESET_REASON_BITS) & ((1 << RESET_STATE_BITS) - 1)
    direction = DIRECTIONS[(detail >> (RESET_REASON_BITS + RESET_STATE_BITS)) & 1]
    return {
        "direction": direction,
        "state": TCP_STATES[state] if state < len(TCP_STATES) else OTHER,
        "reason": "peer" if direction == "inbound" else reset_reasons.get(reason, "unspecified"),
    }

"""Python's twin of bpf/records.h: struct formats, numbers, and the encoding of settings.

A test compares every size and offset with the compiled object's BTF, so that the two cannot drift.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from flowlens import metrics

KEY = struct.Struct("<QIIIBBBBHHHH")
"""fl_key: cgroup, netns, pid, generation, family, role, metric, pad, detail, local and remote port, pad."""
FLOW = struct.Struct("<QIIIBBBBHHHH16s16s")
VALUE = struct.Struct("<QQ")
CGROUP_ID = struct.Struct("<Q")
LISTENER = struct.Struct("<II")

METRICS = 32
MAX_BOUNDS = 32
NEVER_NS = 1 << 62
PORT_BYTES = 8192
MAX_ENTRIES = 131072
"""Of `totals` and of `flows`."""

FIELDS: Mapping[str, int] = {"src_ip": 1, "src_port": 2, "dst_ip": 4, "dst_port": 8, "pid": 16}
HISTOGRAMS = ("connect_duration", "connection_duration")
"""In the order of enum fl_histogram."""
LOSSES = (
    ("totals", "E2BIG"),
    ("totals", "ENOMEM"),
    ("flows", "E2BIG"),
    ("flows", "ENOMEM"),
    ("sockets", "ENOMEM"),
    ("cgroups", "ENOSPC"),
    ("totals", "UNCOUNTED"),
)
"""In the order of enum fl_loss: map and errno."""

FLAG_OWNER_PID, FLAG_ADOPT_CONNECTIONS, FLAG_REBASE, FLAG_PORTS = 1, 2, 4, 8

_SETTINGS_HEAD = struct.Struct(f"<QIIIxxxx4I4I{METRICS}s")
_BOUNDS = struct.Struct(f"<II{MAX_BOUNDS}Q")
SETTINGS_BYTES = _SETTINGS_HEAD.size + _BOUNDS.size * len(HISTOGRAMS) + PORT_BYTES


@dataclass(frozen=True, slots=True)
class Settings:
    """What the kernel side is told. Metric names are those of the catalogue.

    `masks`: metric -> OR of FIELDS that its labels need. `bounds`: histogram -> ascending upper bounds in
    ns, at most 32. Ports are inclusive ranges. Prefixes are bits of an address that are kept.
    """

    enabled: frozenset[str]
    masks: Mapping[str, int] = field(default_factory=dict)
    bounds: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    include_ports: tuple[tuple[int, int], ...] = ()
    exclude_ports: tuple[tuple[int, int], ...] = ()
    v4_prefix: int = 32
    v6_prefix: int = 128
    max_flows: int = 65536
    owner_pid: bool = False


def encode(
    settings: Settings, *, generation: int, bounds_generations: Mapping[str, int], flags: int = 0
) -> bytes:
    """`struct fl_settings` for these settings; `bounds_generations` says since when each histogram's hold."""
    masks = bytearray(METRICS)
    enabled = 0
    for name in settings.enabled:
        number = metrics.BY_NAME[name].number
        enabled |= 1 << number
        masks[number] = settings.masks.get(name, 0)
    filters = bool(settings.include_ports or settings.exclude_ports)
    owner_pid = FLAG_OWNER_PID if settings.owner_pid else 0
    head = _SETTINGS_HEAD.pack(
        enabled,
        generation,
        flags | owner_pid | (FLAG_PORTS if filters else 0),
        settings.max_flows,
        *_keep(settings.v4_prefix, 1),
        *_keep(settings.v6_prefix, 4),
        bytes(masks),
    )
    histograms = b"".join(
        _encode_bounds(settings.bounds.get(name, ()), bounds_generations.get(name, generation))
        for name in HISTOGRAMS
    )
    return head + histograms + _wanted_ports(settings)


def _keep(prefix: int, words: int) -> tuple[int, ...]:
    """Four words that keep the first `prefix` bits of an address, as they lie in memory (network order)."""
    bits = ((1 << prefix) - 1) << (32 * words - prefix)
    return struct.unpack("<4I", bits.to_bytes(4 * words, "big").ljust(16, b"\0"))


def _wanted_ports(settings: Settings) -> bytes:
    """A bit per port: those included (all, if none is named) without those excluded."""
    wanted = _bits(settings.include_ports or ((0, 65535),)) & ~_bits(settings.exclude_ports)
    return wanted.to_bytes(PORT_BYTES, "little")


def _bits(ranges: tuple[tuple[int, int], ...]) -> int:
    bits = 0
    for first, last in ranges:
        bits |= ((1 << (last - first + 1)) - 1) << first
    return bits


def _encode_bounds(bounds: tuple[int, ...], generation: int) -> bytes:
    return _BOUNDS.pack(generation, len(bounds), *bounds, *[NEVER_NS] * (MAX_BOUNDS - len(bounds)))


def rows_made_in_advance() -> list[bytes]:
    """Keys of the `totals` rows that take the numbers of owners for whom the map has no room.

    One per family, role, metric and known detail, without owner; and one with DETAIL_OTHER for the
    details that differ per kernel. Histogram rows carry the generation of their boundaries, so they are
    made anew by `histogram_rows_made_in_advance` when boundaries change.
    """
    return [
        _other_row(family, role, metric.number, detail, 0)
        for family in (4, 6)
        for role in metrics.Role
        for metric in metrics.CATALOGUE
        if metric.kind is not metrics.Kind.HISTOGRAM
        for detail in (*_known_details(metric), metrics.DETAIL_OTHER)
    ]


def histogram_rows_made_in_advance(name: str, bounds: int, generation: int) -> list[bytes]:
    """The same for a histogram: a row per bucket."""
    number = metrics.BY_NAME[name].number
    details = (*range(bounds + 1), metrics.DETAIL_OTHER)
    return [_other_row(f, r, number, d, generation) for f in (4, 6) for r in metrics.Role for d in details]


def _known_details(metric: metrics.Metric) -> range:
    match metric.name:
        case "connect_failures":
            return range(len(metrics.CONNECT_FAILURE_REASONS))
        case "retransmit" | "retransmit_segments":
            return range(len(metrics.RETRANSMIT_KINDS) * len(metrics.RETRANSMIT_PHASES))
        case "reset":
            return range(0)
        case _:
            return range(1)


def _other_row(family: int, role: int, metric: int, detail: int, generation: int) -> bytes:
    return KEY.pack(0, 0, 0, generation, family, role, metric, 0, detail, 0, 0, 0)

"""From a row's raw key to its label text.

What follows from owner, role, family and detail is rendered once per batch and kept as a stem; flow
fields are filled into it. Who the owner is, `identify` knows; whom the configuration selects, `config`.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from flowlens import config, identity, metrics
from flowlens.series import eras, labels, rows

Identify = Callable[[identity.Owner], identity.Workload | None]

NAME_PENDING = "name_pending"
"""Cause of rows that left the kernel, while too many like them waited for their owner's name."""
KEPT_WHEN_COLLAPSED = ("role", "ip_version", "node")
MOST_STEMS = 1024
"""Kept at a time; flows of more owners and details than that are rendered again."""
_ROLES = {role.value: role.name.lower() for role in metrics.Role}
_OWNER = struct.Struct("<QII")
_STEM = struct.Struct("<16xIBBBxH")
_PORTS = struct.Struct("<HH")
_PID = struct.Struct("<I")


class Stem(NamedTuple):
    """Label text of all rows that differ in flow fields only; `text` has one `%s` per field.

    `collapsed` is the text of the row that takes them when there is no room.
    """

    text: str
    collapsed: str
    fields: tuple[str, ...]
    era: eras.Era | None
    cause: str


UNEXPOSED = Stem("", "", (), None, identity.Cause.OTHER_NODE)


class Namer:
    """Names rows under one configuration. `forget` ends a batch: names may have changed since."""

    def __init__(self, node: config.NodeConfig, identify: Identify, reset_reasons: Mapping[int, str]) -> None:
        self.node = node
        self._identify = identify
        self._reset_reasons = reset_reasons
        self._pod_labels = {config.pod_label(key): key for key in node.pod_labels}
        self._owners: dict[bytes, dict[str, str] | None] = {}
        self._stems: dict[bytes, Stem | None] = {}

    def forget(self) -> None:
        """Asks `identify` anew from now on."""
        self._owners.clear()
        self._stems.clear()

    def stem(self, key: bytes, wanted: config.MetricConfig, era: eras.Era | None) -> Stem | None:
        """UNEXPOSED for a row that is not to be shown; None for one whose name is still expected."""
        if len(key) == rows.ROW_KEY:
            return self._make_stem(key, wanted, era)  # no other row of a batch has it: keeping it is waste
        known = key[: rows.STEM_BYTES]
        if known not in self._stems:
            if len(self._stems) >= MOST_STEMS:
                self._stems.clear()
            self._stems[known] = self._make_stem(key, wanted, era)
        return self._stems[known]

    def nameless_stem(self, key: bytes, wanted: config.MetricConfig, era: eras.Era | None) -> Stem:
        """For a row that cannot wait for its name any longer."""
        return _stem(key, wanted, era, self._key_values(key, wanted) | {"cause": NAME_PENDING})

    def _make_stem(self, key: bytes, wanted: config.MetricConfig, era: eras.Era | None) -> Stem | None:
        owner = key[: rows.OWNER_BYTES]
        if owner not in self._owners:
            self._owners[owner] = self._owner_values(owner)
        values = self._owners[owner]
        if values is None:
            return None
        if values.get("cause") == identity.Cause.OTHER_NODE:
            return UNEXPOSED
        return _stem(key, wanted, era, self._key_values(key, wanted) | values)

    def _owner_values(self, owner: bytes) -> dict[str, str] | None:
        """Label values that follow from an owner, and its cause if it has no name."""
        if owner == rows.NO_OWNER:
            return dict.fromkeys(
                (*metrics.IDENTITY_LABELS, "netns", "cgroup", *self._pod_labels), metrics.OTHER
            )
        workload = self._identify(as_owner(owner))
        if workload is None:
            return None
        if workload.cause == identity.Cause.OTHER_NODE or not self._selects(workload):
            return {"cause": identity.Cause.OTHER_NODE}
        names = (
            {} if workload.cause else {label: getattr(workload, label) for label in metrics.IDENTITY_LABELS}
        )
        pod_labels = dict(workload.pod_labels)
        copied = {label: pod_labels.get(key, "") for label, key in self._pod_labels.items()}
        return {**names, **copied, "cgroup": workload.cgroup_path, "cause": workload.cause}

    def _selects(self, workload: identity.Workload) -> bool:
        return config.selects(
            self.node,
            namespace=workload.namespace,
            pod_labels=dict(workload.pod_labels),
            is_host=workload.is_host,
        )

    def _key_values(self, key: bytes, wanted: config.MetricConfig) -> dict[str, str]:
        """Label values that follow from the key alone; labels that nobody fills are empty."""
        _, family, role, _, detail = _STEM.unpack_from(key)
        return {
            **dict.fromkeys(wanted.labels, ""),
            **detail_values(wanted.metric, detail, self._reset_reasons),
            "role": _ROLES.get(role, _ROLES[metrics.Role.UNKNOWN]),
            "ip_version": str(family) if family in (4, 6) else metrics.OTHER,
            "netns": str(_OWNER.unpack_from(key)[1]),
            "node": self.node.node,
        }


def as_owner(packed: bytes) -> identity.Owner:
    """The owner whose 16 bytes these are."""
    return identity.Owner(*_OWNER.unpack(packed))


def pack_owner(owner: identity.Owner) -> bytes:
    """The 16 bytes that the keys of an owner's rows begin with."""
    return _OWNER.pack(*owner)


def detail_values(metric: metrics.Metric, detail: int, reset_reasons: Mapping[int, str]) -> dict[str, str]:
    """As `metrics.detail_values`; a number that the catalogue does not know is shown as `other`."""
    if metric.kind is metrics.Kind.HISTOGRAM:
        return {}
    try:
        return metrics.detail_values(metric, detail, reset_reasons)
    except IndexError:
        return metrics.detail_values(metric, metrics.DETAIL_OTHER, reset_reasons)


def keeps(metric: metrics.Metric, label: str) -> bool:
    """Whether a label still says something where label sets were collapsed."""
    return label in metric.labels or label in KEPT_WHEN_COLLAPSED


def _stem(key: bytes, wanted: config.MetricConfig, era: eras.Era | None, values: Mapping[str, str]) -> Stem:
    known = era.fields if era and len(key) == rows.FLOW_KEY else frozenset[str]()
    fields = tuple(label for label in wanted.labels if label in known)
    parts, collapsed = [], []
    for label in wanted.labels:
        is_flow = label in metrics.FLOW_LABELS
        text = labels.escape(metrics.OTHER if is_flow else values[label])
        kept = text if keeps(wanted.metric, label) else metrics.OTHER
        collapsed.append(f'{label}="{kept}"')
        if fields:
            text = "%s" if label in known else text.replace("%", "%%")
        parts.append(f'{label}="{text}"')
    return Stem(",".join(parts), ",".join(collapsed), fields, era, values.get("cause", ""))


def text_of(stem: Stem, key: bytes) -> str:
    """The whole label text of one row."""
    if not stem.fields:
        return stem.text
    return stem.text % tuple([_FIELDS[field](key, stem.era) for field in stem.fields])


def address(packed: bytes) -> str:
    """An address of 4 or 16 bytes in its canonical text (RFC 5952), as `ipaddress` writes it."""
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if packed.startswith(bytes(10)):  # the C library mixes notations here: ::192.0.2.1
        return str(ipaddress.IPv6Address(packed))
    return socket.inet_ntop(socket.AF_INET6, packed)


def _address_at(start: int) -> Callable[[bytes, eras.Era | None], str]:
    def read(key: bytes, era: eras.Era | None) -> str:
        is_v6 = key[rows.FAMILY_AT] == 6
        if era and not (era.v6_prefix if is_v6 else era.v4_prefix):
            return ""  # the configuration shows no addresses
        return address(key[start : start + 16] if is_v6 else key[start : start + 4])

    return read


_FIELDS: Mapping[str, Callable[[bytes, eras.Era | None], str]] = {
    "src_ip": _address_at(rows.ROW_KEY),
    "dst_ip": _address_at(rows.ROW_KEY + 16),
    "src_port": lambda key, _: str(_PORTS.unpack_from(key, rows.PORTS_AT)[0]),
    "dst_port": lambda key, _: str(_PORTS.unpack_from(key, rows.PORTS_AT)[1]),
    "pid": lambda key, _: str(_PID.unpack_from(key, 12)[0]),
}

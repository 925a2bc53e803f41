"""Readings as the kernel would give them, built with struct and nothing of ours."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from flowlens import config, identity, metrics
from flowlens.kernel import reading
from flowlens.series import labels
from flowlens.series import ledger as ledgers

GENERATION = 7


class Key(NamedTuple):
    """Fields of a row's key; `flow` says which map it is in."""

    metric: str = "connect"
    cgroup: int = 100
    netns: int = 4026531840
    pid: int = 0
    generation: int = 0
    family: int = 4
    role: int = 1
    detail: int = 0
    src: str = ""
    src_port: int = 0
    dst: str = ""
    dst_port: int = 0
    flow: bool = False

    @property
    def packed(self) -> bytes:
        number = metrics.BY_NAME[self.metric].number
        head = struct.pack(
            "<QIIIBBBBHHHH",
            self.cgroup,
            self.netns,
            self.pid,
            self.generation,
            self.family,
            self.role,
            number,
            0,
            self.detail,
            self.src_port,
            self.dst_port,
            0,
        )
        return head + _address(self.src) + _address(self.dst) if self.flow else head


def _address(text: str) -> bytes:
    return (ipaddress.ip_address(text).packed if text else b"").ljust(16, b"\0")


def table(rows: Mapping[Key, int | tuple[int, int]]) -> reading.Table:
    """Packed rows; a value is a count, or (count, sum in ns)."""
    values = [value if isinstance(value, tuple) else (value, 0) for value in rows.values()]
    keys = b"".join(key.packed for key in rows)
    packed = b"".join(struct.pack("<QQ", count % 2**64, total) for count, total in values)
    return reading.Table(memoryview(keys), memoryview(packed), len(rows))


def read(rows: Mapping[Key, int | tuple[int, int]], live: Iterable[Key] = ()) -> reading.Reading:
    """One reading: rows go into the table that they belong to."""
    connections = list(live)
    return reading.Reading(
        (table({key: value for key, value in rows.items() if not key.flow}),),
        (table({key: value for key, value in rows.items() if key.flow}),),
        reading.Table(
            memoryview(b"".join(key.packed for key in connections)),
            memoryview(struct.pack("<QQ", 1, 0) * len(connections)),
            len(connections),
        ),
    )


def configuration(text: str = "{}", node: str = "node-1") -> config.NodeConfig:
    """A node's configuration from the YAML of a spec."""
    return config.resolve(config.load(text, source="test"), name="test", generation=1, node=node)


class Names:
    """Stands in for identity: workloads by cgroup id, and which of them are there."""

    def __init__(self) -> None:
        self.workloads: dict[int, identity.Workload | None] = {}
        self.dead: set[int] = set()

    def identify(self, owner: identity.Owner) -> identity.Workload | None:
        if owner.cgroup in self.workloads:
            return self.workloads[owner.cgroup]
        return identity.Workload(
            namespace="shop",
            pod=f"pod-{owner.cgroup}",
            container="app",
            workload="web",
            workload_kind="Deployment",
        )

    def alive(self, owner: identity.Owner) -> bool:
        return owner.cgroup not in self.dead

    def ledger(self, spec: str = "{}", generation: int = GENERATION) -> ledgers.Ledger:
        made = ledgers.Ledger(identify=self.identify, alive=self.alive, reset_reasons={3: "no_socket"})
        made.configure(configuration(spec), generation, 0.0)
        return made


def series(ledger: ledgers.Ledger, metric: str = "connect") -> dict[str, int]:
    """Label text -> number, of a counter or gauge; -> observations, of a histogram."""
    for view in ledger.views():
        if view.metric.name == metric:
            width = len(view.buckets) + 1
            return {text: _signed(sum(view.counts[at : at + width])) for text, at in view.names.items()}
    return {}


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def labelled(ledger: ledgers.Ledger, metric: str = "connect", *names: str) -> dict[tuple[str, ...], int]:
    """The same by the values of these labels; numbers of equal ones are added up."""
    found: dict[tuple[str, ...], int] = {}
    for text, number in series(ledger, metric).items():
        values = labels.read(text)
        key = tuple(values[name] for name in names)
        found[key] = found.get(key, 0) + number
    return found

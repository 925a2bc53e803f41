"""The cluster as arithmetic: names, addresses and cgroups of every node, from two choices.

Nothing here touches the machine, and nothing about a node may be decided elsewhere, so a
second process (a shell, a test, `down`) knows the cluster by reading two values.
Addresses are those reserved for documentation: they can collide with no real network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import places

MOST_NODES = 9
API_SERVER = "https://192.0.2.10:6443"
API_SERVICE = "10.96.0.1"


@dataclass(frozen=True, slots=True)
class Node:
    """One node; its number starts at 1, and number 1 also runs the control plane."""

    number: int

    @property
    def name(self) -> str:
        return f"node{self.number}"

    @property
    def ip(self) -> str:
        return f"192.0.2.{9 + self.number}"

    @property
    def ip6(self) -> str:
        return f"2001:db8::{9 + self.number}"

    @property
    def pod_range(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def pod_range6(self) -> str:
        return f"fd00:10:244:{self.number}::/64"

    @property
    def cgroup_root(self) -> str:
        """The kubelet's cgroupRoot: everything that this node's pods are lies below it."""
        return f"/{places.NAME}/{self.name}"

    @property
    def daemons_cgroup(self) -> str:
        """Parent of one cgroup per daemon; only in the unified hierarchy."""
        return f"/{places.NAME}/daemons/{self.name}"

    @property
    def folder(self) -> Path:
        """What the node sees as /var/lib, /var/log and /run lies below, on the host."""
        return places.STATE / self.name

    @property
    def kubelet_root(self) -> Path:
        """The node's /var/lib/kubelet as a path on the host (its mounts show only inside)."""
        return self.folder / "var-lib" / "kubelet"


@dataclass(frozen=True, slots=True)
class Plan:
    """The choices that made the cluster. `for_tests`: a test run made it, and may remove it."""

    node_count: int = 2
    dual_stack: bool = False
    for_tests: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.node_count <= MOST_NODES:
            raise ValueError(f"{self.node_count} nodes: choose 1 to {MOST_NODES}")

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(Node(number) for number in range(1, self.node_count + 1))

    @property
    def service_range(self) -> str:
        return "10.96.0.0/24,fd00:10:96::/112" if self.dual_stack else "10.96.0.0/24"

    def node_ips(self, node: Node) -> str:
        return f"{node.ip},{node.ip6}" if self.dual_stack else node.ip

    def pod_ranges(self, node: Node) -> tuple[str, ...]:
        return (node.pod_range, node.pod_range6) if self.dual_stack else (node.pod_range,)


def save(plan: Plan) -> None:
    """Record the finished cluster, in one step."""
    choices = {
        "node_count": plan.node_count,
        "dual_stack": plan.dual_stack,
        "for_tests": plan.for_tests,
    }
    draft = places.record().with_suffix(".draft")
    draft.write_text(json.dumps(choices))
    draft.rename(places.record())


def load() -> Plan | None:
    """The plan of the cluster that is recorded as complete, if one is."""
    try:
        return Plan(**json.loads(places.record().read_text()))
    except FileNotFoundError:
        return None

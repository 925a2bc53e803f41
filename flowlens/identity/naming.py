"""The answer: what an owner's numbers are labelled with, and how host facts become that answer.

Pure. Names are valid Unicode whatever bytes a cgroup's name holds, because they end up in text.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from flowlens.host import cgroup_path

HOST = "Host"
POD = "Pod"
_SHORT_ID = 12
_LONG_HEX = re.compile(r"[0-9a-f]{64}")

_RUNTIME_KINDS = {
    cgroup_path.Runtime.UNKNOWN: "Cgroup",
    cgroup_path.Runtime.DOCKER: "Docker",
    cgroup_path.Runtime.PODMAN: "Podman",
    cgroup_path.Runtime.CONTAINERD: "Containerd",
    cgroup_path.Runtime.CRIO: "CRIO",
    cgroup_path.Runtime.LXC: "LXC",
    cgroup_path.Runtime.NSPAWN: "Nspawn",
}
_UNIT_KINDS = {
    cgroup_path.Kind.SERVICE: "SystemdService",
    cgroup_path.Kind.SCOPE: "SystemdScope",
    cgroup_path.Kind.SLICE: "SystemdSlice",
    cgroup_path.Kind.OTHER: "Cgroup",
    cgroup_path.Kind.ROOT: HOST,
}


class Owner(NamedTuple):
    """The owner fields of a kernel row: cgroup id, inode of the network namespace, pid.

    `cgroup` is 0 for events without a socket and 1 (the root) for everybody where there is cgroup v1
    only; `pid` is 0 unless it is asked for.
    """

    cgroup: int
    netns: int
    pid: int


class Cause(enum.StrEnum):
    """Why an owner has no name."""

    NAMED = ""
    NO_SOCKET = "no_socket"
    """A segment without a socket, in a namespace that several owners share (or the host's)."""
    CGROUP_GONE = "cgroup_gone"
    """The cgroup was removed before anybody saw its path."""
    UNKNOWN_CGROUP = "unknown_cgroup"
    """No path for the id, in a tree that we see in part or not at all."""
    POD_UNKNOWN = "pod_unknown"
    """A pod's cgroup, and the source of pods does not know the pod."""
    PODS_UNAVAILABLE = "pods_unavailable"
    """A pod's cgroup, and the source of pods has not answered yet."""
    OTHER_NODE = "other_node"
    """A pod of another node that runs on the same kernel."""
    PROCESS_GONE = "process_gone"
    """cgroup v1: the process ended before it was looked at."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What a row is labelled with; "" for what it has not. `cause` is "" when it is named."""

    namespace: str = ""
    pod: str = ""
    container: str = ""
    workload: str = ""
    workload_kind: str = ""
    cgroup_path: str = ""
    pod_labels: tuple[tuple[str, str], ...] = ()
    is_host: bool = False
    cause: str = ""


def unnamed(cause: Cause, path: str = "", *, is_host: bool = False) -> Workload:
    """An owner without a name."""
    return Workload(cgroup_path=printable(path), is_host=is_host, cause=cause.value)


def on_host(path: str) -> Workload:
    """The owner of a cgroup on a machine without Kubernetes: named by its path, never None."""
    owner = cgroup_path.parse(path)
    if owner.kind is cgroup_path.Kind.POD or (owner.kind is cgroup_path.Kind.CONTAINER and owner.is_pods_own):
        container = short_id(owner.container_id)
        return Workload(
            container=container, workload=owner.pod_uid, workload_kind=POD, cgroup_path=printable(path)
        )
    if owner.kind is cgroup_path.Kind.CONTAINER:
        name, kind = short_id(owner.container_id), _RUNTIME_KINDS[owner.runtime]
        return Workload(container=name, workload=name, workload_kind=kind, cgroup_path=printable(path))
    name, kind = _host_name(path, owner), _UNIT_KINDS[owner.kind]
    return Workload(workload=name, workload_kind=kind, cgroup_path=printable(path), is_host=True)


def on_node(path: str) -> Workload:
    """The owner of a cgroup outside of pods on a Kubernetes node: the host, whatever its kind."""
    return dataclasses.replace(on_host(path), workload_kind=HOST, is_host=True)


def common(workloads: Iterable[Workload]) -> Workload | None:
    """What all of `workloads` share: one container, or one pod (then without container), else None."""
    found = list(workloads)
    if not found or any(one.is_host or one.cause for one in found):
        return None
    first = found[0]
    if any(_group(one) != _group(first) for one in found):
        return None
    containers = {one.container for one in found if one.container}
    container = containers.pop() if len(containers) == 1 else ""
    return dataclasses.replace(first, container=container, cgroup_path="")


def _group(one: Workload) -> tuple[object, ...]:
    return one.namespace, one.pod, one.workload, one.workload_kind, one.pod_labels


def _host_name(path: str, owner: cgroup_path.CgroupOwner) -> str:
    return printable(cgroup_path.unescape(owner.unit) if owner.unit else path.rpartition("/")[2])


def short_id(container_id: str) -> str:
    """12 digits of an id, as runtimes print it; names (LXC, nspawn, ctr) in full."""
    return container_id[:_SHORT_ID] if _LONG_HEX.fullmatch(container_id) else printable(container_id)


def printable(name: str) -> str:
    """Valid Unicode: undecodable bytes of a file name (surrogates) become U+FFFD."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if not name.isascii() else name

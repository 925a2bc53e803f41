"""What a cgroup's path tells: the container, the pod, or the systemd unit that it belongs to.

Pure text, no file is opened. A path is read from the root down and the innermost container counts,
so kind, Docker in Docker and Kubernetes below any prefix need no cases of their own; a cgroup made
below a container's (init.scope, payload, delegated trees) belongs to that container.
"""

from __future__ import annotations

import enum
import functools
import re
from dataclasses import dataclass
from typing import NamedTuple


class Kind(enum.StrEnum):
    """What a cgroup belongs to. POD: a pod's own cgroup, above those of its containers."""

    ROOT = "root"
    CONTAINER = "container"
    POD = "pod"
    SERVICE = "service"
    SCOPE = "scope"
    SLICE = "slice"
    OTHER = "other"


class Runtime(enum.StrEnum):
    """Who made a container; UNKNOWN where the path does not say (kubepods with cgroupfs driver)."""

    UNKNOWN = ""
    DOCKER = "docker"
    PODMAN = "podman"
    CONTAINERD = "containerd"
    CRIO = "crio"
    LXC = "lxc"
    NSPAWN = "nspawn"


class Pod(NamedTuple):
    """A pod on the path; `container_id` is "" in the pod's own cgroup."""

    uid: str
    container_id: str


@dataclass(frozen=True, slots=True)
class CgroupOwner:
    """Whom a cgroup belongs to.

    `container_id` is the innermost container's (a name for LXC, nspawn and ctr). `pods` are all pods
    on the path, outermost first: more than one with a cluster inside a pod; a container in the last
    one that is not the pod's own (Docker in a pod) shows as `container_id` alone. `unit` is the
    systemd unit as systemd spells it: the owner itself, or for a container the service that holds it.
    """

    kind: Kind
    runtime: Runtime = Runtime.UNKNOWN
    container_id: str = ""
    pods: tuple[Pod, ...] = ()
    unit: str = ""

    @property
    def pod_uid(self) -> str:
        """UID of the innermost pod, "" outside pods."""
        return self.pods[-1].uid if self.pods else ""

    @property
    def is_pods_own(self) -> bool:
        """Whether the owner is the innermost pod or one of its containers, not something inside."""
        return bool(self.pods) and self.pods[-1].container_id == self.container_id


_UNIT_KINDS = {
    ".service": Kind.SERVICE,
    ".scope": Kind.SCOPE,
    ".slice": Kind.SLICE,
    # Units with processes of their own (ExecStartPre=, mount helpers), rare enough to count as services.
    ".socket": Kind.SERVICE,
    ".mount": Kind.SERVICE,
    ".swap": Kind.SERVICE,
}

_RUNTIME_PREFIXES = {
    "docker": Runtime.DOCKER,
    "libpod": Runtime.PODMAN,
    "libpod-payload": Runtime.PODMAN,  # podman run --cgroups=split, the default of Quadlet units
    "cri-containerd": Runtime.CONTAINERD,
    "containerd": Runtime.CONTAINERD,
    "nerdctl": Runtime.CONTAINERD,
    "crio": Runtime.CRIO,
}

_FULL_ID = re.compile(r"(?:(?P<prefix>[\w.-]*?)[-_])?(?P<id>[0-9a-f]{64})(?:\.scope)?")
# runc with its cgroupfs driver given a path meant for systemd (slice:prefix:name): taken literally.
_COLON_ID = re.compile(r"(?P<slice>[^:]*):(?P<prefix>[^:]*):(?P<id>[0-9a-f]{64})")
_ECS_TASK = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FARGATE_ID = re.compile(r"[0-9a-f]{32}-[0-9]+")
_BUILDKIT_ID = re.compile(r"[0-9a-z]{25}")
# kubelet: pkg/kubelet/cm/pod_container_manager_linux.go; static pods have an MD5 without dashes.
_POD_UID = re.compile(r"pod(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})")
_POD_ANY_UID = re.compile(r"pod(?P<uid>[\w-]+)")
_POD_SLICE = re.compile(r"(?:.*-)?kubepods(?:-burstable|-besteffort)?-pod(?P<uid>[\w-]+)\.slice")
_POD_PARENTS = frozenset({"kubepods", "burstable", "besteffort"})
_NSPAWN = re.compile(r"machine-(?P<scope>.+)\.scope|systemd-nspawn@(?P<service>.+)\.service")
_NIXOS_CONTAINER = re.compile(r"container@(?P<service>.+)\.service")
# libvirt: /machine.slice/machine-qemu\x2d2\x2dvm.scope (docs/cgroups.rst).
_LIBVIRT = re.compile(r"(?P<driver>qemu|lxc|xen|ch)-[0-9]+-(?P<name>.+)")
_ESCAPES = re.compile(r"(?:\\x[0-9a-fA-F]{2})+")


def unescape(name: str) -> str:
    r"""A systemd unit's name as people write it: `\x2d` becomes `-` (systemd-escape(1))."""
    return _ESCAPES.sub(
        lambda run: bytes.fromhex(run.group().replace("\\x", "")).decode("utf-8", "replace"), name
    )


@functools.lru_cache(maxsize=2048)
def parse(path: str) -> CgroupOwner:
    """Whom the cgroup at `path` (from its hierarchy's root, "/" being the root) belongs to.

    Never raises, whatever the path holds.
    """
    walk = _Walk()
    for part in path.split("/"):
        if part:
            walk.step(part)
    return walk.owner()


class _Walk:
    """The way down a path: what holds so far, and the two parts above the next one."""

    def __init__(self) -> None:
        self._kind = Kind.ROOT
        self._runtime = Runtime.UNKNOWN
        self._container = ""
        self._pods: tuple[Pod, ...] = ()
        self._unit = ""
        self._parent = self._grandparent = ""

    def owner(self) -> CgroupOwner:
        return CgroupOwner(self._kind, self._runtime, self._container, self._pods, self._unit)

    def step(self, part: str) -> None:
        """Takes the next part of the path."""
        if uid := _pod_uid(part, self._parent):
            self._enter_pod(uid)
        if found := _container(part, self._parent, self._grandparent):
            self._enter_container(part, *found)
        elif self._kind not in (Kind.CONTAINER, Kind.POD):
            self._enter_other(part)
        elif part == "supervisor" and self._parent == self._unit and self._runtime is Runtime.NSPAWN:
            self._leave_nspawn()
        self._grandparent, self._parent = self._parent, part

    def _enter_pod(self, uid: str) -> None:
        self._kind, self._runtime, self._container = Kind.POD, Runtime.UNKNOWN, ""
        self._pods = (*self._pods, Pod(uid, ""))
        self._keep_service()

    def _enter_container(self, part: str, runtime: Runtime, container: str) -> None:
        if self._kind is Kind.POD:
            self._pods = (*self._pods[:-1], Pod(self._pods[-1].uid, container))
        elif self._kind is not Kind.CONTAINER:
            self._keep_service()
            if runtime is Runtime.NSPAWN or (runtime is Runtime.LXC and part.endswith(".scope")):
                self._unit = part
        self._kind, self._runtime, self._container = Kind.CONTAINER, runtime, container

    def _keep_service(self) -> None:
        """A slice above a container only sorts it; a service above runs it."""
        if self._unit.endswith(".slice"):
            self._unit = ""

    def _enter_other(self, part: str) -> None:
        kind = _UNIT_KINDS.get(part[part.rfind(".") :])
        if kind is not None:
            self._kind, self._unit = kind, part
        elif self._kind in (Kind.ROOT, Kind.SLICE):
            self._kind, self._unit = Kind.OTHER, ""

    def _leave_nspawn(self) -> None:
        """systemd-nspawn itself runs on the host, in `supervisor` beside the container's `payload`."""
        self._runtime, self._container = Runtime.UNKNOWN, ""
        self._kind = _UNIT_KINDS[self._unit[self._unit.rfind(".") :]]


def _pod_uid(part: str, parent: str) -> str:
    """The pod's UID where `part` is a pod's cgroup in either driver, else ""."""
    slice_name = part.partition(":")[0]
    if match := _POD_SLICE.fullmatch(slice_name):
        return match["uid"].replace("_", "-")
    pattern = _POD_ANY_UID if parent in _POD_PARENTS else _POD_UID
    match = pattern.fullmatch(part)
    return match["uid"].replace("_", "-") if match else ""


def _container(part: str, parent: str, grandparent: str) -> tuple[Runtime, str] | None:
    """Runtime and id where `part` is a container's cgroup."""
    if match := _FULL_ID.fullmatch(part) or _COLON_ID.fullmatch(part):
        return _by_id(match["prefix"] or "", match["id"], parent, grandparent)
    if part.endswith((".service", ".scope")):
        return _machine(part, parent)
    return _by_place(part, parent, grandparent)


def _by_id(prefix: str, container: str, parent: str, grandparent: str) -> tuple[Runtime, str] | None:
    if prefix.endswith("conmon"):
        return None  # the monitor of the container with that id, on the host's side
    if prefix:
        return _RUNTIME_PREFIXES.get(prefix, Runtime.UNKNOWN), container
    if parent == "libpod_parent":
        return None  # a podman pod; its containers are libpod-<id> below
    return _bare_id_runtime(parent, grandparent), container


def _bare_id_runtime(parent: str, grandparent: str) -> Runtime:
    if parent in ("docker", "actions_job") or (grandparent == "ecs" and _ECS_TASK.fullmatch(parent)):
        return Runtime.DOCKER
    if not parent or _POD_UID.fullmatch(parent) or grandparent in _POD_PARENTS:
        return Runtime.UNKNOWN
    if parent.endswith(".slice"):
        return Runtime.UNKNOWN
    return Runtime.CONTAINERD  # /<namespace>/<id>, containerd's default for clients that set no path


def _machine(part: str, parent: str) -> tuple[Runtime, str] | None:
    """Containers that are systemd units: systemd-nspawn, NixOS containers, libvirt's LXC driver."""
    match = _NSPAWN.fullmatch(part)
    name = match["scope"] or match["service"] if match else ""
    if not name and parent == "machine.slice" and (match := _NIXOS_CONTAINER.fullmatch(part)):
        name = match["service"]
    name = unescape(name)
    if libvirt := _LIBVIRT.fullmatch(name):
        return (Runtime.LXC, libvirt["name"]) if libvirt["driver"] == "lxc" else None
    return (Runtime.NSPAWN, name) if name else None


def _by_place(part: str, parent: str, grandparent: str) -> tuple[Runtime, str] | None:
    """Containers that are recognised by their names' prefix or by the folder they are in."""
    name = part.removeprefix("lxc.payload.")
    if name and name != part:
        return Runtime.LXC, name
    if parent in ("lxc", "lxc.payload"):
        return Runtime.LXC, part
    if parent == "default" and not part.endswith(".slice"):
        return Runtime.CONTAINERD, part  # ctr run <image> <name>, in containerd's namespace "default"
    if grandparent == "ecs" and _FARGATE_ID.fullmatch(part):
        return Runtime.CONTAINERD, part
    if parent == "buildkit" and _BUILDKIT_ID.fullmatch(part):
        return (Runtime.DOCKER if grandparent == "docker" else Runtime.UNKNOWN), part
    return None

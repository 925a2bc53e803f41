"""What is known of pods, and what a pod's cgroup is called.

`PodSource` and `PodInfo` are protocols so that `kube`, a room below, satisfies them without importing
us. A pod's name outlives the source's knowledge of it, because its numbers do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

import cachetools

from flowlens.host import cgroup_path
from flowlens.identity import naming

HOLD_SECONDS = 10.0
"""How long a pod's numbers wait for its name: the kubelet's list is read every 10 s."""
YOUNG_SECONDS = 6.0
"""How long a new container's name is asked for actively: the kubelet's list has its id a second or two after its start,
and a container may be gone, and its pod deleted, before anybody scrapes."""
REMEMBER_SECONDS = 900.0
MOST_PODS = 8_192
"""Pods remembered after their last use; a node runs some hundreds."""


class PodInfo(Protocol):
    """What a name needs of a pod; immutable and compared by value, as a frozen dataclass is."""

    @property
    def uid(self) -> str:
        """As in the cgroup's path: for a static pod the config hash, not the mirror pod's UID."""

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def workload(self) -> str: ...
    @property
    def workload_kind(self) -> str: ...
    @property
    def labels(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def containers(self) -> Mapping[str, str]:
        """Container id (64 hex digits, no scheme) -> name; init, sidecar and ephemeral ones too."""


class PodSource(Protocol):
    """Pods of this node, from a snapshot that somebody else keeps fresh. Calls must not block."""

    @property
    def ready(self) -> bool:
        """Whether a first list has arrived."""

    def lookup(self, pod_uid: str) -> PodInfo | None:
        """The pod, for some minutes after its deletion too: a tick may come later than its end."""

    def container_name(self, container_id: str) -> str | None:
        """Name of a container that `PodInfo.containers` does not list (any more), or None."""

    def request_refresh(self) -> None:
        """A pod or container was met that the snapshot does not know. Called often: rate-limit it."""


class Verdict(NamedTuple):
    """A workload (None: wait for it), the pod it rests on, and whether waiting could improve it."""

    workload: naming.Workload | None
    pod_uid: str = ""
    is_final: bool = True


class Pods:
    """Names cgroups of pods. `cgroup_root` is this node's kubelet's cgroupRoot, "" for any."""

    def __init__(self, source: PodSource, cgroup_root: str, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._prefixes = _kubepods_prefixes(cgroup_root)
        self._known: cachetools.TTLCache[str, PodInfo] = cachetools.TTLCache(
            MOST_PODS, REMEMBER_SECONDS, clock
        )
        self._announced: cachetools.TTLCache[str, None] = cachetools.TTLCache(
            MOST_PODS, REMEMBER_SECONDS, clock
        )
        self._young: cachetools.TTLCache[cgroup_path.Pod, None] = cachetools.TTLCache(
            MOST_PODS, YOUNG_SECONDS, clock
        )
        self._waiting_since: cachetools.TTLCache[cgroup_path.Pod, float] = cachetools.TTLCache(
            MOST_PODS, REMEMBER_SECONDS, clock
        )

    def announce(self, path: str) -> None:
        """A cgroup was made: if it is of a pod of ours that nobody knows, ask for it now."""
        pod = cgroup_path.parse(path).pods[-1:]
        if not pod or not self._is_ours(path):
            return
        if pod[0].container_id:
            self._young[pod[0]] = None
        if self._info(pod[0].uid) is None:
            self._announced[pod[0].uid] = None
            self._source.request_refresh()

    def nudge(self) -> None:
        """Asks for the names of young containers again; due about once a second. (A sandbox never gets one.)"""
        self._young.expire()
        for pod in list(self._young):
            info = self._info(pod.uid)
            if info is not None and pod.container_id in info.containers:
                del self._young[pod]
        if self._young:
            self._source.request_refresh()

    def verdict(self, path: str) -> Verdict:
        """The workload of a cgroup that is in a pod."""
        if not self._is_ours(path):
            return Verdict(naming.unnamed(naming.Cause.OTHER_NODE, path))
        pods = cgroup_path.parse(path).pods
        for pod in reversed(pods):  # innermost first; a cluster inside a pod is not our kubelet's
            info = self._info(pod.uid)
            if info is not None:
                return self._name(path, pod, info)
        self._source.request_refresh()
        if not self._has_waited(pods[-1]):
            return Verdict(None, pods[-1].uid, is_final=False)
        cause = naming.Cause.POD_UNKNOWN if self._source.ready else naming.Cause.PODS_UNAVAILABLE
        return Verdict(naming.unnamed(cause, path), pods[-1].uid, is_final=False)

    def review(self) -> frozenset[str]:
        """UIDs of pods that became known or changed since the last call or question."""
        changed = set()
        for uid in {*self._announced, *self._known}:
            before = self._known.get(uid)
            if self._info(uid) != before:
                changed.add(uid)
            if uid in self._known:
                self._announced.pop(uid, None)
        return frozenset(changed)

    def has_one_container(self, uid: str) -> bool:
        """Whether the pod is known to have one container only, init containers counted."""
        info = self._known.get(uid)
        return info is not None and len(set(info.containers.values())) == 1

    def retire(self, uids_in_use: Iterable[str]) -> None:
        """Keeps what is in use from being forgotten."""
        for uid in uids_in_use:
            info = self._known.get(uid)
            if info is not None:
                self._known[uid] = info
        for cache in (self._known, self._announced, self._waiting_since):
            cache.expire()

    def _info(self, uid: str) -> PodInfo | None:
        fresh = self._source.lookup(uid)
        if fresh is None:
            return self._known.get(uid)
        self._known[uid] = fresh
        return fresh

    def _name(self, path: str, pod: cgroup_path.Pod, info: PodInfo) -> Verdict:
        container = ""
        is_final = True
        if pod.container_id:
            name = info.containers.get(pod.container_id) or self._source.container_name(pod.container_id)
            if name is None:
                # A container newer than the list, or the sandbox (pause), which no list ever names.
                self._source.request_refresh()
                if not self._has_waited(pod):
                    return Verdict(None, info.uid, is_final=False)
            container, is_final = name or "", name is not None
        named = naming.Workload(
            namespace=info.namespace,
            pod=info.name,
            container=container,
            workload=info.workload,
            workload_kind=info.workload_kind,
            cgroup_path=naming.printable(path),
            pod_labels=info.labels,
        )
        return Verdict(named, pod.uid, is_final)

    def _has_waited(self, pod: cgroup_path.Pod) -> bool:
        now = self._clock()
        since = self._waiting_since.get(pod)
        if since is None:
            self._waiting_since[pod] = since = now
        return now - since >= HOLD_SECONDS

    def _is_ours(self, path: str) -> bool:
        return not self._prefixes or path.startswith(self._prefixes)


def _kubepods_prefixes(cgroup_root: str) -> tuple[str, ...]:
    """How paths of this node's pods begin, with the cgroupfs and with the systemd driver.

    The kubelet turns cgroupRoot /a-b/c into a_b.slice/a_b-c.slice and kubepods into
    a_b-c-kubepods.slice below (kubelet: pkg/kubelet/cm/cgroup_manager_linux.go).
    """
    if not cgroup_root:
        return ()
    parts = [part for part in cgroup_root.split("/") if part]
    plain = "".join(f"/{part}" for part in parts)
    name, slices = "", ""
    for part in parts:
        name = f"{name}-{part.replace('-', '_')}" if name else part.replace("-", "_")
        slices += f"/{name}.slice"
    kubepods = f"{name}-kubepods" if name else "kubepods"
    return (f"{plain}/kubepods/", f"{plain}/kubepods.slice/", f"{slices}/{kubepods}.slice/")

"""A clock that only tests move, and pods from memory in place of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowlens import identity
from flowlens.host import cgroupfs
from flowlens.identity import naming
from tests.host import cgroup_tree

WEB_UID = "48b1a4c8-7b0e-4e36-9c39-0d2a5c2a9f11"
PAUSE_ID, WEB_ID, SIDE_ID = "a" * 64, "b" * 64, "c" * 64
WEB_PATH = f"/kubepods/besteffort/pod{WEB_UID}/{WEB_ID}"


class Clock:
    """Seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True, slots=True)
class Pod:
    """Satisfies identity.PodInfo."""

    uid: str = WEB_UID
    namespace: str = "shop"
    name: str = "web-7d9f-x2x"
    workload: str = "web"
    workload_kind: str = "Deployment"
    labels: tuple[tuple[str, str], ...] = (("app", "web"),)
    containers: Mapping[str, str] = field(default_factory=lambda: {WEB_ID: "app"})


class Pods:
    """Satisfies identity.PodSource."""

    def __init__(self, *pods: Pod, ready: bool = True) -> None:
        self.known = {pod.uid: pod for pod in pods}
        self.former_containers: dict[str, str] = {}
        self.refreshes = 0
        self._ready = ready

    @property
    def ready(self) -> bool:
        return self._ready

    def lookup(self, pod_uid: str) -> Pod | None:
        return self.known.get(pod_uid)

    def container_name(self, container_id: str) -> str | None:
        return self.former_containers.get(container_id)

    def request_refresh(self) -> None:
        self.refreshes += 1


@dataclass(slots=True)
class Host:
    """An Identity over folders, and the means to change what it sees."""

    identity: identity.Identity
    clock: Clock
    root: Path
    proc: Path

    @property
    def mount(self) -> Path:
        found = cgroupfs.find_mount(self.root)
        assert found is not None
        return found.path

    def owner(self, path: str, *, netns: int = 4026532301, pid: int = 0) -> naming.Owner:
        """Of the cgroup at `path`, which must exist."""
        return naming.Owner(cgroup_tree.inode(self.mount, path), netns, pid)

    def make(self, path: str) -> int:
        """A cgroup; returns its id."""
        return cgroup_tree.make(self.mount, path)

    def remove(self, path: str) -> None:
        """The cgroup at `path`, which has none below."""
        folder = self.mount / path.lstrip("/")
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

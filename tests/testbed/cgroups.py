"""Makes, empties and removes the testbed's cgroups in every hierarchy of this host.

They are the register of what belongs to the cluster: every process is put into one before it
becomes what it is, so `down` finds all of them after any crash, by asking the kernel.
Hybrid hosts (v1 controllers beside v2) and pure v1 or v2 hosts are told apart by the mounts.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.testbed import deadline, places


class CgroupsError(Exception):
    """This host's cgroups cannot hold a cluster."""


@cache
def mounts() -> tuple[tuple[Path, str], ...]:
    """The hierarchies of this host: (mount point, "cgroup" or "cgroup2")."""
    found: dict[Path, str] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split()[0]
        if kind in ("cgroup", "cgroup2"):
            found[Path(before.split()[4])] = kind
    return tuple(found.items())


def unified() -> Path:
    """The cgroup v2 hierarchy, in which the kernel keeps each socket's owner."""
    for path, kind in mounts():
        if kind == "cgroup2":
            return path
    raise CgroupsError("no cgroup2 file system is mounted: mount one at /sys/fs/cgroup/unified")


def folder(name: str) -> Path:
    """A cgroup of the unified hierarchy by its absolute name."""
    return unified() / name.lstrip("/")


def make_everywhere(name: str) -> None:
    """Make the cgroup in every hierarchy, usable by a kubelet as its root."""
    for path, kind in mounts():
        below = path
        for step in Path(name.lstrip("/")).parts:
            if kind == "cgroup2" and len(mounts()) == 1:
                _pass_controllers_down(below)
            below = below / step
            below.mkdir(exist_ok=True)
            _inherit_cpuset(below)


def _inherit_cpuset(path: Path) -> None:
    """A new v1 cpuset is empty and takes no process until it is told its CPUs and memory."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        own = path / name
        if own.exists() and not own.read_text().strip():
            with contextlib.suppress(OSError):  # cgroup v2: empty means inherited
                own.write_text((path.parent / name).read_text())


def _pass_controllers_down(path: Path) -> None:
    """Pure cgroup v2: a kubelet finds only the controllers that its root's parent passes on."""
    for controller in (path / "cgroup.controllers").read_text().split():
        (path / "cgroup.subtree_control").write_text(f"+{controller}")


def processes(name: str) -> list[int]:
    """Pids of all live processes in the cgroup and below; a zombie is in no cgroup's list."""
    return [pid for path in _tree(folder(name)) for pid in _procs(path)]


def _procs(path: Path) -> list[int]:
    try:
        return [int(line) for line in (path / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _tree(path: Path) -> Iterator[Path]:
    """The cgroup and all below it, children first."""
    for parent, _, _ in os.walk(path, topdown=False):
        yield Path(parent)


def left() -> list[Path]:
    """The cluster's folder in every hierarchy that has one."""
    return [path / places.NAME for path, _ in mounts() if (path / places.NAME).exists()]


def remove() -> None:
    """Kill every process of the cluster and remove its cgroups.

    Both again until nothing is left: a process that an interrupted `up` had just started may
    join its cgroup late, and a cgroup stays busy for a moment after its last process has died.
    """
    deadline.until(_removed, "the cluster's processes and cgroups to go", 30)


def _removed() -> bool:
    _kill(folder(places.NAME))
    for path in (path for top in left() for path in _tree(top)):
        with contextlib.suppress(OSError):
            path.rmdir()
    return not left()


def _kill(top: Path) -> None:
    """Kill all below at once; by pid where the kernel (before 5.14) has no cgroup.kill."""
    try:
        (top / "cgroup.kill").write_text("1")
    except OSError:
        for pid in processes(f"/{places.NAME}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

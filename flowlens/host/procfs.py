"""Processes: which network namespace they are in, and which cgroups.

/proc/<pid>/ns/net of others needs CAP_SYS_PTRACE (ptrace(2), PTRACE_MODE_READ_FSCREDS); what may
not be read is counted. Paths in /proc/<pid>/cgroup are relative to the reader's cgroup namespace
(cgroup_namespaces(7)): `absolute` undoes that, or refuses.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flowlens.host import cgroupfs

_VANISHED = frozenset({errno.ENOENT, errno.ESRCH})
_DELETED = " (deleted)"
_KTHREADD = 2


@dataclass(frozen=True, slots=True)
class NetnsPids:
    """Network namespace's inode -> pids in it. `unreadable`: processes that were there, unreadable."""

    by_netns: dict[int, tuple[int, ...]]
    unreadable: int


@dataclass(frozen=True, slots=True)
class ProcessCgroups:
    """Paths of a process' cgroups as /proc shows them.

    `v2` is None where the kernel shows no v2 line. `v1` holds the other hierarchies' paths by
    controllers ("cpu,cpuacct", "name=systemd").
    """

    v2: str | None
    v1: dict[str, str]


def pids(proc: Path) -> Iterator[int]:
    """All process ids. Raises OSError where `proc` itself cannot be read."""
    with os.scandir(proc) as entries:
        for entry in entries:
            if entry.name.isdecimal() and entry.name.isascii():
                yield int(entry.name)


def netns_inode(proc: Path, pid: int | str) -> int | None:
    """Inode of a process' network namespace; None for kernel threads on their way out.

    Raises OSError: FileNotFoundError or ProcessLookupError when the process is gone, PermissionError
    without CAP_SYS_PTRACE.
    """
    link = os.readlink(f"{proc}/{pid}/ns/net")
    number = link.removeprefix("net:[").removesuffix("]")
    return int(number) if number.isdecimal() and number.isascii() else None


def netns_pids(proc: Path) -> NetnsPids:
    """Every process by its network namespace. Raises OSError where `proc` itself cannot be read."""
    found: dict[int, list[int]] = {}
    unreadable = 0
    for pid in pids(proc):
        try:
            netns = netns_inode(proc, pid)
        except OSError as error:
            unreadable += error.errno not in _VANISHED
            continue
        if netns is not None:
            found.setdefault(netns, []).append(pid)
    return NetnsPids({netns: tuple(members) for netns, members in found.items()}, unreadable)


def host_netns(proc: Path) -> int | None:
    """Inode of the host's own network namespace, or None if it may not be read.

    That of pid 1; where that is more privileged than we are, of kthreadd, which never leaves it.
    """
    for pid, name in ((1, ""), (_KTHREADD, "kthreadd")):
        try:
            if name and (proc / str(pid) / "comm").read_text().strip() != name:
                continue  # another pid namespace's /proc
            return netns_inode(proc, pid)
        except OSError:
            continue
    return None


def process_cgroups(proc: Path, pid: int) -> ProcessCgroups:
    """The cgroups of a process. Raises OSError as `netns_inode` does."""
    text = (proc / str(pid) / "cgroup").read_text(errors="surrogateescape")
    v2, v1 = None, {}
    for line in text.split("\n"):  # splitlines() would split at more than the kernel keeps out of names
        number, _, rest = line.partition(":")
        controllers, separator, path = rest.partition(":")
        if not separator:
            continue
        # A zombie in a cgroup that was removed; no cgroup's name can end a line otherwise.
        path = path.removesuffix(_DELETED)
        if number == "0" and not controllers:
            v2 = path
        else:
            v1[controllers] = path
    return ProcessCgroups(v2, v1)


def is_relative(path: str) -> bool:
    """Whether a path of /proc/<pid>/cgroup leads out of the reader's cgroup namespace."""
    return path == "/.." or path.startswith("/../")


def absolute(path: str, namespace_root: str) -> str | None:
    """A path of /proc/<pid>/cgroup from the hierarchy's root.

    `namespace_root` is the path of the reader's cgroup namespace ("/" outside of one). None if the
    path climbs above the hierarchy's root, so that `namespace_root` must be wrong.
    """
    steps = [step for step in path.split("/") if step]
    base = [step for step in namespace_root.split("/") if step]
    for step in steps:
        if step != "..":
            base.append(step)
        elif base:
            base.pop()
        else:
            return None
    return "/" + "/".join(base)


def namespace_root(proc: Path, tree: cgroupfs.Tree, own: cgroupfs.Mount | None) -> str | None:
    """Path of the cgroup namespace that we read /proc from, for `absolute`.

    A process outside of our namespace shows a path that climbs; pid 1 is, unless we have none. Then
    our own cgroup2 mount `own` starts at the namespace's root, and its inode has a name in the host's
    `tree`. None: we are in a namespace and cannot tell which, so that no path may be trusted.
    """
    try:
        outside = process_cgroups(proc, 1).v2
    except OSError:
        outside = None
    if outside is None or not is_relative(outside):
        return "/"
    root = tree.paths.get(own.root_inode) if own is not None else None
    return root if root is not None and absolute(outside, root) is not None else None

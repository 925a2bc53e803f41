"""Who is in a network namespace, and where processes are: the evidence for rows without a cgroup.

A row has no cgroup of its own when there was no socket (id 0), and on hosts with cgroup v1 only.
Evidence is the cgroups whose sockets were seen in the namespace, and its processes in /proc.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cachetools

from flowlens.host import cgroup_path, cgroupfs, procfs
from flowlens.identity import cgroups, counters

PROCESS_SCAN_SECONDS = 5.0
PROCESS_SCAN_SHARE = 100
"""/proc is read again after 100 times what it took (1 % of a core) and 5 s at least."""
MOST_NAMESPACES = 4_096
MOST_SEEN = 32
"""More cgroups than that in one namespace tell no more than that there are many."""
OWN_CGROUPFS = Path("/sys/fs/cgroup")


class Members:
    """Paths of cgroups by network namespace or process."""

    def __init__(
        self, proc: Path, known: cgroups.Cgroups, tally: counters.Counters, clock: Callable[[], float]
    ) -> None:
        self._proc = proc
        self._cgroups = known
        self._tally = tally
        self._clock = clock
        self._seen: cachetools.LRUCache[int, set[int]] = cachetools.LRUCache(MOST_NAMESPACES)
        self._asked: cachetools.LRUCache[int, float] = cachetools.LRUCache(MOST_NAMESPACES)
        self._pids: dict[int, tuple[int, ...]] = {}
        self._last_scan = float("-inf")
        self._next_scan = clock()
        self._namespace_root: str | None = "/"
        self.host_netns: int | None = None

    def scan(self) -> None:
        """What does not change while we run: the host's namespace, and the one we look from."""
        self.host_netns = procfs.host_netns(self._proc)
        own = cgroupfs.find_mount(OWN_CGROUPFS)
        self._namespace_root = procfs.namespace_root(self._proc, self._cgroups.tree(), own)

    @property
    def problem(self) -> str:
        """Why processes cannot be told, "" if they can."""
        if self.host_netns is None:
            return (
                f"{self._proc}/1/ns/net cannot be read: mount the host's /proc and name it with --host-proc,"
                " and run with CAP_SYS_PTRACE"
            )
        if self._namespace_root is not None:
            return ""
        return (
            f"{self._proc}/<pid>/cgroup is relative to our cgroup namespace, whose path is not known:"
            f" leave the container's own {OWN_CGROUPFS} in place beside the host's, or share the host's"
            " cgroup namespace"
        )

    def saw(self, netns: int, cgroup: int) -> None:
        """A socket of `cgroup` was seen in `netns`."""
        if netns in (0, self.host_netns):
            return
        seen = self._seen.setdefault(netns, set())
        if len(seen) < MOST_SEEN:
            seen.add(cgroup)

    def paths(self, netns: int) -> frozenset[str] | None:
        """Cgroups in the namespace: living ones, else those it had last. None: ask again later.

        /proc is read once per namespace, after the first question, and never again for the same one.
        """
        asked = self._asked.setdefault(netns, self._clock())
        if self._last_scan < asked and self._clock() >= self._next_scan:
            self._read_processes()
        seen = self._seen.get(netns, set())
        living = {self._cgroups.path(cgroup) for cgroup in seen if self._cgroups.is_live(cgroup)}
        living |= {self.path(pid) for pid in self._pids.get(netns, ())}
        found = living - {None} or {self._cgroups.path(cgroup) for cgroup in seen} - {None}
        if not found and self._last_scan < asked:
            return None
        return frozenset(path for path in found if path is not None)

    def is_alive(self, netns: int) -> bool:
        """Whether the namespace had processes when /proc was read last, or has cgroups that live."""
        return netns in self._pids or any(map(self._cgroups.is_alive, self._seen.get(netns, ())))

    def path(self, pid: int) -> str | None:
        """The cgroup of a process that tells most: v2's, or where that is the root the best of v1's."""
        try:
            of_process = procfs.process_cgroups(self._proc, pid)
        except OSError:
            return None
        found = [path for path in (of_process.v2, *of_process.v1.values()) if path is not None]
        known = [path for path in map(self._absolute, found) if path is not None]
        self._tally.refused_paths += bool(found) and not known
        if of_process.v2 is not None and known and known[0] != "/":
            return known[0]
        return min(known, key=_uncertainty, default=None)

    def is_running(self, pid: int) -> bool:
        """Whether there is a process of that number now."""
        return (self._proc / str(pid)).exists()

    def _absolute(self, path: str) -> str | None:
        if self._namespace_root is None:
            return None
        return procfs.absolute(path, self._namespace_root)

    def _read_processes(self) -> None:
        self._last_scan = self._clock()
        started = time.perf_counter()
        try:
            found = procfs.netns_pids(self._proc)
        except OSError:
            found = procfs.NetnsPids({}, 1)
        self._pids = found.by_netns
        self._pids.pop(self.host_netns or 0, None)
        self._tally.process_scans += 1
        self._tally.unreadable_processes += found.unreadable
        took = time.perf_counter() - started
        self._next_scan = self._clock() + max(PROCESS_SCAN_SECONDS, PROCESS_SCAN_SHARE * took)


_CERTAIN = (
    cgroup_path.Kind.CONTAINER,
    cgroup_path.Kind.POD,
    cgroup_path.Kind.SERVICE,
    cgroup_path.Kind.SCOPE,
    cgroup_path.Kind.SLICE,
    cgroup_path.Kind.OTHER,
    cgroup_path.Kind.ROOT,
)
"""What tells most first. v1 hierarchies disagree where some controllers stop at the slice or the root."""


def _uncertainty(path: str) -> int:
    return _CERTAIN.index(cgroup_path.parse(path).kind)

"""Which cgroup id is which path, for cgroups that live, and for a while for those that are gone.

Learnt from scans of the tree and from the kernel's cgroup_mkdir events. Bounded: what lives is bounded
by the machine, what is gone by number and age.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import cachetools

from flowlens.host import cgroupfs
from flowlens.identity import counters

RESCAN_SECONDS = 1.0
RESCAN_SHARE = 20
"""A rescan waits for 20 times what the last one took (5 % of a core) and for 1 s at least."""
GONE_SECONDS = 600.0
MOST_GONE = 16_384
"""Sockets outlive their cgroup (FIN_WAIT, orphans), and rows are read up to a slow tick later."""
MOST_EVENTS = 8_192
"""So many creations without a scan may be cgroups that are gone again: look."""
V1_ROOT_ID = 1


class Missing(enum.Enum):
    """Why an id has no path (yet)."""

    LATER = "the tree may not be read again yet"
    GONE = "the tree was read after the id was met, and it is not there"
    UNKNOWN = "the tree is visible in part or not at all"


class Cgroups:
    """The table id -> path. `mount` is None on hosts with cgroup v1 only."""

    def __init__(self, root: Path, tally: counters.Counters, clock: Callable[[], float]) -> None:
        self._root = root
        self._tally = tally
        self._clock = clock
        self._live: dict[int, str] = {}
        self._gone: cachetools.TTLCache[int, str] = cachetools.TTLCache(MOST_GONE, GONE_SECONDS, clock)
        self._kept: dict[int, str] = {}
        self._asked: dict[int, int] = {}
        self._scans = 0
        self._next_scan = clock()
        self._events = 0
        self._is_complete = False
        self.mount: cgroupfs.Mount | None = None

    def tree(self) -> cgroupfs.Tree:
        """What is known to live, as a tree."""
        return cgroupfs.Tree(self._live, 0)

    def scan(self) -> None:
        """Reads the tree now."""
        started = time.perf_counter()
        self.mount = cgroupfs.find_mount(self._root)
        tree = cgroupfs.scan(self.mount) if self.mount else cgroupfs.Tree({}, 0)
        for cgroup, path in self._live.items():
            if cgroup not in tree.paths:
                self._gone[cgroup] = path
        self._live = tree.paths
        self._is_complete = self.mount is not None and self.mount.is_whole and not tree.unreadable
        self._scans += 1
        self._events = 0
        self._tally.rescans += 1
        self._tally.unreadable_cgroups += tree.unreadable
        took = time.perf_counter() - started
        self._next_scan = self._clock() + max(RESCAN_SECONDS, RESCAN_SHARE * took)

    def may_scan(self) -> bool:
        """Whether the last scan is long enough ago for another one."""
        return self._clock() >= self._next_scan

    def created(self, cgroup: int, path: str) -> None:
        """The kernel made a cgroup; `path` is from the hierarchy's root."""
        self._live[cgroup] = path
        self._events += 1
        if self._events >= MOST_EVENTS and self.may_scan():
            self.scan()

    def is_root(self, cgroup: int) -> bool:
        """Whether the id is that of the hierarchy's root."""
        if self.mount is None or not self.mount.is_whole:
            return cgroup == V1_ROOT_ID
        return cgroup == self.mount.root_inode

    def path(self, cgroup: int) -> str | None:
        """The path as far as it is known; nothing is read."""
        return self._live.get(cgroup) or self._kept.get(cgroup) or self._gone.get(cgroup)

    def is_live(self, cgroup: int) -> bool:
        """Whether the last scan or a later event has it; nothing is read."""
        return cgroup in self._live

    def find(self, cgroup: int) -> str | Missing:
        """The path, read again if need be and allowed; only a scan after the first question proves a loss."""
        path = self.path(cgroup)
        if path is not None:
            self._asked.pop(cgroup, None)
            return path
        asked = self._asked.setdefault(cgroup, self._scans)
        if asked == self._scans:
            if not self.may_scan():
                return Missing.LATER
            self.scan()
            return self.find(cgroup)
        self._asked.pop(cgroup, None)
        return Missing.GONE if self._is_complete else Missing.UNKNOWN

    def is_alive(self, cgroup: int) -> bool:
        """Whether the cgroup exists now: one lstat()."""
        path = self.path(cgroup)
        return self.mount is not None and path is not None and cgroupfs.is_alive(self.mount, path, cgroup)

    def retire(self, in_use: Iterable[int]) -> None:
        """Finds out who is gone, at most as often as scans are allowed, and keeps names in use."""
        if self.may_scan():
            self.scan()
        used = set(in_use)
        paths = {cgroup: self.path(cgroup) for cgroup in used if cgroup not in self._live}
        self._kept = {cgroup: path for cgroup, path in paths.items() if path is not None}
        self._gone.expire()
        self._asked = {cgroup: scan for cgroup, scan in self._asked.items() if cgroup in used}

    def __len__(self) -> int:
        return len(self._live) + len(self._kept) + len(self._gone)

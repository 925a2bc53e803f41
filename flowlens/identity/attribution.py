"""Identity: asked by the agent for every owner of a row, remembers the answers, and revises them.

An answer that was given is revised for better only (a pod became known, a label changed), never
taken back: its numbers are already on somebody's graph. Owned by the thread that holds the agent's
lock; nothing here is thread-safe.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection
from pathlib import Path

from flowlens.host import cgroup_path
from flowlens.identity import cgroups, counters, members, naming, pods

MOST_ANSWERS = 262_144
"""Beyond that the oldest answers are forgotten (and found again if asked): retire() was not called."""


class Identity:
    """Who owns what. `proc` and `cgroupfs` are roots to read; without `pods`, a plain host."""

    def __init__(
        self,
        *,
        proc: Path,
        cgroupfs: Path,
        clock: Callable[[], float] = time.monotonic,
        pods: pods.PodSource | None = None,
        cgroup_root: str = "",
    ) -> None:
        self.counters = counters.Counters()
        self._cgroups = cgroups.Cgroups(cgroupfs, self.counters, clock)
        self._members = members.Members(proc, self._cgroups, self.counters, clock)
        self._pods = _pods(pods, cgroup_root, clock)
        self._answers: dict[naming.Owner, naming.Workload] = {}
        self._open: set[naming.Owner] = set()
        self._of_pod: dict[str, set[naming.Owner]] = {}
        self._changed: set[naming.Owner] = set()
        self._lost: dict[int, set[naming.Owner]] = {}

    @property
    def problem(self) -> str:
        """Why names may be missing on this host and what to do, "" if nothing is wrong."""
        return _problem(self._cgroups, self._members)

    def scan(self) -> None:
        """Reads all cgroups and the host's own facts: at start, and whenever somebody wants to be sure."""
        self._cgroups.scan()
        self._members.scan()

    def cgroup_created(self, cgroup_id: int, path: str) -> None:
        """The kernel made a cgroup at `path`, from the hierarchy's root.

        Best told before the rows of the same moment are asked for; told later, it revises answers.
        """
        self._cgroups.created(cgroup_id, path)
        self._open |= self._lost.pop(cgroup_id, set())
        if self._pods is not None:
            self._pods.announce(path)

    def nudge(self) -> None:
        """Due about once a second: names of new containers are asked for while they can be had."""
        if self._pods is not None:
            self._pods.nudge()

    def workload(self, owner: naming.Owner) -> naming.Workload | None:
        """The owner's workload; None: a name is expected within seconds, hold the row back."""
        answer = self._answers.get(owner)
        return answer if answer is not None else self._ask(owner)

    def changed(self) -> frozenset[naming.Owner]:
        """Owners whose answer changed since the last call; their rows must be grouped again."""
        reviewed = set(self._open)
        if self._pods is not None:
            for uid in self._pods.review():
                reviewed |= self._of_pod.get(uid, set())
        for owner in reviewed:
            self._ask(owner)
        changed, self._changed = frozenset(self._changed), set()
        return changed

    def retire(self, owners_in_use: Collection[naming.Owner]) -> None:
        """Forgets every other owner, and cgroups and pods that are gone."""
        kept = frozenset(owners_in_use)
        self._answers = {owner: answer for owner, answer in self._answers.items() if owner in kept}
        self._open &= kept
        self._changed &= kept
        of_pod = {uid: owners & kept for uid, owners in self._of_pod.items()}
        self._of_pod = {uid: owners for uid, owners in of_pod.items() if owners}
        lost = {cgroup: owners & kept for cgroup, owners in self._lost.items()}
        self._lost = {cgroup: owners for cgroup, owners in lost.items() if owners}
        self._cgroups.retire(owner.cgroup for owner in kept)
        if self._pods is not None:
            self._pods.retire(self._of_pod)

    def alive(self, owner: naming.Owner) -> bool:
        """Whether the owner's cgroup exists (its process, in the root; its namespace, without one)."""
        if owner.cgroup == 0:
            host = owner.netns == self._members.host_netns
            return host or self._members.is_alive(owner.netns)
        if self._cgroups.is_root(owner.cgroup):
            return not owner.pid or self._members.is_running(owner.pid)
        return self._cgroups.is_alive(owner.cgroup)

    def __len__(self) -> int:
        """Owners, cgroups and pods held in memory."""
        return len(self._answers) + len(self._open) + len(self._cgroups) + len(self._of_pod)

    def _ask(self, owner: naming.Owner) -> naming.Workload | None:
        """Judges anew and files the answer."""
        found = self._judge(owner)
        before = self._answers.get(owner)
        answer = found.workload
        if answer is None or (before is not None and answer.cause and not before.cause):
            answer = before
        if answer is not None and answer != before:
            self._answers[owner] = answer
            self._changed |= {owner} if before is not None or owner in self._open else set()
            if len(self._answers) > MOST_ANSWERS:
                self._forget_oldest()
        (self._open.discard if found.is_final else self._open.add)(owner)
        if found.pod_uid:
            self._of_pod.setdefault(found.pod_uid, set()).add(owner)
        return answer

    def _judge(self, owner: naming.Owner) -> pods.Verdict:
        if owner.cgroup == 0:
            return self._without_socket(owner)
        if self._cgroups.is_root(owner.cgroup):
            return self._in_root(owner)
        self._members.saw(owner.netns, owner.cgroup)
        path = self._cgroups.find(owner.cgroup)
        if isinstance(path, str):
            return self._name(path)
        return self._unresolved(owner, path)

    def _unresolved(self, owner: naming.Owner, missing: cgroups.Missing) -> pods.Verdict:
        if missing is cgroups.Missing.LATER:
            return pods.Verdict(None, is_final=False)
        self._lost.setdefault(owner.cgroup, set()).add(owner)  # the kernel's event may be on its way
        is_gone = missing is cgroups.Missing.GONE
        cause = naming.Cause.CGROUP_GONE if is_gone else naming.Cause.UNKNOWN_CGROUP
        return pods.Verdict(naming.unnamed(cause))

    def _name(self, path: str) -> pods.Verdict:
        if self._pods is None:
            return pods.Verdict(naming.on_host(path))
        if cgroup_path.parse(path).pods:
            return self._pods.verdict(path)
        return pods.Verdict(naming.on_node(path))

    def _without_socket(self, owner: naming.Owner) -> pods.Verdict:
        """A segment that no socket sent: its namespace's owner, where that can only be one."""
        if owner.netns in (0, self._members.host_netns):
            return pods.Verdict(naming.unnamed(naming.Cause.NO_SOCKET, is_host=owner.netns != 0))
        return self._by_netns(owner.netns) or pods.Verdict(
            naming.unnamed(naming.Cause.NO_SOCKET), is_final=False
        )

    def _in_root(self, owner: naming.Owner) -> pods.Verdict:
        """The root cgroup: the kernel and early processes; everybody where there is v1 only."""
        path = self._members.path(owner.pid) if owner.pid else None
        if path is not None:
            return self._name(path)
        is_v1_only = self._cgroups.mount is None
        if is_v1_only and owner.netns not in (0, self._members.host_netns):
            by_netns = self._by_netns(owner.netns)
            if by_netns is not None:
                return by_netns
        if is_v1_only and owner.pid:
            return pods.Verdict(naming.unnamed(naming.Cause.PROCESS_GONE))
        return self._name("/")

    def _by_netns(self, netns: int) -> pods.Verdict | None:
        """The one container or pod that a namespace belongs to; None if there is none or more."""
        paths = self._members.paths(netns)
        if paths is None:
            return pods.Verdict(None, is_final=False)
        verdicts = [self._name(path) for path in sorted(paths)]
        named = [found.workload for found in verdicts if found.workload is not None]
        if len(named) < len(verdicts):
            return pods.Verdict(None, is_final=False)
        if named and all(one.cause == naming.Cause.OTHER_NODE for one in named):
            return verdicts[0]
        shared = naming.common(named)
        if shared is None:
            return None
        uid = verdicts[0].pod_uid
        if self._pods is not None and shared.container and not self._pods.has_one_container(uid):
            shared = dataclasses.replace(shared, container="")
        return pods.Verdict(shared, uid)

    def _forget_oldest(self) -> None:
        oldest = next(iter(self._answers))
        del self._answers[oldest]
        self._open.discard(oldest)


def _pods(source: pods.PodSource | None, cgroup_root: str, clock: Callable[[], float]) -> pods.Pods | None:
    return pods.Pods(source, cgroup_root, clock) if source is not None else None


def _problem(known: cgroups.Cgroups, processes: members.Members) -> str:
    if known.mount is not None and not known.mount.is_whole:
        return (
            f"{known.mount.path} shows a part of the cgroup tree only (a container's own mount):"
            " mount the host's /sys/fs/cgroup and name it with --host-cgroup"
        )
    return processes.problem

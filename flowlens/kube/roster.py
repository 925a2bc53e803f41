"""Who runs here, and who ran here a moment ago.

A pod's last numbers are read after the pod has gone, and a container that was restarted twice is
no longer mentioned by its pod: both are kept for some minutes, a bounded number of them.
Owned by one thread; the `Names` it hands out never change.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar

from flowlens.kube import pods

KEEP_SECONDS = 600.0
KEEP_MOST = 2000
"""Vanished pods, and likewise vanished containers. 100 pods a minute for ten minutes are 1,000."""


@dataclass(frozen=True, slots=True)
class Names:
    """A snapshot. `present` counts the pods that were in the last answer."""

    pods: Mapping[str, pods.PodInfo]
    containers: Mapping[str, str]
    present: int


NOBODY = Names(MappingProxyType({}), MappingProxyType({}), 0)
"""Before the first answer."""


What = TypeVar("What", pods.PodInfo, str)


class _Gone(NamedTuple, Generic[What]):
    what: What
    since: float


class Roster:
    """Joins successive pod lists. Times are seconds of any clock that only goes forward."""

    def __init__(self, keep_seconds: float = KEEP_SECONDS, keep_most: int = KEEP_MOST) -> None:
        self._keep_seconds = keep_seconds
        self._keep_most = keep_most
        self._present: dict[str, pods.PodInfo] = {}
        self._containers: dict[str, str] = {}
        self._gone: dict[str, _Gone[pods.PodInfo]] = {}
        self._gone_containers: dict[str, _Gone[str]] = {}

    def replace(self, now_present: Iterable[pods.PodInfo], now: float) -> Names:
        """The names after another complete list of this node's pods."""
        before, containers_before = self._present, self._containers
        self._present = {pod.uid: pod for pod in now_present}
        self._containers = {
            identity: name for pod in self._present.values() for identity, name in pod.containers.items()
        }
        for uid, pod in before.items():
            if uid not in self._present:
                self._gone[uid] = _Gone(pod, now)
        for identity, name in containers_before.items():
            if identity not in self._containers:
                self._gone_containers[identity] = _Gone(name, now)
        self._forget(now)
        return self._names()

    def _forget(self, now: float) -> None:
        for uid in self._gone.keys() & self._present.keys():
            del self._gone[uid]
        for identity in self._gone_containers.keys() & self._containers.keys():
            del self._gone_containers[identity]
        limit = now - self._keep_seconds
        _drop_oldest(self._gone, limit, self._keep_most)
        _drop_oldest(self._gone_containers, limit, self._keep_most)

    def _names(self) -> Names:
        gone = {uid: one.what for uid, one in self._gone.items()}
        containers = {identity: one.what for identity, one in self._gone_containers.items()}
        return Names(
            MappingProxyType({**gone, **self._present}),
            MappingProxyType({**containers, **self._containers}),
            len(self._present),
        )


def _drop_oldest(kept: dict[str, _Gone[What]], limit: float, most: int) -> None:
    """Entries stand in the order they were put in, which is the order of their times."""
    expired = sum(1 for _ in itertools.takewhile(lambda one: one.since < limit, kept.values()))
    for key in list(itertools.islice(kept, max(expired, len(kept) - most))):
        del kept[key]

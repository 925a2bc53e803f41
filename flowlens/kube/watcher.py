"""Keeps a copy of some objects of the API server, by list and watch, in a thread of its own.

The thread owns the objects; everybody else sees immutable snapshots and states, swapped by one
assignment. It survives whatever the server does: a watch that ends is resumed from the last
resourceVersion (bookmarks keep that fresh), 410 makes it list again, everything else is waited
out. https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import dataclasses
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec

from flowlens.kube import access, backoff, client, errors, objects

logger = logging.getLogger(__name__)

Kind = TypeVar("Kind", bound=objects.HasMetadata)
Snapshot = Mapping[str, Kind]
"""Objects by uid."""

ANY_VERSION = "0"
"""A list that the API server may answer from its cache: what thousands of starting agents must ask for."""
NEWEST_VERSION = ""


class ListenerError(Exception):
    """`on_change` failed. A type of its own, so that its OSError is not taken for a broken connection,
    after which the objects would not be announced again."""


@dataclass(frozen=True, slots=True)
class Pace:
    """All the times of a watcher, in seconds.

    `server`: the API server ends each watch after that long (up to a quarter more, at random).
    `silence`: so much longer a watch may be silent before it counts as half open.
    `absent`: between looks for a resource that is not served (a CRD that is not installed).
    `steady`: a watch that lasted that long was a success, even without an event.
    """

    server: float = 240.0
    silence: float = 15.0
    absent: float = 30.0
    steady: float = 5.0
    first_wait: float = 0.5
    most_wait: float = 30.0


@dataclass(frozen=True, slots=True)
class WatchState:
    """How a watcher is doing, for /status. Times are Unix seconds, 0 for never."""

    synced: bool = False
    connected: bool = False
    absent: bool = False
    objects: int = 0
    resource_version: str = ""
    last_event_seconds: float = 0.0
    lists: int = 0
    watches: int = 0
    """Watches that ended, for whatever reason: each one but the last was followed by a reconnect."""
    failures: int = 0
    undecodable: int = 0
    last_error: str = ""
    """What is wrong now; "" while all is well."""


class Watcher(Generic[Kind]):
    """Calls `on_change` with all objects after the first list, and after each change, in its own thread."""

    def __init__(
        self,
        server: access.Access,
        resource: objects.Resource,
        kind: type[Kind],
        on_change: Callable[[Snapshot[Kind]], None],
        *,
        pace: Pace | None = None,
    ) -> None:
        self.state = WatchState()
        self._pace = pace or Pace()
        self._resource = resource
        self._where = f"{server.url}{resource.path}"
        self._client = client.Client(server)
        self._decoder = msgspec.json.Decoder(kind)
        self._on_change = on_change
        self._backoff = backoff.Backoff(self._pace.first_wait, self._pace.most_wait)
        self._objects: dict[str, Kind] = {}
        self._version: str | None = None
        self._list_version = ANY_VERSION
        self._missed = 0
        self._said: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {resource.path}", daemon=True)

    def start(self) -> None:
        """Begins to list and watch."""
        self._thread.start()

    def stop(self, wait_seconds: float = 1.0) -> None:
        """Ends the thread, wherever it waits. Any thread may call it, also the watcher's own."""
        self._stop.set()
        self._client.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(wait_seconds)

    @property
    def running(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            wait = self._round()
            if wait:
                self._stop.wait(wait)

    def _round(self) -> float:
        """One list, if needed, and one watch. Returns the seconds to wait before the next round."""
        try:
            if self._version is None:
                self._list()
            try:
                return self._watch()
            finally:
                self._note(connected=False, watches=self.state.watches + 1)
        except errors.Stopped:
            return 0.0
        except errors.Gone as problem:
            self._version, self._list_version = None, NEWEST_VERSION
            logger.info("listing again: %s", problem)
            return self._backoff.wait_seconds()
        except errors.NotFound as problem:
            return self._not_served(problem)
        except errors.KubeError as problem:
            return self._failed(problem)
        except Exception as problem:  # noqa: BLE001 - outermost loop of the thread
            self._version = None
            return self._failed(problem)

    def _list(self) -> None:
        parameters = {**self._resource.parameters}
        if self._list_version:
            parameters["resourceVersion"] = self._list_version
        try:
            body = self._client.get(self._resource.path, parameters)
        except errors.Temporary as problem:
            if problem.status == 504:
                # "Too large resource version": this server has not caught up, or etcd was restored.
                self._list_version = NEWEST_VERSION
            raise
        found = client.decode_into(_raw_list, body, self._where)
        fresh = (self._decoded(item) for item in found.items or ())
        self._objects = {one.metadata.uid: one for one in fresh if one is not None}
        self._version = found.metadata.resource_version
        self._list_version = self._version
        self._missed = 0
        self._note(lists=self.state.lists + 1, absent=False)
        self._announce()

    def _watch(self) -> float:
        """Follows one watch to its end. Returns the seconds to wait before the next."""
        began = time.monotonic()
        batches = 0
        seconds = self._pace.server * (1 + random.random() / 4)  # noqa: S311 - not a secret
        parameters = {
            **self._resource.parameters,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version or ANY_VERSION,
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        with self._client.lines(
            self._resource.path, parameters, read_seconds=seconds + self._pace.silence
        ) as arriving:
            self._note(connected=True, last_error="")
            for batch in arriving:
                batches += 1
                self._take(batch)
                self._steady()
        if batches or time.monotonic() - began >= self._pace.steady:
            self._steady()
            return 0.0
        return self._backoff.wait_seconds()

    def _take(self, batch: list[bytes]) -> None:
        changed = False
        for line in batch:
            event = client.decode_into(_event, line, self._where)
            if event.type == "ERROR":
                status = objects.status(event.object)
                raise errors.of_status(status.code, f"watch of {self._where}", status.message)
            changed |= self._apply(event)
        self._note(last_event_seconds=time.time(), resource_version=self._version or "")
        if changed:
            self._announce()

    def _apply(self, event: objects.Event) -> bool:
        """Brings one event into the copy. Returns whether that changed anything that others see."""
        mark = client.decode_into(_metadata, bytes(event.object), self._where).metadata
        self._version = self._list_version = mark.resource_version or self._version or ANY_VERSION
        if event.type == "BOOKMARK":
            return False
        one = None if event.type == "DELETED" else self._decoded(event.object)
        if one is None:
            return self._objects.pop(mark.uid, None) is not None
        self._objects[mark.uid] = one
        return True

    def _decoded(self, item: msgspec.Raw) -> Kind | None:
        """One object; None (counted, said once per reason) for one that is not what we expect."""
        try:
            return self._decoder.decode(item)
        except msgspec.DecodeError as problem:
            self._note(undecodable=self.state.undecodable + 1)
            self._say_once(logging.WARNING, f"left out an object of {self._where}: {problem}")
            return None

    def _announce(self) -> None:
        snapshot = MappingProxyType(dict(self._objects))
        try:
            self._on_change(snapshot)
        except Exception as problem:
            raise ListenerError(f"{type(problem).__name__}: {problem}") from problem
        self._note(synced=True, objects=len(snapshot), resource_version=self._version or "")

    def _not_served(self, problem: errors.NotFound) -> float:
        """404: the CRD is not installed, a state like any other.

        One 404 does not throw objects away: an API server may answer so while it starts.
        """
        self._version, self._list_version = None, ANY_VERSION
        self._missed += 1
        if self._objects and self._missed < 2:
            return self._failed(problem)
        if self._objects or not self.state.synced:
            self._objects = {}
            self._announce()
        self._note(absent=True)
        self._report(problem, logging.INFO)
        return self._pace.absent * (1 - random.random() / 4)  # noqa: S311 - not a secret

    def _failed(self, problem: Exception) -> float:
        self._note(failures=self.state.failures + 1)
        self._report(problem, logging.WARNING)
        at_least = problem.retry_after_seconds if isinstance(problem, errors.Temporary) else 0.0
        return self._backoff.wait_seconds(at_least)

    def _report(self, problem: Exception, level: int) -> None:
        known = isinstance(problem, errors.KubeError | ListenerError)
        message = str(problem) if known else f"{type(problem).__name__}: {problem}"
        self._note(last_error=message)
        self._say_once(level, message)

    def _say_once(self, level: int, message: str) -> None:
        """Logs what has not been logged since all was well."""
        if message not in self._said and len(self._said) < 100:
            self._said.add(message)
            logger.log(level, "%s", message)

    def _steady(self) -> None:
        """The watch works: later failures are news, and are met with short waits again."""
        self._backoff.succeeded()
        if self._said:
            self._said.clear()
            logger.info("watching %s", self._where)

    def _note(self, **changes: Any) -> None:
        self.state = dataclasses.replace(self.state, **changes)


_raw_list = msgspec.json.Decoder(objects.RawList)
_event = msgspec.json.Decoder(objects.Event)
_metadata = msgspec.json.Decoder(objects.Object)

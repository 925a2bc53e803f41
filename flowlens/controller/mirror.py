"""A copy of some objects of the API server, kept by list and watch within the event loop.

Beside `kube.watcher` because it needs what a node's agent does not: lists by pages and partial
objects, so that 5,000 nodes never stand in memory as text. The rules are the same: a watch that
ends is resumed from the last resourceVersion, 410 lists again, everything else is waited out.
https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from flowlens.controller import api
from flowlens.kube import backoff, errors, objects

logger = logging.getLogger(__name__)

PAGE = 500
WATCH_SECONDS = 240.0
STUCK_SECONDS = 600.0
"""No round of list and watch takes that long: longer means that the task is dead."""


class Meta(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What a copy needs of any object's metadata."""

    name: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}


class Labelled(msgspec.Struct, frozen=True, gc=False):
    """An object whose metadata is all that matters."""

    metadata: Meta


Kind = TypeVar("Kind")
Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Source(Generic[Kind, Kept]):
    """What to copy: a collection's path, its selectors, and the type of its objects.

    `kept` turns an object into what is kept of it. `partial`: metadata only.
    """

    what: str
    path: str
    kind: type[Kind]
    kept: Callable[[Kind], Kept]
    parameters: Mapping[str, str]
    partial: bool = False


class _PageMeta(
    msgspec.Struct, frozen=True, rename={"resource_version": "resourceVersion", "more": "continue"}
):
    resource_version: str = ""
    more: str = ""


class _Page(msgspec.Struct, frozen=True):
    metadata: _PageMeta = _PageMeta()
    items: list[msgspec.Raw] | None = None  # the API writes null for an empty list


class Mirror(Generic[Kept]):
    """Objects by name: `objects` is swapped or changed in the event loop only, then `changed` is called."""

    def __init__(
        self,
        server: api.Api,
        source: Source[Any, Kept],
        changed: Callable[[], None],
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self.objects: dict[str, Kept] = {}
        self.synced = False
        self.connected = False
        self.changes = 0
        self.last_error = ""
        self.source = source
        self._api = server
        self._changed, self._failed = changed, failed
        self._decoder = msgspec.json.Decoder(source.kind)
        self._version = ""
        self._round_at = time.monotonic()
        self._backoff = backoff.Backoff()

    @property
    def stuck(self) -> bool:
        """Whether its task no longer comes round."""
        return time.monotonic() - self._round_at > STUCK_SECONDS

    async def run(self) -> None:
        """For ever: one list if needed, one watch, and a wait after a failure."""
        while True:
            self._round_at = time.monotonic()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except errors.Gone as problem:
                self._version = ""
                logger.info("listing again: %s", problem)
            except errors.KubeError as problem:
                await self._wait(problem)
            except Exception as problem:  # noqa: BLE001 - outermost loop of the task
                self._version = ""
                await self._wait(problem)

    async def _wait(self, problem: Exception) -> None:
        self._failed()
        text = str(problem) if isinstance(problem, errors.KubeError) else repr(problem)
        if text != self.last_error:
            logger.warning("cannot watch %s: %s", self.source.what, text)
        self.last_error = text
        at_least = problem.retry_after_seconds if isinstance(problem, errors.Temporary) else 0.0
        await asyncio.sleep(self._backoff.wait_seconds(at_least))

    async def _list(self) -> None:
        """Page by page. The copy is replaced when the last page is there."""
        accept = api.PARTIAL_LIST if self.source.partial else "application/json"
        found: dict[str, Kept] = {}
        page = _Page(metadata=_PageMeta(more="first"))
        more: dict[str, str] = {}
        while page.metadata.more:
            asked = {**self.source.parameters, "limit": str(PAGE), **more}
            body = await self._api.get(self.source.path, asked, accept)
            page = self._as(_page, body)
            for item in page.items or ():
                name, kept = self._decoded(item)
                found[name] = kept
            more = {"continue": page.metadata.more}
        self.objects = found
        self._version = page.metadata.resource_version
        self._well()
        self.synced = True
        self._announce()

    async def _watch(self) -> None:
        seconds = WATCH_SECONDS * (1 + random.random() / 4)  # noqa: S311 - not a secret
        asked = {
            **self.source.parameters,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(round(seconds)),
        }
        accept = api.PARTIAL if self.source.partial else "application/json"
        try:
            async with self._api.lines(self.source.path, asked, accept) as arriving:
                self.connected = True
                async for line in arriving:
                    self._take(line)
        finally:
            self.connected = False

    def _take(self, line: bytes) -> None:
        event = self._as(_event, line)
        if event.type == "ERROR":
            said = objects.status(event.object)
            raise errors.of_status(said.code, f"watch of {self.source.what}", said.message)
        mark = self._as(_labelled, bytes(event.object)).metadata
        self._version = mark.resource_version or self._version
        self._well()
        if event.type == "BOOKMARK":
            return
        if event.type == "DELETED":
            self.objects.pop(mark.name, None)
        else:
            name, kept = self._decoded(event.object)
            if self.objects.get(name) == kept:
                return
            self.objects[name] = kept
        self._announce()

    def _announce(self) -> None:
        self.changes += 1
        self._changed()

    def _well(self) -> None:
        self._backoff.succeeded()
        if self.last_error:
            logger.info("watching %s again", self.source.what)
            self.last_error = ""

    def _decoded(self, item: msgspec.Raw) -> tuple[str, Kept]:
        return self._as(_labelled, item).metadata.name, self.source.kept(self._as(self._decoder, item))

    def _as(
        self, decoder: msgspec.json.Decoder[objects.Decoded], body: bytes | msgspec.Raw
    ) -> objects.Decoded:
        try:
            return decoder.decode(body)
        except msgspec.DecodeError as problem:
            raise errors.Unexpected(f"{self.source.what}: not what was expected: {problem}") from problem


_page = msgspec.json.Decoder(_Page)
_event = msgspec.json.Decoder(objects.Event)
_labelled = msgspec.json.Decoder(Labelled)

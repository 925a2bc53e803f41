"""The FlowLensConfigs, seen through kopf: events only.

Handlers of kopf's other kinds annotate the user's object, and timers and daemons add finalizers;
`on.event` sends no PATCH at all. A watch of kopf's can die while its loop runs on, and objects that
vanish while it is away are never reported deleted: `audit` compares what it has shown with a list.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import kopf
import msgspec

from flowlens import config
from flowlens.config import status
from flowlens.controller import api, judgement
from flowlens.kube import access, errors

logger = logging.getLogger(__name__)

LIST_PATH = f"/apis/{config.API_VERSION}/{config.PLURAL}"
BEHIND_SECONDS = 30.0
"""So long a change may be in a list and not have come by the watch; longer, and the watch is dead."""
_WATCH_SECONDS, _SILENCE_SECONDS = 240, 90.0


class _Waits:
    """kopf's waits between tries, without an end: with one, a watch dies after a minute of 5xx or 403."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.5, 1.0, 2.0, 4.0, 8.0)
        while True:
            yield 15.0


def settings() -> kopf.OperatorSettings:
    """kopf as a reader: no peering, no posting, no look at CRDs and namespaces, watches that notice silence."""
    chosen = kopf.OperatorSettings()
    chosen.peering.standalone = True
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.watching.server_timeout = _WATCH_SECONDS
    chosen.watching.inactivity_timeout = _SILENCE_SECONDS
    chosen.watching.connect_timeout = api.CONNECT_SECONDS
    chosen.networking.request_timeout = api.REQUEST_SECONDS
    chosen.networking.connect_timeout = api.CONNECT_SECONDS
    chosen.networking.error_backoffs = _Waits()
    return chosen


def registry(server: access.Access, store: Store, ending: Callable[[], None]) -> kopf.OperatorRegistry:
    """The handlers: how to log in, what to do with an event, and at the end `ending`.

    kopf waits some seconds for tasks that are not its own: `ending` stops them first.
    """
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # else two lines per event
    made = kopf.OperatorRegistry()

    @kopf.on.login(registry=made)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=server.url, aiohttp_session=api.session(server))

    @kopf.on.event(config.GROUP, config.VERSION, config.PLURAL, registry=made)
    async def seen(event: Mapping[str, Any], **_: Any) -> None:
        store.take(event["type"], event["object"])

    @kopf.on.cleanup(registry=made)
    async def end(**_: Any) -> None:
        ending()

    return made


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    uid: str
    generation: int = 0
    creation_timestamp: str = ""


def intent_of(body: Mapping[str, Any]) -> judgement.Intent:
    """An object as kopf gives it. A spec that this version cannot read becomes `error`, not an exception."""
    marks = msgspec.convert(dict(body["metadata"]), _Metadata)
    spec, error = None, ""
    try:
        spec = config.from_object(body.get("spec"), source=f"FlowLensConfig {marks.name}")
    except config.ConfigError as problem:
        error = str(problem)
    return judgement.Intent(
        marks.name, marks.uid, marks.generation, marks.creation_timestamp, spec, error, _status(body)
    )


def _status(body: Mapping[str, Any]) -> status.Status:
    """What is written there now; nothing that counts when another version wrote something else."""
    try:
        return msgspec.convert(dict(body.get("status") or {}), status.Status)
    except msgspec.ValidationError:
        return status.Status()


@dataclass(frozen=True, slots=True)
class Known:
    """An object, and when (monotonic) its spec was seen to change."""

    intent: judgement.Intent
    changed_at: float


class Store:
    """The objects by uid. Everything happens in one event loop; `changed` is called after each event."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.known: dict[str, Known] = {}
        self.listed = False
        self._changed = changed
        self._missing: dict[tuple[str, int], float] = {}

    def take(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """One event of the watch; kind None is an object of kopf's list."""
        uid = body["metadata"]["uid"]
        if kind == "DELETED":
            self.known.pop(uid, None)
        else:
            intent = intent_of(body)
            before = self.known.get(uid)
            same = before is not None and before.intent.generation == intent.generation
            self.known[uid] = Known(intent, before.changed_at if before and same else time.monotonic())
        self._changed()

    def note_status(self, intent: judgement.Intent, written: status.Status) -> None:
        """A status that was just written: its event comes later."""
        known = self.known.get(intent.uid)
        if known is not None:
            self.known[intent.uid] = replace(known, intent=replace(known.intent, status=written))

    @property
    def behind_seconds(self) -> float:
        """How long the watch owes the oldest change that a list has shown; 0 when it owes none."""
        return time.monotonic() - min(self._missing.values()) if self._missing else 0.0

    async def audit(self, server: api.Api) -> None:
        """Compares with a list. Raises KubeError when there is none to be had."""
        before = set(self.known)
        found = await _listed(server)
        now = time.monotonic()
        missing = {
            (one.uid, one.generation)
            for one in found
            if one.uid not in self.known or self.known[one.uid].intent.generation < one.generation
        }
        self._missing = {mark: self._missing.get(mark, now) for mark in missing}
        ghosts = before - {one.uid for one in found}
        for uid in ghosts & set(self.known):
            logger.info("object is gone, its deletion was not seen: %s", self.known.pop(uid).intent.name)
        if ghosts or not self.listed:
            self.listed = self.listed or not missing
            self._changed()


class _Item(msgspec.Struct, frozen=True):
    metadata: _Metadata


class _List(msgspec.Struct, frozen=True):
    items: list[_Item] | None = None  # the API writes null for an empty list


_list = msgspec.json.Decoder(_List)


async def _listed(server: api.Api) -> list[_Metadata]:
    """Metadata of all objects; none while the CRD is not installed."""
    try:
        body = await server.get(LIST_PATH, accept=api.PARTIAL_LIST)
    except errors.NotFound:
        return []
    try:
        return [item.metadata for item in _list.decode(body).items or ()]
    except msgspec.DecodeError as problem:
        raise errors.Unexpected(f"{LIST_PATH}: not what was expected: {problem}") from problem

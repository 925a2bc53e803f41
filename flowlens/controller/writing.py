"""When a status is written: after things settled, only on change, at most every so often per object.

The writes are a merge patch of the `/status` subresource, which cannot touch anything else of the
user's object, and Events.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from flowlens import config
from flowlens.config import status
from flowlens.controller import announcing, api, judgement, wording
from flowlens.kube import errors

logger = logging.getLogger(__name__)

HOLD_SECONDS = 10.0
"""While nodes are still changing over, a status waits for them so long: one write instead of two."""
LONGEST_HOLD_SECONDS = 60.0
"""So long in all, where asking every agent for the first time after the change takes longer."""
RETRY_SECONDS = 5.0
FOREVER = 3600.0


@dataclass(slots=True)
class _Record:
    """What was done for one object (by uid). Times are monotonic.

    `asked_at`: when some of its agents still had to be asked for the first time.
    """

    generation: int = 0
    pending_since: float | None = None
    asked_at: float = 0.0
    next_write: float = 0.0


class Writer:
    """Owns the writes. `written` is told of each new status, `counted` of each request and its result."""

    def __init__(
        self,
        server: api.Api,
        *,
        every_seconds: float,
        instance: str,
        written: Callable[[judgement.Intent, status.Status], None],
        counted: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = server
        self._every = every_seconds
        self._instance = instance
        self._written = written
        self._counted = counted
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._said: set[str] = set()

    def forget_but(self, uids: set[str]) -> None:
        """Objects that are gone."""
        self._records = {uid: record for uid, record in self._records.items() if uid in uids}

    async def offer(self, intent: judgement.Intent, new: status.Status, *, asking: bool) -> float:
        """Writes the status if it changed and may be written now; seconds until it is worth another try.

        `asking`: some of its agents were not asked yet since they should change.
        """
        moment = datetime.datetime.now(datetime.UTC)
        wanted = wording.renewed(new, intent.status, moment.strftime("%Y-%m-%dT%H:%M:%SZ"))
        record = self._record(intent, wanted, asking=asking)
        if wanted == intent.status:
            return FOREVER
        now = self._clock()
        wait = record.next_write - now
        if record.pending_since is not None:
            hold_until = min(record.asked_at + HOLD_SECONDS, record.pending_since + LONGEST_HOLD_SECONDS)
            wait = max(wait, hold_until - now)
        if wait > 0:
            return wait
        result = await self._write(intent, wanted)
        self._counted("status", result)
        failed = result in ("failed", "refused")
        record.next_write = self._clock() + (min(RETRY_SECONDS, self._every) if failed else self._every)
        if result == "written":
            for change in announcing.changes(intent.status, wanted):
                await self._announce(intent, change, moment)
        return RETRY_SECONDS if failed else FOREVER

    def _record(self, intent: judgement.Intent, wanted: status.Status, *, asking: bool) -> _Record:
        record = self._records.setdefault(intent.uid, _Record())
        is_new = record.generation != intent.generation
        record.generation = intent.generation
        if not wanted.nodes.pending:
            record.pending_since = None
        elif is_new or record.pending_since is None:
            record.pending_since = record.asked_at = self._clock()
        elif asking:
            record.asked_at = self._clock()
        return record

    async def _write(self, intent: judgement.Intent, wanted: status.Status) -> str:
        """Sends the patch; what came of it: written, gone, refused or failed."""
        path = f"/apis/{config.API_VERSION}/{config.PLURAL}/{intent.name}/status"
        # The uid is a precondition: an object of the same name made since is another one.
        body = msgspec.json.encode({"metadata": {"uid": intent.uid}, "status": wanted})
        try:
            await self._api.patch(path, body)
        except errors.NotFound:
            return "gone"
        except errors.KubeError as problem:
            return self._failed("status", problem)
        self._said.clear()
        self._written(intent, wanted)
        logger.info(
            "status written: object=%s generation=%d applied=%d of=%d",
            intent.name,
            intent.generation,
            wanted.nodes.applied,
            wanted.nodes.matched,
        )
        return "written"

    async def _announce(
        self, intent: judgement.Intent, change: announcing.Change, moment: datetime.datetime
    ) -> None:
        now = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        try:
            made = await self._api.create(
                announcing.PATH, announcing.event(intent, change, now, self._instance)
            )
        except errors.KubeError as problem:
            self._counted("event", self._failed("event", problem))
            return
        self._counted("event", "written" if made else "repeated")

    def _failed(self, what: str, problem: errors.KubeError) -> str:
        """Says it once per text until a write succeeds; how to count it."""
        if str(problem) not in self._said and len(self._said) < 100:
            self._said.add(str(problem))
            logger.warning("cannot write %s: %s", what, problem)
        return "refused" if isinstance(problem, errors.Refused) else "failed"

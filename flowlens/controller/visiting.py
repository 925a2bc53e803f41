"""Asks every agent how it is: all of them once in a while, those that should change soon.

A few workers take agents from a queue, so that the number of open connections is bounded and a
thousand dead addresses delay nobody for long. Connections are not kept: 5,000 idle ones cost more
than the handshakes of a sweep.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import aiohttp

from flowlens.controller import options, sighting
from flowlens.kube import access, errors

logger = logging.getLogger(__name__)

MOST_BODY_BYTES = 1 << 20
SETTLE_SECONDS = 1.0
"""An agent applies a change within a second or two: the first look comes after this."""
AGAIN_SECONDS = 2.0
"""The second look, and the first after a failure; then twice as long each time, up to a sweep."""
TOLERATED_FAILURES = 1
"""So many failures in a row are a hiccup, and the last good answer stays."""


@dataclass(slots=True)
class Agent:
    """One agent: where it is, what it should run, what it said, and when it is asked next (monotonic)."""

    node: str
    where: str
    wanted: sighting.Version | None = None
    seen: sighting.Sighting = field(default_factory=sighting.Sighting)
    failures: int = 0
    looks: int = 0
    due: float = 0.0
    queued: bool = False
    gone: bool = False

    @property
    def is_behind(self) -> bool:
        """Whether it should run something else than it does."""
        return self.wanted is not None and not self.seen.runs(self.wanted)


def _session(chosen: options.Options) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=_tls(chosen), limit=chosen.concurrency, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "flow-lens-controller", "Accept": "application/json"},
        timeout=aiohttp.ClientTimeout(total=chosen.timeout_seconds),
        auto_decompress=False,
    )


def _tls(chosen: options.Options) -> ssl.SSLContext | bool:
    if chosen.agents_tls == "off":
        return True
    try:
        trusted = access.Access("https://agents", chosen.agents_ca, verify=chosen.agents_tls == "verify")
        return trusted.tls()
    except errors.NoAccess as problem:
        raise options.StartError(f"--agents-ca: {problem}") from problem


class Visitor:
    """Owns the agents. Everything happens in one event loop; `changed` is called after each answer."""

    def __init__(
        self,
        chosen: options.Options,
        changed: Callable[[], None],
        counted: Callable[[str, float], None],
    ) -> None:
        self.agents: dict[str, Agent] = {}
        self._chosen = chosen
        self._changed = changed
        self._counted = counted
        self._scheme = "http" if chosen.agents_tls == "off" else "https"
        self._queue: asyncio.Queue[Agent] = asyncio.Queue()
        self._woken = asyncio.Event()
        self._wake_at = 0.0

    def follow(self, found: Mapping[str, str]) -> None:
        """Where agents are now, by node. A new address is a new agent, asked at once."""
        for node in [node for node, agent in self.agents.items() if found.get(node) != agent.where]:
            self.agents.pop(node).gone = True
        for node, where in found.items():
            if node not in self.agents:
                self.agents[node] = Agent(node, where)
        self._woken.set()

    def expect(self, wanted: Mapping[str, sighting.Version]) -> None:
        """What nodes should run now; those that should change are asked soon, and again until they did."""
        soon = time.monotonic() + SETTLE_SECONDS
        for node, agent in self.agents.items():
            now_wanted = wanted.get(node)
            if now_wanted != agent.wanted:
                agent.wanted, agent.looks = now_wanted, 0
                if agent.is_behind:
                    agent.due = min(agent.due, soon)
        self._woken.set()

    @property
    def waiting(self) -> int:
        """Agents that wait for their turn."""
        return self._queue.qsize()

    @property
    def asking(self) -> set[sighting.Version]:
        """What agents should run that were not asked since."""
        return {one.wanted for one in self.agents.values() if one.wanted and one.is_behind and not one.looks}

    async def run(self) -> None:
        """For ever."""
        async with _session(self._chosen) as session, asyncio.TaskGroup() as group:
            for _ in range(self._chosen.concurrency):
                group.create_task(self._work(session))
            while True:
                self._wake_at = self._enqueue(time.monotonic())
                self._woken.clear()
                # Not wait_for(): in Python 3.11 it loses a cancellation that comes together with the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.05, self._wake_at - time.monotonic())):
                        await self._woken.wait()

    def _enqueue(self, now: float) -> float:
        """Queues who is due; returns when the next will be."""
        next_due = now + self._chosen.sweep_seconds
        for agent in self.agents.values():
            if agent.queued:
                continue
            if agent.due <= now:
                agent.queued = True
                self._queue.put_nowait(agent)
            elif agent.due < next_due:
                next_due = agent.due
        return next_due

    async def _work(self, session: aiohttp.ClientSession) -> None:
        while True:
            agent = await self._queue.get()
            if not agent.gone:
                await self._visit(session, agent)
            agent.queued = False  # not before: until its next date is set, it is due
            if agent.due < self._wake_at:
                self._woken.set()

    async def _visit(self, session: aiohttp.ClientSession, agent: Agent) -> None:
        began = time.monotonic()
        wanted = agent.wanted
        problem = ""
        with _named() as failed:
            body = await self._ask(session, agent.where)
            seen = sighting.read(body, agent.node)
        problem = failed[0] if failed else ""
        now = time.monotonic()
        self._counted("failed" if problem else "answered", now - began)
        before = agent.seen
        if problem:
            agent.failures += 1
            if agent.failures > TOLERATED_FAILURES:
                agent.seen = dataclasses.replace(before, problem=problem)
        else:
            agent.failures, agent.seen = 0, seen
        agent.due = now + self._next_look(agent)
        if agent.wanted != wanted:
            agent.due = min(agent.due, now + SETTLE_SECONDS)
        if agent.seen != before and not agent.gone:
            self._changed()

    def _next_look(self, agent: Agent) -> float:
        """Seconds until this agent is asked again."""
        agent.looks = agent.looks + 1 if agent.is_behind or agent.failures else 0
        if not agent.looks:
            return self._chosen.sweep_seconds
        return min(AGAIN_SECONDS * 2.0 ** min(agent.looks - 1, 10), self._chosen.sweep_seconds)

    async def _ask(self, session: aiohttp.ClientSession, where: str) -> bytes:
        name = self._chosen.agents_server_name or None
        url = f"{self._scheme}://{where}/status"
        async with session.get(url, allow_redirects=False, server_hostname=name) as response:
            if response.status != 200:
                raise sighting.UnreadableError(f"its /status answered {response.status}")
            body = await response.content.read(MOST_BODY_BYTES)
            while not response.content.at_eof():
                body += await response.content.read(MOST_BODY_BYTES)
                if len(body) > MOST_BODY_BYTES:
                    raise sighting.UnreadableError(f"its /status has more than {MOST_BODY_BYTES} bytes")
            return body


@contextlib.contextmanager
def _named() -> Iterator[list[str]]:
    """Collects the failure of a visit in words without addresses, so that equal ones can be counted."""
    failed: list[str] = []
    try:
        yield failed
    except sighting.UnreadableError as problem:
        failed.append(str(problem))
    except TimeoutError:
        failed.append("no answer in time")
    except aiohttp.ClientConnectorCertificateError as problem:
        failed.append(f"its certificate is not verified: {problem.certificate_error}")
    except aiohttp.ClientOSError as problem:
        reason = errno.errorcode.get(problem.errno or 0, "")
        failed.append(f"cannot connect{f' ({reason})' if reason else ''}")
    except (aiohttp.ClientError, OSError) as problem:
        failed.append(f"connection broken ({type(problem).__name__})")

"""Start, judge whenever something changed, end: the order of everything a controller is made of.

One event loop owns all of it. Mirrors, kopf's handler and the visitor change what is known and set
`changed`; the judge, and nobody else, works out statuses from that and offers them to the writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from importlib import metadata
from typing import Any

import kopf

from flowlens.controller import (
    api,
    finding,
    judgement,
    mirror,
    numbers,
    options,
    pages,
    visiting,
    watching,
    wording,
    writing,
)
from flowlens.kube import access, errors, kubeconfig

logger = logging.getLogger(__name__)

JUDGE_SECONDS = 0.5
"""Changes come in bursts (a sweep's answers); one judgement for all that came within this time."""
AUDIT_SECONDS = 30.0
FIRST_AUDIT_SECONDS = 0.5
STUCK_SECONDS = 120.0
SETTLING_SECONDS = 5.0
"""So long after a change an agent's error may be about the object before."""


class Controller:
    """One controller in this process."""

    def __init__(self, chosen: options.Options, server: access.Access, namespace: str) -> None:
        self._chosen = chosen
        self._server = server
        self._api = api.Api(server)
        self._changed = asyncio.Event()
        self._numbers = numbers.Numbers(version())
        self._store = watching.Store(self._changed.set)
        self._nodes = mirror.Mirror(
            self._api, finding.nodes(), self._changed.set, self._numbers.watch_failures.labels("nodes").inc
        )
        self._slices = mirror.Mirror(
            self._api,
            finding.slices(chosen, namespace),
            self._changed.set,
            self._numbers.watch_failures.labels("endpointslices").inc,
        )
        self._visitor = visiting.Visitor(chosen, self._changed.set, self._numbers.visited)
        self._writer = writing.Writer(
            self._api,
            every_seconds=chosen.status_seconds,
            instance=socket.gethostname(),
            written=self._store.note_status,
            counted=self._numbers.wrote,
        )
        self._assigned: tuple[object, ...] = ()
        self._reach: dict[str, judgement.Reach] = {}
        self._round_at = time.monotonic()
        self._audit_error = ""
        self.port = 0

    async def run(self) -> None:
        """Until a signal or cancellation. Raises ControllerError."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._api.close)
            self.port = await stack.enter_async_context(
                pages.serving(
                    self._chosen.listen, render=self._render, healthy=self.healthy, ready=self.ready
                )
            )
            stop = asyncio.Event()
            jobs = await stack.enter_async_context(
                _beside(
                    stop,
                    self._nodes.run(),
                    self._slices.run(),
                    self._visitor.run(),
                    self._judge_for_ever(),
                    self._audit_for_ever(),
                )
            )
            logger.info("controller started: port=%d server=%s", self.port, self._server.url)
            await self._watch(jobs, stop)
            logger.info("controller ends")

    async def _watch(self, jobs: Jobs, stop: asyncio.Event) -> None:
        """kopf, until a signal or `stop`. Raises EndedError when it gives up, as without its CRD."""
        try:
            await kopf.operator(
                registry=watching.registry(self._server, self._store, lambda: _cancel(jobs)),
                settings=watching.settings(),
                identity=_identity(),
                standalone=True,
                clusterwide=True,
                stop_flag=stop,
            )
        except Exception as problem:
            raise options.EndedError(
                f"kopf ended: {problem or type(problem).__name__}; start it again (was the CRD deleted?)"
            ) from problem

    # judging -------------------------------------------------------------------------------------

    async def _judge_for_ever(self) -> None:
        wait = JUDGE_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, STUCK_SECONDS / 4)):
                    await self._changed.wait()
            self._changed.clear()
            self._round_at = time.monotonic()
            wait = STUCK_SECONDS
            if not self.ready():
                with self._numbers.judge_seconds.time():
                    found = self._judge()
                asking = self._visitor.asking
                waits = [
                    await self._writer.offer(intent, new, asking=intent.version in asking)
                    for intent, new in found
                ]
                wait = min([STUCK_SECONDS, *waits])
            await asyncio.sleep(JUDGE_SECONDS)

    def _judge(self) -> list[tuple[judgement.Intent, Any]]:
        """A status for each object, as the facts are now."""
        self._assign()
        sightings = {node: agent.seen for node, agent in self._visitor.agents.items()}
        known = list(self._store.known.values())
        self._writer.forget_but(set(self._store.known))
        priorities = {one.intent.name: one.intent.spec.priority for one in known if one.intent.spec}
        found = []
        for one in known:
            reached = self._reach.get(one.intent.name, judgement.Reach())
            settling = time.monotonic() - one.changed_at < SETTLING_SECONDS
            counted = judgement.tally(one.intent, reached.won, sightings, settling=settling)
            found.append((one.intent, wording.new_status(one.intent, reached, counted, priorities)))
        return found

    def _assign(self) -> None:
        """Works out who wins where, when objects, nodes or agents changed."""
        intents = [one.intent for one in self._store.known.values()]
        now = (
            self._nodes.changes,
            self._slices.changes,
            tuple((one.uid, one.generation) for one in intents),
        )
        if now == self._assigned:
            return
        self._assigned = now
        self._reach = judgement.reach(intents, self._nodes.objects)
        self._visitor.follow(finding.agents(self._slices.objects.values(), self._chosen.agents_port))
        self._visitor.expect(judgement.wanted(intents, self._reach))

    # watching over kopf's watch --------------------------------------------------------------------

    async def _audit_for_ever(self) -> None:
        while True:
            try:
                await self._store.audit(self._api)
                self._audit_error = ""
            except errors.KubeError as problem:
                if str(problem) != self._audit_error:
                    self._audit_error = str(problem)
                    logger.warning("cannot list FlowLensConfigs: %s", problem)
            await asyncio.sleep(AUDIT_SECONDS if self._store.listed else FIRST_AUDIT_SECONDS)

    # what the pages say ------------------------------------------------------------------------------

    def healthy(self) -> str:
        """What only a restart can mend, or ""."""
        if time.monotonic() - self._round_at > STUCK_SECONDS:
            return "the judge does not come round"
        if self._store.behind_seconds > watching.BEHIND_SECONDS:
            return f"the watch of FlowLensConfigs is dead: it owes a change of {self._store.behind_seconds:.0f} s ago"
        for one in (self._nodes, self._slices):
            if one.stuck:
                return f"the watch of {one.source.what} does not come round"
        return ""

    def ready(self) -> str:
        """What is not known yet, or ""."""
        missing = [one.source.what for one in (self._nodes, self._slices) if not one.synced]
        if not self._store.listed:
            missing.append("FlowLensConfigs")
        return f"not listed yet: {', '.join(missing)}" if missing else ""

    def _render(self) -> bytes:
        own = self._numbers
        own.objects.set(len(self._store.known))
        own.nodes.set(len(self._nodes.objects))
        own.visits_waiting.set(self._visitor.waiting)
        own.watch_behind.set(self._store.behind_seconds)
        states = Counter(_state(agent) for agent in self._visitor.agents.values())
        for state in ("answering", "unreachable", "behind", "unknown"):
            own.agents.labels(state).set(states[state])
        for name, one in (("nodes", self._nodes), ("endpointslices", self._slices)):
            own.watch_up.labels(name).set(one.connected)
        return own.text()


Jobs = list[asyncio.Task[None]]


@contextlib.asynccontextmanager
async def _beside(stop: asyncio.Event, *jobs: Coroutine[Any, Any, None]) -> AsyncIterator[Jobs]:
    """Jobs that run as long as the block; one that fails sets `stop`, and its error is raised at the end."""
    tasks = [asyncio.create_task(job) for job in jobs]
    for task in tasks:
        task.add_done_callback(lambda _: stop.set())
    try:
        yield tasks
    finally:
        _cancel(tasks)
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


def _cancel(jobs: Jobs) -> None:
    for job in jobs:
        job.cancel()


def _identity() -> Any:
    """What kopf would make of the user's name, which a numeric user without a passwd entry does not have."""
    return f"flow-lens@{socket.gethostname()}"


def _state(agent: visiting.Agent) -> str:
    if agent.seen.problem:
        return "unreachable"
    if agent.seen.config is None:
        return "unknown"
    return "behind" if agent.is_behind else "answering"


def version() -> str:
    """Of the installed package."""
    try:
        return metadata.version("flow-lens")
    except metadata.PackageNotFoundError:
        return "0+source"


def _access(chosen: options.Options) -> access.Access:
    try:
        return kubeconfig.load(chosen.kubeconfig) if chosen.kubeconfig else access.in_cluster()
    except errors.NoAccess as problem:
        raise options.StartError(f"{problem} (--kubeconfig FILE outside of a cluster)") from problem


def _namespace(chosen: options.Options) -> str:
    """Where the agents are: as told, else where this pod is."""
    if chosen.agents_namespace:
        return chosen.agents_namespace
    file = access.SERVICE_ACCOUNT / "namespace"
    try:
        return file.read_text().strip()
    except OSError as problem:
        raise options.StartError(
            f"{file}: {problem.strerror}; say where the agents are with --agents-namespace"
        ) from problem


def run(chosen: options.Options) -> int:
    """Runs a controller until SIGINT or SIGTERM; returns the exit status. Raises ControllerError."""
    controller_of = (_access(chosen), _namespace(chosen))

    async def main() -> None:
        await Controller(chosen, *controller_of).run()

    asyncio.run(main())
    return 0

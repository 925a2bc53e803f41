"""Start, wait for a signal, end: the order of everything an agent is made of."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from flowlens import config, exposition, identity, server
from flowlens.agent import cluster, health, intent, observer, translation
from flowlens.agent.errors import StartError
from flowlens.agent.options import Options
from flowlens.agent.worker import Worker
from flowlens.host import cgroupfs
from flowlens.kernel import engines, probes, tracer
from flowlens.kube import access, pod_source

logger = logging.getLogger(__name__)


class Agent:
    """One agent in this process. `start` and `stop` belong to the main thread."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._started = time.monotonic()
        self.node = options.node or platform.node()
        self._pods: pod_source.PodSource | None = None
        self._watched: cluster.Watched | None = None
        self._worker: Worker | None = None
        self._observer: observer.Observer | None = None
        self._server: server.Server | None = None

    def start(self) -> None:
        """Everything but the wait. Raises StartError, KernelError or ServerError; call `stop` in any case."""
        options = self._options
        api = cluster.api_access(options) if cluster.wanted(options) else None
        self._server = server.Server(
            options.listen, self._sources(), certificate=options.tls_cert, key=options.tls_key
        )
        if api is not None:
            self._pods = cluster.pods_of(options, api, self.node)
            self._pods.start()
        wishes = self._wishes(api)
        first, state = _first_wish(wishes, self.node)
        owner_pid = cgroupfs.find_mount(options.host_cgroup) is None
        running = tracer.Tracer(
            engines.load(options.engine), translation.settings_of(first, owner_pid=owner_pid)
        )
        names = identity.Identity(
            proc=options.host_proc,
            cgroupfs=options.host_cgroup,
            pods=self._pods,
            cgroup_root=options.cgroup_root,
        )
        running.start()
        names.scan()
        self._observer = observer.Observer(running, names, first, owner_pid=owner_pid)
        self._worker = Worker(self._observer, wishes, state)
        if self._watched is not None:
            self._watched.start()
        self._worker.start()
        self._server.start()

    def _wishes(self, api: access.Access | None) -> intent.Intent:
        options = self._options
        base: intent.Intent = (
            intent.File(options.config, self.node) if options.config else intent.Fixed(self.node)
        )
        if api is None:
            return base
        self._watched = cluster.Watched(api, self.node, base, self._wake, options.state_dir)
        return self._watched

    def _wake(self) -> None:
        if self._worker is not None:
            self._worker.wake()

    def stop(self) -> None:
        """Ends everything that was started, newest first, within a second."""
        for part in (self._server, self._watched, self._pods, self._worker):
            if part is not None:
                part.stop()
        if self._observer is not None:
            self._observer.close()

    # what the server shows ---------------------------------------------------------------------------

    def _sources(self) -> server.Sources:
        return server.Sources(
            metrics=self._metrics,
            status=self._status,
            overview=self._overview,
            ailing=self._ailing,
            unready=self._unready,
        )

    def _metrics(self) -> Iterator[bytes]:
        """The page of one scrape; nobody may change a number while it is rendered."""
        assert self._observer is not None
        assert self._worker is not None
        with self._observer.collect():
            own = health.families(self._observer, self._worker.state)
            yield from exposition.render(self._observer.ledger.views(), own)

    def _ailing(self) -> str:
        stuck = self._worker is None or self._worker.stuck
        return "the worker thread does not come round" if stuck else ""

    def _unready(self) -> str:
        if self._observer is None:
            return "not started"
        if self._pods is not None and not self._pods.ready:
            return "the pods of this node are not known yet"
        return ""

    def _overview(self) -> server.Overview:
        assert self._observer is not None
        assert self._worker is not None
        state = self._worker.state
        named = f"{state.name}, generation {state.generation}, {state.state}"
        return server.Overview(
            version=health.VERSION,
            config=f"{named}: {state.error}" if state.error else named,
            probes=[
                server.Probe(probe.hook, probe.up, probe.reason)
                for probe in self._observer.tracer.probe_states()
            ],
            facts=[
                ("Node", self.node),
                ("Engine", self._observer.tracer.engine),
                ("Up for", f"{time.monotonic() - self._started:.0f} s"),
            ],
        )

    def _status(self) -> dict[str, Any]:
        assert self._observer is not None
        assert self._worker is not None
        extra: dict[str, Any] = {}
        if self._pods is not None:
            extra["pods"] = dataclasses.asdict(self._pods.state)
        if self._watched is not None:
            extra["watches"] = self._watched.status()
        return health.status(
            self._observer, self._worker.state, node=self.node, started=self._started, extra=extra
        )

    def describe(self) -> Iterator[str]:
        """What a person wants to read after a start: where to look, and each probe."""
        assert self._observer is not None
        assert self._server is not None
        yield f"flow-lens {health.VERSION} on {self.node}, engine {self._observer.tracer.engine}"
        for probe in self._observer.tracer.probe_states():
            mark = "up " if probe.up else "off" if probe.reason == probes.OFF else "DOWN"
            reason = f": {probe.reason}" if probe.reason and probe.reason != probes.OFF else ""
            yield f"  {mark} {probe.hook:<24} {probe.purpose}{reason}"
        if self._observer.identity.problem:
            yield f"  names may be missing: {self._observer.identity.problem}"
        yield f"metrics at {self._server.url}/metrics, or run `flowlens top`; Ctrl-C ends"


def _first_wish(wishes: intent.Intent, node: str) -> tuple[config.NodeConfig, health.ConfigState]:
    """What to begin with. A file that is wrong at start is no reason to run with something nobody asked for."""
    wish = wishes.poll()
    if wish is None:
        return config.default_config(node), health.ConfigState(applied_at=time.time())
    if wish.node is None:
        raise StartError(wish.error)
    return wish.node, health.ConfigState(wish.node.name, wish.node.generation, time.time())


def run(options: Options, *, announce: Callable[[str], None] = print) -> int:
    """Runs an agent until SIGINT or SIGTERM; returns the exit status."""
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    agent = Agent(options)
    try:
        agent.start()
        for line in agent.describe():
            announce(line)
        logger.info("agent started: node=%s pid=%d", agent.node, os.getpid())
        ending.wait()
        logger.info("agent ends: node=%s", agent.node)
    finally:
        agent.stop()
    return 0

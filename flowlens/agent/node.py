"""Everything of an agent that comes after its programs are attached: names, series, endpoint, worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flowlens import exposition, identity, server
from flowlens.agent import health, intent, observer
from flowlens.agent.errors import StartError
from flowlens.agent.worker import Worker
from flowlens.kernel import probes

if TYPE_CHECKING:
    from flowlens.agent import cluster
    from flowlens.agent.running import Begun


class Node:
    """One agent in this process. `start` and `stop` belong to the main thread. The tracer is this one's to close."""

    def __init__(self, begun: Begun) -> None:
        self._begun, self._options = begun, begun.options
        self._cluster: cluster.Cluster | None = None
        self._worker: Worker | None = None
        self._observer: observer.Observer | None = None
        self._server: server.Server | None = None

    def start(self) -> None:
        """Raises StartError; call `stop` in any case."""
        begun, options = self._begun, self._options
        try:
            self._server = server.Server(
                options.listen, self._sources(), certificate=options.tls_cert, key=options.tls_key
            )
        except server.ServerError as error:
            raise StartError(str(error)) from error
        wishes = self._wishes()
        names = identity.Identity(
            proc=options.host_proc,
            cgroupfs=options.host_cgroup,
            pods=self._cluster.pods if self._cluster else None,
            cgroup_root=options.cgroup_root,
        )
        names.scan()
        self._observer = observer.Observer(begun.tracer, names, begun.first, owner_pid=begun.owner_pid)
        first = health.ConfigState(begun.first.name, begun.first.generation, time.time())
        self._worker = Worker(self._observer, wishes, first)
        if self._cluster is not None:
            self._cluster.start()
        self._worker.start()
        self._server.start()

    def _wishes(self) -> intent.Intent:
        if not self._options.in_cluster:
            return self._begun.base
        from flowlens.agent import cluster  # noqa: PLC0415 - 8 MiB of urllib3 that a plain host never needs

        begun = self._begun
        self._cluster = cluster.connect(self._options, begun.name, begun.base, begun.first, self._wake)
        return self._cluster.wishes

    def _wake(self) -> None:
        if self._worker is not None:
            self._worker.wake()

    def stop(self) -> None:
        """Ends everything that was started, newest first, within a second."""
        for part in (self._server, self._cluster, self._worker):
            if part is not None:
                part.stop()
        (self._observer or self._begun.tracer).close()

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
        if self._cluster is not None and not self._cluster.pods.ready:
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
                ("Node", self._begun.name),
                ("Engine", self._observer.tracer.described),
                ("Up for", f"{time.monotonic() - self._begun.at:.0f} s"),
            ],
        )

    def _status(self) -> dict[str, Any]:
        assert self._observer is not None
        assert self._worker is not None
        extra = self._cluster.status() if self._cluster is not None else {}
        with self._observer.look():
            return health.status(
                self._observer, self._worker.state, node=self._begun.name, started=self._begun.at, extra=extra
            )

    def describe(self) -> Iterator[str]:
        """What a person wants to read after a start: where to look, and each probe."""
        assert self._observer is not None
        assert self._server is not None
        yield f"flow-lens {health.VERSION} on {self._begun.name}, engine {self._observer.tracer.described}"
        for probe in self._observer.tracer.probe_states():
            mark = "up " if probe.up else "off" if probe.reason == probes.OFF else "DOWN"
            reason = f": {probe.reason}" if probe.reason and probe.reason != probes.OFF else ""
            yield f"  {mark} {probe.hook:<26} {probe.purpose}{reason}"
        if self._observer.identity.problem:
            yield f"  names may be missing: {self._observer.identity.problem}"
        yield f"metrics at {self._server.url}/metrics, or run `flowlens top`; Ctrl-C ends"

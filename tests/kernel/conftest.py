"""Fixtures: a tracer on the running kernel, namespaces to make traffic in, cgroups to make it from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from flowlens import metrics
from flowlens.kernel import engines, layout, tracer
from flowlens.kernel.core import Loaded
from tests.kernel import namespace
from tests.kernel.counts import Counts

ALL = frozenset(metrics.BY_NAME)
BOUNDS = {
    name: tuple(int(bound * 1e9) for bound in metrics.BY_NAME[name].buckets) for name in layout.HISTOGRAMS
}
EVERYTHING = layout.Settings(enabled=ALL, bounds=BOUNDS)


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine and the way it takes; `storage`: whether sockets have storage that iterators can reach."""

    name: str
    way: str | None = None
    storage: bool = True

    def load(self) -> Loaded:
        return engines.load(self.name, self.way)

    def __str__(self) -> str:
        return f"{self.name}-{self.way}" if self.way else self.name


ENGINES = (Engine("core"), Engine("bcc", "typed"), Engine("bcc", "raw", storage=False))


@pytest.fixture(scope="session", params=ENGINES, ids=str)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Every counter is exact under each engine."""
    chosen: Engine = request.param
    return chosen


@pytest.fixture(scope="session")
def loaded_tracer(engine: Engine) -> Iterator[tracer.Tracer]:
    """One tracer for all tests of an engine: each looks at namespaces of its own only."""
    running = tracer.Tracer(engine.load(), EVERYTHING)
    running.start()
    yield running
    running.close()


@pytest.fixture
def counts(loaded_tracer: tracer.Tracer) -> Iterator[Counts]:
    """What the tracer has counted, with the default settings in force."""
    yield Counts(loaded_tracer)
    loaded_tracer.discard(loaded_tracer.apply(EVERYTHING))


@pytest.fixture
def ns() -> Iterator[namespace.Process]:
    """A network namespace with loopback only."""
    process = namespace.Process()
    yield process
    process.close()


@pytest.fixture
def pair() -> Iterator[tuple[namespace.Process, namespace.Process]]:
    """Two network namespaces joined by a veth pair: 192.0.2.1 and 192.0.2.2."""
    first, second = namespace.Process(), namespace.Process()
    namespace.join(first, second)
    yield first, second
    first.close()
    second.close()


@pytest.fixture
def cgroup() -> Iterator[Callable[[str], Path]]:
    """Makes cgroups (v2) that are removed afterwards."""
    made: list[Path] = []

    def make(name: str) -> Path:
        path = namespace.CGROUPS / f"flowlens-test-{uuid4().hex[:8]}-{name}"
        path.mkdir()
        made.append(path)
        return path

    yield make
    for path in reversed(made):
        for pid in (path / "cgroup.procs").read_text().split():
            (namespace.CGROUPS / "cgroup.procs").write_text(pid)
        os.rmdir(path)

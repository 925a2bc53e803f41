"""Fixtures: real agents, and places to make traffic in: a network namespace in a cgroup of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.agent import process
from tests.kernel import namespace

StartAgent = Callable[..., process.Agent]
MakeCgroup = Callable[[str], Path]
MakePlace = Callable[..., "Place"]


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[StartAgent]:
    """Starts agents; those still running at the end must end well."""
    started: list[process.Agent] = []

    def start(spec: dict[str, Any] | str | None = None, **options: Any) -> process.Agent:
        started.append(process.Agent(tmp_path, spec, **options))
        return started[-1]

    yield start
    for each in reversed(started):
        each.stop()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[process.Agent]:
    """One agent for the tests of a module, with the defaults (its file says `{}`)."""
    running = process.Agent(tmp_path_factory.mktemp("agent"), {})
    yield running
    running.stop()


@pytest.fixture
def cgroup() -> Iterator[MakeCgroup]:
    """Makes cgroups of a name nobody else has (`name` may be a path), removed afterwards."""
    made: list[Path] = []

    def make(name: str) -> Path:
        first = namespace.CGROUPS / f"flowlens-test-{uuid4().hex[:8]}"
        for path in [first, *list((first / name).parents)[::-1], first / name]:
            if path.is_relative_to(first) and not path.exists():
                path.mkdir()
                made.append(path)
        return first / name

    yield make
    for path in reversed(made):
        for pid in (path / "cgroup.procs").read_text().split():
            (namespace.CGROUPS / "cgroup.procs").write_text(pid)
        os.rmdir(path)


class Place(namespace.Process):
    """A network namespace whose process is in a cgroup that nobody else is in."""

    def __init__(self, cgroup: Path, share: namespace.Process | None = None) -> None:
        super().__init__(share)
        self.cgroup = cgroup
        self.name = cgroup.name
        """What its workload is called, unless the cgroup's path says something better."""
        self.path = "/" + str(cgroup.relative_to(namespace.CGROUPS))
        self.enter_cgroup(cgroup)

    def done_within(self, seconds: float) -> bool:
        """Whether what was started has ended."""
        return self._connection.poll(seconds)


@pytest.fixture
def make_place(cgroup: MakeCgroup) -> Iterator[MakePlace]:
    """Makes places, in a cgroup of the path given, or in the network namespace of another place."""
    made: list[Place] = []

    def make(path: str = "", share: namespace.Process | None = None) -> Place:
        made.append(Place(cgroup(path or f"place-{uuid4().hex[:8]}"), share))
        return made[-1]

    yield make
    for place in reversed(made):
        place.close()


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    """One place with loopback only."""
    return make_place()


@pytest.fixture
def pair(make_place: MakePlace) -> tuple[Place, Place]:
    """Two places joined by a veth pair: 192.0.2.1 and 192.0.2.2, 2001:db8::1 and ::2."""
    first, second = make_place(), make_place()
    namespace.join(first, second)
    return first, second

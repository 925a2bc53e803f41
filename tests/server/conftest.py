"""A server on loopback, and what a test may change about what it shows."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from flowlens import server

OVERVIEW = server.Overview("0.1.0", "default", [server.Probe("inet_sock_set_state", True)])


@dataclasses.dataclass
class Shown:
    """What the server is given; tests change it while it runs."""

    page: Callable[[], Iterable[bytes]] = lambda: [b"# HELP x y\n", b"# TYPE x counter\n", b"x 1\n"]
    status: object = dataclasses.field(default_factory=lambda: {"generation": 3, "probes": []})
    overview: server.Overview = OVERVIEW
    ailing: str = ""
    unready: str = ""
    renders: int = 0

    def sources(self) -> server.Sources:
        return server.Sources(
            metrics=self._metrics,
            status=lambda: self.status,
            overview=lambda: self.overview,
            ailing=lambda: self.ailing,
            unready=lambda: self.unready,
        )

    def _metrics(self) -> Iterable[bytes]:
        self.renders += 1
        return self.page()


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def running(shown: Shown) -> Iterator[server.Server]:
    before = threading.active_count()
    made = server.Server("127.0.0.1:0", shown.sources())
    made.start()
    yield made
    made.stop()
    deadline = time.monotonic() + 5
    while threading.active_count() > before:  # a page in the making is finished first
        assert time.monotonic() < deadline, "the server left threads behind"
        time.sleep(0.01)

"""Which object a node follows: by its labels, then priority, age and name; and that a new label is enough to change it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.live import lens
from tests.live import server as servers
from tests.live.conftest import make_node
from tests.live.server import Server

pytestmark = [pytest.mark.cluster, pytest.mark.kernel]


class Two(NamedTuple):
    """Agents of two nodes, in zones a and b."""

    a: lens.Agent
    b: lens.Agent

    def wait(self, a: str, b: str) -> None:
        self.a.wait(a)
        self.b.wait(b)


@pytest.fixture(scope="module")
def both(
    running: tuple[Server, int], account: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Two]:
    server, network = running
    with servers.inside(network):
        nodes = [make_node(server) for _ in "ab"]
        two = Two(*(lens.Agent(tmp_path_factory.mktemp(node), account, node) for node in nodes))
    yield two
    for agent in two:
        agent.stop()


@pytest.fixture
def two(server: Server, both: Two) -> Two:
    """Two agents of the same pids throughout, their nodes labelled with nothing but their zone."""
    for agent, zone in zip(both, "ab", strict=True):
        others = ("cpus-", "pool-", "virtual-")
        server.kubectl("label", "--overwrite", "node", agent.node, f"zone={zone}", *others)
    both.wait("default", "default")
    return both


def of_zone(zone: str, priority: int = 0) -> dict[str, object]:
    return {"priority": priority, "nodeSelector": {"matchLabels": {"zone": zone}}}


def test_each_node_follows_the_object_that_selects_it(server: Server, two: Two) -> None:
    server.configure("for-a", of_zone("a"))
    server.configure("for-b", of_zone("b"))
    two.wait("for-a", "for-b")
    server.configure("for-a", of_zone("c"))
    two.wait("default", "for-b")


def test_the_highest_priority_wins_then_the_oldest_then_the_first_by_name(server: Server, two: Two) -> None:
    server.configure("zz-oldest", {})
    two.wait("zz-oldest", "zz-oldest")
    _next_second(server, "zz-oldest")
    both = "\n---\n".join(servers.manifest(name, {}) for name in ("younger-2", "younger-1"))
    _at_the_same_second(server, both, ("younger-1", "younger-2"))
    server.configure("for-a-first", of_zone("a", priority=1))
    two.wait("for-a-first", "zz-oldest")
    server.unconfigure("zz-oldest", "for-a-first")
    two.wait("younger-1", "younger-1")
    server.configure("younger-2", {"priority": 1})
    two.wait("younger-2", "younger-2")


def test_a_new_label_of_the_node_changes_what_holds_without_a_restart(server: Server, two: Two) -> None:
    server.configure("base", {})
    server.configure("for-a", of_zone("a", priority=5))
    two.wait("for-a", "base")
    pids = two.a.pid, two.b.pid
    for agent, zone in ((two.a, "b"), (two.b, "a")):
        server.kubectl("label", "--overwrite", "node", agent.node, f"zone={zone}")
    two.wait("base", "for-a")
    server.kubectl("label", "node", two.b.node, "zone-")
    two.wait("base", "base")
    assert (two.a.pid, two.b.pid) == pids
    assert two.a.process.poll() is None
    assert two.b.process.poll() is None


def test_all_operators_of_a_node_selector_are_followed(server: Server, two: Two) -> None:
    server.kubectl("label", "node", two.a.node, "cpus=8", "pool=edge")
    server.kubectl("label", "node", two.b.node, "cpus=2", "virtual=")
    for number, expression in enumerate(
        (
            {"key": "zone", "operator": "In", "values": ["a", "x"]},
            {"key": "zone", "operator": "NotIn", "values": ["b"]},
            {"key": "pool", "operator": "Exists"},
            {"key": "virtual", "operator": "DoesNotExist"},
            {"key": "cpus", "operator": "Gt", "values": ["4"]},
        ),
        start=1,
    ):
        assert server.configure("chosen", {"nodeSelector": {"matchExpressions": [expression]}}) == number
        two.a.wait("chosen", number)
        two.b.wait("default")
    server.configure(
        "chosen", {"nodeSelector": {"matchExpressions": [{"key": "cpus", "operator": "Lt", "values": ["4"]}]}}
    )
    two.wait("default", "chosen")


def _created(server: Server, name: str) -> datetime:
    text = server.kubectl("get", "flc", name, "-o", "jsonpath={.metadata.creationTimestamp}")
    return datetime.fromisoformat(text)


def _next_second(server: Server, name: str) -> None:
    """Ages are told in whole seconds."""
    born = _created(server, name).timestamp()
    servers.until(lambda: time.time() >= born + 1, "the next second")


def _at_the_same_second(server: Server, manifests: str, names: tuple[str, ...]) -> None:
    """Creates objects of equal age; tries again where a second ended in between."""

    def made() -> bool:
        server.kubectl("apply", "-f", "-", stdin=manifests)
        if len({_created(server, name) for name in names}) == 1:
            return True
        server.unconfigure(*names)
        return False

    servers.until(made, "objects of one second")

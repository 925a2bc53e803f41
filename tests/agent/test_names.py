"""Names of owners on a plain host, as scrapes of a real agent show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.agent import process
from tests.agent import traffic as visits
from tests.agent.conftest import MakeCgroup, MakePlace, Place, StartAgent
from tests.kernel import namespace, traffic

pytestmark = pytest.mark.kernel

ID = "3f1c" * 16
PORT = 4711
ONLY_PORT: dict[str, Any] = {"ports": {"include": [PORT]}}
"""Keeps out what else goes on on this machine, where a number has no owner to be known by."""
NAMES = {
    f"docker/{ID}": (ID[:12], ID[:12], "Docker"),
    f"system.slice/docker-{ID}.scope": (ID[:12], ID[:12], "Docker"),
    f"machine.slice/libpod-{ID}.scope/container": (ID[:12], ID[:12], "Podman"),
    f"user.slice/user@1000.service/user.slice/libpod-{ID}.scope": (ID[:12], ID[:12], "Podman"),
    f"system.slice/nerdctl-{ID}.scope": (ID[:12], ID[:12], "Containerd"),
    "lxc.payload.web/system.slice/nginx.service": ("web", "web", "LXC"),
    r"machine.slice/machine-old\x2dweb.scope/payload": ("old-web", "old-web", "Nspawn"),
    "system.slice/shop.service": ("", "shop.service", "SystemdService"),
    "user.slice/session-4.scope": ("", "session-4.scope", "SystemdScope"),
    "plain/folder": ("", "folder", "Cgroup"),
}
WHO = ("container", "workload", "workload_kind")


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Shows the cgroup beside the name, which tells tests' numbers from others'."""
    spec = {"defaults": {"labels": [*WHO, "cgroup"]}}
    running = process.Agent(tmp_path_factory.mktemp("agent"), spec)
    yield running
    running.stop()


@pytest.mark.parametrize("path", NAMES)
def test_an_owner_is_named_by_its_cgroups_path(
    path: str, agent: process.Agent, make_place: MakePlace
) -> None:
    place = make_place(path)
    place.run(traffic.exchange, "127.0.0.1", 3)
    page = agent.scrape()
    assert page.by("connect", *WHO, cgroup=place.path) == {NAMES[path]: 3}
    assert page.by("accept", *WHO, cgroup=place.path) == {NAMES[path]: 3}


def test_both_ends_of_a_connection_on_one_machine_have_their_own_names(
    agent: process.Agent, make_place: MakePlace
) -> None:
    server = make_place("system.slice/shop.service")
    client = make_place(f"docker/{ID}", share=server)
    port = server.run(traffic.listen, "::1")
    client.run(traffic.hold, "::1", port, 7)
    page = agent.scrape()
    assert page.by("accept", "workload", cgroup=server.path) == {("shop.service",): 7}
    assert page.by("connect", "workload", cgroup=client.path) == {(ID[:12],): 7}
    assert page.by("connections", "workload", "role", cgroup=server.path) == {("shop.service", "server"): 7}
    assert page.by("connections", "workload", "role", cgroup=client.path) == {(ID[:12], "client"): 7}
    assert page.sum("connect", cgroup=server.path) == page.sum("accept", cgroup=client.path) == 0


def test_a_cgroup_that_is_gone_before_the_scrape_has_its_name(
    agent: process.Agent, place: Place, cgroup: MakeCgroup
) -> None:
    parent = cgroup("system.slice/batch.service")
    place.run(visits.visit_from_cgroups, str(parent), 20, PORT)
    place.enter_cgroup(place.cgroup)
    page = agent.scrape()
    for number in range(20):
        path = f"/{parent.relative_to(namespace.CGROUPS)}/visit-{number}"
        assert page.by("connect", *WHO, cgroup=path) == {("", "batch.service", "SystemdService"): 1}


def test_resets_without_a_socket_in_a_namespace_of_several_owners_are_counted_without_a_name(
    start_agent: StartAgent, place: Place, make_place: MakePlace
) -> None:
    agent = start_agent(ONLY_PORT)
    neighbour = make_place(share=place)
    for each in (place, neighbour):
        each.run(traffic.exchange, "127.0.0.1", 1)
    place.run(visits.refused_at, "127.0.0.1", PORT, 5)
    page = agent.scrape()
    assert page.by("reset", "workload", "direction") == {("", "outbound"): 5, (place.name, "inbound"): 5}
    assert place.snmp()["OutRsts"] == 5
    assert page.own("unattributed_total", metric="reset", cause="no_socket") == 5
    assert page.own("unattributed_total") == 5


def test_a_reset_without_a_socket_has_the_name_of_its_namespaces_only_container(
    start_agent: StartAgent, make_place: MakePlace
) -> None:
    agent = start_agent(ONLY_PORT)
    place = make_place(f"docker/{ID}")
    place.run(visits.refused_at, "127.0.0.1", PORT, 5)
    page = agent.scrape()
    assert page.by("reset", "workload", "direction") == {
        (ID[:12], "outbound"): 5,
        (ID[:12], "inbound"): 5,
    }
    assert page.own("unattributed_total") == 0


def test_a_socket_whose_cgroup_was_gone_before_the_agent_came_is_counted_without_a_name(
    start_agent: StartAgent, place: Place, cgroup: MakeCgroup
) -> None:
    lost = cgroup("forgotten")
    place.enter_cgroup(lost)
    place.run(visits.listen_at, "127.0.0.1", PORT)
    place.enter_cgroup(place.cgroup)
    lost.rmdir()
    try:
        agent = start_agent(ONLY_PORT)
        place.run(traffic.hold, "127.0.0.1", PORT, 4)
        process.until(lambda: agent.scrape().sum("accept") == 4, "4 accepts shown")
        page = agent.scrape()
        assert page.by("accept", *WHO) == {("", "", ""): 4}
        assert page.own("unattributed_total", metric="accept", cause="cgroup_gone") == 4
        assert page.by("connect", "workload") == {(place.name,): 4}
    finally:
        lost.mkdir()


def test_the_agents_clients_on_this_host_are_named_too(start_agent: StartAgent, tmp_path: Path) -> None:
    agent = start_agent()
    before = agent.scrape().sum("accept")
    assert agent.scrape().sum("accept") > before

"""An agent ends within a second, whatever it is doing, and leaves nothing in the kernel."""

from __future__ import annotations

import signal
import socket

import pytest

from tests.agent import bpf_objects, process
from tests.agent.conftest import Place, StartAgent
from tests.kernel import traffic

pytestmark = pytest.mark.kernel

EMPTY = bpf_objects.Held(frozenset(), frozenset(), frozenset())
END_SECONDS = 1.0


def _all_gone(of: bpf_objects.Held) -> None:
    assert of.programs
    assert of.maps
    assert of.links
    process.until(lambda: bpf_objects.left(of) == EMPTY, "programs, maps and links gone from the kernel")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_a_second_with_status_0_and_nothing_left(
    number: int, start_agent: StartAgent
) -> None:
    agent = start_agent()
    ours = bpf_objects.held(agent.pid)
    status, seconds = agent.end(number)
    assert status == 0
    assert seconds < END_SECONDS
    _all_gone(ours)


def test_scrapers_that_hang_keep_nobody_else_waiting_and_do_not_delay_the_end(
    start_agent: StartAgent, place: Place
) -> None:
    agent = start_agent({"defaults": {"labels": ["src_port", "dst_port", "workload"]}})
    place.run(traffic.exchange, "127.0.0.1", 3000)  # a page that fills more than one socket's buffer
    hanging = [socket.create_connection(("127.0.0.1", agent.port)) for _ in range(12)]
    try:
        for number, each in enumerate(hanging):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            each.sendall((b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", b"")[number % 3])
        for _ in range(3):
            assert agent.scrape().sum("connect", workload=place.name) <= 3000
        assert agent.get("/healthz")[0] == 200
        status, seconds = agent.end()
    finally:
        for each in hanging:
            each.close()
    assert status == 0
    assert seconds < END_SECONDS


def test_it_ends_at_once_while_it_is_scraped_and_its_configuration_changes(start_agent: StartAgent) -> None:
    agent = start_agent({})
    ours = bpf_objects.held(agent.pid)
    scrapers = [socket.create_connection(("127.0.0.1", agent.port)) for _ in range(4)]
    for each in scrapers:
        each.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 5)
    agent.replace({"defaults": {"labels": ["pid", "dst_port"]}})
    status, seconds = agent.end()
    for each in scrapers:
        each.close()
    assert status == 0
    assert seconds < END_SECONDS
    _all_gone(ours)


def test_a_signal_during_the_start_ends_it_too(start_agent: StartAgent) -> None:
    for _ in range(5):
        agent = start_agent(wait=False)
        process.until(lambda: "inet_sock_set_state" in agent.log or _holds_programs(agent), "it begins", 20)  # noqa: B023
        status, _ = agent.end()
        assert status == 0, agent.log


def _holds_programs(agent: process.Agent) -> bool:
    try:
        return bool(bpf_objects.held(agent.pid).programs)
    except FileNotFoundError:
        return False


def test_after_kill_9_nothing_is_left_and_a_new_agent_serves_on_the_same_port(
    start_agent: StartAgent, place: Place
) -> None:
    first = start_agent()
    place.run(traffic.exchange, "127.0.0.1", 5)
    ours = bpf_objects.held(first.pid)
    first.kill()
    _all_gone(ours)
    second = start_agent(port=first.port)
    place.run(traffic.exchange, "127.0.0.1", 7)
    assert second.scrape().sum("connect", workload=place.name) == 7


def test_two_agents_on_one_host_count_everything_each(start_agent: StartAgent, place: Place) -> None:
    agents = [start_agent(), start_agent()]
    place.run(traffic.exchange, "127.0.0.1", 50)
    place.run(traffic.refused, "::1", 5)
    snmp = place.snmp()
    for agent in agents:
        shown = agent.scrape()
        assert shown.sum("connect", workload=place.name) == snmp["ActiveOpens"] == 55
        assert shown.sum("accept", workload=place.name) == snmp["PassiveOpens"] == 50
        assert shown.sum("connect_failures", workload=place.name) == snmp["AttemptFails"] == 5

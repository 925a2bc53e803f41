"""`examples/seed-labels.yaml`: the two metrics of the first flow-lens, with exactly its labels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowlens import metrics
from tests.agent import page, process
from tests.agent import traffic as visits
from tests.agent.conftest import Place
from tests.kernel import traffic

pytestmark = pytest.mark.kernel

LABELS = {"ip_version", "src_ip", "src_port", "dst_ip", "dst_port", "pid"}
CONNECT, RETRANSMIT = "ebpf_tcp_connect_total", "ebpf_tcp_retransmit_total"
OWN = ("flow_lens_", "process_", "python_")
ADDRESSES = {"4": ("192.0.2.1", "192.0.2.2"), "6": ("2001:db8::1", "2001:db8::2")}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[process.Agent]:
    example = (process.ROOT / "examples/seed-labels.yaml").read_text()
    running = process.Agent(tmp_path_factory.mktemp("agent"), example)
    yield running
    running.stop()


def _row(pid: int, version: str, ends: visits.Ends) -> dict[str, str]:
    fields = {name: str(value) for name, value in ends._asdict().items()}
    return {**fields, "ip_version": version, "pid": str(pid)}


@pytest.mark.parametrize("version", ADDRESSES)
def test_a_connection_is_one_series_with_its_ends_and_the_connecting_process(
    version: str, agent: process.Agent, pair: tuple[Place, Place]
) -> None:
    client, server = pair
    port = server.run(traffic.serve_bulk)
    ends = [client.run(visits.connect_and_tell, ADDRESSES[version][1], port) for _ in range(3)]
    rows = sorted(_of(agent.scrape(), CONNECT, client), key=lambda row: int(row.labels["src_port"]))
    ends.sort(key=lambda each: each.src_port)
    assert [row.labels for row in rows] == [_row(client.pid, version, each) for each in ends]
    assert [row.value for row in rows] == [1, 1, 1]
    assert {each.src_ip for each in ends} == {ADDRESSES[version][0]}


@pytest.mark.parametrize("version", ADDRESSES)
def test_a_connection_that_retransmits_is_one_series_with_its_ends_and_process(
    version: str, agent: process.Agent, pair: tuple[Place, Place]
) -> None:
    client, server = pair
    port = server.run(traffic.serve_bulk)
    ends = client.run(visits.connect_and_tell, ADDRESSES[version][1], port)
    server.filter_input(f"tcp dport {port} drop")
    client.run(traffic.say, b"lost")
    process.until(lambda: client.snmp()["RetransSegs"] >= 2, "two retransmissions")
    server.shell("nft flush ruleset")
    (row,) = _of(agent.scrape(), RETRANSMIT, client)
    assert row.labels == _row(client.pid, version, ends)
    assert row.value >= 2  # calls: since Linux 6.17 those are told too that could not send a segment


def test_a_connection_without_an_answer_has_its_source_port_all_the_same(
    agent: process.Agent, place: Place
) -> None:
    place.run(traffic.refused, "127.0.0.1", 5)
    rows = _of(agent.scrape(), CONNECT, place)
    assert len({row.labels["src_port"] for row in rows}) == 5
    assert all(row.value == 1 for row in rows)
    assert "0" not in {row.labels["src_port"] for row in rows}


def test_there_are_exactly_two_metrics_with_exactly_these_labels(
    agent: process.Agent, pair: tuple[Place, Place]
) -> None:
    client, server = pair
    port = server.run(traffic.serve_bulk)
    server.filter_input(f"tcp dport {port} tcp flags syn drop")
    client.start(traffic.connect_late, "192.0.2.2", port, 10.0)
    process.until(lambda: client.snmp()["RetransSegs"] >= 1, "a retransmitted SYN")
    server.shell("nft flush ruleset")
    assert client.finish() == "connected"
    seen = [sample for sample in agent.scrape().samples if not sample.name.startswith(OWN)]
    assert {sample.name for sample in seen} == {CONNECT, RETRANSMIT}
    assert {frozenset(sample.labels) for sample in seen} == {frozenset(LABELS)}


def test_only_the_programs_of_the_two_are_attached(agent: process.Agent) -> None:
    up = {row.labels["probe"] for row in agent.scrape().rows("flow_lens_probe_up") if row.value}
    hooks = {hook for name in ("connect", "retransmit") for hook in metrics.BY_NAME[name].hooks}
    assert up & {hook for metric in metrics.CATALOGUE for hook in metric.hooks} == hooks


def _of(shown: page.Page, name: str, place: Place) -> list[page.Sample]:
    return shown.rows(name, pid=str(place.pid))

"""A changed configuration applies within two seconds, loses nothing, and touches nothing else."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent import bpf_objects, process
from tests.agent import page as pages
from tests.agent import traffic as visits
from tests.agent.conftest import Place, StartAgent
from tests.kernel import traffic
from tests.kernel.hidden import Hidden

pytestmark = pytest.mark.kernel

Spec = dict[str, Any]
WORKLOAD: Spec = {"labels": ["workload"]}
PORT, CHANGES = 4712, 5
EVERYTHING: Spec = {"defaults": WORKLOAD}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[process.Agent]:
    made = process.Agent(tmp_path_factory.mktemp("agent"), EVERYTHING)
    yield made
    made.stop()


@pytest.fixture
def agent(running: process.Agent) -> process.Agent:
    """Every metric by workload in force, whatever a test before did."""
    running.follow(EVERYTHING)
    return running


def _labels(agent: process.Agent, name: str) -> set[frozenset[str]]:
    return {frozenset(row.labels) for row in agent.scrape().rows(name)}


# how files change ------------------------------------------------------------------------------------


class ConfigMap:
    """A file as Kubernetes mounts it: flowlens.yaml -> ..data/flowlens.yaml, ..data -> ..<version>."""

    def __init__(self, link: Path) -> None:
        self._link, self._data = link, link.parent / "..data"
        self._versions = itertools.count()
        self.publish(EVERYTHING)
        link.unlink()
        link.symlink_to("..data/" + link.name)

    def publish(self, spec: Spec) -> None:
        """As the kubelet does it (pkg/volume/util/atomic_writer.go): a new folder, then one rename."""
        former = self._data.resolve() if self._data.exists() else None
        version = self._link.parent / f"..version-{next(self._versions)}"
        version.mkdir()
        (version / self._link.name).write_text(process.text_of(spec))
        pending = self._link.parent / "..data_tmp"
        pending.symlink_to(version.name)
        pending.rename(self._data)
        if former is not None:
            shutil.rmtree(former)


@pytest.mark.parametrize("way", ["rename", "write in place", "ConfigMap"])
def test_a_changed_file_is_followed_within_two_seconds(way: str, agent: process.Agent, place: Place) -> None:
    ways = {"rename": agent.replace, "write in place": agent.overwrite}
    change = ways.get(way) or ConfigMap(agent.file).publish
    place.run(traffic.exchange, "127.0.0.1", 5)
    change({"defaults": {"labels": ["workload", "ip_version"]}})
    agent.applied(lambda: agent.scrape().by("connect", "ip_version", workload=place.name) == {("4",): 5})


# what does not change --------------------------------------------------------------------------------


def test_metrics_that_a_change_does_not_name_keep_their_values(agent: process.Agent, place: Place) -> None:
    place.run(traffic.exchange, "127.0.0.1", 30)
    place.run(traffic.refused, "127.0.0.1", 3)
    before = _settled(agent, place, 30)
    agent.follow(
        {**EVERYTHING, "metrics": [{"name": "connect", "labels": ["workload", "dst_port"]}]},
    )
    after = agent.scrape()
    assert not pages.gone_down(before, after)
    unnamed = {key: value for key, value in before.counters() if "connect_total" not in key[0]}
    kept = dict(after.counters())
    ours = {key: value for key, value in unnamed.items() if ("workload", place.name) in key[1]}
    assert len(ours) > 40  # buckets and all
    assert {key: kept[key] for key in ours} == ours
    assert after.sum("connect", workload=place.name) == 33


def _settled(agent: process.Agent, place: Place, connections: int) -> pages.Page:
    """A page that has seen both ends of so many connections close."""

    def ended() -> float:
        return agent.scrape().sum("connection_duration", workload=place.name)

    process.until(lambda: ended() == 2 * connections, "all closed")
    return agent.scrape()


def test_sums_stay_exact_while_labels_change_every_200_ms_under_traffic(
    start_agent: StartAgent, place: Place
) -> None:
    only = {"ports": {"include": [PORT]}, "limits": {"maxFlows": 3000, "maxSeries": 20_000}}
    agent = start_agent(only)
    flows = ["workload", "src_ip", "src_port", "dst_ip", "dst_port", "pid"]
    label_sets = itertools.cycle([["dst_port"], ["workload"], flows, ["workload", "role", "pid"]])
    connections = 0
    with Hidden() as hidden:
        while agent.generation < CHANGES and connections < 200_000:
            place.start(visits.exchange_at, "127.0.0.1", PORT, 2_000)
            connections += 2_000
            agent.replace({"defaults": {"labels": next(label_sets)}, **only})
            while not place.done_within(0.2):
                agent.replace({"defaults": {"labels": next(label_sets)}, **only})
            place.finish()
        unseen = hidden.events()
    assert agent.generation >= CHANGES
    agent.follow({"defaults": {"labels": ["ip_version"]}, **only})
    process.until(lambda: agent.scrape().sum("connections") <= unseen["CLOSE"], "all closed")
    page, snmp = agent.scrape(), place.snmp()
    assert page.sum("connect") == snmp["ActiveOpens"] == snmp["PassiveOpens"] == connections
    opened = page.sum("accept") + page.sum("connect_duration")
    assert 2 * connections - unseen["ESTABLISHED"] <= opened <= 2 * connections
    # Every close is counted once, in the gauge and in the histogram.
    assert opened <= page.sum("connection_duration") + page.sum("connections") <= 2 * connections
    assert page.own("map_errors_total", map="totals") == 0


# switching metrics -----------------------------------------------------------------------------------


def test_a_metric_that_is_off_disappears_with_its_programs_and_goes_on_later(
    agent: process.Agent, place: Place
) -> None:
    place.run(traffic.refused, "127.0.0.1", 3)
    assert agent.scrape().sum("reset", workload=place.name) == 3  # inbound; the outbound ones have no socket
    programs = {"hook_tcp_send_reset", "hook_tcp_receive_reset"}
    assert programs <= bpf_objects.attached(agent.pid)
    agent.follow({**EVERYTHING, "metrics": [{"name": "reset", "enabled": False}]})
    shown = agent.scrape()
    assert not shown.rows("ebpf_tcp_reset_total")
    assert shown.own("probe_up", probe="tcp_send_reset") == 0
    assert not programs & bpf_objects.attached(agent.pid)
    assert "hook_inet_sock_set_state" in bpf_objects.attached(agent.pid)
    place.run(traffic.refused, "127.0.0.1", 10)
    agent.follow(EVERYTHING)
    assert programs <= bpf_objects.attached(agent.pid)
    place.run(traffic.refused, "127.0.0.1", 4)
    assert agent.scrape().sum("reset", workload=place.name) == 3 + 4


def test_new_buckets_reset_their_histogram_and_nothing_else(agent: process.Agent, place: Place) -> None:
    place.run(traffic.exchange, "127.0.0.1", 20)
    before = _settled(agent, place, 20)
    agent.follow({**EVERYTHING, "metrics": [{"name": "connect_duration", "buckets": [0.5, 100]}]})
    shown = agent.scrape()
    assert shown.sum("connect_duration", workload=place.name) == 0
    for name in ("connect", "accept", "connection_duration"):
        assert shown.sum(name, workload=place.name) == before.sum(name, workload=place.name)
    place.run(traffic.exchange, "127.0.0.1", 5)
    rows = agent.scrape().rows("ebpf_tcp_connect_duration_seconds_bucket", workload=place.name)
    assert {row.labels["le"]: row.value for row in rows} == {"0.5": 5, "100.0": 5, "+Inf": 5}


# bad files -------------------------------------------------------------------------------------------

BAD = {
    "metric": ("metrics:\n- name: conect\n", ["metrics[0].name", "'conect'", "connect_failures"]),
    "label": ("defaults: {labels: [podd]}\n", ["defaults.labels[0]", "'podd'", "workload_kind"]),
    "number": ("limits: {maxSeries: 0}\n", ["limits.maxSeries", "1 to 1,000,000"]),
    "field": ("limmits: {}\n", ["limmits", "limits"]),
    "syntax": ("metrics: [\n", ["not YAML"]),
    "nothing": ("", ["is empty"]),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_told_with_field_and_allowed_values_and_the_last_good_one_stays(
    what: str, agent: process.Agent, place: Place
) -> None:
    text, words = BAD[what]
    place.run(traffic.exchange, "127.0.0.1", 2)
    good, before = agent.generation, agent.scrape()
    agent.overwrite(text)
    agent.applied(lambda: agent.status()["config"]["state"] == "rejected")
    status, shown = agent.status()["config"], agent.scrape()
    for word in [str(agent.file), *words]:
        assert word in status["error"]
        assert word in agent.log
    assert status["refused"]["name"] == agent.file.name
    assert status["refused"]["message"] == status["error"]
    assert status["generation"] == good
    assert (
        shown.own("config_apply_errors_total") == before.own("config_apply_errors_total") + 1
    )  # counted once
    assert shown.own("config_info", state="rejected", generation=str(good)) == 1
    assert shown.sum("connect", workload=place.name) == 2
    agent.follow(EVERYTHING)
    recovered = agent.scrape()
    assert agent.status()["config"]["error"] == ""
    assert agent.status()["config"]["refused"] is None
    assert recovered.own("config_info", state="applied") == 1
    assert recovered.own("config_apply_errors_total") == shown.own("config_apply_errors_total")
    assert recovered.sum("connect", workload=place.name) == 2


def test_a_file_that_is_gone_leaves_its_configuration_in_force_and_may_come_back(
    agent: process.Agent,
) -> None:
    generation = agent.generation
    kept = agent.file.with_suffix(".kept")
    agent.file.rename(kept)
    process.until(lambda: agent.status()["config"]["state"] == "rejected", "the loss told", 5)
    assert "No such file" in agent.status()["config"]["error"]
    assert str(agent.file) in agent.log
    assert agent.generation == generation
    assert _labels(agent, "ebpf_tcp_connect_total") <= {frozenset({"workload"})}
    kept.rename(agent.file)
    agent.applied(lambda: agent.status()["config"]["state"] == "applied")

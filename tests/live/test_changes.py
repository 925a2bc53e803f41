"""A FlowLensConfig applied, changed, deleted with kubectl: in force within seconds, in the same process,
and no event lost or counted twice."""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent import page as pages
from tests.agent import process
from tests.kernel import traffic as visits
from tests.live import lens, traffic
from tests.live.conftest import MakePod, StartAgent
from tests.live.server import Server

pytestmark = [pytest.mark.cluster, pytest.mark.kernel, pytest.mark.timeout(180)]

Spec = dict[str, Any]
CHANGES = 20
FLOW = ["namespace", "pod", "src_ip", "src_port", "dst_ip", "dst_port", "pid"]
LABEL_SETS = (["namespace", "dst_port"], ["namespace"], FLOW, ["namespace", "pod", "ip_version"])


def connect_by(labels: list[str]) -> Spec:
    """Only the label set of `connect` is named; everything else stays as it is by default."""
    return {"metrics": [{"name": "connect", "labels": labels}]}


def labels_of(page: pages.Page, metric: str, **where: str) -> set[frozenset[str]]:
    return {frozenset(row.labels) for row in page.rows(metric, **where)}


def gone_down_apart_from_connect(before: pages.Page, after: pages.Page) -> dict[object, tuple[float, float]]:
    """Counters that must have gone on: all but those of the one metric whose labels change."""
    return {
        key: values
        for key, values in pages.gone_down(before, after).items()
        if key[0] != "ebpf_tcp_connect_total"  # type: ignore[index]
    }


def test_twenty_changes_under_traffic_are_fast_exact_and_touch_nothing_else(
    server: Server,
    start_agent: StartAgent,
    make_pod: MakePod,
    stop_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    agent, pod = start_agent(), make_pod()
    pid, before, ours = agent.pid, agent.scrape(), {"namespace": pod.project}
    pod.start(traffic.stream, "127.0.0.1", 80, str(stop_file))
    whole, alone, connects = [], [], 0
    for number, labels in zip(range(CHANGES), itertools.cycle(LABEL_SETS), strict=False):
        began = time.monotonic()
        generation = server.configure("flipping", connect_by(labels))
        told = time.monotonic()
        while lens.held(page := agent.scrape()) != ("flipping", generation):
            assert time.monotonic() - began < lens.SECONDS, (number, agent.config, agent.log)
        alone.append(time.monotonic() - told)
        whole.append(time.monotonic() - began)
        shown = labels_of(page, "ebpf_tcp_connect_total", **ours)
        assert shown <= {frozenset(labels)}, shown
        assert not gone_down_apart_from_connect(before, page)
        assert page.sum("connect", **ours) >= connects
        connects, before = page.sum("connect", **ours), page
    stop_file.touch()
    count = pod.finish()
    with capsys.disabled():
        print(
            f"\n  {CHANGES} changes under {count} connections: {told_as('with kubectl', whole)}, {told_as('after it', alone)}"
        )
    assert statistics.median(whole) < 2
    assert agent.process.poll() is None
    assert agent.pid == pid
    process.until(lambda: agent.scrape().sum("connection_duration", **ours) == 2 * count, "all closed")
    page, snmp = agent.scrape(), pod.snmp()
    assert page.sum("connect", **ours) == snmp["ActiveOpens"] == count
    assert page.sum("accept", **ours) == snmp["PassiveOpens"] == count
    assert page.sum("connect_duration", **ours) == count
    assert page.sum("connections", **ours) == 0
    assert page.own("config_apply_errors_total") == 0


def told_as(what: str, seconds: list[float]) -> str:
    return f"{what} median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s"


def test_deleting_falls_back_to_the_next_match_and_then_to_the_chart_s_defaults(
    server: Server, start_agent: StartAgent, make_pod: MakePod
) -> None:
    chart = {"defaults": {"labels": ["namespace"]}}
    agent, pod = start_agent(chart), make_pod()
    file = agent.file.name
    pod.run(visits.exchange, "127.0.0.1", 7)
    assert agent.holds == (file, 1)
    server.configure("second", {"priority": 1, "defaults": {"labels": ["namespace", "pod"]}})
    agent.wait("second")
    server.configure("first", {"priority": 2, "defaults": {"labels": ["namespace", "container"]}})
    agent.wait("first")
    for deleted, then, labels in (
        ("first", "second", {"namespace", "pod"}),
        ("second", file, {"namespace"}),
    ):
        server.unconfigure(deleted)
        agent.wait(then)
        page = agent.scrape()
        assert labels_of(page, "ebpf_tcp_connect_total", namespace=pod.project) == {frozenset(labels)}
        assert page.sum("connect", namespace=pod.project) == 7


def test_defaults_that_change_hold_at_once_where_no_object_does(
    server: Server, start_agent: StartAgent
) -> None:
    agent = start_agent({"limits": {"maxSeries": 100}})
    agent.replace({"limits": {"maxSeries": 200}})
    agent.wait(agent.file.name, 2)
    server.configure("object", {})
    agent.wait("object", 1)
    agent.replace({"limits": {"maxSeries": 300}})
    server.configure("other", {"priority": -1})  # makes the agent look
    assert agent.holds == ("object", 1)
    server.unconfigure()
    agent.wait(agent.file.name, 3)


def test_an_object_of_the_same_name_made_anew_is_another_one(server: Server, start_agent: StartAgent) -> None:
    """Both have generation 1, and the agent may see the deletion and the creation as one change."""
    agent = start_agent()
    server.configure("same", {"metrics": [{"name": "connect"}], "defaults": {"enabled": False}})
    agent.wait("same", 1)
    anew = {"metrics": [{"name": "accept"}], "defaults": {"enabled": False}}
    with agent.asleep():
        server.unconfigure("same")
        assert server.configure("same", anew) == 1
    process.until(lambda: agent.config["metrics"] == ["accept"], "the new one's metrics", lens.SECONDS)

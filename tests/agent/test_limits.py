"""Limits: what finds no room goes to series labelled `other`, and no event is lost or counted twice."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.agent import page as pages
from tests.agent import process
from tests.agent import traffic as visits
from tests.agent.conftest import MakeCgroup, Place, StartAgent
from tests.kernel import namespace

pytestmark = pytest.mark.kernel

PORT = 4713
FLOWS = ["src_ip", "src_port", "dst_ip", "dst_port", "pid"]
ONLY_PORT: dict[str, Any] = {"ports": {"include": [PORT]}}
"""`other` tells no owner: this keeps out what else goes on on this machine."""
CPUS = 64
"""The kernel checks maxFlows without a lock: each CPU may be one too many."""


def _spec(labels: list[str], **limits: int) -> dict[str, Any]:
    return {**ONLY_PORT, "defaults": {"labels": labels}, "limits": limits}


def _exact(shown: pages.Page, place: Place) -> None:
    """Every connection of `place`, and every reset, is in some series."""
    snmp = place.snmp()
    assert shown.sum("connect") == snmp["ActiveOpens"]
    assert shown.sum("accept") == snmp["PassiveOpens"]
    assert shown.sum("connect_duration") == snmp["ActiveOpens"] - snmp["AttemptFails"]
    assert shown.sum("connect_failures") == snmp["AttemptFails"]
    assert shown.sum("reset", direction="outbound") == snmp["OutRsts"] if "reset" in shown.text else True


def test_flows_beyond_max_flows_are_summed_in_other_and_sums_stay_exact(
    start_agent: StartAgent, place: Place
) -> None:
    agent = start_agent(_spec(FLOWS, maxFlows=40))
    place.run(visits.exchange_at, "127.0.0.1", PORT, 300)
    place.run(visits.refused_at, "127.0.0.1", PORT, 50)
    shown = agent.scrape()
    _exact(shown, place)
    assert shown.own("map_entries", map="flows") <= 40 + CPUS
    assert shown.sum("connect", src_port="other", dst_port="other") >= 250
    assert shown.own("map_errors_total", map="flows", errno="E2BIG") > 0
    assert shown.own("map_errors_total", map="totals") == 0
    assert "connect" in agent.status()["limited"]
    agent.follow(_spec(FLOWS, maxFlows=10000))
    agent.scrape()
    assert agent.status()["limited"] == []


def test_with_room_for_one_flow_everything_is_counted(start_agent: StartAgent, place: Place) -> None:
    agent = start_agent(_spec(FLOWS, maxFlows=1))
    place.run(visits.exchange_at, "::1", PORT, 100)
    _exact(agent.scrape(), place)


def test_label_sets_beyond_max_series_are_summed_in_other_and_sums_stay_exact(
    start_agent: StartAgent, place: Place
) -> None:
    agent = start_agent(_spec(["src_port"], maxSeries=50))
    place.run(visits.exchange_at, "127.0.0.1", PORT, 300)
    place.run(visits.refused_at, "127.0.0.1", PORT, 50)
    shown = agent.scrape()
    _exact(shown, place)
    assert 0 < shown.own("series") <= 50 + 10 * 40  # at most one `other` per metric and label that is kept
    assert shown.sum("connect", src_port="other") >= 300
    assert shown.own("series_collapsed_total", metric="connect") >= 300
    assert "connect" in agent.status()["limited"]
    agent.follow(_spec(["src_port"], maxSeries=10000))
    assert agent.status()["limited"] == []


def test_other_series_never_go_down_while_limits_and_labels_change(
    start_agent: StartAgent, place: Place
) -> None:
    agent = start_agent(_spec(FLOWS, maxFlows=10, maxSeries=30))
    before = 0.0
    for labels, limits in (
        (FLOWS, {"maxFlows": 10, "maxSeries": 30}),
        (["dst_port"], {"maxFlows": 5, "maxSeries": 20}),
        (["src_port", "pid"], {"maxFlows": 1000, "maxSeries": 10}),
        (FLOWS, {"maxFlows": 1, "maxSeries": 1000}),
    ):
        agent.follow(_spec(labels, **limits))
        place.run(visits.exchange_at, "127.0.0.1", PORT, 60)
        shown = agent.scrape()
        _exact(shown, place)
        other = sum(
            row.value for row in shown.rows("ebpf_tcp_connect_total") if "other" in row.labels.values()
        )
        assert other >= before
        before = other


def test_flows_that_stand_still_are_forgotten_and_their_map_has_room_again(
    start_agent: StartAgent, place: Place
) -> None:
    spec = _spec(["src_port"])
    agent = start_agent({**spec, "defaults": {**spec["defaults"], "staleAfter": "10s"}})
    began = time.monotonic()
    place.run(visits.exchange_at, "127.0.0.1", PORT, 30)
    shown = agent.scrape()
    assert len(shown.rows("ebpf_tcp_connect_total")) == 30
    assert shown.own("map_entries", map="flows") >= 60
    process.until(lambda: not agent.scrape().rows("ebpf_tcp_connect_total"), "still flows gone", 40)
    assert time.monotonic() - began >= 10
    assert agent.scrape().own("map_entries", map="flows") == 0
    place.run(visits.exchange_at, "127.0.0.1", PORT, 5)
    assert agent.scrape().sum("connect") == 5


def test_five_thousand_cgroups_in_a_row_have_names_or_causes(
    start_agent: StartAgent, place: Place, cgroup: MakeCgroup
) -> None:
    agent = start_agent(ONLY_PORT)
    agent.scrape()
    before = agent.resident_bytes
    parent = cgroup("system.slice")
    place.start(visits.visit_from_cgroups, str(parent), 5000, PORT)
    while not place.done_within(0.5):
        agent.scrape()
    place.finish(60)
    place.enter_cgroup(place.cgroup)
    shown = agent.scrape()
    _exact(shown, place)
    names = shown.by("connect", "workload")
    unnamed, collapsed = names.pop(("",), 0), names.pop(("other",), 0)
    assert all(name.startswith("visit-") and count == 1 for (name,), count in names.items())
    assert len(names) + unnamed + collapsed == 5000
    assert unnamed == shown.own("unattributed_total", metric="connect")
    assert collapsed == shown.own("series_collapsed_total", metric="connect")
    assert len(names) > 500
    assert shown.own("map_errors_total") == 0
    assert agent.resident_bytes - before < 48 << 20
    assert "level=error" not in agent.log
    assert namespace.CGROUPS.exists()

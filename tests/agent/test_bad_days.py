"""What goes wrong while an agent runs ends in a visible counter or a clear message, never in silence or a crash."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from flowlens.kernel import layout
from tests.agent import bpf_objects, process
from tests.agent import traffic as visits
from tests.agent.conftest import MakePlace, Place, StartAgent
from tests.kernel import namespace, traffic

pytestmark = pytest.mark.kernel

PORT = 4714
ONLY_PORT: dict[str, Any] = {"ports": {"include": [PORT]}}
NO_PTRACE = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")


# /proc -----------------------------------------------------------------------------------------------


def test_without_proc_it_counts_and_names_by_cgroup_and_says_what_is_missing(
    start_agent: StartAgent, place: Place, tmp_path: Path
) -> None:
    empty = tmp_path / "proc"
    empty.mkdir()
    agent = start_agent(flags=("--host-proc", str(empty)))
    place.run(traffic.exchange, "127.0.0.1", 6)
    assert agent.scrape().by("accept", "workload", workload=place.name) == {(place.name,): 6}
    assert str(empty) in agent.status()["identity"]["problem"]
    assert f"names may be missing: {empty}" in agent.log


def test_processes_that_may_not_be_read_are_counted(start_agent: StartAgent, make_place: MakePlace) -> None:
    agent = start_agent(ONLY_PORT, before=NO_PTRACE)
    place = make_place("docker/" + "ab12" * 16)
    place.run(visits.refused_at, "127.0.0.1", PORT, 3)  # resets without a socket: whose namespace is it?
    shown = agent.scrape()
    assert shown.sum("reset", direction="outbound") == 3
    assert shown.own("identity_errors_total", what="unreadable_processes") > 0


# full maps -------------------------------------------------------------------------------------------


def test_a_full_map_of_owners_keeps_sums_exact_and_is_counted(start_agent: StartAgent, place: Place) -> None:
    agent = start_agent({**ONLY_PORT, "defaults": {"labels": ["workload"]}})
    totals = _map(agent, "totals")
    room = layout.MAX_ENTRIES - int(agent.scrape().own("map_entries", map="totals"))
    _fill(totals, room)
    place.run(visits.exchange_at, "127.0.0.1", PORT, 25)
    place.run(visits.refused_at, "127.0.0.1", PORT, 4)
    shown, snmp = agent.scrape(), place.snmp()
    assert shown.own("map_entries", map="totals") == layout.MAX_ENTRIES
    assert shown.sum("connect") == snmp["ActiveOpens"] == 29
    assert shown.sum("accept") == snmp["PassiveOpens"] == 25
    assert shown.sum("connect_failures") == snmp["AttemptFails"] == 4
    assert shown.sum("connect", workload="other") == 29
    assert shown.own("map_errors_total", map="totals", errno="E2BIG") > 0
    assert shown.own("map_errors_total", map="totals", errno="UNCOUNTED") == 0


def _map(agent: process.Agent, name: str) -> int:
    ours = bpf_objects.held(agent.pid).maps
    return next(
        int(each["id"]) for each in bpf_objects.bpftool("map") if each["id"] in ours and each["name"] == name
    )


def _fill(map_id: int, rows: int) -> None:
    """Rows of one metric for owners that do not exist; the program's own way of failing is what is looked at."""
    lines = []
    for number in range(rows):
        key = layout.KEY.pack(1 << 60 | number, 1, 0, 0, 4, 0, 9, 0, 0, 0, 0, 0)
        lines.append(f"map update id {map_id} key hex {key.hex(' ')} value hex {bytes(16).hex(' ')}\n")
    done = subprocess.run(
        ["bpftool", "batch", "file", "/dev/stdin"],
        input="".join(lines),
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# what vanishes ---------------------------------------------------------------------------------------


def test_namespaces_and_processes_that_vanish_while_it_reads_do_not_disturb_it(
    start_agent: StartAgent,
) -> None:
    agent = start_agent({**ONLY_PORT, "defaults": {"labels": ["netns", "pid", "workload"]}})
    for _ in range(25):
        place = namespace.Process()
        place.start(visits.exchange_at, "127.0.0.1", PORT, 4)
        agent.scrape()
        place.finish()
        place.run(visits.refused_at, "127.0.0.1", PORT, 2)
        place.close()
    shown = agent.scrape()
    assert shown.sum("connect") == 25 * 6
    assert shown.sum("accept") == 25 * 4
    # Whose namespace it was /proc would tell, which is read every few seconds at most; until then such rows wait.
    process.until(lambda: agent.scrape().sum("reset", direction="outbound") == 25 * 2, "resets shown", 20)
    assert "level=error" not in agent.log
    assert agent.get("/healthz")[0] == 200


def test_a_process_that_dies_with_open_connections_is_counted_to_the_end(
    start_agent: StartAgent, make_place: MakePlace
) -> None:
    agent = start_agent(ONLY_PORT)
    server = make_place()
    client = make_place(share=server)
    server.run(visits.listen_at, "127.0.0.1", PORT)
    client.run(traffic.hold, "127.0.0.1", PORT, 9)
    assert agent.scrape().by("connections", "role") == {("client",): 9, ("server",): 9}
    client.close()
    server.close()
    process.until(lambda: agent.scrape().sum("connections") == 0, "no open connections")
    assert agent.scrape().sum("connection_duration") == 18

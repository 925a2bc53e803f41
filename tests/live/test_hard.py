"""Changes at bad moments and in bad numbers: agents killed, many changes at once, many objects."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent import process
from tests.kernel import traffic as visits
from tests.live import server as servers
from tests.live import traffic
from tests.live.conftest import MakePod, StartAgent
from tests.live.server import Server

pytestmark = [pytest.mark.cluster, pytest.mark.kernel, pytest.mark.timeout(120)]

OBJECTS = 200
MANY, MANY_SECONDS = 50, 10.0


def limited(number: int) -> dict[str, Any]:
    """A spec that differs from others in a limit that nobody reaches, and in labels by its parity."""
    labels = ["namespace", "pod"] if number % 2 else ["namespace", "dst_port"]
    return {"metrics": [{"name": "connect", "labels": labels}], "limits": {"maxSeries": 10_000 + number}}


def test_an_agent_killed_during_a_change_follows_the_newest_after_its_restart(
    server: Server, start_agent: StartAgent, make_pod: MakePod, tmp_path: Path
) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    agent, pod = start_agent(None, *state), make_pod()
    for number in range(4):
        generation = server.configure("one", limited(number))
        agent.kill()  # somewhere between the event and its end
        kept = list((tmp_path / "state").glob("flowlensconfig.json"))
        assert all(json.loads(path.read_text())["name"] == "one" for path in kept)  # whole, or not there
        agent = start_agent(None, *state)
        agent.wait("one", generation)
    pod.run(visits.exchange, "127.0.0.1", 6)
    agent.shows(6, pod.project)


def test_two_quick_changes_end_in_the_second(server: Server, start_agent: StartAgent) -> None:
    agent = start_agent()
    for number in range(5):
        server.configure("one", limited(2 * number))
        generation = server.configure("one", limited(2 * number + 1))
        agent.wait("one", generation)


def test_fifty_changes_in_ten_seconds_end_in_the_last_one_and_lose_nothing(
    server: Server,
    start_agent: StartAgent,
    make_pod: MakePod,
    stop_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    agent, pod = start_agent(), make_pod()
    pod.start(traffic.stream, "127.0.0.1", 80, str(stop_file))
    began = time.monotonic()
    # One kubectl applies one document after the other, so it is 50 requests for the same object.
    server.kubectl(
        "apply", "-f", "-", stdin="\n---\n".join(servers.manifest("one", limited(n)) for n in range(MANY))
    )
    took = time.monotonic() - began
    agent.wait("one", MANY)
    stop_file.touch()
    count = pod.finish()
    with capsys.disabled():
        print(f"\n  {MANY} changes in {took:.1f} s, {agent.log.count('configuration applied')} applied")
    assert took < MANY_SECONDS
    agent.shows(count, pod.project)
    assert pod.snmp()["ActiveOpens"] == count
    assert agent.config["error"] == ""


def test_two_hundred_objects_are_as_quick_as_one(
    server: Server, start_agent: StartAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = start_agent()
    specs = [
        {**limited(number), "nodeSelector": {"matchLabels": {"number": str(number)}}}
        for number in range(OBJECTS)
    ]
    manifests = [servers.manifest(f"object-{number}", spec) for number, spec in enumerate(specs)]
    server.kubectl("apply", "-f", "-", stdin="\n---\n".join(manifests))
    process.until(lambda: agent.watches["flowlensconfigs"]["objects"] == OBJECTS, "all objects", 10)
    assert agent.holds == ("default", 0)
    took = []
    for number in (3, 150, 77):
        server.kubectl("label", "--overwrite", "node", agent.node, f"number={number}")
        took.append(
            servers.until(lambda name=f"object-{number}": agent.holds[0] == name, "its object in force")
        )
    server.configure("object-77", {**specs[77], "priority": 3})
    took.append(servers.until(lambda: agent.holds == ("object-77", 2), "its change in force"))
    cpu = _cpu_of_status_writes(server, agent)
    with capsys.disabled():
        print(
            f"\n  with {OBJECTS} objects: worst {max(took):.2f} s; {OBJECTS} status writes cost the agent {cpu:.2f} s of CPU"
        )
    assert max(took) < 2
    assert cpu < 2
    late = start_agent()
    late.wait("object-77", 2)


def _cpu_of_status_writes(server: Server, agent: Any) -> float:
    """The controller writes statuses; each one is an event for every agent."""
    before, cpu = agent.watches["flowlensconfigs"]["last_event_seconds"], agent.cpu_seconds
    content = json.loads(server.kubectl("get", "flc", "-o", "json"))
    for item in content["items"]:
        item["status"] = {"observedGeneration": item["metadata"]["generation"]}
    done = server.kubectl(
        "replace", "--subresource=status", "-f", "-", "-o", "name", stdin=json.dumps(content)
    )
    assert len(done.splitlines()) == OBJECTS
    newest = server.kubectl("get", "flc", "-o", "jsonpath={.items[-1:].metadata.resourceVersion}")

    def arrived() -> bool:
        watch = agent.watches["flowlensconfigs"]
        return watch["last_event_seconds"] > before and int(watch["resource_version"]) >= int(newest)

    process.until(arrived, "all events")
    return float(agent.cpu_seconds - cpu)

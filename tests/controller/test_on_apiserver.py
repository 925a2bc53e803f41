"""The controller as a process before a real kube-apiserver, with simulated agents.

Its requests are judged by the API server's own audit log.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.controller import agents as simulated
from tests.controller import rules, world

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[world.World]:
    with world.running(tmp_path_factory.mktemp("world")) as running:
        running.add_nodes("node-1", "node-2", zone="a")
        running.add_nodes("node-3", zone="b")
        yield running


@pytest.fixture(scope="module")
def controller(shared: world.World) -> Iterator[world.Controller]:
    with shared.controller() as running:
        yield running


@pytest.fixture
def here(shared: world.World) -> Iterator[world.World]:
    """The world with its agents on their defaults and no object; and left so."""
    shared.agents.reset()
    yield shared
    names = shared.server.kubectl("get", "flc", "-o", "name").split()
    if names:
        shared.server.kubectl("delete", *names)


@pytest.mark.usefixtures("controller")
def test_status_becomes_true_once_every_agent_follows(here: world.World) -> None:
    generation = here.apply("one")
    here.agents.follow("one", generation)
    assert here.wait_for("one", "Applied", "True")["reason"] == "EveryNode"
    found = here.status("one")
    assert found["nodes"] == {"matched": 3, "applied": 3, "pending": 0, "failed": 0, "unreachable": 0}
    assert found["series"] == 30
    assert found["observedGeneration"] == generation
    columns = here.server.kubectl("get", "flc", "one", "--no-headers").split()
    assert columns[:6] == ["one", "0", "3", "3", "0", "30"]


@pytest.mark.usefixtures("controller")
def test_the_next_generation_is_followed_too(here: world.World) -> None:
    here.agents.follow("one", here.apply("one"))
    here.wait_for("one", "Applied", "True")
    second = here.apply("one", includeHost=False)
    here.wait_for("one", "Applied", "False", "Progressing")
    here.agents.follow("one", second)
    assert here.wait_for("one", "Applied", "True")["observedGeneration"] == second


@pytest.mark.usefixtures("controller")
def test_the_loser_of_two_objects_names_the_winner_and_deleting_the_winner_ends_it(here: world.World) -> None:
    low = here.apply("low")
    here.agents.follow("high", here.apply("high", priority=10, nodeSelector={"matchLabels": {"zone": "a"}}))
    here.agents.follow("low", low, "node-3")
    told = here.wait_for("low", "Conflict", "True")
    assert "high wins 2 nodes (priority 10 over 0), e.g. node-1, node-2" in told["message"]
    assert here.wait_for("high", "Conflict", "False")
    assert here.status("low")["nodes"]["matched"] == 1
    here.delete("high")
    here.agents.follow("low", low)
    here.wait_for("low", "Conflict", "False")
    here.wait_for("low", "Applied", "True")
    assert here.status("low")["nodes"]["matched"] == 3


@pytest.mark.usefixtures("controller")
def test_a_relabelled_node_changes_sides(here: world.World) -> None:
    here.agents.follow("b", here.apply("b", nodeSelector={"matchLabels": {"zone": "b"}}))
    here.wait_for("b", "Applied", "True")
    assert here.status("b")["nodes"]["matched"] == 1
    here.server.kubectl("label", "--overwrite", "node", "node-1", "zone=b")
    try:
        world.wait_until(lambda: here.status("b")["nodes"]["matched"] == 2, "two nodes match")
    finally:
        here.server.kubectl("label", "--overwrite", "node", "node-1", "zone=a")
    world.wait_until(lambda: here.status("b")["nodes"]["matched"] == 1, "one node matches again")


@pytest.mark.usefixtures("controller")
def test_rejected_degraded_limited_and_silent_agents_each_have_their_place(here: world.World) -> None:
    generation = here.apply("one")
    here.agents.follow("one", generation)
    here.agents["node-1"].probes = [simulated.probe("sk_storage", "kernel 5.4 has none")]
    here.agents["node-2"].collapsed = {"connect": 3}
    here.agents["node-2"].series = {"connect": 20000}
    told = here.wait_for("one", "Degraded", "True")
    assert "sk_storage: kernel 5.4 has none (1 node, e.g. node-1)" in told["message"]
    assert "limits.maxSeries is reached" in here.wait_for("one", "CardinalityLimited", "True")["message"]

    here.agents["node-2"].config = simulated.state("default", 0, "not enough memory for the maps")
    here.wait_for("one", "Applied", "False", "Rejected")
    assert here.status("one")["failures"] == [
        {
            "reason": "Rejected",
            "message": "not enough memory for the maps",
            "nodes": 1,
            "examples": ["node-2"],
        }
    ]

    here.agents.follow("one", generation)
    here.agents["node-3"].mode = "hang"
    here.wait_for("one", "Applied", "Unknown", "AgentsUnreachable")
    found = here.status("one")
    assert found["nodes"]["unreachable"] == 1
    assert found["failures"][0]["message"] == "no answer in time"

    here.agents.reset()
    here.agents.follow("one", generation)
    here.wait_for("one", "Applied", "True", "EveryNode")
    here.wait_for("one", "Degraded", "False")
    here.wait_for("one", "CardinalityLimited", "False")
    assert here.status("one")["failures"] == []


@pytest.mark.usefixtures("controller")
def test_agents_come_and_go_with_their_endpoints(here: world.World) -> None:
    here.agents.follow("one", here.apply("one"))
    here.wait_for("one", "Applied", "True", "EveryNode")
    here.publish("node-1", "node-2")
    try:
        here.wait_for("one", "Applied", "True", "WhereAgentsRun")
        assert here.status("one")["failures"][0]["examples"] == ["node-3"]
    finally:
        here.publish()
    here.wait_for("one", "Applied", "True", "EveryNode")


@pytest.mark.usefixtures("controller")
def test_an_object_that_this_version_cannot_read_is_not_accepted(here: world.World) -> None:
    """As after a downgrade: the CRD lets something pass that the code does not know."""
    crd = json.loads(here.server.kubectl("get", "crd", "flowlensconfigs.flowlens.io", "-o", "json"))
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["sampling"] = {"type": "integer"}
    here.server.apply(crd)

    def made() -> bool:
        try:
            return bool(here.apply("newer", sampling=3)) and "sampling" in here.get("newer")["spec"]
        except AssertionError:
            return False

    world.wait_until(made, "the API server takes the new field")
    told = here.wait_for("newer", "Accepted", "False")
    assert told["reason"] == "Invalid"
    assert "sampling: unknown field" in told["message"]
    assert here.conditions("newer")["Applied"]["reason"] == "NotAccepted"


@pytest.mark.usefixtures("controller")
def test_state_changes_are_told_as_events_of_the_object(here: world.World) -> None:
    generation = here.apply("told", nodeSelector={"matchLabels": {"zone": "a"}})
    here.agents.follow("told", generation)
    here.wait_for("told", "Applied", "True")
    world.wait_until(lambda: here.events("told"), "an event")
    (one,) = here.events("told")
    assert (one["type"], one["reason"]) == ("Normal", "Applied")
    assert one["note"] == f"Generation {generation} runs on 2 of 2 nodes."
    assert "Generation" in here.server.kubectl("describe", "flc", "told").partition("Events:")[2]
    here.agents["node-1"].probes = [simulated.probe("sk_storage", "gone")]
    here.wait_for("told", "Degraded", "True")
    world.wait_until(lambda: any(e["reason"] == "Degraded" for e in here.events("told")), "a warning")


def test_a_restarted_controller_finds_everything_as_it_should_be_and_writes_nothing(
    here: world.World, controller: world.Controller
) -> None:
    here.agents.follow("one", here.apply("one"))
    here.wait_for("one", "Applied", "True")
    version = here.get("one")["metadata"]["resourceVersion"]
    assert controller.process.poll() is None
    with here.controller(listen="127.0.0.1:2114") as second:
        world.wait_until(lambda: _answers(second) > 8, "it has asked every agent some times")
        assert second.number('flow_lens_controller_writes_total{result="written",what="status"}') == 0
    assert here.get("one")["metadata"]["resourceVersion"] == version


def _answers(running: world.Controller) -> float:
    return running.number('flow_lens_controller_visits_total{result="answered"}')


def test_two_controllers_at_once_agree_and_do_not_fight(
    here: world.World, controller: world.Controller
) -> None:
    assert controller.process.poll() is None
    with here.controller(listen="127.0.0.1:2114"):
        here.agents.follow("shared", here.apply("shared"))
        here.wait_for("shared", "Applied", "True")
        asked = here.agents["node-1"].asked
        world.wait_until(lambda: here.agents["node-1"].asked > asked + 6, "both have asked again")
    writes = [
        one
        for one in here.server.requests(rules.ACCOUNT)
        if one["verb"] == "patch" and one["objectRef"]["name"] == "shared"
    ]
    assert 1 <= len(writes) <= 2
    assert len(here.events("shared")) == 1


def test_the_user_object_is_never_touched_outside_its_status(
    here: world.World, controller: world.Controller
) -> None:
    """Last in this file on purpose: it judges all requests that the tests above have caused."""
    here.agents.follow("audited", here.apply("audited"))
    here.wait_for("audited", "Applied", "True")
    assert controller.process.poll() is None
    found = here.server.requests(rules.ACCOUNT)
    writes = [one for one in found if one["verb"] not in ("get", "list", "watch")]
    assert writes
    for one in writes:
        target = one["objectRef"]
        if target["resource"] == "flowlensconfigs":
            assert (one["verb"], target["subresource"]) == ("patch", "status")
            assert set(one["requestObject"]) == {"metadata", "status"}
            assert set(one["requestObject"]["metadata"]) == {"uid"}
        else:
            assert (one["verb"], target["resource"], target["namespace"]) == ("create", "events", "default")
    refused = [one["requestURI"] for one in found if one["responseStatus"]["code"] in (401, 403)]
    assert refused == []
    marks = here.get("audited")["metadata"]
    assert "finalizers" not in marks
    assert set(marks.get("annotations", {})) <= {"kubectl.kubernetes.io/last-applied-configuration"}
    peering = [one for one in found if "peering" in one["requestURI"].lower()]
    assert peering == []
    _assert_pace(writes)


def _assert_pace(writes: list[dict[str, Any]]) -> None:
    """One writer leaves at least --status-seconds (2 here) between two writes of an object's status."""
    last: dict[tuple[str, str], datetime] = {}
    for one in writes:
        if one["objectRef"]["resource"] != "flowlensconfigs" or one["responseStatus"]["code"] != 200:
            continue
        key = one["requestObject"]["metadata"]["uid"], one["sourceIPs"][0] + one["userAgent"]
        when = datetime.fromisoformat(one["requestReceivedTimestamp"])
        if key in last and one["objectRef"]["name"] != "shared":
            assert (when - last[key]).total_seconds() > 1.9, one
        last[key] = when


def test_a_numeric_user_without_name_home_or_writable_disk_is_enough(
    here: world.World, controller: world.Controller
) -> None:
    facts = dict(
        line.split(":", 1) for line in Path(f"/proc/{controller.process.pid}/status").read_text().splitlines()
    )
    assert facts["Uid"].split() == [str(world.USER)] * 4
    assert facts["NoNewPrivs"].strip() == "1"
    assert int(facts["CapBnd"], 16) == 1 << 2, "CAP_DAC_READ_SEARCH only"
    mounts = Path(f"/proc/{controller.process.pid}/mounts").read_text().splitlines()
    (root,) = [line for line in mounts if line.split()[1] == "/"]
    assert "ro" in root.split()[3].split(",")
    known = subprocess.run(["getent", "passwd", str(world.USER)], check=False, capture_output=True)
    assert known.returncode == 2
    assert here.server.kubectl("get", "--raw=/readyz") == "ok"

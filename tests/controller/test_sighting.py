"""An agent's /status, read: also when it is not one."""

from __future__ import annotations

import json

import pytest

from flowlens.controller import sighting
from tests.controller import agents


def test_an_answer_becomes_what_a_status_needs() -> None:
    agent = agents.Agent("n1", "198.18.0.1")
    agent.config = agents.state("one", 3, "a newer one was refused")
    agent.series = {"connect": 7, "rtt": 13}
    agent.collapsed = {"connect": 5, "rtt": 0}
    agent.flows = 9
    agent.probes = [agents.probe("up"), agents.probe("unwanted", "off"), agents.probe("old", "too old")]
    assert sighting.read(agent.status(), "n1") == sighting.Sighting(
        config=sighting.Version("one", 3),
        error="a newer one was refused",
        series=20,
        crowded=(("connect", 7),),
        flows=9,
        down=(("old", "too old"),),
    )


def test_what_an_agent_names_is_taken_as_it_says() -> None:
    agent = agents.Agent("n1", "198.18.0.1", limited=["rtt"])
    refused = {"name": "two", "generation": 4, "message": "no", "uid": "u2"}
    agent.config = {**agents.state("one", 3, "no"), "uid": "u1", "refused": refused}
    agent.series, agent.collapsed = {"connect": 7, "rtt": 13}, {"connect": 5, "rtt": 1}
    seen = sighting.read(agent.status(), "n1")
    assert seen.config == sighting.Version("one", 3, "u1")
    assert seen.refused == sighting.Version("two", 4, "u2")
    assert (seen.crowded, seen.tells_limits) == ((("rtt", 13),), True)


def test_an_error_about_several_objects_is_about_none_in_particular() -> None:
    agent = agents.Agent("n1", "198.18.0.1")
    refused = {"name": "two", "generation": 4, "message": "no"}
    agent.config = {**agents.state("one", 3, "no; neither this one"), "refused": refused}
    seen = sighting.read(agent.status(), "n1")
    assert (seen.error, seen.refused) == ("no; neither this one", None)


def test_fields_that_a_newer_or_older_agent_adds_or_lacks_do_not_matter() -> None:
    body = json.dumps({"config": {"name": "x", "generation": 1, "new": 1}, "newer": {}}).encode()
    assert sighting.read(body, "n1") == sighting.Sighting(config=sighting.Version("x", 1))


def test_another_nodes_agent_is_not_taken_for_this_nodes() -> None:
    with pytest.raises(sighting.UnreadableError, match="another node's agent"):
        sighting.read(agents.Agent("n2", "198.18.0.1").status(), "n1")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"config": 1}', b"{}"])
def test_something_else_is_said_to_be_something_else(body: bytes) -> None:
    with pytest.raises(sighting.UnreadableError, match="not what was expected"):
        sighting.read(body, "n1")


def test_texts_that_all_nodes_say_are_kept_once() -> None:
    agent = agents.Agent("n1", "198.18.0.1", config=agents.state("one", 1, "x" * 100))
    first, second = (sighting.read(agent.status(), "n1") for _ in range(2))
    assert first.error is second.error
    assert first.config is second.config

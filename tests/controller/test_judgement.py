"""Who wins where, and what became of it: pure functions, also against a slow and obvious model."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlens import config
from flowlens.config import selectors
from flowlens.controller import judgement, sighting
from tests.controller.building import intent, runs, unreadable, zone

Version = sighting.Version
ONE = Version("one", 1, "uid-one")
NODES = {"n1": {"zone": "a"}, "n2": {"zone": "b"}, "n3": {"zone": "b"}}


def test_an_object_without_a_selector_wins_every_node() -> None:
    assert judgement.reach([intent()], NODES)["one"] == judgement.Reach(("n1", "n2", "n3"))


def test_the_loser_knows_which_nodes_it_loses_to_whom() -> None:
    found = judgement.reach([intent("low"), intent("high", priority=5, nodeSelector=zone("b"))], NODES)
    assert found["low"] == judgement.Reach(("n1",), {"high": ("n2", "n3")})
    assert found["high"] == judgement.Reach(("n2", "n3"))


def test_an_unreadable_object_neither_wins_nor_hinders() -> None:
    found = judgement.reach([unreadable(), intent()], NODES)
    assert set(found) == {"one"}
    assert found["one"].won == ("n1", "n2", "n3")


def test_nodes_that_no_object_takes_are_expected_to_run_nothing_in_particular() -> None:
    intents = [intent("b", generation=7, nodeSelector=zone("b"))]
    expected = sighting.Version("b", 7, "uid-b")
    assert judgement.wanted(intents, judgement.reach(intents, NODES)) == {"n2": expected, "n3": expected}


labels = st.dictionaries(st.sampled_from(("zone", "pool")), st.sampled_from("abc"), max_size=2)
specs = st.fixed_dictionaries(
    {"priority": st.integers(0, 2), "nodeSelector": st.fixed_dictionaries({"matchLabels": labels})}
)


@given(st.lists(st.tuples(specs, st.sampled_from("123")), max_size=5), st.lists(labels, max_size=6))
def test_reach_agrees_with_asking_each_node_on_its_own(
    made: list[tuple[dict[str, Any], str]], node_labels: list[dict[str, str]]
) -> None:
    intents = [
        intent(f"o{number}", created=f"2026-01-0{day}T00:00:00Z", **spec)
        for number, (spec, day) in enumerate(made)
    ]
    nodes = {f"n{number}": found for number, found in enumerate(node_labels)}
    reached = judgement.reach(intents, nodes)
    for node, found in nodes.items():
        candidates = [config.Candidate(one.name, one.created, one.spec) for one in intents if one.spec]
        winner = config.choose(candidates, found)
        for one in candidates:
            selected = selectors.matches(one.spec.node_selector, found)
            mine = reached[one.name]
            assert (node in mine.won) == (winner is one)
            loses_to = [name for name, lost in mine.lost.items() if node in lost]
            assert loses_to == ([winner.name] if winner and selected and winner is not one else [])


def tally(seen: dict[str, sighting.Sighting], *, settling: bool = False, **spec: Any) -> judgement.Tally:
    return judgement.tally(intent(**spec), ("n1", "n2", "n3"), seen, settling=settling)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, judgement.Outcome.NO_AGENT),
        (sighting.Sighting(), judgement.Outcome.PENDING),
        (runs(), judgement.Outcome.APPLIED),
        (runs(error="another object is unreadable"), judgement.Outcome.APPLIED),
        (runs(generation=0), judgement.Outcome.PENDING),
        (runs("default", 0), judgement.Outcome.PENDING),
        (runs("default", 0, error="cannot be applied"), judgement.Outcome.FAILED),
        (runs(problem="no answer in time"), judgement.Outcome.UNREACHABLE),
        (runs("default", 0, error="no", refused=Version("one", 1)), judgement.Outcome.FAILED),
        (runs("default", 0, error="no", refused=Version("one", 0)), judgement.Outcome.PENDING),
        (runs("default", 0, error="no", refused=Version("two", 1)), judgement.Outcome.PENDING),
        (runs("default", 0, error="no", refused=Version("one", 1, "old")), judgement.Outcome.PENDING),
        (sighting.Sighting(config=Version("one", 1, "uid-one")), judgement.Outcome.APPLIED),
        (sighting.Sighting(config=Version("one", 1, "old")), judgement.Outcome.PENDING),
    ],
)
def test_what_an_agent_says_decides_what_became_of_the_object(
    seen: sighting.Sighting | None, expected: judgement.Outcome
) -> None:
    assert judgement.outcome(ONE, seen, settling=False) is expected


def test_just_after_a_change_an_old_error_is_not_held_against_the_new_spec() -> None:
    seen = runs(generation=0, error="about the spec before")
    assert judgement.outcome(ONE, seen, settling=True) is judgement.Outcome.PENDING


def test_an_agent_that_names_what_it_refuses_is_believed_at_once() -> None:
    seen = runs("default", 0, error="no", refused=ONE)
    assert judgement.outcome(ONE, seen, settling=True) is judgement.Outcome.FAILED


sightings = st.builds(
    sighting.Sighting,
    config=st.sampled_from((None, ONE, Version("one", 1), Version("one", 0), Version("default", 0))),
    error=st.sampled_from(("", "broken", "worse")),
    series=st.integers(0, 100),
    down=st.sampled_from(((), (("hook", "why"),))),
    problem=st.sampled_from(("", "no answer in time")),
)


@given(st.dictionaries(st.sampled_from([f"n{number}" for number in range(30)]), sightings), st.booleans())
def test_every_node_is_counted_once_and_every_failure_is_a_node(
    seen: dict[str, sighting.Sighting], settling: bool
) -> None:
    won = tuple(f"n{number}" for number in range(30))
    found = judgement.tally(intent(), won, seen, settling=settling)
    counts = found.counts
    assert counts.matched == counts.applied + counts.pending + counts.failed + counts.unreachable == 30
    assert sum(len(one.nodes) for one in found.failures) == counts.failed + counts.unreachable
    assert found.without_agent == 30 - len(seen)
    assert len({node for one in found.failures for node in one.nodes}) == counts.failed + counts.unreachable


def test_equal_failures_are_one_group_and_the_commonest_comes_first() -> None:
    found = tally({"n1": runs("x", error="b"), "n2": runs("x", error="a"), "n3": runs("x", error="a")})
    assert [(one.text, one.nodes) for one in found.failures] == [("a", ("n2", "n3")), ("b", ("n1",))]


def test_series_are_those_of_nodes_that_run_the_object() -> None:
    found = tally({"n1": runs(series=5), "n2": runs(series=6), "n3": runs("other", series=100)})
    assert found.series == 11


def test_a_probe_that_is_down_on_a_node_that_runs_the_object_degrades_it() -> None:
    found = tally({"n1": runs(down=(("sk_storage", "kernel is too old"),)), "n2": runs()})
    assert [(one.text, one.nodes) for one in found.down] == [("sk_storage: kernel is too old", ("n1",))]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (runs(series=100, crowded=()), []),
        (runs(series=40, crowded=(("connect", 40),)), ["connect has its maxSeries"]),
        (runs(series=39, crowded=(("connect", 39),)), []),
        (runs(series=100, crowded=(("accept", 60),)), ["limits.maxSeries is reached"]),
        (runs(series=90, crowded=(("connect_duration", 80),)), ["limits.maxSeries is reached"]),
        (runs(series=10, flows=50), ["limits.maxFlows is reached"]),
        (runs(series=100, crowded=(("reset", 1),)), []),
        (runs(series=39, crowded=(("connect", 39),), tells_limits=True), ["connect has been at a limit"]),
        (runs(series=40, crowded=(("connect", 40),), tells_limits=True), ["connect has its maxSeries"]),
        (runs(flows=50, crowded=(("connect", 1),), tells_limits=True), ["limits.maxFlows is reached"]),
    ],
    ids=[
        "never collapsed",
        "own limit",
        "room again",
        "common limit",
        "a histogram needs more",
        "flows",
        "off",
        "told, room for new ones",
        "told, own limit",
        "told, flows",
    ],
)
def test_a_limit_that_keeps_label_sets_out_now_is_told(seen: sighting.Sighting, expected: list[str]) -> None:
    spec: dict[str, Any] = {
        "limits": {"maxSeries": 100, "maxFlows": 50},
        "metrics": [{"name": "connect", "maxSeries": 40}, {"name": "reset", "enabled": False}],
    }
    found = tally({"n1": seen}, **spec)
    assert [one.text for one in found.limited] == expected


def test_5000_nodes_and_5_objects_are_judged_within_a_second_of_cpu() -> None:
    nodes = {f"n{number}": {"zone": "ab"[number % 2], "number": str(number)} for number in range(5000)}
    intents = [intent(f"o{n}", priority=n, nodeSelector=zone("ab"[n % 2])) for n in range(5)]
    seen = {node: runs("o4", series=100) for node in nodes}
    began = time.process_time()
    reached = judgement.reach(intents, nodes)
    for one in intents:
        judgement.tally(one, reached[one.name].won, seen, settling=False)
    assert time.process_time() - began < 1

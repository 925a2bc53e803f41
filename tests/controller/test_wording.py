"""The status in words: every state has its conditions, is bounded, and fits the CRD's own types."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flowlens.config import status
from flowlens.controller import judgement, sighting, wording
from tests.controller.building import intent, runs, unreadable
from tests.controller.test_judgement import sightings

NOW, LATER = "2026-11-25T12:00:00Z", "2026-11-25T12:30:00Z"
WON = judgement.Reach(("n1", "n2"))


def judged(
    seen: dict[str, sighting.Sighting],
    reach: judgement.Reach = WON,
    one: judgement.Intent | None = None,
    priorities: dict[str, int] | None = None,
) -> status.Status:
    one = one or intent()
    counted = judgement.tally(one, reach.won, seen, settling=False)
    return wording.new_status(one, reach, counted, priorities or {})


def said(found: status.Status, kind: str) -> tuple[str, str, str]:
    (one,) = [each for each in found.conditions if each.type == kind]
    return one.status, one.reason, one.message


def test_all_five_conditions_are_always_there() -> None:
    names = [one.type for one in judged({}).conditions]
    assert names == ["Accepted", "Applied", "Conflict", "Degraded", "CardinalityLimited"]


def test_applied_once_every_node_runs_it() -> None:
    found = judged({"n1": runs(), "n2": runs()})
    assert said(found, "Applied") == ("True", "EveryNode", "Generation 1 runs on 2 of 2 nodes.")


def test_a_node_without_an_agent_is_told_but_does_not_stand_in_the_way() -> None:
    found = judged({"n1": runs()})
    assert said(found, "Applied") == (
        "True",
        "WhereAgentsRun",
        "Generation 1 runs on 1 of 2 nodes, 1 without an agent.",
    )
    assert found.failures[0] == status.Failure(
        reason="NoAgent", message="no agent runs there", nodes=1, examples=("n2",)
    )


def test_no_agent_at_all_is_not_applied() -> None:
    assert said(judged({}), "Applied")[:2] == ("False", "NoAgents")


def test_pending_failed_and_unreachable_each_have_their_reason() -> None:
    assert said(judged({"n1": runs(), "n2": runs("x")}), "Applied")[:2] == ("False", "Progressing")
    assert said(judged({"n1": runs("x"), "n2": runs("x", error="e")}), "Applied")[:2] == ("False", "Rejected")
    silent = judged({"n1": runs(), "n2": runs(problem="no answer in time")})
    assert said(silent, "Applied")[:2] == ("Unknown", "AgentsUnreachable")


def test_an_unreadable_object_is_not_accepted_and_says_why() -> None:
    found = judged({}, judgement.Reach(), unreadable())
    assert said(found, "Accepted")[:2] == ("False", "Invalid")
    assert "spec.nonsense: unknown field" in said(found, "Accepted")[2]
    assert said(found, "Applied")[:2] == ("False", "NotAccepted")


def test_the_loser_of_a_conflict_is_told_the_winner_where_and_why() -> None:
    reach = judgement.Reach(("n1",), {"strong": ("n2", "n3"), "old": ("n4",)})
    found = judged({"n1": runs()}, reach, priorities={"one": 1, "strong": 10, "old": 1})
    state, reason, message = said(found, "Conflict")
    assert (state, reason) == ("True", "Overruled")
    assert "On 3 of 4 nodes" in message
    assert "strong wins 2 nodes (priority 10 over 1), e.g. n2, n3" in message
    assert "old wins 1 node (same priority, but older or first by name), e.g. n4" in message
    assert said(found, "Applied")[0] == "True"


def test_nothing_selected_and_everything_lost_are_told_apart() -> None:
    assert said(judged({}, judgement.Reach()), "Applied")[1] == "NoNodes"
    assert said(judged({}, judgement.Reach((), {"x": ("n1",)})), "Applied")[1] == "Overruled"


def test_a_missing_probe_and_a_limit_are_told_with_nodes() -> None:
    seen = {
        "n1": runs(down=(("sk_storage", "kernel is too old"),)),
        "n2": runs(crowded=(("connect", 20000),), series=20000),
    }
    found = judged(seen)
    assert said(found, "Degraded")[0] == "True"
    assert "sk_storage: kernel is too old (1 node, e.g. n1)" in said(found, "Degraded")[2]
    assert said(found, "CardinalityLimited")[0] == "True"
    assert "limits.maxSeries is reached (1 node, e.g. n2)" in said(found, "CardinalityLimited")[2]


def test_what_no_node_reports_is_unknown() -> None:
    found = judged({"n1": runs("x"), "n2": runs("x")})
    assert said(found, "Degraded")[:2] == ("Unknown", "NoReports")
    assert said(found, "CardinalityLimited")[:2] == ("Unknown", "NoReports")


def test_more_than_ten_reasons_become_ten_entries_that_count_every_node() -> None:
    nodes = tuple(f"n{number:02}" for number in range(30))
    seen = {node: runs("x", error=f"error of {node}") for node in nodes}
    found = judged(seen, judgement.Reach(nodes))
    assert len(found.failures) == status.MAX_FAILURES
    assert found.failures[-1].reason == "Other"
    assert sum(one.nodes for one in found.failures) == 30


@given(
    st.dictionaries(st.text(min_size=1, max_size=253), sightings, max_size=40),
    st.dictionaries(st.text(min_size=1), st.lists(st.text(min_size=1), max_size=5), max_size=8),
    st.text(max_size=5000),
)
def test_every_status_is_bounded_and_fits_the_types_that_the_schema_is_made_of(
    seen: dict[str, sighting.Sighting], lost: dict[str, list[str]], error: str
) -> None:
    reach = judgement.Reach(tuple(seen), {name: tuple(nodes) for name, nodes in lost.items()})
    for one in (intent(), judgement.Intent("bad", "u", 3, "", None, error)):
        found = wording.renewed(judged(seen, reach, one), status.Status(), NOW)
        body = msgspec.json.encode(found)
        assert msgspec.json.decode(body, type=status.Status) == found
        assert len(body) < 64_000


def test_the_same_facts_are_not_worth_a_write_later() -> None:
    before = wording.renewed(judged({"n1": runs(series=1000), "n2": runs()}), status.Status(), NOW)
    assert wording.renewed(judged({"n1": runs(series=1050), "n2": runs()}), before, LATER) == before


def test_a_tenth_more_series_is_worth_a_write() -> None:
    before = wording.renewed(judged({"n1": runs(series=1000), "n2": runs()}), status.Status(), NOW)
    assert wording.renewed(judged({"n1": runs(series=1200), "n2": runs()}), before, LATER).series == 1200


def test_a_conditions_time_moves_with_its_status_only() -> None:
    before = wording.renewed(judged({"n1": runs(), "n2": runs("x")}), status.Status(), NOW)
    after = wording.renewed(judged({"n1": runs(), "n2": runs()}), before, LATER)
    times = {one.type: one.last_transition_time for one in after.conditions}
    assert times == {
        "Accepted": NOW,
        "Applied": LATER,
        "Conflict": NOW,
        "Degraded": NOW,
        "CardinalityLimited": NOW,
    }

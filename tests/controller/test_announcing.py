"""Which changes of a status are worth an Event, and that each Event has one name."""

from __future__ import annotations

import json

from flowlens.config import status
from flowlens.controller import announcing, judgement, wording
from tests.controller.building import intent, runs, unreadable
from tests.controller.test_wording import NOW, WON, judged


def announced(old: status.Status, new: status.Status) -> list[tuple[str, str]]:
    return [(one.kind, one.reason) for one in announcing.changes(old, new)]


def dated(found: status.Status) -> status.Status:
    return wording.renewed(found, status.Status(), NOW)


NEVER = status.Status()
FINE = dated(judged({"n1": runs(), "n2": runs()}))


def test_a_first_success_is_announced_and_what_is_as_it_should_be_is_not() -> None:
    assert announced(NEVER, FINE) == [("Normal", "Applied")]


def test_progress_is_no_news() -> None:
    assert announced(NEVER, dated(judged({"n1": runs(), "n2": runs("x")}))) == []


def test_nothing_changed_nothing_announced() -> None:
    assert announced(FINE, FINE) == []


def test_the_next_generation_is_announced_although_applied_stays_true() -> None:
    one = intent(generation=2)
    found = judged({"n1": runs(generation=2), "n2": runs(generation=2)}, one=one)
    assert announced(FINE, dated(found)) == [("Normal", "Applied")]


def test_bad_states_are_warnings_and_their_end_is_told() -> None:
    down = dated(judged({"n1": runs(down=(("hook", "why"),)), "n2": runs()}))
    assert announced(FINE, down) == [("Warning", "Degraded")]
    assert announced(down, FINE) == [("Normal", "Recovered")]
    lost = dated(judged({"n1": runs(), "n2": runs()}, judgement.Reach(WON.won, {"x": ("n3",)})))
    assert announced(FINE, lost) == [("Warning", "Overruled")]
    assert announced(lost, FINE) == [("Normal", "ConflictResolved")]
    rejected = dated(judged({"n1": runs(), "n2": runs("x", error="no")}))
    assert announced(FINE, rejected) == [("Warning", "Rejected")]
    bad = dated(judged({}, judgement.Reach(), unreadable()))
    assert announced(NEVER, bad) == [("Warning", "NotAccepted")]


def test_an_event_is_named_by_what_it_says_so_that_nobody_says_it_twice() -> None:
    (change,) = announcing.changes(NEVER, FINE)
    moment = "2026-11-25T12:00:00.000000Z"
    first, again = (
        json.loads(announcing.event(intent(), change, when, who))
        for when, who in ((moment, "a"), ("2026-11-25T13:00:00.000000Z", "b"))
    )
    other = json.loads(announcing.event(intent(generation=2), change, moment, "a"))
    assert first["metadata"]["name"] == again["metadata"]["name"] != other["metadata"]["name"]
    assert first["regarding"]["uid"] == "uid-one"
    assert (
        len(json.loads(announcing.event(intent("x" * 253), change, moment, "a"))["metadata"]["name"]) <= 253
    )

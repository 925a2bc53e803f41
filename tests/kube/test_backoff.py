"""Waits grow, are bounded, and differ between agents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowlens.kube import backoff


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=40))
def test_every_wait_is_between_half_and_the_whole_of_its_step(chances: list[float]) -> None:
    rolls = iter(chances)
    waits = backoff.Backoff(0.5, 30.0, lambda: next(rolls))
    step = 0.5
    for _ in chances:
        assert step / 2 <= waits.wait_seconds() <= step
        step = min(step * 2, 30.0)


def test_success_makes_the_next_wait_short_again() -> None:
    waits = backoff.Backoff(0.5, 30.0, lambda: 0.0)
    assert [waits.wait_seconds() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    waits.succeeded()
    assert waits.wait_seconds() == 0.5


def test_what_the_server_asks_for_is_respected_within_the_bound() -> None:
    waits = backoff.Backoff(0.5, 30.0, lambda: 0.0)
    assert waits.wait_seconds(at_least=7.0) == 7.0
    assert waits.wait_seconds(at_least=86400.0) == 30.0


def test_agents_do_not_wait_in_step() -> None:
    assert len({backoff.Backoff(10.0, 30.0).wait_seconds() for _ in range(50)}) > 40

"""Refreshes at once, but not all the time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlens.kube import rate


def _grants(wishes: list[float], per_second: float, burst: int, apart: float) -> list[float]:
    """When a caller that always waits as told gets what it wishes for."""
    bucket, now, granted = rate.TokenBucket(per_second, burst, apart), 0.0, []
    for wish in wishes:
        now = max(now, wish)
        for _ in range(10):
            if (wait := bucket.wait_seconds(now)) <= 1e-9:
                break
            now += wait
        bucket.take(now)
        granted.append(now)
    return granted


def test_the_first_wish_is_granted_at_once() -> None:
    assert rate.TokenBucket(1.0, 5, 0.2).wait_seconds(1000.0) == 0.0


def test_a_burst_is_spread_and_then_slowed_to_the_rate() -> None:
    granted = _grants([0.0] * 8, per_second=1.0, burst=3, apart=0.2)
    assert granted[:3] == pytest.approx([0.0, 0.2, 0.4])
    assert granted[3:] == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0])


@given(st.lists(st.floats(0, 60), max_size=60).map(sorted), st.integers(1, 6))
def test_no_span_of_time_sees_more_than_the_burst_and_the_rate(wishes: list[float], burst: int) -> None:
    granted = _grants(wishes, per_second=1.0, burst=burst, apart=0.2)
    for first in range(len(granted)):
        for last in range(first, len(granted)):
            span = granted[last] - granted[first]
            assert last - first + 1 <= burst + span + 1e-6
    gaps = [after - before for before, after in itertools.pairwise(granted)]
    assert all(gap >= 0.2 - 1e-6 for gap in gaps)

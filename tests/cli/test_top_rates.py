"""From two scrapes to rows: gains, owners, quantiles, what is off, and a restarted agent."""

from __future__ import annotations

import bisect
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlens.cli.top import owners, rates, scrape

from . import stand_in

BOUNDS = (0.001, 0.01, 0.1, 1.0)


def _scrape(at: float, **values: dict[str, float]) -> scrape.Scrape:
    """Series by sample name and workload."""
    series = {
        name: {
            frozenset({"namespace": "shop", "workload": workload}.items()): value
            for workload, value in of.items()
        }
        for name, of in values.items()
    }
    return scrape.Scrape(at, series, {})


def _row(rows: list[rates.Row], title: str) -> rates.Row:
    return next(row for row in rows if row.title == title)


def _from_pages(by: str) -> list[rates.Row]:
    before = scrape.parse(stand_in.BEFORE, 10.0)
    after = scrape.parse(stand_in.AFTER, 12.0)
    return rates.between(before, after, owners.grouping(by))


def test_a_rate_is_the_gain_per_second() -> None:
    before = _scrape(10.0, **{scrape.CONNECTS: {"web": 100.0}})
    after = _scrape(14.0, **{scrape.CONNECTS: {"web": 110.0}})
    (row,) = rates.between(before, after, owners.grouping("workload"))
    assert (row.title, row.connects) == ("shop/web", 2.5)


def test_a_series_that_is_new_gained_all_it_has() -> None:
    before = _scrape(0.0, **{scrape.CONNECTS: {}})
    after = _scrape(2.0, **{scrape.CONNECTS: {"web": 6.0}})
    assert rates.between(before, after, owners.grouping("workload"))[0].connects == 3.0


def test_after_a_restart_of_the_agent_the_gain_is_what_it_counted_since() -> None:
    before = _scrape(0.0, **{scrape.CONNECTS: {"web": 1000.0}})
    after = _scrape(2.0, **{scrape.CONNECTS: {"web": 4.0}})
    assert rates.between(before, after, owners.grouping("workload"))[0].connects == 2.0


def test_open_connections_are_a_level_and_may_fall() -> None:
    before = _scrape(0.0, **{scrape.OPEN: {"web": 9.0}})
    after = _scrape(2.0, **{scrape.OPEN: {"web": 4.0}})
    assert rates.between(before, after, owners.grouping("workload"))[0].open == 4.0


def test_retransmits_count_segments_and_synacks_as_the_kernel_does() -> None:
    before = _scrape(0.0, **{scrape.SEGMENTS: {"web": 0.0}, scrape.SYNACKS: {"web": 0.0}})
    after = _scrape(1.0, **{scrape.SEGMENTS: {"web": 5.0}, scrape.SYNACKS: {"web": 2.0}})
    assert rates.between(before, after, owners.grouping("workload"))[0].retransmits == 7.0


def test_a_metric_that_is_off_is_unknown_and_not_zero() -> None:
    before = _scrape(0.0, **{scrape.CONNECTS: {"web": 1.0}, scrape.RESETS: {}})
    (row,) = rates.between(before, before._replace(taken_at=1.0), owners.grouping("workload"))
    assert (row.resets, row.failures) == (0.0, None)


def test_pods_of_a_workload_share_its_row() -> None:
    checkout = _row(_from_pages("workload"), "shop/checkout")
    assert (checkout.connects, checkout.failures, checkout.open) == (30.0, 2.5, 43.0)
    assert checkout.kind == "Deployment"


def test_rows_by_container_are_one_for_each_and_name_host_services() -> None:
    titles = {row.title for row in _from_pages("container")}
    assert titles == {
        "shop/checkout-1/app", "shop/checkout-2/app", "0a1b2c3d4e5f", "nginx.service", "cron.service"
    }  # fmt: skip


def test_rows_can_be_by_any_label() -> None:
    assert {row.title: row.failures for row in _from_pages("reason") if row.failures} == {
        "refused": 2.0,
        "timeout": 0.5,
    }


def test_a_word_that_is_no_label_is_refused() -> None:
    with pytest.raises(ValueError, match="'workloud' is no label"):
        owners.grouping("workloud")


def test_the_row_of_the_remainder_is_called_other() -> None:
    labels = dict.fromkeys(("namespace", "workload", "workload_kind"), "other")
    assert owners.grouping("workload").title(labels) == "other"


@given(st.lists(st.floats(1e-6, 0.999), min_size=1, max_size=200), st.sampled_from((0.5, 0.99)))
def test_a_quantile_is_in_the_bucket_of_the_observation_with_that_rank(
    observations: list[float], share: float
) -> None:
    ordered = sorted(observations)
    cumulative = {bound: float(bisect.bisect_right(ordered, bound)) for bound in (*BOUNDS, math.inf)}
    true = ordered[math.ceil(share * len(ordered)) - 1]
    upper = next(bound for bound in BOUNDS if true <= bound)
    lower = max((bound for bound in BOUNDS if bound < upper), default=0.0)
    found = rates.quantile(share, cumulative)
    assert found is not None
    assert lower <= found <= upper


def test_a_quantile_interpolates_within_its_bucket() -> None:
    assert rates.quantile(0.5, {0.1: 0.0, 0.2: 10.0, math.inf: 10.0}) == pytest.approx(0.15)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert rates.quantile(0.99, {0.1: 1.0, math.inf: 100.0}) == 0.1


def test_there_is_no_quantile_without_observations() -> None:
    assert rates.quantile(0.5, {0.1: 0.0, math.inf: 0.0}) is None
    assert rates.quantile(0.5, {}) is None


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 1000)),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 1000)),
)
def test_no_rate_is_ever_negative(before: dict[str, int], after: dict[str, int]) -> None:
    rows = rates.between(
        _scrape(0.0, **{scrape.CONNECTS: {name: float(value) for name, value in before.items()}}),
        _scrape(1.0, **{scrape.CONNECTS: {name: float(value) for name, value in after.items()}}),
        owners.grouping("workload"),
    )
    assert all(row.connects is not None and row.connects >= 0 for row in rows)


def test_text_that_is_no_exposition_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        scrape.parse('ebpf_tcp_connect_total{namespace="a" 1 2 3 4\n', 0.0)

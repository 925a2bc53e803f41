"""Whatever happens in whatever order, nothing that is counted goes down, and sums are those of the kernel.

One agent for all examples: the states that one leaves behind are where the next begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.agent import page as pages
from tests.agent import process
from tests.agent import traffic as visits
from tests.kernel import namespace

pytestmark = pytest.mark.kernel

PORT = 4715
ADDRESSES = ("127.0.0.1", "::1")
LABELS = ("workload", "netns", "ip_version", "role", "src_ip", "src_port", "dst_ip", "dst_port", "pid")

Step = tuple[Any, ...]
traffic = st.one_of(
    st.tuples(st.just("exchange"), st.sampled_from(ADDRESSES), st.integers(1, 40)),
    st.tuples(st.just("refused"), st.sampled_from(ADDRESSES), st.integers(1, 20)),
)
wishes = st.tuples(
    st.just("configure"),
    st.lists(st.sampled_from(LABELS), min_size=1, max_size=4, unique=True),
    st.sampled_from([1, 10, 1000]),
    st.sampled_from([1, 20, 10_000]),
    st.booleans(),
)
scrapes = st.tuples(st.just("scrape"))
steps = st.lists(st.one_of(traffic, traffic, wishes, scrapes), min_size=2, max_size=6)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[process.Agent]:
    running = process.Agent(
        tmp_path_factory.mktemp("agent"), _spec(["workload"], 1000, 10_000, with_reset=True)
    )
    yield running
    running.stop()


@pytest.fixture(scope="module")
def place() -> Iterator[namespace.Process]:
    made = namespace.Process()
    yield made
    made.close()


def _spec(labels: list[str], max_flows: int, max_series: int, *, with_reset: bool) -> dict[str, Any]:
    return {
        "ports": {"include": [PORT]},
        "defaults": {"labels": labels},
        "metrics": [{"name": "reset", "enabled": with_reset}],
        "limits": {"maxFlows": max_flows, "maxSeries": max_series},
    }


def _do(step: Step, agent: process.Agent, place: namespace.Process) -> None:
    match step:
        case ("exchange", address, count):
            place.run(visits.exchange_at, address, PORT, count)
        case ("refused", address, count):
            place.run(visits.refused_at, address, PORT, count)
        case ("configure", labels, max_flows, max_series, with_reset):
            agent.follow(_spec(labels, max_flows, max_series, with_reset=with_reset))


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(sequence=steps)
def test_counters_never_go_down_and_sums_are_the_kernels(
    sequence: list[Step], agent: process.Agent, place: namespace.Process
) -> None:
    before = agent.scrape()
    for step in [*sequence, ("scrape",)]:
        _do(step, agent, place)
        after = agent.scrape()
        # A label set that comes back after a change of labels in between was absent from a page in between.
        assert not pages.gone_down(before, after)
        before = after
        snmp = place.snmp()
        assert after.sum("connect") == snmp["ActiveOpens"]
        assert after.sum("accept") == snmp["PassiveOpens"]
        assert after.sum("connect_failures") == snmp["AttemptFails"]
        assert after.sum("connect_duration") == snmp["ActiveOpens"] - snmp["AttemptFails"]
        assert after.own("map_errors_total", errno="UNCOUNTED") == 0

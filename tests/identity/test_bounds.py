"""Memory stays bounded, and what is in use stays known."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowlens import identity
from flowlens.identity import attribution, cgroups
from tests.identity import conftest, fakes


def test_an_hour_of_cgroups_that_come_and_go_are_forgotten(build: conftest.Build) -> None:
    host = build("/system.slice/nginx.service")
    kept = host.owner("/system.slice/nginx.service")
    sizes = []
    for minute in range(60):
        for number in range(5_000):
            cgroup = 10_000_000 + minute * 5_000 + number
            host.identity.cgroup_created(cgroup, f"/docker/{cgroup:064x}")
            if number % 10 == 0:
                host.identity.workload(identity.Owner(cgroup, 4026532301, 0))
        host.clock.advance(60)
        host.identity.retire({kept})
        sizes.append(len(host.identity))

    assert max(sizes) <= cgroups.MOST_GONE + 100
    assert host.identity.workload(kept) is not None


def test_events_without_any_tick_do_not_pile_up(build: conftest.Build) -> None:
    host = build()
    for number in range(60_000):
        host.clock.advance(0.01)
        host.identity.cgroup_created(10_000_000 + number, f"/docker/{number:064x}")

    assert len(host.identity) <= cgroups.MOST_GONE + cgroups.MOST_EVENTS + 100


def test_owners_that_nobody_retires_are_bounded(
    build: conftest.Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution, "MOST_ANSWERS", 100)
    host = build("/a")
    for pid in range(1_000):
        host.identity.workload(host.owner("/a", pid=pid))
    assert len(host.identity) <= 110


def test_a_retired_owner_is_not_reported_as_changed(build: conftest.Build) -> None:
    pods = fakes.Pods(fakes.Pod())
    host = build(fakes.WEB_PATH, pods=pods)
    host.identity.workload(host.owner(fakes.WEB_PATH))
    host.identity.retire(set())
    pods.known[fakes.WEB_UID] = fakes.Pod(labels=())
    assert host.identity.changed() == frozenset()


def test_a_gone_cgroup_is_forgotten_after_its_time(build: conftest.Build) -> None:
    host = build("/docker/short")
    owner = host.owner("/docker/short")
    host.remove("/docker/short")
    host.identity.scan()
    host.clock.advance(cgroups.GONE_SECONDS + 1)
    host.identity.retire(set())
    host.clock.advance(60)  # another scan is allowed

    found = host.identity.workload(owner)
    assert found is not None
    assert found.cause == identity.Cause.CGROUP_GONE


steps = st.lists(
    st.sampled_from(["known", "forgotten", "labels", "ask", "tick", "retire", "event", "wait"]), max_size=25
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(steps)
def test_no_order_of_events_takes_a_name_back(build: conftest.Build, order: list[str]) -> None:
    """The one Identity lives through all examples: whatever came before must not matter either."""
    pods = fakes.Pods()
    host = _reused(build, pods)
    owner = identity.Owner(4711, 4026532600, 0)
    host.identity.cgroup_created(4711, fakes.WEB_PATH)
    named = False
    for step in order:
        if step == "known":
            pods.known[fakes.WEB_UID] = fakes.Pod()
        elif step == "forgotten":
            pods.known.clear()
        elif step == "labels":
            pods.known[fakes.WEB_UID] = fakes.Pod(labels=(("n", str(len(order))),))
        elif step == "tick":
            host.identity.changed()
        elif step == "retire":
            host.identity.retire({owner})
        elif step == "event":
            host.identity.cgroup_created(4711, fakes.WEB_PATH)
        elif step == "wait":
            host.clock.advance(11)
        found = host.identity.workload(owner)
        named = named or (found is not None and not found.cause)
        assert not named or (found is not None and found.pod == "web-7d9f-x2x")


def _reused(build: conftest.Build, pods: fakes.Pods) -> fakes.Host:
    """Folders are made once per test, an Identity for each example."""
    cached: list[fakes.Host] = build.__dict__.setdefault("hosts", [])
    if not cached:
        cached.append(build())
    first = cached[0]
    asked = identity.Identity(proc=first.proc, cgroupfs=first.root, clock=first.clock, pods=pods)
    asked.scan()
    return fakes.Host(asked, first.clock, first.root, first.proc)

"""Names outlive their pods for a while, within bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowlens.kube import pods, roster


def _pod(uid: str, **containers: str) -> pods.PodInfo:
    """`containers` are id=name."""
    return pods.PodInfo(uid, "ns", f"pod-{uid}", "n", False, "w", "Deployment", (), containers, ())


def test_a_vanished_pod_and_its_containers_are_still_named() -> None:
    kept = roster.Roster(keep_seconds=600)
    kept.replace([_pod("a", c1="web")], now=0)
    names = kept.replace([_pod("b")], now=10)
    assert names.pods["a"].name == "pod-a"
    assert names.containers["c1"] == "web"
    assert names.present == 1


def test_after_the_time_it_is_forgotten() -> None:
    kept = roster.Roster(keep_seconds=600)
    kept.replace([_pod("a", c1="web")], now=0)
    assert "a" in kept.replace([], now=10).pods
    assert "a" in kept.replace([], now=610).pods
    names = kept.replace([], now=611)
    assert (dict(names.pods), dict(names.containers)) == ({}, {})


def test_a_container_that_its_pod_no_longer_mentions_is_still_named() -> None:
    kept = roster.Roster(keep_seconds=600)
    kept.replace([_pod("a", c1="web", c2="web")], now=0)
    names = kept.replace([_pod("a", c2="web", c3="web")], now=10)
    assert set(names.containers) == {"c1", "c2", "c3"}
    assert set(kept.replace([_pod("a", c3="web")], now=700).containers) == {"c2", "c3"}


def test_a_pod_that_comes_back_is_present_with_its_new_facts() -> None:
    """Static pods keep their uid over restarts."""
    kept = roster.Roster(keep_seconds=600)
    kept.replace([_pod("a", c1="old")], now=0)
    kept.replace([], now=1)
    names = kept.replace([_pod("a", c2="new")], now=2)
    assert dict(names.pods["a"].containers) == {"c2": "new"}
    assert "a" in kept.replace([_pod("a", c2="new")], now=5000).pods


def test_of_too_many_the_oldest_go_first() -> None:
    kept = roster.Roster(keep_seconds=600, keep_most=2)
    for number in range(4):
        kept.replace([_pod(str(number))], now=number)
    names = kept.replace([], now=4)
    assert set(names.pods) == {"2", "3"}


def test_a_snapshot_stays_as_it_was() -> None:
    kept = roster.Roster(keep_seconds=0)
    before = kept.replace([_pod("a", c1="web")], now=0)
    kept.replace([], now=100)
    assert set(before.pods) == {"a"}


@given(st.lists(st.sets(st.integers(0, 12), max_size=6), max_size=30), st.integers(0, 5), st.integers(0, 8))
def test_present_pods_are_always_named_and_the_gone_are_bounded(
    lists: list[set[int]], most: int, keep_seconds: int
) -> None:
    kept = roster.Roster(keep_seconds=keep_seconds, keep_most=most)
    last_seen: dict[str, int] = {}
    for now, numbers in enumerate(lists):
        present = {str(number) for number in numbers}
        names = kept.replace([_pod(uid, **{f"c{uid}": uid}) for uid in present], now)
        last_seen.update(dict.fromkeys(present, now))
        gone = set(names.pods) - present
        assert present <= set(names.pods)
        assert len(gone) <= most
        # Its absence was noticed one list after it was last seen.
        assert all(now - (last_seen[uid] + 1) <= keep_seconds for uid in gone)
        assert set(names.containers) == {f"c{uid}" for uid in names.pods}

"""What happens when there are more label sets than there is room for."""

from __future__ import annotations

from tests.series import kernel_rows as kr

LIMITED = "{metrics: [{name: connect, labels: [pod, role, dst_port], maxSeries: 2}]}"


def flows(count: int) -> dict[kr.Key, int]:
    return {kr.Key(generation=kr.GENERATION, flow=True, dst_port=port): 1 for port in range(1, count + 1)}


def test_label_sets_beyond_the_limit_share_one_row_and_nothing_is_lost() -> None:
    ledger = kr.Names().ledger(LIMITED)
    ledger.update(kr.read(flows(5)), 1.0)
    assert kr.labelled(ledger, "connect", "pod", "role", "dst_port") == {
        ("pod-100", "client", "1"): 1,
        ("pod-100", "client", "2"): 1,
        ("other", "client", "other"): 3,
    }
    assert ledger.collapsed["connect"] == 3
    assert ledger.series["connect"] == 3


def test_a_metric_is_limited_while_a_limit_keeps_label_sets_out() -> None:
    ledger = kr.Names().ledger(LIMITED)
    ledger.update(kr.read(flows(2)), 1.0)
    assert ledger.limited == frozenset()
    ledger.update(kr.read(flows(3)), 2.0)
    assert ledger.limited == {"connect"}
    ledger.configure(kr.configuration(LIMITED.replace("maxSeries: 2", "maxSeries: 9")), 8, 3.0)
    assert ledger.limited == frozenset()
    assert ledger.collapsed["connect"] == 1  # never goes down


def test_a_collapsed_label_set_is_counted_once() -> None:
    ledger = kr.Names().ledger(LIMITED)
    ledger.update(kr.read(flows(3)), 1.0)
    ledger.retire(kr.table(flows(3)), 2.0)
    ledger.update(kr.read({key._replace(generation=9): 1 for key in flows(3)}), 3.0)
    assert ledger.collapsed["connect"] == 1


def test_the_node_wide_limit_holds_over_all_metrics() -> None:
    ledger = kr.Names().ledger("{limits: {maxSeries: 2}}")
    ledger.update(kr.read({kr.Key(): 1, kr.Key("accept"): 1, kr.Key("accept", cgroup=7): 1}), 1.0)
    assert kr.labelled(ledger, "accept", "pod") == {("pod-100",): 1, ("other",): 1}


def test_a_histogram_counts_its_buckets_against_the_limit() -> None:
    spec = "{{metrics: [{{name: connect_duration, labels: [pod], buckets: [1, 2], maxSeries: {}}}]}}"
    keys = [kr.Key("connect_duration", cgroup=cgroup, generation=kr.GENERATION) for cgroup in (1, 2)]
    for limit, pods in ((10, {"pod-1", "pod-2"}), (9, {"pod-1", "other"})):
        ledger = kr.Names().ledger(spec.format(limit))
        ledger.update(kr.read(dict.fromkeys(keys, 1)), 1.0)
        assert {pod for (pod,) in kr.labelled(ledger, "connect_duration", "pod")} == pods


def test_a_histogram_is_collapsed_as_a_whole() -> None:
    ledger = kr.Names().ledger(
        "{metrics: [{name: connect_duration, labels: [pod], buckets: [1, 2], maxSeries: 5}]}"
    )
    first, second = (kr.Key("connect_duration", cgroup=cgroup, generation=kr.GENERATION) for cgroup in (1, 2))
    ledger.update(kr.read({first: 1, second: 1, second._replace(detail=1): 1}), 1.0)
    assert kr.labelled(ledger, "connect_duration", "pod") == {("pod-1",): 1, ("other",): 2}
    assert ledger.collapsed["connect_duration"] == 1


def test_a_higher_limit_lets_new_rows_in_and_leaves_the_others_where_they_are() -> None:
    ledger = kr.Names().ledger(LIMITED)
    ledger.update(kr.read(flows(3)), 1.0)
    ledger.configure(kr.configuration(LIMITED.replace("maxSeries: 2", "maxSeries: 9")), 8, 2.0)
    ledger.update(kr.read(flows(4)), 3.0)
    assert kr.labelled(ledger, "connect", "dst_port") == {("1",): 1, ("2",): 1, ("other",): 1, ("4",): 1}


def test_a_lower_limit_takes_no_series_away() -> None:
    ledger = kr.Names().ledger(LIMITED)
    ledger.update(kr.read(flows(2)), 1.0)
    ledger.configure(kr.configuration(LIMITED.replace("maxSeries: 2", "maxSeries: 1")), 8, 2.0)
    ledger.update(kr.read(dict.fromkeys(flows(3), 2)), 3.0)
    assert kr.labelled(ledger, "connect", "dst_port") == {("1",): 2, ("2",): 2, ("other",): 2}

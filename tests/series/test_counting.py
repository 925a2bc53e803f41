"""What series count, from one reading to the next."""

from __future__ import annotations

from flowlens import identity
from tests.series import kernel_rows as kr

PORTS = "{metrics: [{name: connect, labels: [pod, dst_port]}]}"
FLOW = kr.Key(generation=kr.GENERATION, flow=True, dst_port=443)


def test_rows_with_the_same_labels_are_one_series() -> None:
    ledger = kr.Names().ledger("{metrics: [{name: connect, labels: [namespace]}]}")
    ledger.update(kr.read({kr.Key(cgroup=1): 3, kr.Key(cgroup=2): 4}), 1.0)
    ledger.update(kr.read({kr.Key(cgroup=1): 5, kr.Key(cgroup=2): 4}), 2.0)
    assert kr.series(ledger) == {'namespace="shop"': 9}


def test_a_retired_row_leaves_its_final_value() -> None:
    ledger = kr.Names().ledger(PORTS)
    ledger.update(kr.read({FLOW: 3}), 1.0)
    ledger.retire(kr.table({FLOW: 5}), 2.0)
    ledger.update(kr.read({FLOW._replace(generation=8): 1}), 3.0)
    assert kr.series(ledger) == {'pod="pod-100",dst_port="443"': 6}


def test_a_row_that_nobody_read_before_it_was_retired_counts() -> None:
    ledger = kr.Names().ledger(PORTS)
    ledger.retire(kr.table({FLOW: 5}), 2.0)
    assert kr.series(ledger) == {'pod="pod-100",dst_port="443"': 5}


def test_a_row_that_is_missing_from_one_reading_does_not_pull_its_series_down() -> None:
    ledger = kr.Names().ledger()
    ledger.update(kr.read({kr.Key(): 5}), 1.0)
    ledger.update(kr.read({}), 2.0)
    assert list(kr.series(ledger).values()) == [5]


def test_a_row_that_the_kernel_made_anew_adds_to_what_was_counted() -> None:
    ledger = kr.Names().ledger()
    ledger.update(kr.read({kr.Key(): 5}), 1.0)
    ledger.update(kr.read({kr.Key(): 2}), 2.0)
    assert list(kr.series(ledger).values()) == [7]


def test_a_gauge_is_signed_and_may_fall() -> None:
    ledger = kr.Names().ledger()
    for value in (2, -1, 1, 0, -3):
        ledger.update(kr.read({kr.Key("connections"): value}), 1.0)
        assert list(kr.series(ledger, "connections").values()) == [value]


def test_a_retired_gauge_row_takes_its_value_along() -> None:
    ledger = kr.Names().ledger("{metrics: [{name: connections, labels: [namespace]}]}")
    ledger.update(kr.read({kr.Key("connections"): 2, kr.Key("connections", cgroup=7): 5}), 1.0)
    ledger.retire(kr.table({kr.Key("connections"): 2}), 2.0)
    assert list(kr.series(ledger, "connections").values()) == [5]


def test_open_connections_with_flow_labels_come_from_the_live_rows_alone() -> None:
    ledger = kr.Names().ledger("{metrics: [{name: connections, labels: [pod, dst_port]}]}")
    web = kr.Key("connections", flow=True, generation=kr.GENERATION, dst_port=443)
    dns = web._replace(dst_port=53)
    ledger.update(kr.read({kr.Key("connections"): 3}, [web, web, dns]), 1.0)
    assert kr.labelled(ledger, "connections", "dst_port") == {("443",): 2, ("53",): 1}
    ledger.update(kr.read({kr.Key("connections"): 1}, [dns]), 2.0)
    assert kr.labelled(ledger, "connections", "dst_port") == {("53",): 1}


def test_a_histogram_keeps_buckets_and_sum() -> None:
    ledger = kr.Names().ledger("{metrics: [{name: connect_duration, labels: [pod], buckets: [0.1, 1]}]}")
    key = kr.Key("connect_duration", generation=kr.GENERATION)
    ledger.update(kr.read({key: (2, 100), key._replace(detail=2): (1, 9_000)}), 1.0)
    ledger.update(kr.read({key: (3, 150), key._replace(detail=1): (1, 500)}), 2.0)
    (view,) = [view for view in ledger.views() if view.metric.name == "connect_duration"]
    at = view.names['pod="pod-100"']
    assert list(view.counts[at : at + 3]) == [3, 1, 1]
    assert sum(view.sums[at : at + 3]) == 9_650


def test_an_observation_whose_bucket_is_not_known_counts_in_the_last() -> None:
    ledger = kr.Names().ledger("{metrics: [{name: connect_duration, labels: [pod], buckets: [0.1, 1]}]}")
    ledger.update(kr.read({kr.Key("connect_duration", generation=kr.GENERATION, detail=0xFFFF): (1, 7)}), 1.0)
    (view,) = [view for view in ledger.views() if view.metric.name == "connect_duration"]
    at = view.names['pod="pod-100"']
    assert list(view.counts[at : at + 3]) == [0, 0, 1]


def test_a_row_waits_for_its_name_and_then_has_all_it_counted() -> None:
    names = kr.Names()
    names.workloads[100] = None
    ledger = names.ledger()
    ledger.update(kr.read({kr.Key(): 4}), 1.0)
    assert kr.series(ledger) == {}
    del names.workloads[100]
    ledger.update(kr.read({kr.Key(): 6}), 2.0)
    assert kr.labelled(ledger, "connect", "pod") == {("pod-100",): 6}


def test_a_row_that_was_retired_while_it_waited_is_named_later() -> None:
    names = kr.Names()
    names.workloads[100] = None
    ledger = names.ledger(PORTS)
    ledger.update(kr.read({FLOW: 4}), 1.0)
    ledger.retire(kr.table({FLOW: 5}), 2.0)
    del names.workloads[100]
    ledger.update(kr.read({}), 3.0)
    ledger.update(kr.read({}), 4.0)
    assert kr.series(ledger) == {'pod="pod-100",dst_port="443"': 5}


def test_what_has_no_name_is_exposed_without_one_and_counted_by_cause() -> None:
    names = kr.Names()
    names.workloads[100] = identity.Workload(cause="cgroup_gone")
    names.workloads[200] = identity.Workload(cause="no_socket")
    ledger = names.ledger()
    ledger.update(kr.read({kr.Key(): 4, kr.Key(cgroup=200): 1}), 1.0)
    ledger.update(kr.read({kr.Key(): 6, kr.Key(cgroup=200): 1, kr.Key("connections"): 3}), 1.0)
    assert kr.labelled(ledger, "connect", "namespace", "pod") == {("", ""): 7}
    assert ledger.unattributed == {("connect", "cgroup_gone"): 6, ("connect", "no_socket"): 1}


def test_sockets_of_another_node_are_not_exposed() -> None:
    names = kr.Names()
    names.workloads[100] = identity.Workload(cause="other_node")
    ledger = names.ledger()
    ledger.update(kr.read({kr.Key(): 4}), 1.0)
    assert kr.series(ledger) == {}
    assert ledger.unattributed == {}

"""Other labels, other names, another selection, while numbers run."""

from __future__ import annotations

from flowlens import identity
from tests.series import kernel_rows as kr

BY_POD = "{metrics: [{name: connect, labels: [pod]}]}"
BY_PORT = "{metrics: [{name: connect, labels: [pod, dst_port]}]}"
BY_PEER = "{metrics: [{name: connect, labels: [pod, dst_port, dst_ip]}]}"
FLOW = kr.Key(generation=kr.GENERATION, flow=True, dst_port=443)


def test_a_change_leaves_the_series_of_other_metrics_alone() -> None:
    ledger = kr.Names().ledger()
    ledger.update(kr.read({kr.Key(): 3, kr.Key("accept"): 4}), 1.0)
    before = kr.series(ledger, "accept")
    ledger.configure(kr.configuration(BY_PORT), 8, 2.0)
    assert kr.series(ledger, "accept") == before


def test_live_rows_are_grouped_anew() -> None:
    ledger = kr.Names().ledger("{metrics: [{name: connect, labels: [namespace]}]}")
    ledger.update(kr.read({kr.Key(cgroup=1): 3, kr.Key(cgroup=2): 4}), 1.0)
    ledger.configure(kr.configuration(BY_POD), 8, 2.0)
    assert kr.series(ledger) == {'pod="pod-1"': 3, 'pod="pod-2"': 4}


def test_flows_retired_after_the_change_show_other_for_fields_that_were_not_asked_for() -> None:
    ledger = kr.Names().ledger(BY_PORT)
    ledger.update(kr.read({FLOW: 3}), 1.0)
    ledger.configure(kr.configuration(BY_PEER), 8, 2.0)
    ledger.retire(kr.table({FLOW: 5}), 2.0)
    ledger.update(kr.read({FLOW._replace(generation=8, dst="10.0.0.9"): 1}), 3.0)
    assert kr.labelled(ledger, "connect", "pod", "dst_port", "dst_ip") == {
        ("pod-100", "443", "other"): 5,
        ("pod-100", "443", "10.0.0.9"): 1,
    }


def test_flows_retired_before_the_change_are_carried_over() -> None:
    ledger = kr.Names().ledger(BY_PORT)
    ledger.retire(kr.table({FLOW: 5}), 1.0)
    ledger.configure(kr.configuration(BY_PEER), 8, 2.0)
    assert kr.labelled(ledger, "connect", "pod", "dst_port", "dst_ip") == {("pod-100", "443", "other"): 5}
    ledger.configure(kr.configuration(BY_POD), 9, 2.0)
    assert kr.series(ledger) == {'pod="pod-100"': 5}


def test_other_buckets_start_the_histogram_from_zero() -> None:
    spec = "{{metrics: [{{name: connect_duration, labels: [pod], buckets: [{}]}}]}}"
    ledger = kr.Names().ledger(spec.format("1, 2"))
    old = kr.Key("connect_duration", generation=kr.GENERATION)
    ledger.update(kr.read({old: 3}), 1.0)
    ledger.configure(kr.configuration(spec.format("1, 3")), 8, 2.0)
    ledger.retire(kr.table({old: 4}), 2.0)
    ledger.update(kr.read({old._replace(generation=8): 1}), 3.0)
    assert kr.series(ledger, "connect_duration") == {'pod="pod-100"': 1}


def test_a_metric_that_is_off_is_not_exposed_and_comes_back_with_what_the_kernel_holds() -> None:
    ledger = kr.Names().ledger(BY_POD)
    ledger.update(kr.read({kr.Key(): 3}), 1.0)
    ledger.configure(kr.configuration("{metrics: [{name: connect, enabled: false}]}"), 8, 2.0)
    assert "connect" not in ledger.series
    ledger.configure(kr.configuration(BY_POD), 9, 3.0)
    ledger.update(kr.read({kr.Key(): 4}), 4.0)
    assert kr.series(ledger) == {'pod="pod-100"': 4}


def test_a_new_name_counts_from_now_and_the_old_one_keeps_what_it_had() -> None:
    names = kr.Names()
    ledger = names.ledger(BY_POD)
    ledger.update(kr.read({kr.Key(): 3}), 1.0)
    names.workloads[100] = identity.Workload(pod="renamed")
    ledger.regroup([identity.Owner(100, 4026531840, 0)], 2.0)
    ledger.update(kr.read({kr.Key(): 5}), 3.0)
    assert kr.series(ledger) == {'pod="pod-100"': 3, 'pod="renamed"': 2}


def test_the_series_of_a_former_name_stays_while_its_owner_lives() -> None:
    names = kr.Names()
    ledger = names.ledger(BY_POD)
    ledger.update(kr.read({kr.Key(): 3}), 1.0)
    names.workloads[100] = identity.Workload(pod="renamed")
    ledger.regroup([identity.Owner(100, 4026531840, 0)], 2.0)
    ledger.expire(10_000.0)
    assert kr.series(ledger) == {'pod="pod-100"': 3, 'pod="renamed"': 0}
    names.dead.add(100)
    ledger.expire(20_000.0)
    assert kr.series(ledger) == {}


def test_a_gauge_moves_to_the_new_name_as_a_whole() -> None:
    names = kr.Names()
    ledger = names.ledger("{metrics: [{name: connections, labels: [pod]}]}")
    ledger.update(kr.read({kr.Key("connections"): 3}), 1.0)
    names.workloads[100] = identity.Workload(pod="renamed")
    ledger.regroup([identity.Owner(100, 4026531840, 0)], 2.0)
    ledger.update(kr.read({kr.Key("connections"): 2}), 3.0)
    assert kr.series(ledger, "connections") == {'pod="pod-100"': 0, 'pod="renamed"': 2}


def test_a_name_that_arrives_late_does_not_undo_what_was_unattributed() -> None:
    names = kr.Names()
    names.workloads[100] = identity.Workload(cause="pod_unknown")
    ledger = names.ledger(BY_POD)
    ledger.update(kr.read({kr.Key(): 3}), 1.0)
    names.workloads[100] = identity.Workload(pod="late")
    ledger.regroup([identity.Owner(100, 4026531840, 0)], 2.0)
    ledger.update(kr.read({kr.Key(): 5}), 3.0)
    assert kr.series(ledger) == {'pod=""': 3, 'pod="late"': 2}
    assert ledger.unattributed == {("connect", "pod_unknown"): 3}


def test_an_excluded_namespace_disappears_and_comes_back_with_all_it_counted() -> None:
    ledger = kr.Names().ledger(BY_POD)
    ledger.update(kr.read({kr.Key(): 3}), 1.0)
    excluding = BY_POD[:-1] + ", namespaces: {exclude: [shop]}}"
    ledger.configure(kr.configuration(excluding), 8, 2.0)
    assert kr.series(ledger) == {}
    ledger.update(kr.read({kr.Key(): 5}), 3.0)
    ledger.configure(kr.configuration(BY_POD), 9, 4.0)
    assert kr.series(ledger) == {'pod="pod-100"': 5}


def test_a_series_shared_with_an_excluded_namespace_keeps_its_value_and_never_jumps() -> None:
    names = kr.Names()
    names.workloads[200] = identity.Workload(namespace="lab")
    by_role = "{metrics: [{name: connect, labels: [role]}]"
    ledger = names.ledger(by_role + "}")
    ledger.update(kr.read({kr.Key(): 3, kr.Key(cgroup=200): 4}), 1.0)
    ledger.configure(kr.configuration(by_role + ", namespaces: {exclude: [lab]}}"), 8, 2.0)
    ledger.update(kr.read({kr.Key(): 4, kr.Key(cgroup=200): 90}), 3.0)
    assert list(kr.series(ledger).values()) == [8]
    ledger.configure(kr.configuration(by_role + "}"), 9, 4.0)
    ledger.update(kr.read({kr.Key(): 4, kr.Key(cgroup=200): 91}), 5.0)
    assert list(kr.series(ledger).values()) == [9]

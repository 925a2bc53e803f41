"""What is forgotten, when, and what is not."""

from __future__ import annotations

from tests.series import kernel_rows as kr

BY_PORT = "{defaults: {staleAfter: 60s}, metrics: [{name: connect, labels: [pod, dst_port]}]}"
BY_POD = "{defaults: {staleAfter: 60s}, metrics: [{name: connect, labels: [pod]}]}"
FLOW = kr.Key(generation=kr.GENERATION, flow=True, dst_port=443)


def test_a_flow_that_has_not_moved_goes_and_one_that_has_stays() -> None:
    ledger = kr.Names().ledger(BY_PORT)
    busy = FLOW._replace(dst_port=80)
    ledger.update(kr.read({FLOW: 3, busy: 3}), 1.0)
    ledger.update(kr.read({FLOW: 3, busy: 4}), 50.0)
    assert ledger.expire(60.0) == []
    assert ledger.expire(62.0) == [FLOW.packed]
    assert kr.labelled(ledger, "connect", "dst_port") == {("80",): 4}


def test_an_expired_flow_that_the_kernel_still_has_stays_away() -> None:
    ledger = kr.Names().ledger(BY_PORT)
    ledger.update(kr.read({FLOW: 3}), 1.0)
    ledger.expire(70.0)
    ledger.update(kr.read({FLOW: 3}), 71.0)
    assert kr.series(ledger) == {}
    assert ledger.expire(72.0) == [FLOW.packed]
    ledger.retire(kr.table({FLOW: 3}), 73.0)
    assert kr.series(ledger) == {}
    assert ledger.expire(74.0) == []


def test_a_flow_that_moved_before_it_was_deleted_comes_back_with_all_it_counted() -> None:
    ledger = kr.Names().ledger(BY_PORT)
    ledger.update(kr.read({FLOW: 3}), 1.0)
    ledger.expire(70.0)
    ledger.retire(kr.table({FLOW: 4}), 71.0)
    assert kr.series(ledger) == {'pod="pod-100",dst_port="443"': 4}


def test_a_flow_that_begins_again_after_its_row_was_deleted_counts_from_there() -> None:
    ledger = kr.Names().ledger(BY_PORT)
    ledger.update(kr.read({FLOW: 3}), 1.0)
    ledger.expire(70.0)
    ledger.update(kr.read({}), 71.0)
    ledger.update(kr.read({FLOW: 1}), 72.0)
    assert kr.series(ledger) == {'pod="pod-100",dst_port="443"': 1}


def test_an_owners_row_stays_while_the_owner_lives() -> None:
    names = kr.Names()
    ledger = names.ledger(BY_POD)
    ledger.update(kr.read({kr.Key(): 3}), 1.0)
    assert ledger.expire(1000.0) == []
    names.dead.add(100)
    assert ledger.expire(1001.0) == [kr.Key().packed]
    assert kr.series(ledger) == {}


def test_a_dead_owner_is_exposed_until_it_is_stale() -> None:
    names = kr.Names()
    names.dead.add(100)
    ledger = names.ledger(BY_POD)
    ledger.update(kr.read({kr.Key(): 3}), 1.0)
    assert ledger.expire(30.0) == []
    assert kr.series(ledger) == {'pod="pod-100"': 3}


def test_an_owner_with_open_connections_keeps_its_rows() -> None:
    names = kr.Names()
    names.dead.add(100)
    ledger = names.ledger(BY_POD)
    ledger.update(kr.read({kr.Key(): 3, kr.Key("connections"): 1}), 1.0)
    assert ledger.expire(1000.0) == []
    ledger.update(kr.read({kr.Key(): 3, kr.Key("connections"): 0}), 1001.0)
    assert set(ledger.expire(2000.0)) == {kr.Key().packed, kr.Key("connections").packed}
    assert kr.series(ledger, "connections") == {}


def test_rows_made_in_advance_are_never_deleted() -> None:
    names = kr.Names()
    names.dead.add(0)
    ledger = names.ledger(BY_POD)
    ledger.update(kr.read({kr.Key(cgroup=0, netns=0): 3}), 1.0)
    assert ledger.expire(1000.0) == []


def test_a_series_with_other_rows_keeps_what_the_expired_one_gave() -> None:
    names = kr.Names()
    names.dead.add(1)
    ledger = names.ledger("{defaults: {staleAfter: 60s}, metrics: [{name: connect, labels: [namespace]}]}")
    ledger.update(kr.read({kr.Key(cgroup=1): 3, kr.Key(cgroup=2): 4}), 1.0)
    assert ledger.expire(1000.0) == [kr.Key(cgroup=1).packed]
    ledger.retire(kr.table({kr.Key(cgroup=1): 5}), 1001.0)
    assert kr.series(ledger) == {'namespace="shop"': 9}


def test_the_row_of_collapsed_label_sets_stays_when_its_flows_go() -> None:
    ledger = kr.Names().ledger(
        "{defaults: {staleAfter: 60s}, metrics: [{name: connect, labels: [pod, dst_port], maxSeries: 1}]}"
    )
    second = FLOW._replace(dst_port=80)
    ledger.update(kr.read({FLOW: 3, second: 4}), 1.0)
    assert set(ledger.expire(100.0)) == {FLOW.packed, second.packed}
    assert kr.labelled(ledger, "connect", "pod", "dst_port") == {("other", "other"): 4}


def test_a_series_whose_rows_were_retired_stays_while_its_owner_lives() -> None:
    names = kr.Names()
    spec = (
        "{defaults: {staleAfter: 60s}, metrics: [{name: connect_duration, labels: [pod], buckets: [1, 2]}]}"
    )
    ledger = names.ledger(spec)
    ledger.retire(kr.table({kr.Key("connect_duration", generation=kr.GENERATION, detail=1): 3}), 1.0)
    ledger.expire(1000.0)
    assert kr.series(ledger, "connect_duration") == {'pod="pod-100"': 3}
    names.dead.add(100)
    ledger.expire(1001.0)
    assert kr.series(ledger, "connect_duration") == {}


def test_expiry_makes_room_for_new_series() -> None:
    ledger = kr.Names().ledger(BY_PORT.replace("labels:", "maxSeries: 1, labels:"))
    ledger.update(kr.read({FLOW: 3}), 1.0)
    ledger.retire(kr.table(dict.fromkeys([FLOW], 3)), 2.0)
    ledger.expire(100.0)
    ledger.update(kr.read({FLOW._replace(dst_port=80): 1}), 101.0)
    assert kr.labelled(ledger, "connect", "dst_port") == {("80",): 1}

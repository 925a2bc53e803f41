"""What rows are called: owners, flow fields, details."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowlens import identity
from flowlens.series import naming
from tests.series import kernel_rows as kr

FLOW_LABELS = "{metrics: [{name: connect, labels: [ip_version, src_ip, src_port, dst_ip, dst_port, pid]}]}"


@given(st.ip_addresses())
@example(ipaddress.ip_address("::"))
@example(ipaddress.ip_address("::192.0.2.1"))
@example(ipaddress.ip_address("2001:db8:0:1:1:1:1:1"))
def test_addresses_are_written_as_ipaddress_writes_them(address: ipaddress.IPv4Address) -> None:
    assert naming.address(address.packed) == str(address)


def test_a_flow_has_the_labels_of_its_key() -> None:
    ledger = kr.Names().ledger(FLOW_LABELS)
    flow = kr.Key(
        generation=kr.GENERATION,
        flow=True,
        pid=42,
        src="10.0.0.1",
        src_port=4000,
        dst="10.0.0.2",
        dst_port=443,
    )
    flow6 = flow._replace(family=6, src="2001:db8::1", dst="2001:db8::2")
    ledger.update(kr.read({flow: 3, flow6: 4}), 1.0)
    assert kr.series(ledger) == {
        'ip_version="4",src_ip="10.0.0.1",src_port="4000",dst_ip="10.0.0.2",dst_port="443",pid="42"': 3,
        'ip_version="6",src_ip="2001:db8::1",src_port="4000",dst_ip="2001:db8::2",dst_port="443",pid="42"': 4,
    }


def test_a_row_without_flow_fields_shows_other_where_flow_labels_are_asked_for() -> None:
    ledger = kr.Names().ledger("{metrics: [{name: connect, labels: [pod, dst_ip]}]}")
    ledger.update(kr.read({kr.Key(): 3}), 1.0)
    assert kr.series(ledger) == {'pod="pod-100",dst_ip="other"': 3}


def test_addresses_are_empty_where_the_configuration_shows_none() -> None:
    ledger = kr.Names().ledger(
        "{addresses: {mode: none}, metrics: [{name: connect, labels: [dst_ip, dst_port]}]}"
    )
    ledger.update(kr.read({kr.Key(generation=kr.GENERATION, flow=True, dst_port=443): 1}), 1.0)
    assert kr.series(ledger) == {'dst_ip="",dst_port="443"': 1}


def test_every_label_of_an_owner_is_shown() -> None:
    names = kr.Names()
    names.workloads[5] = identity.Workload(
        namespace="shop",
        pod="p",
        container="c",
        workload="w",
        workload_kind="Job",
        cgroup_path="/kubepods/p/c",
        pod_labels=(("app.kubernetes.io/name", "cart"),),
    )
    ledger = names.ledger(
        "{podLabels: [app.kubernetes.io/name], metrics: [{name: connect, labels: [namespace, pod, container,"
        " workload, workload_kind, role, ip_version, netns, cgroup, node, label_app_kubernetes_io_name]}]}"
    )
    ledger.update(kr.read({kr.Key(cgroup=5, netns=77, role=2, family=6): 1}), 1.0)
    assert list(kr.series(ledger)) == [
        'namespace="shop",pod="p",container="c",workload="w",workload_kind="Job",role="server",ip_version="6",'
        'netns="77",cgroup="/kubepods/p/c",node="node-1",label_app_kubernetes_io_name="cart"'
    ]


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        (1 << 12 | 2 << 8 | 3, ("outbound", "syn_sent", "no_socket")),
        (1 << 8, ("inbound", "established", "peer")),
        (0xFFFF, ("other", "other", "other")),
    ],
)
def test_a_reset_says_direction_state_and_reason(detail: int, shown: tuple[str, ...]) -> None:
    ledger = kr.Names().ledger()
    ledger.update(kr.read({kr.Key("reset", detail=detail): 1}), 1.0)
    assert kr.labelled(ledger, "reset", "direction", "state", "reason") == {shown: 1}


def test_a_detail_that_the_catalogue_does_not_know_is_other() -> None:
    ledger = kr.Names().ledger()
    ledger.update(kr.read({kr.Key("connect_failures", detail=99): 1}), 1.0)
    assert kr.labelled(ledger, "connect_failures", "reason") == {("other",): 1}


def test_percent_signs_in_names_stay_as_they_are() -> None:
    names = kr.Names()
    names.workloads[5] = identity.Workload(pod="100%s%d")
    ledger = names.ledger("{metrics: [{name: connect, labels: [pod, dst_port]}]}")
    flow = kr.Key(cgroup=5, generation=kr.GENERATION, flow=True, dst_port=80)
    ledger.update(kr.read({flow: 1, kr.Key(cgroup=5): 1}), 1.0)
    assert set(kr.series(ledger)) == {'pod="100%s%d",dst_port="80"', 'pod="100%s%d",dst_port="other"'}


def test_rows_made_in_advance_show_other_once_they_count() -> None:
    ledger = kr.Names().ledger()
    other = kr.Key(cgroup=0, netns=0)
    ledger.update(kr.read({other: 0}), 1.0)
    assert kr.series(ledger) == {}
    ledger.update(kr.read({other: 2}), 2.0)
    assert kr.labelled(ledger, "connect", "namespace", "pod", "workload_kind") == {
        ("other", "other", "other"): 2
    }

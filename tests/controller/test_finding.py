"""EndpointSlices as the API server writes them -> which agent is whose."""

from __future__ import annotations

from typing import Any

import msgspec

from flowlens.controller import finding, options


def piece(*endpoints: dict[str, Any], family: str = "IPv4", port: Any = 2112) -> finding.Slice:
    tree = {
        "metadata": {"name": "s"},
        "addressType": family,
        "ports": [{"name": "other", "port": 1}, {"name": "metrics", "port": port}],
        "endpoints": list(endpoints) or None,
    }
    return msgspec.json.decode(msgspec.json.encode(tree), type=finding.Slice)


def at(address: str, node: str = "n1", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "nodeName": node, "conditions": conditions}


def found(*slices: finding.Slice, port: str = "metrics") -> dict[str, str]:
    return finding.agents(slices, port)


def test_each_nodes_agent_has_its_address_and_the_named_port() -> None:
    assert found(piece(at("192.0.2.1"), at("192.0.2.2", "n2"))) == {
        "n1": "192.0.2.1:2112",
        "n2": "192.0.2.2:2112",
    }


def test_a_port_by_number_needs_no_service_to_name_it() -> None:
    assert found(piece(at("192.0.2.1")), port="9999") == {"n1": "192.0.2.1:9999"}


def test_ipv6_addresses_stand_in_brackets_and_give_way_to_ipv4() -> None:
    six = piece(at("2001:db8::1"), family="IPv6")
    assert found(six) == {"n1": "[2001:db8::1]:2112"}
    assert found(six, piece(at("192.0.2.1"))) == {"n1": "192.0.2.1:2112"}


def test_of_two_agents_on_a_node_the_one_that_stays_is_asked() -> None:
    leaving, coming = at("192.0.2.1", terminating=True, ready=False), at("192.0.2.2", ready=False)
    assert found(piece(leaving, coming)) == {"n1": "192.0.2.2:2112"}


def test_an_agent_that_is_not_ready_is_asked_all_the_same() -> None:
    assert found(piece(at("192.0.2.1", ready=False))) == {"n1": "192.0.2.1:2112"}


def test_endpoints_without_a_node_or_the_port_and_empty_slices_are_left_out() -> None:
    nowhere = {"addresses": ["192.0.2.9"], "conditions": {}}
    assert found(piece(nowhere), piece(), piece(at("192.0.2.1"), port=None)) == {}
    assert found(piece(at("agent.example"), family="FQDN")) == {}


def test_agents_are_selected_by_their_services_name_or_by_labels() -> None:
    by_name = finding.slices(options.Options(agents_service="fl"), "ns")
    assert by_name.path == "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices"
    assert by_name.parameters == {"labelSelector": "kubernetes.io/service-name=fl"}
    assert finding.slices(options.Options(agents_selector="a=b"), "ns").parameters == {"labelSelector": "a=b"}

"""Which agent is on which node, from the EndpointSlices of the agents' Service; and nodes' labels.

https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import msgspec

from flowlens.controller import mirror, options
from flowlens.kube import access

Labels = dict[str, str]


class Conditions(msgspec.Struct, frozen=True):
    """Of an endpoint; absent means true for the first two, by the API's definition."""

    ready: bool | None = None
    terminating: bool | None = None


class Endpoint(msgspec.Struct, frozen=True, rename="camel"):
    """One pod of the Service."""

    addresses: tuple[str, ...] = ()
    conditions: Conditions = Conditions()
    node_name: str = ""


class Port(msgspec.Struct, frozen=True):
    """A port of all endpoints of a slice."""

    name: str | None = None
    port: int | None = None


class Slice(msgspec.Struct, frozen=True, rename="camel"):
    """The part of an EndpointSlice that says where agents are. The API writes null for no endpoints."""

    metadata: mirror.Meta
    address_type: str = ""
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[Port, ...] | None = None


def nodes() -> mirror.Source[mirror.Labelled, Labels]:
    """All nodes, as their labels. Texts are shared between nodes: most say the same."""
    return mirror.Source("nodes", "/api/v1/nodes", mirror.Labelled, _labels, {}, partial=True)


def _labels(node: mirror.Labelled) -> Labels:
    return {sys.intern(key): sys.intern(value) for key, value in node.metadata.labels.items()}


def slices(chosen: options.Options, namespace: str) -> mirror.Source[Slice, Slice]:
    """The EndpointSlices of the agents."""
    return mirror.Source(
        "EndpointSlices of the agents",
        f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
        Slice,
        lambda one: one,
        {"labelSelector": chosen.endpointslice_selector},
    )


def agents(found: Iterable[Slice], wanted_port: str) -> dict[str, str]:
    """Node name -> HOST:PORT of its agent.

    A node with two endpoints (an agent being replaced, dual stack) has the one that stays, that is
    ready, that speaks IPv4, in this order. Endpoints without a node or the port are left out.
    """
    best: dict[str, tuple[tuple[bool, bool, bool, str], str]] = {}
    for one in found:
        port = _port(one.ports or (), wanted_port)
        if port is None or one.address_type not in ("IPv4", "IPv6"):
            continue
        for endpoint in one.endpoints or ():
            if not endpoint.node_name or not endpoint.addresses:
                continue
            address = endpoint.addresses[0]
            state = endpoint.conditions
            rank = (bool(state.terminating), state.ready is False, one.address_type == "IPv6", address)
            known = best.get(endpoint.node_name)
            if known is None or rank < known[0]:
                best[endpoint.node_name] = (rank, f"{access.bracketed(address)}:{port}")
    return {node: where for node, (_, where) in best.items()}


def _port(ports: Iterable[Port], wanted: str) -> int | None:
    """A number is taken as it is: an agent with hostNetwork may listen where no Service says."""
    if wanted.isdecimal():
        return int(wanted)
    return next((one.port for one in ports if (one.name or "") == wanted), None)

"""Where the names of this node's pods come from, and how the source changes its mind."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowlens.kube import access, errors, pod_source

from . import edge as edges
from . import pki

QUICK = pod_source.Pace(
    regular=30.0, apart=0.02, refreshes_per_second=20.0, again=0.2, unaided=0.1, unreachable=0.3
)
FOREVER = replace(QUICK, again=3600.0, unaided=3600.0)


def pod(name: str, version: int = 1) -> edges.Json:
    meta = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": str(version)}
    status = {"containerStatuses": [{"name": "web", "containerID": f"containerd://id-{name}"}]}
    return {"metadata": meta, "spec": {"nodeName": "node-1"}, "status": status}


def pod_list(*names: str) -> edges.Json:
    return {"kind": "PodList", "metadata": {"resourceVersion": "5"}, "items": [pod(name) for name in names]}


class Cluster:
    """One edge that is the API server, one that is the kubelet. Both answer with what is set here."""

    def __init__(self, api: edges.Edge, kubelet: edges.Edge) -> None:
        self.api, self.kubelet = api, kubelet
        self.pods: tuple[str, ...] = ("a",)
        self.refusal = 0
        api.script = self._api
        kubelet.script = self._kubelet

    def _kubelet(self, exchange: edges.Exchange) -> None:
        if self.refusal:
            exchange.body(b"Forbidden (user=x)\n", self.refusal)
        else:
            exchange.json(pod_list(*self.pods))

    def _api(self, exchange: edges.Exchange) -> None:
        if exchange.request.is_watch:
            exchange.open_stream()
            exchange.hang()
        else:
            exchange.json(pod_list(*self.pods, "from-the-api"))


@pytest.fixture
def cluster(server_tls: Callable[..., Any]) -> Iterator[Cluster]:
    with edges.serve(server_tls()) as api, edges.serve(server_tls()) as kubelet:
        yield Cluster(api, kubelet)


Start = Callable[..., pod_source.PodSource]


@pytest.fixture
def start(cluster: Cluster, ca_file: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def begin(pace: pod_source.Pace = QUICK, **changes: Any) -> pod_source.PodSource:
            api = access.Access(cluster.api.url, ca_file=ca_file, token=access.FixedToken("t"))
            settings = pod_source.Settings("node-1", "127.0.0.1", kubelet_port=cluster.kubelet.port)
            one = pod_source.PodSource(api, replace(settings, **changes), pace=pace)
            stack.callback(one.stop)
            one.start()
            return one

        yield begin


def test_the_kubelet_names_pods_and_containers(cluster: Cluster, start: Start) -> None:
    source = start()
    assert source.wait_ready(5)
    found = source.lookup("uid-a")
    assert found is not None
    assert (found.namespace, found.name) == ("ns", "a")
    assert source.container_name("id-a") == "web"
    assert source.lookup("uid-b") is None
    assert source.container_name("id-b") is None
    assert source.state.using == "kubelet"
    assert [(request.path, request.token) for request in cluster.kubelet.requests] == [("/pods", "t")]
    assert cluster.api.requests == []


def test_before_the_first_answer_nobody_has_a_name(cluster: Cluster, start: Start) -> None:
    cluster.kubelet.script = edges.Exchange.hang
    source = start()
    edges.wait_until(lambda: cluster.kubelet.requests, "a request")
    assert not source.ready
    assert source.lookup("uid-a") is None


def test_the_list_is_read_again_and_again(cluster: Cluster, start: Start) -> None:
    start(replace(QUICK, regular=0.02))
    edges.wait_until(lambda: len(cluster.kubelet.requests) > 5, "regular requests")


def test_a_refresh_is_asked_for_at_once(cluster: Cluster, start: Start) -> None:
    source = start()
    assert source.wait_ready(5)
    cluster.pods = ("a", "b")
    source.request_refresh()
    edges.wait_until(lambda: source.lookup("uid-b"), "the new pod")
    assert len(cluster.kubelet.requests) == 2


def test_a_storm_of_wishes_is_rate_limited(cluster: Cluster, start: Start) -> None:
    source = start(replace(QUICK, apart=0.05, refreshes_per_second=1000.0, burst=1000))
    assert source.wait_ready(5)
    began = time.monotonic()
    while len(cluster.kubelet.requests) < 6:
        source.request_refresh()
        assert time.monotonic() - began < 10
    # Five requests after the first, each at least 0.05 s after the one before.
    assert time.monotonic() - began > 0.19


def test_names_outlive_their_pods(cluster: Cluster, start: Start) -> None:
    source = start()
    assert source.wait_ready(5)
    cluster.pods = ("b",)
    source.request_refresh()
    edges.wait_until(lambda: source.lookup("uid-b"), "the new pod")
    assert source.lookup("uid-a") is not None
    assert source.container_name("id-a") == "web"
    assert source.state.pods == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_kubelet_that_refuses_is_replaced_by_the_api_server(
    cluster: Cluster, start: Start, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    cluster.refusal = status
    with caplog.at_level(logging.INFO):
        source = start(QUICK)
        assert source.wait_ready(5)
        edges.wait_until(lambda: len(cluster.kubelet.requests) >= 4, "the kubelet is tried again")
    assert source.lookup("uid-from-the-api") is not None
    assert source.state.using == "apiserver"
    assert cluster.api.lists[0].query["fieldSelector"] == "spec.nodeName=node-1"
    assert caplog.text.count("kubelet not used") == 1
    assert str(status) in source.state.last_error


def test_a_certificate_that_does_not_verify_leads_to_the_api_server(
    cluster: Cluster, start: Start, server_tls: Callable[..., Any]
) -> None:
    with edges.serve(server_tls(pki.authority("self-signed"))) as kubelet:
        source = start(FOREVER, kubelet_port=kubelet.port)
        assert source.wait_ready(5)
        assert source.state.using == "apiserver"
        assert "certificate not verified" in source.state.last_error
        assert kubelet.requests == []


def test_a_self_signed_kubelet_can_be_trusted_by_its_own_ca_or_without_any(
    cluster: Cluster, start: Start, server_tls: Callable[..., Any], tmp_path: Path
) -> None:
    own = pki.authority("kubelet-ca")
    (tmp_path / "kubelet-ca.crt").write_bytes(own.certificate_pem)
    with edges.serve(server_tls(own)) as kubelet:
        kubelet.script = lambda exchange: exchange.json(pod_list("a"))
        for trust in ({"kubelet_ca": tmp_path / "kubelet-ca.crt"}, {"kubelet_verify": False}):
            source = start(kubelet_port=kubelet.port, **trust)
            assert source.wait_ready(5)
            assert source.state.using == "kubelet"
            source.stop()


def test_the_kubelet_takes_over_again_when_it_answers(
    cluster: Cluster, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.refusal = 403
    source = start()
    edges.wait_until(lambda: source.state.using == "apiserver", "the API server")
    cluster.refusal = 0
    with caplog.at_level(logging.INFO):
        edges.wait_until(lambda: source.state.using == "kubelet", "the kubelet")
        edges.wait_until(lambda: source.state.watch is None, "the watch ends")
        edges.wait_until(lambda: not source.state.last_error, "no error is left")
    assert "come from the kubelet" in caplog.text


def test_an_api_server_that_helps_spares_the_kubelet(cluster: Cluster, start: Start) -> None:
    """Tried again after `again`, not after `unaided`, once the watch stands."""
    cluster.refusal = 403
    source = start(replace(QUICK, again=3600.0, unaided=0.02))
    edges.wait_until(lambda: source.state.watch and source.state.watch.connected, "the watch")
    asked = len(cluster.kubelet.requests)
    edges.wait_until(lambda: source.ready, "names")
    source.request_refresh()
    assert len(cluster.kubelet.requests) <= asked + 1


def test_while_the_api_server_is_away_too_the_kubelet_is_tried_often(cluster: Cluster, start: Start) -> None:
    """A kubelet that cannot have tokens checked answers 401: it will be right again with the API server."""
    cluster.refusal = 401
    cluster.api.script = lambda exchange: exchange.refuse(503)
    source = start(replace(QUICK, again=3600.0, unaided=0.05))
    edges.wait_until(lambda: len(cluster.kubelet.requests) > 4, "some tries")
    cluster.refusal = 0
    edges.wait_until(lambda: source.state.using == "kubelet", "the kubelet")


def test_a_kubelet_that_restarts_is_waited_for(cluster: Cluster, start: Start) -> None:
    source = start(replace(QUICK, unreachable=3600.0))
    assert source.wait_ready(5)
    cluster.refusal = 503
    source.request_refresh()
    edges.wait_until(lambda: source.state.last_error, "an error")
    assert source.lookup("uid-a") is not None
    cluster.refusal, cluster.pods = 0, ("b",)
    edges.wait_until(lambda: source.lookup("uid-b"), "the kubelet's new list")
    assert cluster.api.requests == []


def test_a_kubelet_that_stays_unreachable_is_replaced(cluster: Cluster, start: Start) -> None:
    """A network policy or firewall between pods and port 10250."""
    cluster.refusal = 503
    source = start()
    edges.wait_until(lambda: source.state.using == "apiserver", "the API server")


def test_a_token_that_was_just_replaced_does_not_lead_to_the_api_server(
    cluster: Cluster, ca_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("old")

    def script(exchange: edges.Exchange) -> None:
        if exchange.request.token == "new":
            exchange.json(pod_list("a"))
        else:
            file.write_text("new")
            exchange.body(b"Unauthorized", 401)

    cluster.kubelet.script = script
    api = access.Access(cluster.api.url, ca_file=ca_file, token=access.TokenFile(file))
    source = pod_source.PodSource(
        api, pod_source.Settings("node-1", "127.0.0.1", kubelet_port=cluster.kubelet.port), pace=QUICK
    )
    source.start()
    assert source.wait_ready(5)
    source.stop()
    assert source.state.using == "kubelet"
    assert cluster.api.requests == []


def test_source_kubelet_never_asks_the_api_server(cluster: Cluster, start: Start) -> None:
    cluster.refusal = 403
    source = start(replace(QUICK, unaided=0.01), source=pod_source.Source.KUBELET)
    edges.wait_until(lambda: len(cluster.kubelet.requests) > 3, "it goes on asking")
    assert not source.ready
    assert cluster.api.requests == []


def test_source_apiserver_never_asks_the_kubelet(cluster: Cluster, start: Start) -> None:
    source = start(source=pod_source.Source.APISERVER)
    assert source.wait_ready(5)
    source.request_refresh()
    assert source.lookup("uid-from-the-api") is not None
    assert cluster.kubelet.requests == []


def test_without_the_nodes_address_the_api_server_is_asked(cluster: Cluster, start: Start) -> None:
    source = start(node_ip="")
    assert source.wait_ready(5)
    assert source.state.using == "apiserver"
    with pytest.raises(errors.NoAccess, match=r"status\.hostIP"):
        start(node_ip="", source=pod_source.Source.KUBELET)


def test_changes_at_the_api_server_are_followed(cluster: Cluster, start: Start) -> None:
    def script(exchange: edges.Exchange) -> None:
        if exchange.request.is_watch:
            exchange.open_stream()
            exchange.event("ADDED", pod("new", 6))
            exchange.event("DELETED", pod("a", 7))
            exchange.hang()
        else:
            exchange.json(pod_list("a"))

    cluster.api.script = script
    source = start(source=pod_source.Source.APISERVER)
    edges.wait_until(lambda: source.lookup("uid-new") and source.state.pods == 1, "both changes")
    assert source.lookup("uid-a") is not None, "its name outlives it"


def test_a_pod_that_cannot_be_read_is_counted(cluster: Cluster, start: Start) -> None:
    content = pod_list("a", "b")
    content["items"][1]["spec"] = 5
    cluster.kubelet.script = lambda exchange: exchange.body(json.dumps(content).encode())
    source = start()
    assert source.wait_ready(5)
    edges.wait_until(lambda: source.state.unreadable == 1, "the count")
    assert source.lookup("uid-a") is not None


@pytest.mark.parametrize("where", ["kubelet", "apiserver", "waiting"])
def test_stopping_takes_less_than_a_second(cluster: Cluster, start: Start, where: str) -> None:
    if where == "kubelet":
        cluster.kubelet.script = edges.Exchange.hang
    elif where == "apiserver":
        cluster.refusal = 403
    source = start(FOREVER)
    wanted = cluster.api.requests if where == "apiserver" else cluster.kubelet.requests
    edges.wait_until(lambda: wanted, "a request")
    began = time.monotonic()
    source.stop(wait_seconds=5)
    assert time.monotonic() - began < 1
    assert not source.running

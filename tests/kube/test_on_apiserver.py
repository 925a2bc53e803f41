"""List and watch against a real etcd and kube-apiserver: stopped, paused, partitioned, restarted."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from flowlens.kube import client, connection, errors, objects, pod_source, watcher

from . import apiserver
from . import edge as edges

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

QUICK = watcher.Pace(absent=0.2, first_wait=0.05, most_wait=0.5)
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "flowlensconfigs.flowlens.io"},
    "spec": {
        "group": "flowlens.io",
        "scope": "Cluster",
        "names": {"plural": "flowlensconfigs", "kind": "FlowLensConfig", "shortNames": ["flc"]},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


def node(name: str, **labels: str) -> edges.Json:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def pod(name: str, on: str) -> edges.Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"nodeName": on, "containers": [{"name": "c", "image": "i"}]},
    }


def config(name: str, priority: int) -> edges.Json:
    return {
        "apiVersion": "flowlens.io/v1alpha1",
        "kind": "FlowLensConfig",
        "metadata": {"name": name},
        "spec": {"priority": priority},
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apiserver.ApiServer]:
    with apiserver.own_network(), apiserver.run(tmp_path_factory.mktemp("apiserver")) as running:
        running.apply(node("node-1", zone="a"), node("node-2", zone="b"))
        yield running


class Labels:
    """What a watch of nodes has shown last."""

    def __init__(self) -> None:
        self.snapshots: list[dict[str, dict[str, str]]] = []

    def __call__(self, snapshot: watcher.Snapshot[objects.Object]) -> None:
        self.snapshots.append(
            {one.metadata.name: dict(one.metadata.labels or {}) for one in snapshot.values()}
        )

    def of(self, name: str) -> dict[str, str]:
        return self.snapshots[-1].get(name, {}) if self.snapshots else {}


@pytest.fixture
def labels() -> Labels:
    return Labels()


Start = Callable[..., watcher.Watcher[objects.Object]]


@pytest.fixture
def start(server: apiserver.ApiServer, labels: Labels) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def begin(
            pace: watcher.Pace = QUICK, resource: objects.Resource | None = None, wait: bool = True
        ) -> watcher.Watcher[objects.Object]:
            chosen = resource or objects.node("node-1")
            one = watcher.Watcher(server.admin(), chosen, objects.Object, labels, pace=pace)
            stack.callback(one.stop)
            one.start()
            if wait:
                edges.wait_until(lambda: one.state.connected, "a watch")
            return one

        yield begin


_numbers = iter(range(10**6))


def relabel(server: apiserver.ApiServer, name: str = "node-1") -> str:
    """Gives a node a label value that it never had."""
    value = f"v{next(_numbers)}"
    server.kubectl("label", "--overwrite", "node", name, f"run={value}")
    return value


def test_a_node_sees_its_own_labels_change_and_nobody_elses(
    server: apiserver.ApiServer, start: Start, labels: Labels
) -> None:
    start()
    relabel(server, "node-2")
    value = relabel(server)
    edges.wait_until(lambda: labels.of("node-1").get("run") == value, "the new label")
    assert labels.of("node-1")["zone"] == "a"
    assert all(set(snapshot) == {"node-1"} for snapshot in labels.snapshots)


def test_a_change_is_seen_within_a_tenth_of_a_second(
    server: apiserver.ApiServer, start: Start, labels: Labels
) -> None:
    start()
    value = relabel(server)
    after_kubectl = time.monotonic()
    edges.wait_until(lambda: labels.of("node-1").get("run") == value, "the new label")
    assert time.monotonic() - after_kubectl < 0.1


def test_a_watch_ended_by_the_server_is_resumed_from_a_bookmark(
    server: apiserver.ApiServer, start: Start, labels: Labels
) -> None:
    """Changes of node-2 move the version, and only bookmarks tell a watch of node-1 so."""
    one = start(replace(QUICK, server=4.0))
    version = int(one.state.resource_version)
    relabel(server, "node-2")
    edges.wait_until(lambda: int(one.state.resource_version) > version, "a bookmark", 20)
    assert len(labels.snapshots) == 1
    edges.wait_until(lambda: one.state.watches == 2, "the server ended two watches", 20)
    value = relabel(server)
    edges.wait_until(lambda: labels.of("node-1").get("run") == value, "the new label")
    assert (one.state.lists, one.state.failures) == (1, 0)


@pytest.fixture
def forgetful(server: apiserver.ApiServer) -> apiserver.ApiServer:
    """A server that was restarted after changes: its memory of events begins after them."""
    relabel(server)
    server.kill()
    server.start()
    return server


def test_a_version_older_than_the_servers_memory_is_listed_again(
    forgetful: apiserver.ApiServer, labels: Labels
) -> None:
    one = watcher.Watcher(forgetful.admin(), objects.node("node-1"), objects.Object, labels, pace=QUICK)
    one._version = "1"  # as if it had been away for very long
    one.start()
    edges.wait_until(lambda: one.state.connected and one.state.synced, "a watch after a list")
    one.stop()
    assert (one.state.lists, one.state.failures) == (1, 0)
    assert labels.of("node-1")["zone"] == "a"


def test_the_server_calls_such_a_version_gone(forgetful: apiserver.ApiServer) -> None:
    asking = client.Client(forgetful.admin())
    parameters = {"watch": "true", "resourceVersion": "1", "timeoutSeconds": "5"}
    with asking.lines("/api/v1/nodes", parameters, read_seconds=10) as batches:
        lines = [line for batch in batches for line in batch]
    asking.close()
    assert b'"type":"ERROR"' in lines[0]
    assert b'"code":410' in lines[0]


def test_a_killed_and_restarted_server_is_caught_up_with(
    server: apiserver.ApiServer, start: Start, labels: Labels
) -> None:
    one = start()
    server.kill()
    edges.wait_until(lambda: "cannot connect" in one.state.last_error, "the loss is noticed")
    assert labels.of("node-1")["zone"] == "a", "what was known stays"
    server.start()
    value = relabel(server)
    edges.wait_until(lambda: labels.of("node-1").get("run") == value, "the new label")
    edges.wait_until(lambda: not one.state.last_error, "the error is over")


def test_a_watcher_that_starts_before_the_server_waits_for_it(
    server: apiserver.ApiServer, start: Start, labels: Labels
) -> None:
    server.kill()
    one = start(wait=False)
    edges.wait_until(lambda: one.state.failures > 2, "some failures")
    assert not one.state.synced
    server.start()
    edges.wait_until(lambda: one.state.connected, "a watch")
    assert labels.of("node-1")["zone"] == "a"


def test_a_paused_server_is_noticed_by_silence_and_found_again(
    server: apiserver.ApiServer, start: Start, labels: Labels
) -> None:
    one = start(replace(QUICK, server=1.0, silence=1.0))
    with server.paused():
        edges.wait_until(lambda: "half open" in one.state.last_error, "the silence is noticed", 20)
    value = relabel(server)
    edges.wait_until(lambda: labels.of("node-1").get("run") == value, "the new label", 40)


def test_a_partition_is_noticed_by_keepalive_long_before_the_watch_would_end(
    server: apiserver.ApiServer, start: Start, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same mechanism, smaller times: the kernel's probes get no answer."""
    quick = {
        socket.TCP_KEEPIDLE: 1,
        socket.TCP_KEEPINTVL: 1,
        socket.TCP_KEEPCNT: 2,
        socket.TCP_USER_TIMEOUT: 2000,
    }
    options = tuple(
        (level, option, quick.get(option, value) if level == socket.IPPROTO_TCP else value)
        for level, option, value in connection.KEEPALIVE
    )
    monkeypatch.setattr(connection, "KEEPALIVE", options)
    one = start()
    with server.partitioned():
        edges.wait_until(lambda: one.state.failures, "the partition is noticed", 20)
    value = relabel(server)
    edges.wait_until(lambda: labels.of("node-1").get("run") == value, "the new label", 20)
    assert one.state.lists == 1


@pytest.mark.parametrize("trouble", ["none", "paused", "partitioned", "killed"])
def test_stopping_takes_less_than_a_second_in_any_trouble(
    server: apiserver.ApiServer, start: Start, trouble: str
) -> None:
    one = start()
    with contextlib.ExitStack() as stack:
        if trouble == "killed":
            server.kill()
            stack.callback(server.start)
        elif trouble != "none":
            stack.enter_context(getattr(server, trouble)())
        began = time.monotonic()
        one.stop(wait_seconds=5)
        assert time.monotonic() - began < 1
        assert not one.running
    edges.wait_until(lambda: apiserver.connections() == 0, "no connection is left")


def test_a_crd_comes_and_goes_with_its_objects(
    server: apiserver.ApiServer, start: Start, labels: Labels
) -> None:
    one = start(resource=objects.FLOW_LENS_CONFIGS, wait=False)
    edges.wait_until(lambda: one.state.absent, "the CRD is absent")
    assert labels.snapshots == [{}]
    server.apply(CRD)
    server.kubectl("wait", "--for=condition=Established", "crd/flowlensconfigs.flowlens.io")
    server.apply(config("loud", 5))
    edges.wait_until(lambda: labels.snapshots[-1].keys() == {"loud"}, "the object")
    assert not one.state.absent
    server.kubectl("delete", "crd", "flowlensconfigs.flowlens.io")
    edges.wait_until(lambda: one.state.absent, "the CRD is absent again", 30)
    assert labels.snapshots[-1] == {}


def test_rbac_and_tokens_are_refused_for_what_they_are_and_work_once_granted(
    server: apiserver.ApiServer, labels: Labels
) -> None:
    server.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent", "namespace": "default"}}
    )
    bad = client.Client(server.account("not a token"))
    with pytest.raises(errors.Unauthorized):
        bad.get("/api/v1/nodes")
    bad.close()
    account = server.account(server.kubectl("create", "token", "agent"))
    one = watcher.Watcher(account, objects.node("node-1"), objects.Object, labels, pace=QUICK)
    one.start()
    edges.wait_until(lambda: "403" in one.state.last_error, "a refusal")
    assert 'User "system:serviceaccount:default:agent" cannot list resource "nodes"' in one.state.last_error
    server.kubectl(
        "create", "clusterrole", "nodes", "--verb=list,watch", "--resource=nodes", "--resource-name=node-1"
    )
    server.kubectl(
        "create", "clusterrolebinding", "nodes", "--clusterrole=nodes", "--serviceaccount=default:agent"
    )
    edges.wait_until(lambda: one.state.connected, "a watch")
    one.stop()
    assert labels.of("node-1")["zone"] == "a"


def test_the_api_server_names_this_nodes_pods_when_the_kubelet_cannot(server: apiserver.ApiServer) -> None:
    """No kubelet runs here: connections are refused, and after a while the API server takes over."""
    server.apply(pod("mine", "node-1"), pod("theirs", "node-2"))
    pace = pod_source.Pace(unreachable=0.2)
    source = pod_source.PodSource(server.admin(), pod_source.Settings("node-1", apiserver.ADDRESS), pace=pace)
    source.start()
    assert source.wait_ready(20)
    assert source.state.using == "apiserver"
    assert {one.name for one in source.names.pods.values()} == {"mine"}
    server.apply(pod("later", "node-1"))
    edges.wait_until(lambda: len(source.names.pods) == 2, "the new pod")
    server.kubectl("delete", "pod", "mine", "--grace-period=0", "--force")
    edges.wait_until(lambda: source.state.pods == 1, "the deletion")
    assert {one.name for one in source.names.pods.values()} == {"mine", "later"}
    source.stop()

"""Whose connections are they? The oracles: the pod's own SNMP counters, and what the test itself sent."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import Run, await_service, fetch
from tests.cluster.lens import Lens, agrees_with_the_kernel, snmp
from tests.testbed import plan, pods, processes
from tests.testbed.cluster import Cluster

pytestmark = pytest.mark.cluster

OUTSIDE = "198.51.100.7"


def start(cluster: Cluster, *manifests: str) -> None:
    """Create several pods at once, so that their starts overlap."""
    cluster.apply("".join(manifests))


def ready(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    return cluster.wait_for_pod(name, namespace)


@pytest.mark.parametrize("distance", ["the same node", "another node"])
def test_both_ends_of_a_connection_between_pods_are_named(
    cluster: Cluster, lens: Lens, namespace: str, run: Run, distance: str
) -> None:
    here, there = cluster.nodes[0], cluster.nodes[0 if distance == "the same node" else 1]
    start(
        cluster,
        pods.pod("server", pods.serving(), node=there, namespace=namespace),
        pods.pod("client", node=here, namespace=namespace),
    )
    server, client = (ready(cluster, namespace, name) for name in ("server", "client"))
    run("client", fetch(f"http://{server['status']['podIP']}/", 20))
    lens.expect(20, "connect_total", namespace=namespace, pod="client", container="main")
    lens.expect(20, "accept_total", namespace=namespace, pod="server", container="main")
    lens.expect(20, "connect_duration_seconds_count", namespace=namespace, pod="client")
    for pod in (server, client):
        agrees_with_the_kernel(lens, pod)


def test_a_connection_through_a_service_belongs_to_the_pods_at_both_ends(
    cluster: Cluster, lens: Lens, namespace: str, run: Run
) -> None:
    names = ("web-1", "web-2")
    backends = [
        pods.pod(name, pods.serving(), node=node, namespace=namespace, labels={"app": "web"})
        for name, node in zip(names, cluster.nodes, strict=False)
    ]
    start(cluster, *backends, pods.service("web", 80, namespace=namespace))
    start(cluster, pods.pod("client", namespace=namespace))
    found = [ready(cluster, namespace, name) for name in (*names, "client")]
    address = cluster.kubectl_json("get", "service", "web", "-n", namespace)["spec"]["clusterIP"]
    await_service(cluster, run, address)
    run("client", fetch(f"http://{address}/", 30))
    sent = snmp(cluster, found[2])["ActiveOpens"]
    lens.expect(sent, "connect_total", namespace=namespace, pod="client")
    for pod in found:
        agrees_with_the_kernel(lens, pod)
    taken = lens.by("pod", "accept_total", namespace=namespace)
    assert all(taken[name] > 0 for name in names), taken


@pytest.fixture
def outside(cluster: Cluster) -> Iterator[str]:
    """A web server on an address that belongs to no pod, node or Service."""
    node = cluster.nodes[0]
    cluster.node_exec(node, ["ip", "address", "replace", f"{OUTSIDE}/32", "dev", "lo"])
    command = [
        *processes.visit(node, "net"),
        "busybox",
        "httpd",
        "-f",
        "-p",
        f"{OUTSIDE}:80",
        "-h",
        "/proc/self",
    ]
    with subprocess.Popen(command) as server:
        yield OUTSIDE
        server.terminate()
    cluster.node_exec(node, ["ip", "address", "delete", f"{OUTSIDE}/32", "dev", "lo"])


def test_connections_to_the_outside_and_why_some_fail_are_the_pods(
    cluster: Cluster, lens: Lens, namespace: str, run: Run, outside: str
) -> None:
    start(cluster, pods.pod("client", node=cluster.nodes[1], namespace=namespace))
    client = ready(cluster, namespace, "client")
    address = ["ip", "route", "replace", f"{outside}/32", "via", cluster.nodes[0].ip]
    cluster.node_exec(cluster.nodes[1], address)
    run(
        "client",
        f"for i in 1 2 3 4 5; do timeout 5 wget -qO- http://{outside}/cmdline >/dev/null || exit 1; done",
    )
    run("client", f"for i in 1 2 3; do timeout 5 nc {outside} 81 </dev/null; done; true")
    lens.expect(8, "connect_total", namespace=namespace, pod="client")
    lens.expect(3, "connect_failures_total", namespace=namespace, pod="client", reason="refused")
    agrees_with_the_kernel(lens, client)
    assert lens.total("connect_failures_total", namespace=namespace) == snmp(cluster, client)["AttemptFails"]


def test_a_hostnetwork_pod_has_its_own_numbers_and_the_host_keeps_the_rest(
    cluster: Cluster, lens: Lens, namespace: str, run: Run
) -> None:
    start(
        cluster,
        pods.pod("server", pods.serving(8099), node=cluster.nodes[1], namespace=namespace, hostNetwork=True),
        pods.pod("client", node=cluster.nodes[0], namespace=namespace, hostNetwork=True),
    )
    ready(cluster, namespace, "client")
    ready(cluster, namespace, "server")
    run("client", fetch(f"http://{cluster.nodes[1].ip}:8099/", 15))
    lens.expect(15, "connect_total", namespace=namespace, pod="client")
    lens.expect(15, "accept_total", namespace=namespace, pod="server")
    assert lens.total("accept_total", namespace=namespace, pod="client") == 0


def test_containers_of_one_pod_have_each_their_own_counts(
    cluster: Cluster, lens: Lens, namespace: str, run: Run
) -> None:
    start(cluster, _three_containers(namespace, cluster.nodes[0]))
    pod = ready(cluster, namespace, "trio")
    run("trio", fetch("http://127.0.0.1:8080/", 7), "second")
    run("trio", fetch("http://127.0.0.1:8080/", 11), "third")
    lens.expect(18, "accept_total", namespace=namespace, pod="trio", container="first")
    lens.expect(7, "connect_total", namespace=namespace, pod="trio", container="second")
    lens.expect(11, "connect_total", namespace=namespace, pod="trio", container="third")
    agrees_with_the_kernel(lens, pod, "first")


def _three_containers(namespace: str, node: plan.Node) -> str:
    """One serves on port 8080, two sleep; an init container and a sidecar come with it."""
    main = {"image": "localhost/busybox:1", "imagePullPolicy": "Never"}
    sleep = list(pods.FOREVER)
    containers = [
        {"name": "first", "command": list(pods.serving(8080)), **main},
        {"name": "second", "command": sleep, **main},
        {"name": "third", "command": sleep, **main},
    ]
    return pods.pod("trio", node=node, namespace=namespace, containers=containers)


def test_init_and_ephemeral_containers_are_named_too(cluster: Cluster, lens: Lens, namespace: str) -> None:
    image = {"image": "localhost/busybox:1", "imagePullPolicy": "Never"}
    start(cluster, pods.pod("server", pods.serving(), namespace=namespace))
    url = f"http://{ready(cluster, namespace, 'server')['status']['podIP']}/"
    first = {"name": "before", "command": ["sh", "-c", fetch(url, 3)], **image}
    sidecar = {"name": "beside", "command": ["sh", "-c", fetch(url, 4) + "; exec sleep 1000000"], **image}
    start(
        cluster,
        pods.pod(
            "several", namespace=namespace, initContainers=[first, {**sidecar, "restartPolicy": "Always"}]
        ),
    )
    ready(cluster, namespace, "several")
    debug = ["debug", "-n", namespace, "several", "--image=localhost/busybox:1", "--image-pull-policy=Never"]
    cluster.kubectl(*debug, "--container=debugger", "--profile=general", "--", "sh", "-c", fetch(url, 5))
    for container, count in (("before", 3), ("beside", 4), ("debugger", 5)):
        lens.expect(count, "connect_total", namespace=namespace, pod="several", container=container)


def test_retransmitted_segments_are_the_kernels_and_the_pods(
    cluster: Cluster, lens: Lens, namespace: str, run: Run
) -> None:
    start(
        cluster,
        pods.pod("server", ("sh", "-c", "head -c 3000000 /dev/zero >/www/big; exec httpd -f -h /www"),
                 node=cluster.nodes[1], namespace=namespace),
        pods.pod("client", node=cluster.nodes[0], namespace=namespace),
    )  # fmt: skip
    server, client = (ready(cluster, namespace, name) for name in ("server", "client"))
    _lose_packets(cluster, client, "tcp sport 80 tcp flags & syn == 0 numgen random mod 20 == 0 drop")
    url = f"http://{server['status']['podIP']}/big"
    run("client", f"for i in 1 2 3 4 5; do timeout 60 wget -qO- {url} >/dev/null || exit 1; done")
    assert snmp(cluster, server)["RetransSegs"] > 0
    for pod in (server, client):
        agrees_with_the_kernel(lens, pod)


def _lose_packets(cluster: Cluster, pod: dict[str, Any], rule: str) -> None:
    """Drop what matches on its way into the pod. (What is dropped on its way out was never sent.)"""
    pid = str(cluster.container_pids(pod)[0])
    rules = f"table inet lossy {{\nchain arriving {{\ntype filter hook input priority 0\n{rule}\n}}\n}}\n"
    subprocess.run(
        ["nsenter", "--target", pid, "--net", "nft", "-f", "-"], input=rules, text=True, check=True
    )

"""Parts of the cluster stop, die or refuse: numbers stay exact, names stay right, and agents recover by themselves.

Named so that it runs last: a kubelet takes most of a minute to get over an API server that was away for one.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import fetch
from tests.cluster.lens import NAMESPACE, PORT, Lens, agrees_with_the_kernel, snmp
from tests.testbed import pods
from tests.testbed.cluster import Cluster

pytestmark = pytest.mark.cluster

AWAY_SECONDS = 60


@pytest.fixture
def pair(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """The pods `client` (first node) and `server` (second node), running."""
    cluster.apply(
        pods.pod("server", pods.serving(), node=cluster.nodes[1], namespace=namespace)
        + pods.pod("client", node=cluster.nodes[0], namespace=namespace)
    )
    return {name: cluster.wait_for_pod(name, namespace) for name in ("server", "client")}


def in_pod(cluster: Cluster, pod: dict[str, Any], url: str, times: int) -> None:
    """GETs from the pod's own network and cgroup, without asking anybody in Kubernetes."""
    pid = cluster.container_pids(pod)[0]
    cgroup = cluster.container_cgroup(pod) / "cgroup.procs"
    # nsenter joins the namespaces; the shell joins the cgroup first, while it still sees the host's folders.
    inner = f"exec nsenter --target {pid} --net --mount --root sh -c '{fetch(url, times)}'"
    cluster.node_exec(cluster.nodes[0], ["sh", "-c", f"echo $$ >{cgroup}; {inner}"])


def latecomer(cluster: Cluster, lens: Lens, namespace: str, url: str, name: str = "late") -> None:
    """A pod that is new to everybody is named."""
    command = ("sh", "-c", fetch(url, 3) + "; exec sleep 1000000")
    cluster.apply(pods.pod(name, command, node=cluster.nodes[0], namespace=namespace))
    agrees_with_the_kernel(lens, cluster.wait_for_pod(name, namespace, timeout_seconds=90))
    lens.expect(3, "connect_total", namespace=namespace, pod=name)


@pytest.mark.parametrize("daemon", ["kubelet", "containerd"])
def test_a_restart_of_a_node_daemon_loses_neither_counts_nor_names(
    cluster: Cluster, lens: Lens, namespace: str, pair: dict[str, dict[str, Any]], daemon: str
) -> None:
    url = f"http://{pair['server']['status']['podIP']}/"
    in_pod(cluster, pair["client"], url, 5)
    cluster.kill(daemon, cluster.nodes[0])
    in_pod(cluster, pair["client"], url, 5)
    lens.expect(10, "connect_total", namespace=namespace, pod="client")
    cluster.start(daemon, cluster.nodes[0])
    latecomer(cluster, lens, namespace, url)
    for pod in pair.values():
        agrees_with_the_kernel(lens, pod)


@pytest.fixture
def no_kubelet_rights(cluster: Cluster) -> Iterator[None]:
    """The agents' role without nodes/pods, as where RBAC was tightened by hand."""
    role = f"{NAMESPACE}-flow-lens"
    rules = cluster.kubectl_json("get", "clusterrole", role)["rules"]
    kept = [rule for rule in rules if "nodes/pods" not in rule["resources"]]
    assert len(kept) == len(rules) - 1

    def replace(wanted: list[Any]) -> None:
        cluster.kubectl("patch", "clusterrole", role, "--type=merge", "-p", json.dumps({"rules": wanted}))

    replace(kept)
    yield
    replace(rules)


def test_where_the_kubelet_refuses_the_api_server_names_pods(
    cluster: Cluster,
    lens: Lens,
    namespace: str,
    pair: dict[str, dict[str, Any]],
    no_kubelet_rights: None,
) -> None:
    node = cluster.nodes[0]

    def fell_back() -> bool:
        return bool(lens.status(node)["pods"]["using"] == "apiserver")

    cluster.wait(fell_back, "the agent to turn to the API server", 30)
    assert "403" in lens.status(node)["pods"]["last_error"]
    name = lens.agent(node)["metadata"]["name"]
    told = [
        line
        for line in cluster.kubectl("logs", "-n", NAMESPACE, name).splitlines()
        if "kubelet not used" in line and "403" in line
    ]
    assert len(told) == 1, told
    latecomer(cluster, lens, namespace, f"http://{pair['server']['status']['podIP']}/")


def test_a_killed_agent_comes_back_and_counts_on(
    cluster: Cluster, lens: Lens, namespace: str, pair: dict[str, dict[str, Any]]
) -> None:
    url = f"http://{pair['server']['status']['podIP']}/"
    in_pod(cluster, pair["client"], url, 5)
    before = lens.agent(cluster.nodes[0])
    (pid,) = cluster.container_pids(before, "agent")
    os.kill(pid, signal.SIGKILL)

    def came_back() -> bool:
        status = lens.agent(cluster.nodes[0])["status"]["containerStatuses"][0]
        return bool(status["restartCount"] > 0 and status["ready"])

    cluster.wait(came_back, "the agent's container to be started again", 60)
    counted = snmp(cluster, pair["client"])["ActiveOpens"]
    was = lens.total("connect_total", namespace=namespace, pod="client")
    in_pod(cluster, pair["client"], url, 7)
    lens.expect(was + 7, "connect_total", namespace=namespace, pod="client")
    assert snmp(cluster, pair["client"])["ActiveOpens"] == counted + 7


def test_a_minute_without_api_server_costs_nothing(
    cluster: Cluster, lens: Lens, namespace: str, pair: dict[str, dict[str, Any]]
) -> None:
    """Each agent is asked by its address: who asks the API server for it gets no answer now."""
    url = f"http://{pair['server']['status']['podIP']}/"
    agent = lens.agent(cluster.nodes[0])["status"]["podIP"]
    cluster.kill("kube-apiserver")
    try:
        end = time.monotonic() + AWAY_SECONDS
        rounds = 0
        while time.monotonic() < end:
            rounds += 1
            in_pod(cluster, pair["client"], url, 4)
            await_connects(cluster, agent, namespace, 4 * rounds)
            assert cluster.http_get(cluster.nodes[0], f"http://{agent}:{PORT}/readyz").status == 200
    finally:
        cluster.start("kube-apiserver")
        cluster.wait_for_api_server()
    cluster.wait(lambda: all_watching(lens), "all agents to watch the API server again", 60)
    latecomer(cluster, lens, namespace, url)
    for pod in pair.values():
        agrees_with_the_kernel(lens, pod)


def all_watching(lens: Lens) -> bool:
    """Whether every agent's watches are connected."""
    watches = [watch for node in lens.cluster.nodes for watch in lens.status(node)["watches"].values()]
    return all(watch["connected"] for watch in watches)


def await_connects(cluster: Cluster, agent: str, namespace: str, count: int) -> None:
    """Until one agent's text has so many connects of the pod `client`."""
    start = f'ebpf_tcp_connect_total{{namespace="{namespace}",pod="client"'

    def there() -> bool:
        text = cluster.http_get(cluster.nodes[0], f"http://{agent}:{PORT}/metrics", timeout_seconds=15).text
        counts = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(start)]
        return counts == [str(count)]

    cluster.wait(there, f"{count} connects while the API server is away", 10)

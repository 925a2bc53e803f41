"""The essence once more where pods are real: kubelet, containerd and runc made them, and the kubelet names them.

The agent is a process in node 1's network with the chart's rights; the other tests of this folder make
their pods by hand and need no kubelet.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent import process
from tests.cluster.conftest import fetch
from tests.cluster.lens import snmp
from tests.live import lens
from tests.live import server as servers
from tests.testbed import pki, plan, pods, processes
from tests.testbed.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.kernel]

ACCOUNT = "live-agent"
CONFIG = "live-on-nodes"
HERE = {"nodeSelector": {"matchLabels": {"flowlens-live": "yes"}}, "priority": 1000}


@contextlib.contextmanager
def network_of(node: plan.Node) -> Iterator[None]:
    """The calling thread in a node's network."""
    network = os.open(f"/proc/{processes.running(node, processes.HOLDER)}/ns/net", os.O_RDONLY)
    try:
        with servers.inside(network):
            yield
    finally:
        os.close(network)


class Bench:
    """The cluster, an agent on its first node, and a client on that node with a server on the second."""

    def __init__(self, cluster: Cluster, agent: lens.Agent, project: str) -> None:
        self.cluster, self.agent, self.project = cluster, agent, project
        self.server = cluster.wait_for_pod("server", project)
        self.client = cluster.wait_for_pod("client", project)

    def apply(self, **spec: Any) -> None:
        """Applies the one object, and waits until the agent follows it."""
        text = servers.manifest(CONFIG, {**HERE, **spec})
        generation = self.cluster.kubectl(
            "apply", "-f", "-", "-o", "jsonpath={.metadata.generation}", input=text
        )
        self.agent.wait(CONFIG, int(generation))

    def visit(self, times: int) -> int:
        """The client fetches from the server; connections it has opened in its life, by its kernel."""
        command = fetch(f"http://{self.server['status']['podIP']}/", times)
        self.cluster.kubectl("exec", "-n", self.project, "client", "--", "sh", "-c", command)
        return snmp(self.cluster, self.client)["ActiveOpens"]

    def expect(self, count: int, **labels: str) -> None:
        """Until the agent shows so many connects with these labels."""
        seen = -1

        def there() -> bool:
            nonlocal seen
            seen = self.agent.scrape().sum("connect", **labels)
            return seen == count

        try:
            process.until(there, "the count", 10)
        except AssertionError as late:
            raise AssertionError(f"connects with {labels}: {seen}, not {count}; {self.agent.pods}") from late


def kubeconfig(cluster: Cluster, folder: Path) -> Path:
    """Of a service account with the chart's ClusterRole."""
    manifests = servers.account_manifests(ACCOUNT, servers.chart_rules())
    cluster.apply("\n---\n".join(map(json.dumps, manifests)))
    (folder / "token").write_text(cluster.kubectl("create", "token", ACCOUNT, "-n", servers.ACCOUNTS))
    content = {
        "current-context": "c",
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": plan.API_SERVER, "certificate-authority": str(pki.certificate("ca"))},
            }
        ],
        "users": [{"name": "u", "user": {"tokenFile": "token"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    file = folder / "kubeconfig.json"
    file.write_text(json.dumps(content))
    return file


@pytest.fixture(scope="module")
def started(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder, first = tmp_path_factory.mktemp("on-nodes"), cluster.nodes[0]
    project = f"live-{secrets.token_hex(3)}"
    cluster.apply(servers.CRD_FILE.read_text())
    cluster.kubectl("create", "namespace", project)
    cluster.wait_for_service_account(project)
    client = pods.pod("client", node=first, namespace=project, labels={"team": "live", "tier": "front"})
    cluster.apply(pods.pod("server", pods.serving(), node=cluster.nodes[1], namespace=project) + client)
    cluster.kubectl("label", "--overwrite", "node", first.name, "flowlens-live=yes")
    flags = ("--node-ip", first.ip, "--cgroup-root", first.cgroup_root)
    with network_of(first):
        agent = lens.Agent(folder, kubeconfig(cluster, folder), first.name, None, flags, source="auto")
        try:
            yield Bench(cluster, agent, project)
        finally:
            agent.stop()
    cluster.kubectl("delete", "flc", "--ignore-not-found", CONFIG)
    cluster.kubectl("label", "node", first.name, "flowlens-live-")
    cluster.kubectl("delete", "clusterrole,clusterrolebinding", ACCOUNT)
    cluster.kubectl("delete", "namespace", project, "--wait=false")


@pytest.fixture
def bench(started: Bench) -> Bench:
    return started


def test_namespaces_selectors_labels_and_hosts_are_ruled_by_one_object(bench: Bench) -> None:
    opened = bench.visit(5)
    ours = {"namespaces": {"include": [bench.project]}, "includeHost": False}
    bench.apply(
        **ours, podLabels=["team"], defaults={"labels": ["namespace", "pod", "container", "workload_kind"]}
    )
    bench.expect(opened, namespace=bench.project, pod="client", container="main", label_team="live")
    bench.expect(opened)  # nothing else is shown
    bench.apply(**ours, podSelector={"matchLabels": {"tier": "back"}})
    bench.expect(0)
    bench.cluster.kubectl("label", "-n", bench.project, "--overwrite", "pod", "client", "tier=back")
    bench.expect(opened, pod="client")  # the kubelet is asked every 10 s
    bench.apply(namespaces={"exclude": ["*"]}, includeHost=True, defaults={"labels": ["workload_kind"]})
    page = bench.agent.scrape()
    assert {row.labels["workload_kind"] for row in page.rows("ebpf_tcp_connect_total")} == {"Host"}


def test_labels_flip_under_traffic_between_nodes_without_losing_a_connection(bench: Bench) -> None:
    ours = {"namespaces": {"include": [bench.project]}, "includeHost": False}
    label_sets = (
        ["pod", "dst_ip"],
        ["pod"],
        ["pod", "dst_ip", "dst_port", "src_port"],
        ["pod", "role"],
    )
    pid = bench.agent.pid
    for labels in label_sets:
        bench.apply(**ours, metrics=[{"name": "connect", "labels": labels}])
        bench.expect(bench.visit(10))
    assert bench.agent.scrape().sum("connect_duration", pod="client") == bench.visit(0)
    assert bench.agent.pid == pid
    assert bench.agent.process.poll() is None


def test_without_the_right_to_ask_the_kubelet_the_api_server_is_asked(bench: Bench) -> None:
    process.until(lambda: bench.agent.pods["using"] == "kubelet", "the kubelet names pods", 15)
    less = [rule for rule in servers.chart_rules() if "nodes/pods" not in rule["resources"]]
    bench.cluster.apply("\n---\n".join(map(json.dumps, servers.account_manifests(ACCOUNT, less))))
    process.until(lambda: bench.agent.pods["using"] == "apiserver", "the API server names pods", 30)
    assert "nodes" in bench.agent.pods["last_error"]
    assert "403" in bench.agent.pods["last_error"]
    bench.apply(namespaces={"include": [bench.project]}, includeHost=False, defaults={"labels": ["pod"]})
    bench.expect(bench.visit(2), pod="client")

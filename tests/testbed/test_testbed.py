"""The testbed is believed by every other cluster test, so it is tested itself: nodes, pods, RBAC,
cgroups, broken daemons. The oracles are Kubernetes' own answers and the kernel's folders."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed import cgroups, images, inside, pods
from tests.testbed.cluster import Cluster
from tests.testbed.plan import Node

pytestmark = pytest.mark.cluster

READER = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {name}}}
rules: [{{apiGroups: [""], resources: [{resource}], verbs: [get]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}
subjects: [{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: {namespace}}}
"""


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", name)
    cluster.wait_for_service_account(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def address(cluster: Cluster, namespace: str, name: str) -> str:
    found: str = cluster.wait_for_pod(name, namespace)["status"]["podIP"]
    return found


def token(cluster: Cluster, namespace: str, resource: str) -> str:
    """A token of a service account that may do nothing but `get` one cluster resource."""
    name = f"reader-{secrets.token_hex(3)}"
    cluster.apply(READER.format(name=name, namespace=namespace, resource=resource))
    return cluster.kubectl("create", "token", name, "-n", namespace).strip()


def kubelet_pods(cluster: Cluster, node: Node, bearer: str) -> inside.Reply:
    headers = {"Authorization": f"Bearer {bearer}"}
    return cluster.http_get(node, f"https://{node.ip}:10250/pods", headers=headers)


def test_every_node_is_ready_and_runs_the_version_that_was_asked_for(cluster: Cluster) -> None:
    items = cluster.kubectl_json("get", "nodes")["items"]
    assert [item["metadata"]["name"] for item in items] == [node.name for node in cluster.nodes]
    assert {item["status"]["nodeInfo"]["kubeletVersion"] for item in items} == {"v1.37.2"}


def test_pods_of_different_nodes_reach_each_other_with_their_own_addresses(
    cluster: Cluster, namespace: str
) -> None:
    first, second = cluster.nodes[:2]
    cluster.apply(pods.pod("server", pods.serving(), node=second, namespace=namespace))
    url = f"http://{address(cluster, namespace, 'server')}/"
    cluster.apply(pods.pod("client", node=first, namespace=namespace))
    cluster.wait_for_pod("client", namespace)
    said = cluster.kubectl("exec", "-n", namespace, "client", "--", "timeout", "5", "wget", "-qO-", url)
    assert said == "hello from the testbed\n"


def test_a_service_is_reached_from_a_pod_and_from_the_other_node_itself(
    cluster: Cluster, namespace: str
) -> None:
    cluster.apply(pods.pod("web", pods.serving(), node=cluster.nodes[0], namespace=namespace))
    cluster.apply(pods.service("web", 80, namespace=namespace))
    cluster.wait_for_pod("web", namespace)
    ip = cluster.kubectl_json("get", "service", "web", "-n", namespace)["spec"]["clusterIP"]

    def answered() -> str:
        with contextlib.suppress(OSError):  # until kube-proxy has written the rule
            return cluster.http_get(cluster.nodes[1], f"http://{ip}/", timeout_seconds=1).text
        return ""

    assert cluster.wait(answered, "the Service to answer", 15) == "hello from the testbed\n"
    cluster.apply(pods.pod("client", pods.fetching(f"http://{ip}/", 3), namespace=namespace))
    phase = "--for=jsonpath={.status.phase}=Succeeded"
    cluster.kubectl("wait", phase, "pod/client", "-n", namespace, "--timeout=30s")


def test_kubelet_lists_pods_to_a_token_that_has_only_nodes_pods(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pods.pod("seen", node=cluster.nodes[1], namespace=namespace))
    cluster.wait_for_pod("seen", namespace)
    reply = kubelet_pods(cluster, cluster.nodes[1], token(cluster, namespace, "nodes/pods"))
    assert reply.status == 200
    assert "seen" in [item["metadata"]["name"] for item in reply.json()["items"]]


def test_kubelet_refuses_a_token_of_another_right_and_a_token_of_nobody(
    cluster: Cluster, namespace: str
) -> None:
    node = cluster.nodes[0]
    assert kubelet_pods(cluster, node, token(cluster, namespace, "nodes/metrics")).status == 403
    assert kubelet_pods(cluster, node, "of-nobody").status == 401


def test_a_pods_cgroup_lies_below_its_own_nodes_root(cluster: Cluster, namespace: str) -> None:
    for node in cluster.nodes:
        cluster.apply(pods.pod(node.name, node=node, namespace=namespace))
    for node in cluster.nodes:
        found = cluster.wait_for_pod(node.name, namespace)
        folder = cluster.container_cgroup(found)
        assert folder.is_relative_to(cgroups.folder(node.cgroup_root))
        assert folder.parent.name == f"pod{found['metadata']['uid']}"
        (pid,) = cluster.container_pids(found)
        assert Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] == b"sleep"


@pytest.mark.parametrize("daemon", ["kubelet", "containerd"])
def test_a_killed_daemon_comes_back_and_its_containers_never_noticed(
    cluster: Cluster, namespace: str, daemon: str
) -> None:
    node = cluster.nodes[1]
    cluster.apply(pods.pod("steady", node=node, namespace=namespace))
    before = cluster.wait_for_pod("steady", namespace)["status"]["containerStatuses"][0]
    cluster.kill(daemon, node)
    assert cluster.pid(daemon, node) is None
    cluster.start(daemon, node)
    bearer = token(cluster, namespace, "nodes/pods")

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return kubelet_pods(cluster, node, bearer).status == 200
        return False

    cluster.wait(answers, "the kubelet to answer again", 30)
    cluster.apply(pods.pod("later", node=node, namespace=namespace))
    cluster.wait_for_pod("later", namespace)
    after = cluster.wait_for_pod("steady", namespace)["status"]["containerStatuses"][0]
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)


def test_a_paused_api_server_is_silent_until_it_is_resumed(cluster: Cluster) -> None:
    cluster.pause("kube-apiserver")
    try:
        with pytest.raises(TimeoutError):
            cluster.api("/readyz")
    finally:
        cluster.resume("kube-apiserver")
    cluster.wait_for_api_server()


def test_an_imported_image_runs_on_every_node(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    name = f"localhost/imported:{secrets.token_hex(3)}"
    archive = tmp_path / "image.tar"
    images.write_archive(archive, images.busybox_layer(), (name,))
    assert images.names(archive) == [name]
    cluster.import_image(archive)
    for node in cluster.nodes:
        manifest = pods.pod(node.name, node=node, namespace=namespace)
        cluster.apply(manifest.replace(images.BUSYBOX, name))
    for node in cluster.nodes:
        cluster.wait_for_pod(node.name, namespace)


def test_helm_installs_a_chart_and_waits_for_its_pods(
    cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: small, version: 0.1.0}\n")
    manifest = pods.pod("charted", namespace=namespace).partition("---")[0]
    (tmp_path / "templates" / "pod.yaml").write_text(manifest)
    cluster.helm("upgrade", "--install", "small", str(tmp_path), "-n", namespace, "--wait")
    phase = cluster.kubectl("get", "pod", "charted", "-n", namespace, "-o", "jsonpath={.status.phase}")
    assert phase == "Running"


def test_the_hosts_kernel_settings_are_not_the_kubelets(cluster: Cluster) -> None:
    inside_node = cluster.node_exec(
        cluster.nodes[0],
        ["cat", "/proc/sys/kernel/panic_on_oops", "/proc/sys/kernel/panic"],
        spaces=["mount"],
    )
    assert inside_node.split() == ["1", "10"]
    assert Path("/proc/sys/kernel/panic").read_text().strip() != "10"

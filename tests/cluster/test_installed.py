"""The chart as it stands in a cluster: what is there, what it may do, and what it cannot do without."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from tests.cluster.lens import NAMESPACE, RELEASE, Lens
from tests.testbed import deploy
from tests.testbed.cluster import Cluster

pytestmark = pytest.mark.cluster

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"


def test_every_nodes_agent_is_ready_and_every_probe_is_up(cluster: Cluster, lens: Lens) -> None:
    for node in cluster.nodes:
        assert lens.get(node, "/readyz").status == 200
        probes = lens.status(node)["probes"]
        assert probes
        assert [probe for probe in probes if not probe["up"]] == []


def test_agents_may_read_what_they_need_and_nothing_else(cluster: Cluster, lens: Lens) -> None:
    everybodys = rights(cluster, f"system:serviceaccount:{NAMESPACE}:default")
    own = {name: verbs for name, verbs in rights(cluster, ACCOUNT).items() if name not in everybodys}
    assert own == {
        "nodes": "[list watch]",
        "nodes/pods": "[get]",
        "pods": "[list watch]",
        "flowlensconfigs.flowlens.io": "[list watch]",
    }


def rights(cluster: Cluster, account: str) -> dict[str, str]:
    """Verbs by resource, as the API server's own authorizer lists them."""
    review = cluster.kubectl("auth", "can-i", "--list", f"--as={account}", "--no-headers")
    return {line.split()[0]: line[line.rindex("[") :].strip() for line in review.splitlines()}


def test_the_agents_pod_has_three_capabilities_and_none_of_the_hosts_namespaces(
    cluster: Cluster, lens: Lens
) -> None:
    for node in cluster.nodes:
        pod = lens.agent(node)
        (pid,) = cluster.container_pids(pod, "agent")
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            status = dict(line.rstrip().split(":\t", 1) for line in file if ":\t" in line)
        # SYS_PTRACE is 19, PERFMON 38, BPF 39
        assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 1 << 19 | 1 << 38 | 1 << 39
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


@pytest.mark.parametrize("lost", ["BPF", "PERFMON"])
def test_without_a_capability_check_says_so(cluster: Cluster, lens: Lens, namespace: str, lost: str) -> None:
    found = check(cluster, lens, namespace, {"BPF", "PERFMON", "SYS_PTRACE"} - {lost})
    assert found["ok"] is False


def test_with_its_capabilities_check_finds_nothing_missing(
    cluster: Cluster, lens: Lens, namespace: str
) -> None:
    found = check(cluster, lens, namespace, {"BPF", "PERFMON", "SYS_PTRACE"})
    assert found["ok"] is True
    assert [probe["hook"] for probe in found["probes"] if not probe["up"]] == []


def test_engine_bcc_compiles_in_the_pod_with_the_capabilities_of_its_compiler(
    cluster: Cluster, lens: Lens, namespace: str
) -> None:
    capabilities = {"BPF", "PERFMON", "SYS_PTRACE", "SETUID", "SETGID", "CHOWN", "DAC_OVERRIDE"}
    found = check(cluster, lens, namespace, capabilities, "--engine=bcc")
    assert (found["ok"], found["engine"][:3]) == (True, "bcc"), found


def check(cluster: Cluster, lens: Lens, namespace: str, capabilities: set[str], *more: str) -> Any:
    """`flowlens check --json` in a pod like the agent's."""
    node = cluster.nodes[0]
    agent = lens.agent(node)["spec"]
    container = {
        "name": "main",
        "image": agent["containers"][0]["image"],
        "imagePullPolicy": "Never",
        "args": ["check", "--json", "--host-proc=/host/proc", "--host-cgroup=/host/sys/fs/cgroup", *more],
        "env": [{"name": "FLOWLENS_CACHE_DIR", "value": "/tmp/programs"}],
        "securityContext": {
            **agent["containers"][0]["securityContext"],
            "capabilities": {"drop": ["ALL"], "add": sorted(capabilities)},
        },
        "volumeMounts": [
            {"name": "proc", "mountPath": "/host/proc", "readOnly": True},
            {"name": "cgroup", "mountPath": "/host/sys/fs/cgroup", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    volumes = [volume for volume in agent["volumes"] if volume["name"] in {"proc", "cgroup", "tmp"}]
    spec = {"containers": [container], "volumes": volumes, "nodeName": node.name, "restartPolicy": "Never"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "check", "namespace": namespace},
        "spec": spec,
    }
    cluster.apply(json.dumps(pod))
    path = f"/api/v1/namespaces/{namespace}/pods/check"
    over = ("Succeeded", "Failed")
    cluster.wait(lambda: cluster.api(path).json()["status"].get("phase") in over, "flowlens check to end", 60)
    return json.loads(cluster.kubectl("logs", "check", "-n", namespace))


def test_the_chart_without_values_and_the_plain_manifests_are_valid_to_the_api_server(
    cluster: Cluster, lens: Lens
) -> None:
    """Strict: an unknown field is an error. (The namespaces of both exist here.)"""
    rendered = cluster.helm(
        "template", RELEASE, str(deploy.CHART), "--namespace", NAMESPACE, "--include-crds"
    )
    dry = ["apply", "--dry-run=server", "--validate=strict", "--server-side", "--force-conflicts", "-f"]
    cluster.kubectl(*dry, "-", input=rendered)
    cluster.kubectl(*dry, str(deploy.CHART.parents[1] / "manifests" / "flow-lens.yaml"))


def test_a_change_of_config_reaches_running_agents_without_a_restart(cluster: Cluster, lens: Lens) -> None:
    node = cluster.nodes[0]
    before = lens.agent(node)["metadata"]["name"]
    place = [RELEASE, str(deploy.CHART), "--namespace", NAMESPACE, "--reuse-values"]
    cluster.helm("upgrade", *place, "--set", "config.metrics[0].name=reset,config.metrics[0].enabled=false")

    def off() -> bool:
        return "reset" not in lens.status(node)["config"]["metrics"]

    # The kubelet takes up to a minute to write a changed ConfigMap into a pod; touching the pod makes it look.
    cluster.kubectl("annotate", "pod", before, "-n", NAMESPACE, "test=look", "--overwrite")
    cluster.wait(off, "the metric to be off", 90)
    cluster.helm("rollback", RELEASE, "--namespace", NAMESPACE)
    cluster.kubectl("annotate", "pod", before, "-n", NAMESPACE, "test=again", "--overwrite")
    cluster.wait(lambda: not off(), "the metric to be back", 90)
    assert lens.agent(node)["metadata"]["name"] == before


def test_helm_install_needs_no_values(cluster: Cluster, lens: Lens, namespace: str) -> None:
    """A second release beside the first, as a user types it. (`--wait` returns when every pod is ready.)"""
    cluster.helm(
        "install", "plain", str(deploy.CHART), "--namespace", namespace, "--wait", "--timeout", "120s"
    )
    found = cluster.kubectl_json("get", "daemonset,deployment", "-n", namespace)["items"]
    counts = ("numberReady", "readyReplicas")
    ready = {
        item["metadata"]["name"]: next(item["status"][key] for key in counts if key in item["status"])
        for item in found
    }
    cluster.helm("uninstall", "plain", "--namespace", namespace, "--wait")
    assert ready == {"plain-flow-lens": len(cluster.nodes), "plain-flow-lens-controller": 1}


def test_a_flowlensconfig_reaches_every_agent_and_the_controller_says_so(
    cluster: Cluster, lens: Lens
) -> None:
    name = f"test-{secrets.token_hex(3)}"
    spec = {"priority": 7, "metrics": [{"name": "reset", "enabled": False}]}
    meta = {"apiVersion": "flowlens.io/v1alpha1", "kind": "FlowLensConfig", "metadata": {"name": name}}
    cluster.apply(json.dumps({**meta, "spec": spec}))
    try:
        cluster.wait(lambda: set(followed(lens)) == {name}, "every agent to follow", 5)
        assert not any("reset" in lens.status(node)["config"]["metrics"] for node in cluster.nodes)
        cluster.kubectl("wait", f"flc/{name}", "--for=condition=Applied", "--timeout=60s")
        counts = cluster.kubectl_json("get", "flc", name)["status"]["nodes"]
        assert (counts["matched"], counts["applied"]) == (len(cluster.nodes), len(cluster.nodes))
    finally:
        cluster.kubectl("delete", "flc", name)
    cluster.wait(lambda: name not in followed(lens), "every agent to fall back", 5)


def followed(lens: Lens) -> list[str]:
    """The configuration's name on each node."""
    return [lens.status(node)["config"]["name"] for node in lens.cluster.nodes]

"""flow-lens as its users see it in a cluster: pods, endpoints, numbers. And the kernel's numbers to compare with.

Numbers are summed over the agents of all nodes, so a pod that two agents count is counted twice here too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import parser

from tests.testbed import deadline, inside, plan
from tests.testbed.cluster import Cluster

NAMESPACE = RELEASE = "flow-lens"
PORT = 2112
NAMED_WITHIN_SECONDS = 20.0
"""Rows wait for the name of their owner; the kubelet may be asked once a second."""
Labels = Mapping[str, str]


class Lens:
    """The installed agents."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def agent(self, node: plan.Node) -> dict[str, Any]:
        """The agent's pod on a node, one that is not on its way out."""
        selector = "labelSelector=app.kubernetes.io/component=agent"
        found = self.cluster.api(f"/api/v1/namespaces/{NAMESPACE}/pods?{selector}").json()["items"]
        here = [
            pod
            for pod in found
            if pod["spec"]["nodeName"] == node.name and "deletionTimestamp" not in pod["metadata"]
        ]
        assert len(here) == 1, [pod["metadata"]["name"] for pod in here]
        return dict(here[0])

    def get(self, node: plan.Node, path: str) -> inside.Reply:
        """GET from a node's agent, from within the cluster."""
        address = self.agent(node)["status"]["podIP"]
        return self.cluster.http_get(
            self.cluster.nodes[0], f"http://{address}:{PORT}{path}", timeout_seconds=15
        )

    def status(self, node: plan.Node) -> Any:
        """An agent's /status."""
        return self.get(node, "/status").json()

    def samples(self, metric: str, **labels: str) -> Iterator[tuple[Labels, float]]:
        """What all agents expose of a metric (`connect_total` for ebpf_tcp_connect_total) with these labels."""
        name = metric if metric.startswith("flow_lens_") else f"ebpf_tcp_{metric}"
        for node in self.cluster.nodes:
            reply = self.get(node, "/metrics")
            assert reply.status == 200, reply.text
            for family in parser.text_string_to_metric_families(reply.text):
                for sample in family.samples:
                    if sample.name == name and labels.items() <= sample.labels.items():
                        yield sample.labels, sample.value

    def total(self, metric: str, **labels: str) -> float:
        """Their sum."""
        return sum(value for _, value in self.samples(metric, **labels))

    def by(self, label: str, metric: str, **labels: str) -> dict[str, float]:
        """Their sums by the value of one label."""
        sums: dict[str, float] = {}
        for found, value in self.samples(metric, **labels):
            sums[found[label]] = sums.get(found[label], 0) + value
        return sums

    def wait_ready(self, timeout_seconds: float = 60) -> None:
        """Until every node has an agent that is ready."""

        def ready() -> bool:
            return all(
                any(
                    condition["type"] == "Ready" and condition["status"] == "True"
                    for condition in self.agent(node)["status"].get("conditions", [])
                )
                for node in self.cluster.nodes
            )

        self.cluster.wait(lambda: _calm(ready), "all agents to be ready", timeout_seconds)

    def expect(self, count: float, metric: str, **labels: str) -> None:
        """Wait until the sum is `count`; more than that is wrong at once."""
        seen = -1.0

        def there() -> bool:
            nonlocal seen
            seen = self.total(metric, **labels)
            assert seen <= count, f"{metric}{labels} is {seen}, more than {count}"
            return seen == count

        try:
            self.cluster.wait(there, f"{metric}{labels} to be {count}", NAMED_WITHIN_SECONDS)
        except deadline.LateError as late:
            raise AssertionError(f"{late}; it is {seen}\n{self.explanation(**labels)}") from late

    def explanation(self, **labels: str) -> str:
        """What may tell why a number is not as expected: unnamed events, sources of names, what else is there."""
        lines = [f"unattributed: {self.by('cause', 'flow_lens_unattributed_total')}"]
        lines += [f"{node.name}: pods {self.status(node)['pods']}" for node in self.cluster.nodes]
        near = {"namespace": labels["namespace"]} if "namespace" in labels else {}
        lines += [f"{found} {value:g}" for found, value in self.samples("connect_total", **near)][:20]
        return "\n".join(lines)


def _calm(check: Callable[[], bool]) -> bool:
    """A check that may fail while pods come and go."""
    try:
        return check()
    except (AssertionError, OSError, KeyError):
        return False


def snmp(cluster: Cluster, pod: Mapping[str, Any], container: str = "main") -> dict[str, int]:
    """The kernel's TCP counters of a pod's network namespace (`Tcp:` of /proc/PID/net/snmp)."""
    pid = cluster.container_pids(pod, container)[0]
    lines = [
        line.split()
        for line in Path(f"/proc/{pid}/net/snmp").read_text().splitlines()
        if line.startswith("Tcp:")
    ]
    return dict(zip(lines[0][1:], map(int, lines[1][1:]), strict=True))


def agrees_with_the_kernel(lens: Lens, pod: Mapping[str, Any], container: str = "main") -> None:
    """The pod's sums are those of its network namespace, which nobody else uses and which it was born with."""
    meta = pod["metadata"]
    kernel = snmp(lens.cluster, pod, container)
    for metric, counter in (("connect_total", "ActiveOpens"), ("accept_total", "PassiveOpens")):
        lens.expect(kernel[counter], metric, namespace=meta["namespace"], pod=meta["name"])
    segments = lens.total("retransmit_segments_total", namespace=meta["namespace"], pod=meta["name"])
    synacks = lens.total("synack_retransmit_total", namespace=meta["namespace"], pod=meta["name"])
    assert segments + synacks == snmp(lens.cluster, pod, container)["RetransSegs"]

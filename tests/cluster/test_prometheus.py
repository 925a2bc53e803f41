"""Prometheus as in production: the operator reads the chart's monitors and rules, the server scrapes and answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import Run, fetch
from tests.cluster.lens import NAMESPACE, RELEASE, Lens
from tests.testbed import deploy, monitoring, pods
from tests.testbed.cluster import Cluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster, lens: Lens) -> Iterator[monitoring.Monitoring]:
    """The operator's kinds are there when the chart is upgraded, so `auto` makes its ServiceMonitor."""
    with monitoring.monitored(cluster) as running:
        upgrade(cluster, "podMonitor.enabled=true", "prometheusRule.enabled=true")
        for job in ("serviceMonitor", "podMonitor"):
            running.wait_for_job(f"{job}/{NAMESPACE}/{RELEASE}/0")
        yield running
    upgrade(cluster, "podMonitor.enabled=false", "prometheusRule.enabled=false")


def upgrade(cluster: Cluster, *values: str) -> None:
    """Change values of the running release; agents stay, since none of these is about them."""
    place = [RELEASE, str(deploy.CHART), "--namespace", NAMESPACE, "--reuse-values"]
    cluster.helm("upgrade", *place, "--set", ",".join(values), "--wait")


def only(found: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(found) == 1, found
    return found[0]


def test_a_workloads_connects_are_found_by_namespace_and_workload(
    cluster: Cluster, prometheus: monitoring.Monitoring, namespace: str, run: Run
) -> None:
    cluster.apply(
        pods.pod("server", pods.serving(), node=cluster.nodes[1], namespace=namespace)
        + pods.pod("client", node=cluster.nodes[0], namespace=namespace)
    )
    address = cluster.wait_for_pod("server", namespace)["status"]["podIP"]
    cluster.wait_for_pod("client", namespace)
    run("client", fetch(f"http://{address}/", 12))
    job = f'job="flow-lens",namespace="{namespace}"'
    found = prometheus.wait_for(
        f"sum by (namespace, workload) (ebpf_tcp_connect_total{{{job}}}) / "
        f"count by (namespace, workload) (ebpf_tcp_connect_total{{{job}}}) == 12"
    )
    assert only(found)["metric"] == {"namespace": namespace, "workload": "client"}


def test_series_carry_the_labels_of_the_workload_and_none_of_the_agent(
    cluster: Cluster, prometheus: monitoring.Monitoring
) -> None:
    everywhere = (
        f'count(count by (node) (ebpf_tcp_connect_total{{workload_kind="Host"}})) == {len(cluster.nodes)}'
    )
    prometheus.wait_for(everywhere)
    agents = f'ebpf_tcp_connect_total{{pod=~"{RELEASE}-.*",workload!="{RELEASE}",workload!="{RELEASE}-controller"}}'
    assert prometheus.query(agents) == []
    host = prometheus.query('ebpf_tcp_connect_total{workload_kind="Host"}')
    assert not any(
        series["metric"].keys() & {"namespace", "pod", "container", "exported_pod"} for series in host
    )
    nodes = {series["metric"]["node"] for series in host}
    assert nodes == {node.name for node in cluster.nodes}


def test_every_node_is_scraped_through_both_kinds_of_monitor(
    cluster: Cluster, prometheus: monitoring.Monitoring
) -> None:
    wanted = {
        (f"{kind}/{NAMESPACE}/{RELEASE}/0", node.name)
        for kind in ("serviceMonitor", "podMonitor")
        for node in cluster.nodes
    }

    def healthy() -> bool:
        found = {
            (target["scrapePool"], target["labels"]["node"])
            for target in prometheus.targets()
            if target["health"] == "up" and RELEASE in target["scrapePool"]
        }
        return found == wanted

    cluster.wait(healthy, f"targets {wanted}", 30)


def test_every_alert_is_loaded_and_evaluates(cluster: Cluster, prometheus: monitoring.Monitoring) -> None:
    wanted = set(yaml.safe_load((deploy.CHART / "files" / "alerts.yaml").read_text()))

    def loaded() -> bool:
        prometheus.refresh()  # the operator writes the rules in its own time
        groups = cluster.http_get(cluster.nodes[0], f"{monitoring.URL}/api/v1/rules").json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"] if rule["name"].startswith("FlowLens")]
        return {rule["name"] for rule in rules if rule["health"] == "ok"} == wanted

    cluster.wait(loaded, f"the alerts {sorted(wanted)}", 30)

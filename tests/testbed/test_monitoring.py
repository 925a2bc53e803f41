"""A ServiceMonitor is acted upon: the operator configures, Prometheus scrapes, a rule fires."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.testbed import monitoring, pods
from tests.testbed.cluster import Cluster

pytestmark = pytest.mark.cluster

NAMESPACE = "monitored"

# busybox serves a .txt file as text/plain, the content type that Prometheus 3 insists on.
SERVER = ("sh", "-c", "echo testbed_answer 42 > /www/metrics.txt && exec httpd -f -p 80 -h /www")

MONITORS = f"""
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {{name: answer, namespace: {NAMESPACE}}}
spec:
  selector: {{matchLabels: {{app: answer}}}}
  endpoints: [{{port: http, path: /metrics.txt}}]
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {{name: answer, namespace: {NAMESPACE}}}
spec:
  groups: [{{name: answer, rules: [{{alert: AnswerKnown, expr: testbed_answer == 42}}]}}]
"""


@pytest.fixture
def prometheus(cluster: Cluster) -> Iterator[monitoring.Monitoring]:
    with monitoring.monitored(cluster) as running:
        cluster.kubectl("create", "namespace", NAMESPACE)
        cluster.wait_for_service_account(NAMESPACE)
        yield running
        cluster.kubectl("delete", "namespace", NAMESPACE)


def test_a_service_monitor_is_scraped_and_its_rule_fires(
    cluster: Cluster, prometheus: monitoring.Monitoring
) -> None:
    cluster.apply(pods.pod("answer", SERVER, namespace=NAMESPACE))
    cluster.apply(pods.service("answer", 80, namespace=NAMESPACE))
    cluster.wait_for_pod("answer", NAMESPACE)
    cluster.apply(MONITORS)
    prometheus.wait_for_job(f"serviceMonitor/{NAMESPACE}/answer/0")
    found = prometheus.wait_for("testbed_answer")
    assert [(series["metric"]["pod"], series["value"][1]) for series in found] == [("answer", "42")]
    assert prometheus.wait_for('ALERTS{alertname="AnswerKnown", alertstate="firing"}')

"""A real prometheus-operator and the Prometheus that it configures, on node 1 of the cluster.

The operator reads the monitors and writes the configuration, as in production; the server is
then started from that configuration by us instead of by a StatefulSet, which needs an image.
What is changed in between is named in `adapted` and is nothing that a monitor can say.
"""

from __future__ import annotations

import base64
import shutil
import signal
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from tests.testbed import build, cluster, daemons, parts, pki, places, plan, processes, store

NAMESPACE = "monitoring"
NAME = "testbed"
URL = f"http://{plan.Node(1).ip}:9090"
FOLDER = places.STATE / "monitoring"
_LIST = "/apis/monitoring.coreos.com/v1/prometheusrules"

# replicas 0: the operator writes everything and starts nothing.
_OBJECTS = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: monitoring.coreos.com/v1
kind: Prometheus
metadata: {{name: {NAME}, namespace: {NAMESPACE}}}
spec:
  replicas: 0
  version: v3.16.0
  serviceDiscoveryRole: EndpointSlice
  serviceMonitorSelector: {{}}
  serviceMonitorNamespaceSelector: {{}}
  podMonitorSelector: {{}}
  podMonitorNamespaceSelector: {{}}
  ruleSelector: {{}}
  ruleNamespaceSelector: {{}}
"""


class MonitoringError(Exception):
    """Prometheus refused a query."""


class Monitoring:
    """A Prometheus that scrapes whatever ServiceMonitors and PodMonitors are in the cluster."""

    def __init__(self, where: cluster.Cluster, interval_seconds: int) -> None:
        self._cluster = where
        self._node = where.nodes[0]
        self._interval_seconds = interval_seconds

    def start(self) -> None:
        """Start the operator, then Prometheus from what the operator wrote."""
        FOLDER.mkdir(exist_ok=True)
        install_definitions(self._cluster)
        self._start_operator()
        self._cluster.apply(_OBJECTS)
        self.refresh()
        processes.start(self._node, "prometheus", self._prometheus(), daemons.environment())
        self._cluster.wait(self._is_ready, "Prometheus to be ready")

    def stop(self) -> None:
        """End both; the objects in the cluster stay."""
        for name in ("prometheus", "operator"):
            if processes.pid(self._node, name) is not None:
                processes.end(self._node, name, signal.SIGKILL)

    def refresh(self) -> None:
        """Take over what the operator writes now: call it after a monitor or rule has changed."""
        config = adapted(self._generated(), self._interval_seconds)
        (FOLDER / "prometheus.yaml").write_text(yaml.safe_dump(config))
        self._write_rules()
        if processes.pid(self._node, "prometheus") is not None:
            processes.send(self._node, "prometheus", signal.SIGHUP)

    def wait_for_job(self, job: str, timeout_seconds: float = 30) -> None:
        """Refresh until the operator's configuration has a scrape job of this name.

        The names are serviceMonitor/NAMESPACE/NAME/0 and podMonitor/NAMESPACE/NAME/0.
        """

        def has() -> bool:
            return any(entry["job_name"] == job for entry in self._generated()["scrape_configs"])

        self._cluster.wait(has, f"the operator to configure {job}", timeout_seconds)
        self.refresh()

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The result of an instant query: a list of {"metric": labels, "value": [time, text]}."""
        reply = self._get("/api/v1/query?" + urllib.parse.urlencode({"query": promql}))
        if reply["status"] != "success":
            raise MonitoringError(f"{promql}: {reply['error']}")
        result: list[dict[str, Any]] = reply["data"]["result"]
        return result

    def wait_for(self, promql: str, timeout_seconds: float = 60) -> list[dict[str, Any]]:
        """The first non-empty result. Kubernetes discovery alone takes 5 s to see a change."""
        return self._cluster.wait(lambda: self.query(promql), f"a result of {promql}", timeout_seconds)

    def targets(self) -> list[dict[str, Any]]:
        """The active targets, with `health` and `lastError`."""
        found: list[dict[str, Any]] = self._get("/api/v1/targets?state=active")["data"]["activeTargets"]
        return found

    def _get(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._cluster.http_get(self._node, URL + path).json()
        return answer

    def _is_ready(self) -> bool:
        try:
            return self._cluster.http_get(self._node, f"{URL}/-/ready").status == 200
        except OSError:
            return False

    def _start_operator(self) -> None:
        program = str(store.folder(parts.OPERATOR) / "operator")
        access = [f"--ca-file={pki.certificate('ca')}", f"--cert-file={pki.certificate('admin')}"]
        access += [f"--key-file={pki.key('admin')}", f"--apiserver={plan.API_SERVER}"]
        listen = "--web.listen-address=127.0.0.1:8085"
        if processes.pid(self._node, "operator") is None:
            processes.start(self._node, "operator", [program, *access, listen], daemons.environment())

    def _generated(self) -> dict[str, Any]:
        """The configuration that the operator wrote, its variables filled in as a pod would."""
        path = f"/api/v1/namespaces/{NAMESPACE}/secrets/prometheus-{NAME}"

        def packed() -> str | None:
            data = self._cluster.api(path).json().get("data", {})
            return data.get("prometheus.yaml.gz") if isinstance(data, dict) else None

        (FOLDER / "generated.yaml.gz").write_bytes(
            base64.b64decode(self._cluster.wait(packed, "the operator to write a configuration"))
        )
        reloader = str(store.folder(parts.OPERATOR) / "prometheus-config-reloader")
        files = [f"--config-file={FOLDER}/generated.yaml.gz", f"--config-envsubst-file={FOLDER}/filled.yaml"]
        shard = ["env", "SHARD=0", f"POD_NAME=prometheus-{NAME}-0"]
        self._cluster.node_exec(self._node, [*shard, reloader, *files, "--watch-interval=0"])
        filled: dict[str, Any] = yaml.safe_load((FOLDER / "filled.yaml").read_text())
        filled.setdefault("scrape_configs", [])
        return filled

    def _write_rules(self) -> None:
        """The rule files as a pod would see them mounted."""
        folder = FOLDER / "rules"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        selector = urllib.parse.urlencode({"labelSelector": f"prometheus-name={NAME}"})
        found = self._cluster.api(f"/api/v1/namespaces/{NAMESPACE}/configmaps?{selector}").json()
        for item in found["items"]:
            for name, content in item.get("data", {}).items():
                (folder / name).write_text(content)

    def _prometheus(self) -> list[str]:
        return [
            str(store.folder(parts.PROMETHEUS) / "prometheus"),
            f"--config.file={FOLDER / 'prometheus.yaml'}",
            f"--storage.tsdb.path={FOLDER / 'data'}",
            f"--web.listen-address={plan.Node(1).ip}:9090",
        ]


def adapted(config: dict[str, Any], interval_seconds: int) -> dict[str, Any]:
    """The operator's configuration for a server outside the cluster, with a test's patience."""
    interval = f"{interval_seconds}s"
    shorter = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    jobs = []
    for job in config["scrape_configs"]:
        discovery = [
            {**entry, "kubeconfig_file": str(places.kubeconfig())}
            for entry in job.get("kubernetes_sd_configs", [])
        ]
        intervals = {"scrape_interval": interval, "scrape_timeout": interval}
        jobs.append({**job, "kubernetes_sd_configs": discovery, **intervals})
    own = {"scrape_configs": jobs, "rule_files": [f"{FOLDER}/rules/*.yaml"]}
    return {**config, "global": {**config.get("global", {}), **shorter}, **own}


def install_definitions(where: cluster.Cluster) -> None:
    """Create the operator's CRDs, as far as a chart or an earlier run has not, and await them."""
    manifests = store.folder(parts.OPERATOR) / "manifests"
    where.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(manifests))
    where.wait(lambda: where.api(_LIST).status == 200, "the operator's resources to be served")


@contextmanager
def monitored(where: cluster.Cluster, interval_seconds: int = 1) -> Iterator[Monitoring]:
    """A Monitoring that runs for the length of the block; builds its programs when missing."""
    build.ensure(parts.MONITORING)
    running = Monitoring(where, interval_seconds)
    try:
        running.start()
        yield running
    finally:
        running.stop()

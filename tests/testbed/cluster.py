"""The running cluster as tests and commands see it: kubectl, helm, nodes, HTTP, broken daemons.

A Cluster holds nothing but the plan. Everything else is asked of the kernel or the API server
when needed, so any number of processes can work on the same cluster.
"""

from __future__ import annotations

import json
import shlex
import signal
import ssl
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.testbed import cgroups, daemons, deadline, images, inside, plan, processes

T = TypeVar("T")


class ClusterError(Exception):
    """A command in the cluster failed, or the cluster is not as asked for."""


class Cluster:
    """A cluster that is up."""

    def __init__(self, its_plan: plan.Plan) -> None:
        self.plan = its_plan
        self.nodes = its_plan.nodes

    # Commands

    def kubectl(
        self,
        *args: str,
        input: str | None = None,  # noqa: A002 - the name that subprocess.run gave it
        timeout_seconds: float = 120,
    ) -> str:
        """Run kubectl as cluster admin; its output, or ClusterError with its complaint."""
        return self.node_exec(self.nodes[0], ["kubectl", *args], input=input, timeout_seconds=timeout_seconds)

    def kubectl_json(self, *args: str) -> Any:
        """`kubectl ... -o json`, parsed."""
        return json.loads(self.kubectl(*args, "-o", "json"))

    def helm(self, *args: str, timeout_seconds: float = 300) -> str:
        return self.node_exec(self.nodes[0], ["helm", *args], timeout_seconds=timeout_seconds)

    def node_exec(
        self,
        node: plan.Node,
        argv: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002
        spaces: Sequence[str] = ("net", "uts"),
        timeout_seconds: float = 120,
    ) -> str:
        """Run a host program inside the node's network; its output, or ClusterError.

        Host paths stay valid; add "mount" to `spaces` for the node's own /run and /var/lib.
        """
        done = subprocess.run(
            [*processes.visit(node, *spaces), *argv],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
            env=daemons.environment(),
        )
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip()
            raise ClusterError(f"`{shlex.join(argv)}` ended with {done.returncode}: {said}")
        return done.stdout

    def apply(self, manifest: str) -> str:
        """Apply YAML documents, by the server's own merge (large CRDs are no problem)."""
        return self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=manifest)

    def delete(self, manifest: str) -> None:
        """Delete what the YAML documents name, and wait until it is gone."""
        self.kubectl("delete", "--ignore-not-found", "--wait", "-f", "-", input=manifest)

    def wait(self, check: Callable[[], T | None], what: str, timeout_seconds: float = 60) -> T:
        """The first true answer of `check`; LateError, naming `what`, when there is none in time."""
        return deadline.until(check, what, timeout_seconds, pause_seconds=0.2)

    def wait_for_pod(
        self, name: str, namespace: str = "default", timeout_seconds: float = 60
    ) -> dict[str, Any]:
        """The pod, once it is Ready."""

        def ready() -> dict[str, Any] | None:
            reply = self.api(f"/api/v1/namespaces/{namespace}/pods/{name}")
            pod: dict[str, Any] = reply.json()
            return pod if reply.status == 200 and _is_ready(pod) else None

        return self.wait(ready, f"pod {namespace}/{name} to be Ready", timeout_seconds)

    def container_cgroup(self, pod: Mapping[str, Any], container: str = "main") -> Path:
        """The folder of a running container in the cgroup v2 hierarchy; its inode is the cgroup id."""
        statuses = pod["status"]["containerStatuses"]
        full = next(status["containerID"] for status in statuses if status["name"] == container)
        node = next(node for node in self.nodes if node.name == pod["spec"]["nodeName"])
        folders = list(cgroups.folder(node.cgroup_root).rglob(full.rpartition("/")[2]))
        if len(folders) != 1:
            raise ClusterError(
                f"container {full} has {len(folders)} cgroups below {node.cgroup_root}, not one"
            )
        return folders[0]

    def container_pids(self, pod: Mapping[str, Any], container: str = "main") -> list[int]:
        """The host's pids of a running container: for /proc/<pid>/net/snmp, ns/net and the like."""
        procs = self.container_cgroup(pod, container) / "cgroup.procs"
        return [int(line) for line in procs.read_text().split()]

    # HTTP

    def http_get(
        self,
        node: plan.Node,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        timeout_seconds: float = 5,
    ) -> inside.Reply:
        """GET from within a node's network. https trusts the cluster's authority by default."""
        pid = processes.running(node, processes.HOLDER)
        return inside.request(pid, url, headers=headers, context=context, timeout_seconds=timeout_seconds)

    def api(self, path: str) -> inside.Reply:
        """GET a path of the API server as cluster admin: much cheaper than a kubectl."""
        return self.http_get(self.nodes[0], plan.API_SERVER + path, context=inside.tls(client="admin"))

    # Images

    def import_image(self, archive: Path) -> None:
        """Import an OCI archive on every node."""
        for node in self.nodes:
            images.import_archive(node, archive)

    # Daemons, by name: kubelet, kube-proxy, containerd; on node 1 also etcd and kube-*

    def pid(self, name: str, node: plan.Node | None = None) -> int | None:
        return processes.pid(node or self.nodes[0], name)

    def stop(self, name: str, node: plan.Node | None = None) -> None:
        """End a daemon politely and wait until it is gone."""
        processes.end(node or self.nodes[0], name, signal.SIGTERM, timeout_seconds=90)

    def kill(self, name: str, node: plan.Node | None = None) -> None:
        """End a daemon at once and wait until it is gone."""
        processes.end(node or self.nodes[0], name, signal.SIGKILL)

    def pause(self, name: str, node: plan.Node | None = None) -> None:
        """Freeze a daemon: its connections stay open and nobody answers."""
        processes.send(node or self.nodes[0], name, signal.SIGSTOP)

    def resume(self, name: str, node: plan.Node | None = None) -> None:
        processes.send(node or self.nodes[0], name, signal.SIGCONT)

    def start(self, name: str, node: plan.Node | None = None) -> None:
        """Start a daemon that was stopped, with the settings it had."""
        where = node or self.nodes[0]
        if processes.pid(where, name) is None:
            daemons.start(self.plan, where, name)

    def restart(self, name: str, node: plan.Node | None = None) -> None:
        """Kill a daemon if it runs, and start it again."""
        where = node or self.nodes[0]
        if processes.pid(where, name) is not None:
            self.kill(name, where)
        self.start(name, where)

    # Waiting for the cluster itself

    def wait_for_api_server(self, timeout_seconds: float = 60) -> None:
        deadline.until(lambda: self._answers("/readyz"), "the API server to be ready", timeout_seconds)

    def _answers(self, path: str) -> bool:
        try:
            return self.api(path).status == 200
        except OSError:
            return False

    def wait_for_nodes(self, timeout_seconds: float = 60) -> None:
        """Wait until every node is Ready."""

        def ready() -> bool:
            found = self.api("/api/v1/nodes").json().get("items", [])
            return sum(_is_ready(node) for node in found) == len(self.nodes)

        deadline.until(ready, f"{len(self.nodes)} nodes to be Ready", timeout_seconds)

    def wait_for_service_account(self, namespace: str = "default", timeout_seconds: float = 60) -> None:
        """Wait until pods of a namespace can be created."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        what = f"the service account of namespace {namespace}"
        deadline.until(lambda: self._answers(path), what, timeout_seconds)


def _is_ready(thing: Mapping[str, Any]) -> bool:
    """Whether a pod or node has the condition Ready."""
    conditions = thing.get("status", {}).get("conditions", [])
    return any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)

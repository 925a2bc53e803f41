"""Pods without a kubelet: a Pod object at the API server, and its container as a cgroup that a process lives in.

The agent sees what it sees on a node: cgroups named like the kubelet names them, network namespaces, and
the API server's word for whose they are. tests/live/test_on_nodes.py repeats the essence with real pods.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from tests.kernel import namespace
from tests.live import server as servers


class Pod(namespace.Process):
    """A pod's only process, in its container's cgroup and a network namespace of its own."""

    def __init__(
        self,
        server: servers.Server,
        root: Path,
        *,
        name: str,
        project: str,
        node: str,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """`root` is the folder of the cgroup that is the node's cgroupRoot; `project` the Kubernetes namespace."""
        super().__init__()
        self.name, self.project, self._server = name, project, server
        uid, self._id = _create(server, name, project, node, labels or {}), secrets.token_hex(32)
        self.cgroup = root / f"kubepods/besteffort/pod{uid}" / self._id
        self.cgroup.mkdir(parents=True)
        self.enter_cgroup(self.cgroup)
        _report(server, name, project, self._id)

    def done_within(self, seconds: float) -> bool:
        """Whether what was started has ended."""
        return self._connection.poll(seconds)

    def label(self, *changes: str) -> None:
        """kubectl label: key=value, or key- to remove it."""
        self._server.kubectl("label", "--overwrite", "-n", self.project, "pod", self.name, *changes)


def _create(server: servers.Server, name: str, project: str, node: str, labels: Mapping[str, str]) -> str:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": project}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": project, "labels": dict(labels)},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none"}]},
    }
    server.apply(space, pod)
    return server.kubectl("get", "pod", "-n", project, name, "-o", "jsonpath={.metadata.uid}")


def _report(server: servers.Server, name: str, project: str, container: str) -> None:
    """What a kubelet says once the container runs."""
    status = {"name": "main", "image": "none", "imageID": "", "ready": True, "restartCount": 0}
    status["containerID"] = f"containerd://{container}"
    patch = json.dumps({"status": {"phase": "Running", "containerStatuses": [status]}})
    server.kubectl("patch", "pod", "-n", project, name, "--subresource=status", "--type=merge", "-p", patch)


def remove(root: Path) -> None:
    """A cgroup and all below; their processes have ended."""
    for folder, _, _ in os.walk(root, topdown=False):
        os.rmdir(folder)

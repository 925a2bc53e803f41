"""Manifests of the small pods that make traffic: every one runs busybox and ends at once.

JSON is YAML, so the texts go straight into `Cluster.apply`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tests.testbed import images, plan

FOREVER = ("sleep", "2147483647")


def serving(port: int = 80) -> tuple[str, ...]:
    """The command of a pod that serves /www over HTTP."""
    return ("httpd", "-f", "-p", str(port), "-h", "/www")


def fetching(url: str, times: int = 1) -> tuple[str, ...]:
    """The command of a pod that GETs a URL some times, one connection each, and then ends.

    Debian's busybox crashes on `wget -T`, hence `timeout`.
    """
    return ("sh", "-c", f"for i in $(seq {times}); do timeout 5 wget -qO- {url} || exit 1; done")


def pod(
    name: str,
    command: Sequence[str] = FOREVER,
    *,
    node: plan.Node | None = None,
    namespace: str = "default",
    labels: Mapping[str, str] | None = None,
    **spec: object,
) -> str:
    """A pod of one busybox container named `main`; `spec` adds fields such as hostNetwork=True."""
    container = {
        "name": "main",
        "image": images.BUSYBOX,
        "imagePullPolicy": "Never",
        "command": list(command),
    }
    place = {"nodeName": node.name} if node else {}
    content = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
    meta = {"name": name, "namespace": namespace, "labels": dict(labels or {"app": name})}
    return _text("v1", "Pod", meta, {**content, **place, **spec})


def service(name: str, port: int, *, app: str | None = None, namespace: str = "default") -> str:
    """A Service over the pods labelled app=NAME, with a port named `http`."""
    spec = {"selector": {"app": app or name}, "ports": [{"name": "http", "port": port}]}
    return _text("v1", "Service", {"name": name, "namespace": namespace, "labels": {"app": name}}, spec)


def _text(version: str, kind: str, meta: Mapping[str, object], spec: Mapping[str, object]) -> str:
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}) + "\n---\n"

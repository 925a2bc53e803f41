"""What the controller may do, as docs/controller.md says; and the same with a verb less."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
NAMESPACE = "flow-lens"
ACCOUNT = "flow-lens-controller"

CLUSTER: list[Json] = [
    {"apiGroups": ["flowlens.io"], "resources": ["flowlensconfigs"], "verbs": ["list", "watch"]},
    {"apiGroups": ["flowlens.io"], "resources": ["flowlensconfigs/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]},
]
AGENTS_NAMESPACE: list[Json] = [
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
]
DEFAULT_NAMESPACE: list[Json] = [
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]}
]
Rules = dict[str, list[Json]]
ALL: Rules = {"": CLUSTER, NAMESPACE: AGENTS_NAMESPACE, "default": DEFAULT_NAMESPACE}
"""By the namespace of the Role; "" is the ClusterRole."""


def grants() -> Iterator[tuple[str, str]]:
    """Every (resource, verb) that is granted."""
    for rules in ALL.values():
        for rule in rules:
            for verb in rule["verbs"]:
                yield rule["resources"][0], verb


def without(resource: str, verb: str) -> Rules:
    """All rules but one verb on one resource."""
    return {
        namespace: [
            {**rule, "verbs": verbs}
            for rule in granted
            if (verbs := [one for one in rule["verbs"] if (rule["resources"], one) != ([resource], verb)])
        ]
        for namespace, granted in ALL.items()
    }


def manifests(rules: Rules) -> Iterator[Json]:
    """Account, roles and bindings."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    yield {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": ACCOUNT, "namespace": NAMESPACE},
    }
    for namespace, granted in rules.items():
        prefix = "" if namespace else "Cluster"
        place = {"namespace": namespace} if namespace else {}
        marks = {"metadata": {"name": ACCOUNT, **place}, "apiVersion": "rbac.authorization.k8s.io/v1"}
        yield {**marks, "kind": f"{prefix}Role", "rules": granted}
        yield {
            **marks,
            "kind": f"{prefix}RoleBinding",
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": f"{prefix}Role",
                "name": ACCOUNT,
            },
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
        }

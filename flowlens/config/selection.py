"""Who is meant: which configuration a node follows, and which pods a configuration measures.

Pure functions; the agent and the controller call the same ones and must come to the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flowlens.config import definitions, notation, resolution


@dataclass(frozen=True, slots=True)
class Candidate:
    """A FlowLensConfig object as selection sees it.

    `created` is its creationTimestamp as the API server writes it (RFC 3339, whole seconds, UTC:
    such texts sort by time).
    """

    name: str
    created: str
    spec: definitions.Spec
    generation: int = 0


def choose(candidates: Iterable[Candidate], node_labels: Mapping[str, str]) -> Candidate | None:
    """The configuration that a node with these labels follows: the winner takes all.

    Highest priority, then the oldest, then the first by name. None when no selector matches.
    """
    matching = (each for each in candidates if matches(each.spec.node_selector, node_labels))
    return min(matching, key=_rank, default=None)


def _rank(candidate: Candidate) -> tuple[int, str, str]:
    return -candidate.spec.priority, candidate.created, candidate.name


def matches(selector: definitions.Selector, labels: Mapping[str, str]) -> bool:
    """Whether labels meet every condition of a selector; an empty selector takes all labels."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _meets(requirement, labels) for requirement in selector.match_expressions
    )


def _meets(requirement: definitions.Requirement, labels: Mapping[str, str]) -> bool:
    """As k8s.io/apimachinery does: a missing label meets NotIn and DoesNotExist only."""
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return value is not None and _compares(requirement, value)


def _compares(requirement: definitions.Requirement, value: str) -> bool:
    limit = requirement.values[0]
    if not (value.isascii() and value.isdecimal() and limit.isdecimal()):
        return False
    return int(value) > int(limit) if requirement.operator == "Gt" else int(value) < int(limit)


def selects(
    config: resolution.NodeConfig, *, namespace: str, pod_labels: Mapping[str, str], is_host: bool
) -> bool:
    """Whether a workload's connections are measured under a configuration.

    Host processes are ruled by `includeHost` alone. A container that no pod owns has the
    namespace "" and no labels: it is measured where no `include` and no pod selector stand.
    """
    if is_host:
        return config.include_host
    if _any_matches(config.namespaces_exclude, namespace):
        return False
    if config.namespaces_include and not _any_matches(config.namespaces_include, namespace):
        return False
    return matches(config.pod_selector, pod_labels)


def _any_matches(patterns: Iterable[str], namespace: str) -> bool:
    return any(notation.namespace_regex(pattern).fullmatch(namespace) for pattern in patterns)

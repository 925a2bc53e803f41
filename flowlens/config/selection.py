"""Who is meant: which configuration a node follows, and which pods a configuration measures.

Pure functions; the agent and the controller call the same ones and must come to the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flowlens.config import definitions, notation, resolution, selectors


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
    uid: str = ""


def choose(candidates: Iterable[Candidate], node_labels: Mapping[str, str]) -> Candidate | None:
    """The configuration that a node with these labels follows: the winner takes all.

    Highest priority, then the oldest, then the first by name. None when no selector matches.
    """
    matching = (each for each in candidates if selectors.matches(each.spec.node_selector, node_labels))
    return min(matching, key=_rank, default=None)


def _rank(candidate: Candidate) -> tuple[int, str, str]:
    return -candidate.spec.priority, candidate.created, candidate.name


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
    return selectors.matches(config.pod_selector, pod_labels)


def _any_matches(patterns: Iterable[str], namespace: str) -> bool:
    return any(notation.namespace_regex(pattern).fullmatch(namespace) for pattern in patterns)

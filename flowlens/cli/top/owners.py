"""Whose row a series goes into: the labels that make an owner, and how an owner is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flowlens import metrics

Owner = tuple[str, ...]
NOBODY = "(none)"


@dataclass(frozen=True, slots=True)
class Grouping:
    """`labels` together are the owner; `title` writes their values for people."""

    labels: tuple[str, ...]
    title: Callable[[Mapping[str, str]], str]

    def owner(self, labels: Mapping[str, str]) -> Owner:
        """The owner's label values; "" for a label that the series does not have."""
        return tuple([labels.get(label, "") for label in self.labels])

    def named(self, owner: Owner) -> dict[str, str]:
        """The owner as label -> value."""
        return dict(zip(self.labels, owner, strict=True))


def _path(*labels: str) -> Callable[[Mapping[str, str]], str]:
    """namespace/name, or what a host's service is called when these labels are empty."""

    def title(owner: Mapping[str, str]) -> str:
        parts = [owner[label] for label in labels if owner[label]]
        if len(set(parts)) == 1 and parts[0] == metrics.OTHER:
            return metrics.OTHER
        return "/".join(parts) or owner.get("workload") or owner.get("workload_kind") or NOBODY

    return title


GROUPINGS: Mapping[str, Grouping] = {
    "workload": Grouping(("namespace", "workload", "workload_kind"), _path("namespace", "workload")),
    "container": Grouping(metrics.IDENTITY_LABELS, _path("namespace", "pod", "container")),
    "pod": Grouping(("namespace", "pod", "workload", "workload_kind"), _path("namespace", "pod")),
    "namespace": Grouping(("namespace",), _path("namespace")),
}


def words() -> tuple[str, ...]:
    """What --by takes, pod labels apart."""
    return tuple(dict.fromkeys((*GROUPINGS, *metrics.LABEL_HELP)))


def grouping(word: str) -> Grouping:
    """By one of GROUPINGS or by any label; raises ValueError for other words."""
    if word in GROUPINGS:
        return GROUPINGS[word]
    if word in metrics.LABEL_HELP or word.startswith(metrics.POD_LABEL_PREFIX):
        return Grouping((word,), _path(word))
    raise ValueError(f"{word!r} is no label; there are {', '.join(words())} and label_<name>")

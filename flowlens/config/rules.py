"""Rules that join several fields of a spec, for files and objects that reach the agent.

`admission` says the same rules in CEL for the API server, and a test puts the same bad specs
before both. The rules read plain data that passed the schema's types; a field that did not is
absent, and a refused item of a list is None.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from flowlens import metrics
from flowlens.config import definitions, notation, problems

Found = tuple[problems.Path, str]
Tree = Mapping[str, Any]

STALE_MIN_SECONDS, STALE_MAX_SECONDS = 10.0, 168 * 3600.0


def broken(spec: Tree) -> Iterator[Found]:
    """Every broken rule of a spec, as (path below `spec`, message)."""
    for rule in _RULES:
        yield from rule(spec)


def metric_labels(metric: metrics.Metric, pod_labels: Iterable[str]) -> tuple[str, ...]:
    """Every label that a metric's `labels` may name, given the spec's `podLabels`."""
    return (*metric.allowed_labels, *dict.fromkeys(notation.pod_label(key) for key in pod_labels))


def _texts(items: Iterable[object]) -> list[tuple[int, str]]:
    return [(index, item) for index, item in enumerate(items) if isinstance(item, str)]


def _pod_labels(spec: Tree) -> list[str]:
    return [key for _, key in _texts(spec.get("podLabels", ()))]


def _repeated(items: Iterable[object], path: problems.Path) -> Iterator[Found]:
    seen: set[str] = set()
    for index, item in _texts(items):
        if item in seen:
            yield (*path, index), f"{item} is named twice"
        seen.add(item)


def _selectors(spec: Tree) -> Iterator[Found]:
    for field in ("nodeSelector", "podSelector"):
        for index, requirement in enumerate(spec.get(field, {}).get("matchExpressions", ())):
            if requirement is not None:
                path = (field, "matchExpressions", index)
                yield from _requirement(requirement, path)


def _requirement(requirement: Tree, path: problems.Path) -> Iterator[Found]:
    operator, values = requirement.get("operator"), requirement.get("values", ())
    match operator:
        case "In" | "NotIn" if not values:
            yield (*path, "values"), f"is empty: {operator} needs at least one value"
        case "Exists" | "DoesNotExist" if values:
            yield (*path, "values"), f"{operator} takes no values: leave them out"
        case "Gt" | "Lt" if len(values) != 1:
            yield (*path, "values"), f"has {len(values)} values: {operator} takes exactly one whole number"
        case "Gt" | "Lt" if isinstance(values[0], str) and not values[0].isdecimal():
            yield (
                (*path, "values", 0),
                f"{problems.shown(values[0])} is not a whole number: {operator} needs one",
            )


def _namespaces(spec: Tree) -> Iterator[Found]:
    exclude = [text for _, text in _texts(spec.get("namespaces", {}).get("exclude", ()))]
    for index, pattern in _texts(spec.get("namespaces", {}).get("include", ())):
        for wider in exclude:
            if notation.covers(wider, pattern):
                yield (
                    ("namespaces", "include", index),
                    f"{pattern!r} never matches, because exclude has {wider!r} and exclude wins:"
                    " drop one of them",
                )
                break


def _ports(spec: Tree) -> Iterator[Found]:
    ranges: dict[str, list[tuple[int, tuple[int, int]]]] = {"include": [], "exclude": []}
    for side, parsed in ranges.items():
        for index, entry in enumerate(spec.get("ports", {}).get(side, ())):
            if entry is None:
                continue
            try:
                parsed.append((index, notation.port_range(entry)))
            except ValueError as error:
                yield ("ports", side, index), f"{problems.shown(entry)}: {error}"
    for _, (low, high) in ranges["include"]:
        for index, (first, last) in ranges["exclude"]:
            if low <= last and first <= high:
                both = notation.ports_text(max(low, first), min(high, last))
                yield (
                    ("ports", "exclude", index),
                    f"{notation.ports_text(first, last)} overlaps include {notation.ports_text(low, high)}"
                    f" in {both}: a port can be in one of the two lists, split the range",
                )


def _addresses(spec: Tree) -> Iterator[Found]:
    addresses = spec.get("addresses", {})
    mode = addresses.get("mode", "full")
    for field, whole in (("v4Prefix", 32), ("v6Prefix", 128)):
        given = addresses.get(field, whole)
        if mode != "prefix" and given != whole:
            yield ("addresses", field), f"is {given}, but mode is {mode}: prefixes need mode: prefix"


def _defaults(spec: Tree) -> Iterator[Found]:
    defaults = spec.get("defaults", {})
    allowed = (*definitions.COMMON_LABELS, *dict.fromkeys(map(notation.pod_label, _pod_labels(spec))))
    labels = defaults.get("labels", ())
    for index, label in _texts(labels):
        if label not in allowed:
            yield ("defaults", "labels", index), _unknown_label(label, allowed, "defaults")
    yield from _repeated(labels, ("defaults", "labels"))
    text = defaults.get("staleAfter", "5m")
    if not STALE_MIN_SECONDS <= notation.duration_seconds(text) <= STALE_MAX_SECONDS:
        yield ("defaults", "staleAfter"), f"is {text}: allowed are 10s to 168h"


def _unknown_label(label: str, allowed: Iterable[str], owner: str) -> str:
    if label.startswith(metrics.POD_LABEL_PREFIX):
        return (
            f"{label!r} is not a label of spec.podLabels: add the pod label there first"
            f"{problems.one_of(label, [name for name in allowed if name.startswith('label_')])}"
        )
    if any(label in metric.labels for metric in metrics.CATALOGUE):
        having = [metric.name for metric in metrics.CATALOGUE if label in metric.allowed_labels]
        verb = "take no metric's own label" if owner == "defaults" else "cannot carry"
        return f"{owner} {verb} {label!r} (it belongs to {', '.join(having)})." + _allowed(allowed)
    if label in definitions.COMMON_LABELS:
        return f"{owner} cannot carry {label!r}." + _allowed(allowed)
    return f"unknown label {label!r}{problems.one_of(label, allowed)}"


def _allowed(allowed: Iterable[str]) -> str:
    return f" Allowed: {', '.join(allowed)}"


def _metrics(spec: Tree) -> Iterator[Found]:
    pod_labels = _pod_labels(spec)
    seen: set[str] = set()
    for index, entry in enumerate(spec.get("metrics", ())):
        if entry is None or "name" not in entry:
            continue
        path = ("metrics", index)
        metric = metrics.BY_NAME[entry["name"]]
        if metric.name in seen:
            yield (*path, "name"), f"{metric.name} is named twice: join the two entries"
        seen.add(metric.name)
        yield from _labels_of(metric, entry.get("labels", ()), pod_labels, path)
        if "buckets" in entry:
            yield from _buckets_of(metric, entry["buckets"], path)


def _labels_of(
    metric: metrics.Metric, labels: Iterable[object], pod_labels: Iterable[str], path: problems.Path
) -> Iterator[Found]:
    allowed = metric_labels(metric, pod_labels)
    for index, label in _texts(labels):
        if label not in allowed:
            yield (*path, "labels", index), _unknown_label(label, allowed, f"metric {metric.name}")
    yield from _repeated(labels, (*path, "labels"))


def _buckets_of(metric: metrics.Metric, buckets: list[float | None], path: problems.Path) -> Iterator[Found]:
    if metric.kind is not metrics.Kind.HISTOGRAM:
        having = [other.name for other in metrics.CATALOGUE if other.kind is metrics.Kind.HISTOGRAM]
        yield (
            (*path, "buckets"),
            f"{metric.name} is a {metric.kind} and has no buckets: only {', '.join(having)} have",
        )
        return
    for index, (lower, upper) in enumerate(itertools.pairwise(buckets), start=1):
        if lower is not None and upper is not None and upper <= lower:
            yield (*path, "buckets", index), f"is {upper:g} after {lower:g}: buckets must ascend"


def _pod_label_names(spec: Tree) -> Iterator[Found]:
    seen: dict[str, str] = {}
    for index, key in _texts(spec.get("podLabels", ())):
        label = notation.pod_label(key)
        if label in seen:
            yield ("podLabels", index), f"{key} and {seen[label]} would both be the label {label}: drop one"
        seen.setdefault(label, key)


_RULES: tuple[Callable[[Tree], Iterator[Found]], ...] = (
    _selectors,
    _namespaces,
    _ports,
    _addresses,
    _defaults,
    _metrics,
    _pod_label_names,
)

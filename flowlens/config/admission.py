"""The rules that join fields, in CEL, so that the API server itself refuses a bad object.

`rules` says the same for files; tests put one list of bad specs before both. A rule's message
says what is allowed. It is a fixed text: a computed one breaks the API server's cost budget.
Costs are estimated from maxItems and maxLength, so every list and text has them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

from flowlens import metrics
from flowlens.config import definitions, notation, structure

Rule = dict[str, str]
Place = tuple[str, ...]
"""Steps into the schema of `spec`: names of properties, and "[]" for the items of a list."""

ITEMS = "[]"
_POD_LABEL_HINT = "and label_<name> of a pod label in spec.podLabels"


def _rule(expression: str, message: str, field: str = "") -> Rule:
    return {"rule": expression, "message": message} | ({"fieldPath": field} if field else {})


def _quoted(words: Iterable[str]) -> str:
    return "[" + ", ".join(f"'{word}'" for word in words) + "]"


def _raw(pattern: str) -> str:
    return f"r'{pattern}'"


def _exposed(key: str) -> str:
    """CEL for `notation.pod_label`, given CEL for a pod label's key."""
    return f"('{metrics.POD_LABEL_PREFIX}' + {key}.replace('.', '_').replace('/', '_').replace('-', '_'))"


_ONCE = "self.all(a, self.exists_one(b, b == a))"
_LABELS_ONCE = _rule(_ONCE, "a label is named twice")


def _known(labels: Iterable[str]) -> Rule:
    names = tuple(labels)
    return _rule(
        f"self in {_quoted(names)} || self.startsWith('{metrics.POD_LABEL_PREFIX}')",
        f"unknown label: allowed are {', '.join(names)}, {_POD_LABEL_HINT}",
    )


def _all_labels() -> tuple[str, ...]:
    own = itertools.chain.from_iterable(metric.labels for metric in metrics.CATALOGUE)
    return tuple(dict.fromkeys((*definitions.COMMON_LABELS, *own)))


def _carried() -> list[Rule]:
    """One rule for all metrics that have the same labels, from each metric's `allowed_labels`."""
    groups: dict[tuple[str, ...], list[metrics.Metric]] = {}
    for metric in metrics.CATALOGUE:
        refused = tuple(label for label in _all_labels() if label not in metric.allowed_labels)
        groups.setdefault(refused, []).append(metric)
    return [_carries(refused, members) for refused, members in groups.items() if refused]


def _carries(refused: tuple[str, ...], members: list[metrics.Metric]) -> Rule:
    names = [member.name for member in members]
    allowed = [label for label in _all_labels() if label not in refused]
    return _rule(
        f"!has(self.labels) || !(self.name in {_quoted(names)})"
        f" || !self.labels.exists(l, l in {_quoted(refused)})",
        f"{', '.join(names)} cannot carry {', '.join(refused)}: allowed are {', '.join(allowed)},"
        f" {_POD_LABEL_HINT}",
        ".labels",
    )


def _buckets() -> Rule:
    histograms = [metric.name for metric in metrics.CATALOGUE if metric.kind is metrics.Kind.HISTOGRAM]
    return _rule(
        f"!has(self.buckets) || self.name in {_quoted(histograms)}",
        f"only {', '.join(histograms)} have buckets",
        ".buckets",
    )


def _bounds() -> list[Rule]:
    """The API server cuts a schema's `minimum` to a whole number before it compares a whole number with
    it, so it would let a bucket of 0 pass under a minimum of 0.000001."""
    return [
        _rule("self.all(b, b > 0.0)", "buckets must be greater than or equal to 0.000001"),
        _rule(
            f"self.isSorted() && {_ONCE}",
            "buckets must ascend: the smallest upper bound first, each once",
        ),
    ]


def _listed(labels: str) -> str:
    """CEL: every pod label among these `labels` is one of `names`."""
    return f"{labels}.all(l, !l.startsWith('{metrics.POD_LABEL_PREFIX}') || l in names)"


def _with_names(expression: str) -> str:
    """CEL has no variables: a list of one item stands in, so that the names are made only once."""
    return f"[self.podLabels.map(k, {_exposed('k')})].all(names, {expression})"


_LISTED_MESSAGE = (
    "labels that start with label_ need their pod label in spec.podLabels"
    " (app.kubernetes.io/name there is label_app_kubernetes_io_name here)"
)


def _spec() -> list[Rule]:
    in_metrics = f"self.metrics.all(m, !has(m.labels) || {_listed('m.labels')})"
    return [
        _rule(_with_names(_listed("self.defaults.labels")), _LISTED_MESSAGE, ".defaults.labels"),
        _rule(_with_names(in_metrics), _LISTED_MESSAGE, ".metrics"),
    ]


def _stale_after() -> Rule:
    return _rule(
        f"!self.matches({_raw(notation.DURATION_PATTERN)})"
        " || (duration(self) >= duration('10s') && duration(self) <= duration('168h'))",
        "staleAfter may be 10s to 168h",
    )


def _namespaces() -> Rule:
    return _rule(
        "self.exclude.map(e, '^' + e.replace('*', '.*').replace('?', '[^*]') + '$')"
        ".all(wider, !self.include.exists(i, i.matches(wider)))",
        "an entry of include never matches, because exclude wins and has an entry that covers it:"
        " drop one of the two",
    )


_IS_RANGE = f"self.matches({_raw(notation.PORTS_PATTERN)})"


def _port() -> list[Rule]:
    parts = "self.split('-')"
    return [
        _rule(
            f"type(self) == int || !{_IS_RANGE}"
            f" || {parts}.all(p, int(p) >= 1 && int(p) <= {notation.PORT_MAX})",
            f"ports are 1 to {notation.PORT_MAX}",
        ),
        _rule(
            f"type(self) == int || !{_IS_RANGE} || int({parts}[0]) <= int({parts}[size({parts}) - 1])",
            "write a range with its first port first: 8000-8100",
        ),
    ]


def _ports() -> Rule:
    first = "(type({0}) == int ? {0} : int({0}.split('-')[0]))"
    last = "(type({0}) == int ? {0} : int({0}.split('-')[size({0}.split('-')) - 1]))"
    readable = f"(type(p) == int || p.matches({_raw(notation.PORTS_PATTERN)}))"
    return _rule(
        f"!self.include.all(p, {readable}) || !self.exclude.all(p, {readable})"
        " || !self.include.exists(i, self.exclude.exists(e,"
        f" {first.format('i')} <= {last.format('e')} && {first.format('e')} <= {last.format('i')}))",
        "include and exclude overlap: a port can be in one of the two lists, split the range",
    )


def _addresses() -> Rule:
    return _rule(
        "self.mode == 'prefix' || (self.v4Prefix == 32 && self.v6Prefix == 128)",
        "v4Prefix and v6Prefix need mode: prefix",
    )


def _requirement() -> list[Rule]:
    return [
        _rule(
            "!(self.operator in ['In', 'NotIn']) || size(self.values) > 0",
            "In and NotIn need at least one value",
            ".values",
        ),
        _rule(
            "!(self.operator in ['Exists', 'DoesNotExist']) || size(self.values) == 0",
            "Exists and DoesNotExist take no values",
            ".values",
        ),
        _rule(
            "!(self.operator in ['Gt', 'Lt'])"
            " || (size(self.values) == 1 && self.values[0].matches(r'^[0-9]+$'))",
            "Gt and Lt take exactly one whole number, in quotes",
            ".values",
        ),
    ]


def _label_keys() -> Rule:
    return _rule(
        f"self.all(k, size(k) <= 317 && k.matches({_raw(notation.LABEL_KEY_PATTERN)}))",
        "keys are label names such as app or app.kubernetes.io/name",
    )


def _pod_labels() -> Rule:
    return _rule(
        f"self.all(a, self.exists_one(b, {_exposed('a')} == {_exposed('b')}))",
        "two pod labels would be the same metric label: drop one of them",
    )


def by_place() -> Mapping[Place, list[Rule]]:
    """Rules by the place in the schema of `spec` that carries them."""
    entry = ("metrics", ITEMS)
    rules: dict[Place, list[Rule]] = {
        (): _spec(),
        ("defaults", "labels"): [_LABELS_ONCE],
        ("defaults", "labels", ITEMS): [_known(definitions.COMMON_LABELS)],
        ("defaults", "staleAfter"): [_stale_after()],
        entry: [*_carried(), _buckets()],
        (*entry, "labels"): [_LABELS_ONCE],
        (*entry, "labels", ITEMS): [_known(_all_labels())],
        (*entry, "buckets"): _bounds(),
        ("namespaces",): [_namespaces()],
        ("ports",): [_ports()],
        ("addresses",): [_addresses()],
        ("podLabels",): [_pod_labels()],
    }
    for side in ("include", "exclude"):
        rules[("ports", side, ITEMS)] = _port()
    for selector in ("nodeSelector", "podSelector"):
        rules[(selector, "matchLabels")] = [_label_keys()]
        rules[(selector, "matchExpressions", ITEMS)] = _requirement()
    return rules


def _in_words(node: structure.Schema) -> None:
    """Put rules in the place of patterns: a refusal then says what is meant, not an expression."""
    pattern = node.pop("pattern", "")
    if pattern in notation.MEANING and pattern != notation.EXPOSED_LABEL_PATTERN:
        number = "type(self) == int || " if "x-kubernetes-int-or-string" in node else ""
        rule = _rule(f"{number}self.matches({_raw(pattern)})", f"must be {notation.MEANING[pattern]}")
        node["x-kubernetes-validations"] = [rule]
    for child in (*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")):
        if child:
            _in_words(child)


def enforce(spec: structure.Schema) -> None:
    """Write every rule into its place in a schema of `spec` (changed in place)."""
    _in_words(spec)
    for place, rules in by_place().items():
        node = spec
        for step in place:
            node = node["items"] if step == ITEMS else node["properties"][step]
        node["x-kubernetes-validations"] = [*node.get("x-kubernetes-validations", ()), *rules]

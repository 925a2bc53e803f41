"""Which configuration a node follows, and whose connections it measures."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlens import config

KEYS, VALUES = ["a", "b", "c"], ["x", "y", "1", "2", "10"]
labels_of_nodes = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
requirements = st.one_of(
    st.builds(
        config.Requirement,
        key=st.sampled_from(KEYS),
        operator=st.sampled_from(["In", "NotIn"]),
        values=st.lists(st.sampled_from(VALUES), min_size=1, max_size=3).map(tuple),
    ),
    st.builds(
        config.Requirement, key=st.sampled_from(KEYS), operator=st.sampled_from(["Exists", "DoesNotExist"])
    ),
    st.builds(
        config.Requirement,
        key=st.sampled_from(KEYS),
        operator=st.sampled_from(["Gt", "Lt"]),
        values=st.sampled_from(["1", "5"]).map(lambda value: (value,)),
    ),
)
selectors = st.builds(
    config.Selector,
    match_labels=labels_of_nodes,
    match_expressions=st.lists(requirements, max_size=2).map(tuple),
)
specs = st.builds(config.Spec, priority=st.integers(-2, 2), node_selector=selectors)
candidates = st.lists(
    st.builds(
        config.Candidate,
        name=st.text(alphabet="abcd", min_size=1, max_size=3),
        created=st.integers(0, 3).map(lambda second: f"2026-11-25T10:00:0{second}Z"),
        spec=specs,
    ),
    max_size=8,
    unique_by=lambda candidate: candidate.name,
)


def spec(text: str) -> config.Spec:
    return config.load(text, source="-")


def candidate(name: str, created: str = "2026-11-25T10:00:00Z", text: str = "{}") -> config.Candidate:
    return config.Candidate(name=name, created=created, spec=spec(text))


def test_the_highest_priority_wins_over_the_oldest() -> None:
    old, strong = candidate("a", "2020-01-01T00:00:00Z"), candidate("b", text="priority: 1")
    assert config.choose([old, strong], {}) is strong


def test_among_equals_the_oldest_wins_over_the_first_by_name() -> None:
    young, old = candidate("a", "2026-11-25T10:00:01Z"), candidate("b", "2026-11-25T10:00:00Z")
    assert config.choose([young, old], {}) is old


def test_among_twins_the_first_by_name_wins() -> None:
    a, b = candidate("a"), candidate("b")
    assert config.choose([b, a], {}) is a


def test_a_strong_configuration_for_other_nodes_does_not_win() -> None:
    edge = candidate("a", text="{priority: 9, nodeSelector: {matchLabels: {pool: edge}}}")
    rest = candidate("b")
    assert config.choose([edge, rest], {"pool": "core"}) is rest
    assert config.choose([edge, rest], {"pool": "edge"}) is edge


def test_no_match_is_none() -> None:
    assert config.choose([], {}) is None
    assert config.choose([candidate("a", text="nodeSelector: {matchLabels: {a: b}}")], {}) is None


@given(candidates, labels_of_nodes, st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_never_matters(items, labels, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(items)
    random.shuffle(shuffled)
    assert config.choose(items, labels) == config.choose(shuffled, labels)


@given(candidates, labels_of_nodes, st.data())
def test_deleting_losers_never_changes_the_winner(items, labels, data) -> None:  # type: ignore[no-untyped-def]
    winner = config.choose(items, labels)
    kept = [item for item in items if item is winner or data.draw(st.booleans())]
    assert config.choose(kept, labels) is winner


@given(candidates, labels_of_nodes)
def test_deleting_winner_after_winner_is_a_total_order_of_all_that_match(items, labels) -> None:  # type: ignore[no-untyped-def]
    left, ranks = list(items), []
    while (winner := config.choose(left, labels)) is not None:
        ranks.append((-winner.spec.priority, winner.created, winner.name))
        left.remove(winner)
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == len(ranks)
    assert not any(config.matches(item.spec.node_selector, labels) for item in left)


@given(selectors, labels_of_nodes)
def test_adding_a_condition_never_selects_more(selector, labels) -> None:  # type: ignore[no-untyped-def]
    narrower = config.Selector(
        match_labels=selector.match_labels,
        match_expressions=(*selector.match_expressions, config.Requirement(key="a", operator="Exists")),
    )
    if config.matches(narrower, labels):
        assert config.matches(selector, labels)


@given(requirements, labels_of_nodes)
def test_an_operator_and_its_opposite_never_agree(requirement, labels) -> None:  # type: ignore[no-untyped-def]
    opposite: dict[str, Any] = {
        "In": "NotIn",
        "NotIn": "In",
        "Exists": "DoesNotExist",
        "DoesNotExist": "Exists",
    }
    if requirement.operator in opposite:
        other = config.Requirement(
            key=requirement.key, operator=opposite[requirement.operator], values=requirement.values
        )
        one, two = (config.Selector(match_expressions=(each,)) for each in (requirement, other))
        assert config.matches(one, labels) != config.matches(two, labels)


@pytest.mark.parametrize(
    ("expression", "labels", "selected"),
    [
        ("{key: a, operator: NotIn, values: [b]}", {}, True),
        ("{key: a, operator: DoesNotExist}", {}, True),
        ("{key: a, operator: In, values: [b]}", {}, False),
        ("{key: a, operator: In, values: ['']}", {"a": ""}, True),
        ("{key: a, operator: Exists}", {"a": ""}, True),
        ("{key: n, operator: Gt, values: ['9']}", {"n": "10"}, True),
        ("{key: n, operator: Gt, values: ['9']}", {"n": "9"}, False),
        ("{key: n, operator: Lt, values: ['9']}", {"n": "8"}, True),
        ("{key: n, operator: Lt, values: ['9']}", {"n": "eight"}, False),
        ("{key: n, operator: Lt, values: ['9']}", {"n": "1_0"}, False),
        ("{key: n, operator: Gt, values: ['9']}", {}, False),
    ],
)
def test_operators_do_what_kubernetes_does(expression: str, labels: dict[str, str], selected: bool) -> None:
    parsed = spec(f"nodeSelector: {{matchExpressions: [{expression}]}}")
    assert config.matches(parsed.node_selector, labels) is selected


def selects(
    text: str, namespace: str, labels: dict[str, str] | None = None, *, is_host: bool = False
) -> bool:
    node = config.resolve(spec(text), name="x", generation=1)
    return config.selects(node, namespace=namespace, pod_labels=labels or {}, is_host=is_host)


def test_everything_is_measured_by_default() -> None:
    assert selects("{}", "a")
    assert selects("{}", "", is_host=True)
    assert selects("{}", "")


def test_exclude_wins_over_include() -> None:
    text = "namespaces: {include: ['team-*'], exclude: ['*-test']}"
    assert selects(text, "team-a")
    assert not selects(text, "team-a-test")
    assert not selects(text, "other")


def test_a_container_that_no_pod_owns_is_left_out_by_include_and_by_a_pod_selector() -> None:
    assert not selects("namespaces: {include: [a]}", "")
    assert selects("namespaces: {exclude: [a]}", "")
    assert not selects("podSelector: {matchLabels: {a: b}}", "")


def test_pods_are_selected_by_their_labels() -> None:
    text = "podSelector: {matchLabels: {app: web}}"
    assert selects(text, "a", {"app": "web", "more": "x"})
    assert not selects(text, "a", {"app": "db"})


def test_host_processes_are_ruled_by_include_host_alone() -> None:
    filters = "namespaces: {include: [a]}, podSelector: {matchLabels: {a: b}}"
    assert selects(f"{{{filters}}}", "", is_host=True)
    assert not selects(f"{{includeHost: false, {filters}}}", "", is_host=True)
    assert not selects("{includeHost: false}", "", is_host=True)


@given(st.text(alphabet="ab-*?", min_size=1, max_size=6), st.text(alphabet="ab-", max_size=8))
def test_namespace_patterns_match_as_the_standard_library_matches_them(pattern: str, name: str) -> None:
    tree = {"namespaces": {"include": [pattern]}}
    node = config.resolve(config.from_object(tree, source="-"), name="x", generation=1)
    selected = config.selects(node, namespace=name, pod_labels={}, is_host=False)
    assert selected is fnmatch.fnmatchcase(name, pattern)

"""A spec or every reason why not: fields, bad values, allowed values, nearest names, lines."""

from __future__ import annotations

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlens import config, metrics
from tests.config import refused_specs

SPEC_FIELDS = [field.encode_name for field in msgspec.structs.fields(config.Spec)]


def problems(text: str) -> dict[str, str]:
    with pytest.raises(config.ConfigError) as caught:
        config.load(text, source="flow.yaml")
    return {problem.path: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize("case", refused_specs.REFUSED, ids=lambda case: case.why)
def test_a_bad_spec_is_refused_at_its_field(case: refused_specs.Refused) -> None:
    found = problems(case.spec)
    assert list(found) == [case.path]
    assert case.words in found[case.path]


@pytest.mark.parametrize("case", refused_specs.REFUSED, ids=lambda case: case.why)
def test_an_api_object_is_refused_for_the_same_reasons_as_a_file(case: refused_specs.Refused) -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.from_object(yaml.safe_load(case.spec), source="flc/x")
    assert {problem.path: problem.message for problem in caught.value.problems} == problems(case.spec)


@pytest.mark.parametrize("text", refused_specs.ACCEPTED.values(), ids=refused_specs.ACCEPTED)
def test_a_good_spec_is_taken_and_resolves(text: str) -> None:
    spec = config.load(text, source="-")
    assert config.resolve(spec, name="x", generation=1).generation == 1
    assert config.explain(spec)


def test_all_problems_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = """
    priorty: 3
    metrics:
      - {name: conect}
      - {name: connect, labels: [scr_ip, kind], buckets: [1]}
      - {name: connect_duration, buckets: [2, 1], maxSeries: 0}
    limits: {maxFlows: -1}
    """
    with pytest.raises(config.ConfigError) as caught:
        config.load(text, source="flow.yaml")
    assert [(problem.line, problem.path) for problem in caught.value.problems] == [
        (2, "spec.priorty"),
        (4, "spec.metrics[0].name"),
        (5, "spec.metrics[1].labels[0]"),
        (5, "spec.metrics[1].labels[1]"),
        (5, "spec.metrics[1].buckets"),
        (6, "spec.metrics[2].maxSeries"),
        (6, "spec.metrics[2].buckets[1]"),
        (7, "spec.limits.maxFlows"),
    ]


def test_a_message_names_file_line_field_value_nearest_name_and_allowed_values() -> None:
    with pytest.raises(config.ConfigError) as caught:
        config.load("metrics:\n  - name: connect_latency\n", source="flow.yaml")
    message = str(caught.value)
    assert message.startswith(
        "flow.yaml:2: spec.metrics[0].name: unknown value 'connect_latency'; did you mean "
    )
    assert message.endswith(f"Allowed: {', '.join(metrics.BY_NAME)}")


def test_lines_are_right_inside_a_manifest_too() -> None:
    text = "apiVersion: flowlens.io/v1alpha1\nkind: FlowLensConfig\nspec:\n  limits:\n    maxFlows: 0\n"
    with pytest.raises(config.ConfigError) as caught:
        config.load(text, source="flow.yaml")
    assert str(caught.value).startswith("flow.yaml:5: spec.limits.maxFlows: is 0")


def test_very_many_problems_are_cut_with_their_number() -> None:
    fields = "\n".join(f"field{n}: 1" for n in range(200))
    with pytest.raises(config.ConfigError) as caught:
        config.load(fields, source="flow.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 51
    assert lines[-1] == "flow.yaml: and 150 more problems"


def test_a_long_value_is_cut_in_the_message() -> None:
    message = problems(f"podLabels: ['{'-' * 300}']")["spec.podLabels[0]"]
    assert "..." in message
    assert len(message) < 200


def test_a_bare_spec_and_its_manifest_are_the_same_configuration() -> None:
    bare = "priority: 3\nmetrics: [{name: connect, labels: [pod]}]"
    manifest = (
        "apiVersion: flowlens.io/v1alpha1\nkind: FlowLensConfig\nmetadata: {name: x}\n"
        "spec: {priority: 3, metrics: [{name: connect, labels: [pod]}]}\nstatus: {}"
    )
    assert config.load(bare, source="-") == config.load(manifest, source="-")


def test_a_manifest_of_another_kind_is_refused() -> None:
    found = problems("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {}\n")
    assert found["apiVersion"] == "is 'v1': a manifest read here has apiVersion: flowlens.io/v1alpha1"
    assert found["kind"] == "is 'ConfigMap': a manifest read here has kind: FlowLensConfig"
    assert "unknown field" in found["data"]
    assert "is missing" in found["spec"]


def test_a_manifest_without_a_kind_is_refused() -> None:
    assert "is missing" in problems("apiVersion: flowlens.io/v1alpha1\nspec: {}\n")["kind"]


def test_a_field_with_nothing_behind_it_means_its_default() -> None:
    text = "metrics:\nnodeSelector:\n  matchLabels:\ndefaults:\n  labels:\n"
    assert config.load(text, source="-") == config.Spec()


def test_an_empty_item_of_a_list_is_refused() -> None:
    assert "is null" in problems("podLabels: [a, ]\nmetrics: [null]")["spec.metrics[0]"]


def test_a_number_that_should_be_a_label_value_says_to_quote_it() -> None:
    message = problems("nodeSelector: {matchLabels: {disks: 2}}")["spec.nodeSelector.matchLabels.disks"]
    assert message.endswith('write "2" in quotes')


def test_not_a_number_is_no_bucket() -> None:
    assert (
        "is nan"
        in problems("metrics: [{name: connect_duration, buckets: [.nan]}]")["spec.metrics[0].buckets[0]"]
    )


def test_a_truth_value_is_no_number() -> None:
    assert "not a whole number" in problems("priority: yes")["spec.priority"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
field_values = st.dictionaries(
    st.sampled_from(["include", "exclude", "matchLabels", "matchExpressions", "labels", "staleAfter"]),
    json_values | st.lists(json_values, max_size=3),
    max_size=4,
)


@given(st.dictionaries(st.sampled_from(SPEC_FIELDS), json_values | field_values, max_size=6))
@settings(max_examples=400, deadline=None)
def test_no_object_raises_anything_but_a_config_error(tree: dict[str, object]) -> None:
    try:
        spec = config.from_object(tree, source="flc/x")
    except config.ConfigError as error:
        assert error.problems  # noqa: PT017 - either outcome is right, another exception is not
    else:
        assert config.explain(spec)
        assert config.from_object(msgspec.json.decode(msgspec.json.encode(spec)), source="again") == spec

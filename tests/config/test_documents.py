"""YAML in: what PyYAML would take silently, and what hostile text would cost."""

from __future__ import annotations

import re
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlens import config
from flowlens.config import documents


def refusal(text: str) -> str:
    with pytest.raises(config.ConfigError) as caught:
        config.load(text, source="flow.yaml")
    return str(caught.value)


def test_a_syntax_error_names_file_line_and_column() -> None:
    message = refusal("priority: 1\nmetrics: [connect\nports: {}\n")
    assert message.startswith("flow.yaml:3: not YAML: ")
    assert "(column " in message


def test_a_tab_is_refused_with_its_line() -> None:
    assert refusal("defaults:\n\tlabels: []\n").startswith("flow.yaml:2: not YAML: ")


def test_a_field_written_twice_is_refused_where_it_stands_again() -> None:
    assert refusal("priority: 1\npriority: 2\n") == "flow.yaml:2: field 'priority' is written twice"


def test_several_documents_are_refused() -> None:
    message = refusal("priority: 1\n---\npriority: 2\n")
    assert message == "flow.yaml:2: several YAML documents: write one file per FlowLensConfig"


@pytest.mark.parametrize("text", ["", "   \n", "# nothing\n", "---\n", "null"])
def test_an_empty_text_is_refused_because_it_may_be_a_file_half_written(text: str) -> None:
    assert refusal(text) == "flow.yaml: is empty: write {} for the defaults"


@pytest.mark.parametrize("text", ["- a\n", "just words", "3", "true"])
def test_a_document_that_is_no_mapping_is_refused(text: str) -> None:
    assert "not a mapping of fields" in refusal(text)


def test_an_anchor_may_be_used_again() -> None:
    text = """
    metrics:
      - {name: connect, labels: &few [namespace, workload]}
      - {name: accept, labels: *few}
    """
    entries = config.load(text, source="-").metrics
    assert entries[0].labels == entries[1].labels == ("namespace", "workload")


def test_aliases_that_multiply_are_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    start = time.perf_counter()
    message = refusal("\n".join(lines))
    assert "more than 20,000 values (aliases written out)" in message
    assert time.perf_counter() - start < 1.0


def test_an_alias_inside_its_own_anchor_is_refused() -> None:
    assert "alias *a has no finished anchor before it" in refusal("podLabels: &a [x, *a]")


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 10_000, "- " * 50_000, "? " * 50_000])
def test_nesting_without_end_is_refused(text: str) -> None:
    assert re.search("nested deeper than 16 levels|maximum nesting depth", refusal(text))


def test_a_pyyaml_without_libyaml_reads_and_refuses_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "_Loader", yaml.SafeLoader)
    assert config.load("priority: 3", source="-").priority == 3
    assert refusal("priority: 1\npriority: 2\n") == "flow.yaml:2: field 'priority' is written twice"
    assert "nested deeper than 16 levels" in refusal("[" * 100_000)
    assert refusal("priority: [\n").startswith("flow.yaml:2: not YAML: ")


def test_ten_megabytes_are_refused_without_being_parsed() -> None:
    start = time.perf_counter()
    message = refusal("podLabels: [" + "a, " * 3_500_000 + "]")
    assert "is too long: at most 262,144 are read" in message
    assert time.perf_counter() - start < 1.0


def test_a_quarter_of_a_megabyte_of_list_is_refused() -> None:
    assert "more than 20,000 values" in refusal("podLabels: [" + "a," * 100_000 + "]")


@pytest.mark.parametrize(
    "text",
    [
        "priority: " + "9" * 5000,
        "priority: !!int abc",
        "priority: 2026-13-45",
        "priority: !!python/object/apply:os.system [id]",
        "priority: !!python/name:os.system",
        "priority: !custom 3",
        "priority: !!binary 3",
        "priority: \x07",
        "priority: \ud800",
        "? [a, b]\n: 3",
        "priority: *nowhere",
        "%YAML 3.0\n---\npriority: 1",
    ],
)
def test_odd_yaml_is_refused_with_a_message(text: str) -> None:
    assert refusal(text).startswith("flow.yaml")


@given(st.text(alphabet=st.characters(), max_size=200))
@settings(max_examples=300, deadline=None)
def test_no_text_raises_anything_but_a_config_error(text: str) -> None:
    try:
        config.load(text, source="-")
    except config.ConfigError as error:
        assert error.problems  # noqa: PT017 - either outcome is right, another exception is not


@given(st.text(alphabet="[]{}&*:,- \n#'\"!|>%ab01.?", max_size=60))
@settings(max_examples=500, deadline=None)
def test_no_soup_of_yaml_signs_raises_anything_but_a_config_error(text: str) -> None:
    try:
        config.load(text, source="-")
    except config.ConfigError as error:
        assert error.problems  # noqa: PT017

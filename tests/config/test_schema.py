"""The generated files, and that they say what the definitions say."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from flowlens import config, metrics
from flowlens.config import admission, schema, structure

ROOT = pathlib.Path(__file__).parents[2]
SPEC = schema.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
STATUS = schema.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]


def nodes(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in node:
            yield from nodes(node[key], f"{path}[]")


ALL = [*nodes(SPEC, "spec"), *nodes(STATUS, "status")]


@pytest.mark.parametrize("path", schema.files())
def test_a_generated_file_is_as_the_definitions_say(path: str) -> None:
    text = ROOT.joinpath(path).read_text()
    assert text == schema.files()[path], f"{path} differs: run make generate"


def test_generate_writes_what_differs_and_check_only_names_it(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert schema.main(["--check", str(tmp_path)]) == 1
    assert not list(tmp_path.iterdir())
    assert "differs: run make generate" in capsys.readouterr().out
    assert schema.main([str(tmp_path)]) == 0
    assert schema.main(["--check", str(tmp_path)]) == 0
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(
        schema.files()
    )


def test_the_crd_is_plain_yaml_without_anchors() -> None:
    text = schema.files()[schema.CRD_PATHS[0]]
    assert yaml.safe_load(text) == schema.crd()
    assert "&id" not in text


@pytest.mark.parametrize(("path", "node"), ALL, ids=[path for path, _ in ALL])
def test_every_field_is_described_typed_and_bounded(path: str, node: dict[str, Any]) -> None:
    assert "type" in node or "x-kubernetes-int-or-string" in node
    assert path.endswith("[]") or node.get("description")
    if node.get("type") == "array":
        assert "maxItems" in node
        assert "x-kubernetes-list-type" in node
    if node.get("type") == "string":
        assert "maxLength" in node or "enum" in node or node.get("format") == "date-time"
    if node.get("type") == "integer":
        assert "minimum" in node
    assert not any(key.startswith("x-flowlens") for key in node)


def test_metric_names_are_the_catalogues() -> None:
    assert SPEC["properties"]["metrics"]["items"]["properties"]["name"]["enum"] == list(metrics.BY_NAME)


def test_every_rule_has_a_fixed_message_that_is_short_enough() -> None:
    for rules in admission.by_place().values():
        for rule in rules:
            assert set(rule) <= {"rule", "message", "fieldPath"}
            assert 0 < len(rule["message"]) <= 2048
            assert "\n" not in rule["message"]


def test_labels_that_a_metric_cannot_carry_follow_from_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    class OwnersOnly(metrics.Metric):
        @property
        def allowed_labels(self) -> tuple[str, ...]:
            return metrics.OWNER_LABELS

    listen = OwnersOnly(0, "listen", "ebpf_tcp_listen_total", metrics.Kind.COUNTER, "For this test.", ())
    monkeypatch.setattr(metrics, "CATALOGUE", (listen,))
    monkeypatch.setattr(metrics, "BY_NAME", {"listen": listen})
    messages = [rule["message"] for rule in admission.by_place()["metrics", admission.ITEMS]]
    assert messages[0].startswith(
        "listen cannot carry src_ip, src_port, dst_ip, dst_port, pid: allowed are namespace"
    )
    monkeypatch.setitem(
        structure.spec()["properties"]["metrics"]["items"]["properties"]["name"], "enum", ["listen"]
    )
    with pytest.raises(config.ConfigError, match="metric listen cannot carry 'dst_port'"):
        config.load("metrics: [{name: listen, labels: [dst_port]}]", source="-")

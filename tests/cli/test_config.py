"""`flowlens config`: explanations, refusals, and a default text that cannot disagree with the definitions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flowlens import cli, config, metrics
from flowlens.cli import default_config

from . import conftest


def _examples() -> list[Path]:
    return sorted((conftest.ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", _examples(), ids=lambda path: path.stem)
def test_every_example_is_explained(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "explain", str(path)]) == 0
    assert capsys.readouterr().out == config.explain(config.load(path.read_text(), source="-")) + "\n"


def test_standard_input_is_read_for_a_dash(run: conftest.Run) -> None:
    done = run("config", "explain", "-", text="metrics: [{name: connect, enabled: false}]")
    assert done.returncode == 0, done.stderr
    assert "Measures 9 of 10 metrics" in done.stdout


def test_every_problem_of_a_file_is_listed_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("metrics:\n- name: konnect\nlimits: {maxFlows: 0}\n")
    assert cli.main(["config", "explain", str(path)]) == 1
    problems = capsys.readouterr().err.splitlines()
    assert len(problems) == 2
    assert problems[0].startswith(f"{path}:2: ")
    assert "did you mean connect" in problems[0]
    assert problems[1].startswith(f"{path}:3: ")


def test_standard_input_is_named_in_problems(run: conftest.Run) -> None:
    done = run("config", "explain", "-", text="no_such_field: 1")
    assert done.returncode == 1
    assert done.stderr.startswith("standard input:1: ")


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_read_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "explain", name]) == 1
    assert capsys.readouterr().err.startswith(f"{name}: ")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "latin1.yaml"
    path.write_bytes(b"podLabels: [\xe9]")
    assert cli.main(["config", "explain", str(path)]) == 1
    assert "not text in UTF-8 (byte 12)" in capsys.readouterr().err


def test_the_default_text_changes_nothing() -> None:
    assert config.load(default_config.text(), source="default") == config.Spec()


def test_the_default_text_comments_every_field() -> None:
    lines = default_config.text().splitlines()
    fields = [number for number, line in enumerate(lines) if re.match(r" +\w+:", line)]
    spec = lines.index("spec:")
    assert all(lines[number - 1].lstrip().startswith("# ") for number in fields if number > spec)


def test_the_default_text_names_every_metric() -> None:
    text = default_config.text()
    assert all(f"# - {metric.name}: {metric.exposed}" in text for metric in metrics.CATALOGUE)


def test_the_example_in_the_default_text_is_valid_when_its_comment_signs_go() -> None:
    head, _, rest = default_config.text().partition("  metrics: []\n")
    example, _, tail = rest.partition("\n\n")
    _, _, example = example.partition("  # metrics:\n")
    uncommented = re.sub(r"(?m)^  # ", "  ", example)
    spec = config.load(f"{head}  metrics:\n{uncommented}\n\n{tail}", source="default")
    assert [entry.name for entry in spec.metrics] == ["connect_duration"]


def test_the_default_text_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "default"]) == 0
    assert capsys.readouterr().out == default_config.text()

"""Flags, their FLOWLENS_* variables, and what a wrong value is answered with."""

from __future__ import annotations

import argparse

import pytest

from flowlens.cli import arguments, machine


def _parser() -> arguments.Parser:
    parser = arguments.Parser("flowlens thing", "About.", (("flowlens thing", "do it"),))
    parser.flag(
        "--log-level", default="info", type=arguments.one_of(("info", "debug")), metavar="L", help="-"
    )
    return parser


def test_the_default_holds_without_flag_and_variable() -> None:
    assert _parser().read([]).log_level == "info"


def test_the_variable_wins_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWLENS_LOG_LEVEL", "debug")
    assert _parser().read([]).log_level == "debug"


def test_the_flag_wins_over_the_variable_even_over_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWLENS_LOG_LEVEL", "nonsense")
    assert _parser().read(["--log-level", "debug"]).log_level == "debug"


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWLENS_LOG_LEVEL", "")
    assert _parser().read([]).log_level == "info"


def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLOWLENS_LOG_LEVEL", "debog")
    with pytest.raises(SystemExit) as ended:
        _parser().read([])
    assert ended.value.code == arguments.USAGE_STATUS
    message = "environment variable FLOWLENS_LOG_LEVEL: 'debog' is none of info, debug; did you mean debug?"
    assert message in capsys.readouterr().err


def test_help_names_the_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parser().read(["--help"])
    assert "[FLOWLENS_LOG_LEVEL]" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["127.0.0.1:2112", "[::1]:2112", "localhost:0"])
def test_an_endpoint_is_kept_as_it_was_given(text: str) -> None:
    assert machine.endpoint(text) == text


@pytest.mark.parametrize("text", ["2112", "host", "host:x", "::1:2112", "host:65536", ":2112"])
def test_a_wrong_endpoint_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write HOST:PORT"):
        machine.endpoint(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "two"])
def test_seconds_must_be_a_number_above_zero(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="above 0"):
        arguments.positive(text)

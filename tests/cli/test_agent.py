"""`flowlens agent`: from the command line to agent.Options, and how a failed start looks."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowlens import agent, cli


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    former = (root.handlers[:], root.level, logging.raiseExceptions)
    yield
    root.handlers[:], root.level, logging.raiseExceptions = former[0], former[1], former[2]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[agent.Options]:
    """Options with which the agent was run; it says one line and ends."""
    options: list[agent.Options] = []

    def run(given: agent.Options, *, announce: Callable[[str], None]) -> int:
        options.append(given)
        announce("serving")
        return 0

    monkeypatch.setattr(agent, "run", run)
    return options


def _fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def run(given: agent.Options, *, announce: Callable[[str], None]) -> int:
        raise error

    monkeypatch.setattr(agent, "run", run)


def test_without_flags_the_options_are_the_agents_defaults(asked: list[agent.Options]) -> None:
    assert cli.main(["agent"]) == 0
    assert asked == [agent.Options()]


FLAGS: dict[str, tuple[str, str, Any]] = {
    "--listen": ("[::1]:9100", "listen", "[::1]:9100"),
    "--config": ("c.yaml", "config", Path("c.yaml")),
    "--engine": ("core", "engine", "core"),
    "--host-proc": ("/host/proc", "host_proc", Path("/host/proc")),
    "--host-cgroup": ("/host/cgroup", "host_cgroup", Path("/host/cgroup")),
    "--kube": ("off", "kube", "off"),
    "--node": ("n1", "node", "n1"),
    "--node-ip": ("10.0.0.1", "node_ip", "10.0.0.1"),
    "--identity-source": ("apiserver", "identity_source", "apiserver"),
    "--kubelet-ca": ("ca.pem", "kubelet_ca", Path("ca.pem")),
    "--kubelet-tls": ("insecure", "kubelet_verify", False),
    "--kubeconfig": ("k.yaml", "kubeconfig", Path("k.yaml")),
    "--cgroup-root": ("/one", "cgroup_root", "/one"),
    "--state-dir": ("/state", "state_dir", Path("/state")),
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_sets_its_option(flag: str, asked: list[agent.Options]) -> None:
    text, field, value = FLAGS[flag]
    assert cli.main(["agent", flag, text]) == 0
    assert asked == [dataclasses.replace(agent.Options(), **{field: value})]


@pytest.mark.parametrize("flag", FLAGS)
def test_its_variable_sets_the_same_option(
    flag: str, asked: list[agent.Options], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, field, value = FLAGS[flag]
    monkeypatch.setenv("FLOWLENS_" + flag[2:].replace("-", "_").upper(), text)
    assert cli.main(["agent"]) == 0
    assert asked == [dataclasses.replace(agent.Options(), **{field: value})]


def test_every_option_has_a_flag() -> None:
    fields = {field.name for field in dataclasses.fields(agent.Options)}
    assert fields == {field for _, field, _ in FLAGS.values()} | {"tls_cert", "tls_key"}


def test_certificate_and_key_go_together(
    asked: list[agent.Options], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["agent", "--tls-cert", "c.pem"]) == 2
    assert "--tls-cert and --tls-key belong together" in capsys.readouterr().err
    assert cli.main(["agent", "--tls-cert", "c.pem", "--tls-key", "k.pem"]) == 0
    assert (asked[0].tls_cert, asked[0].tls_key) == (Path("c.pem"), Path("k.pem"))


def test_people_read_the_announcement_on_stdout(
    asked: list[agent.Options], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["agent"])
    assert capsys.readouterr().out == "serving\n"


def test_with_json_the_announcement_is_a_line_of_the_log(
    asked: list[agent.Options], capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["agent", "--log-format", "json"])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert json.loads(shown.err)["msg"] == "serving"


@pytest.mark.parametrize(
    "error",
    [
        agent.StartError("the port is taken: use --listen"),
        OSError("the port is taken: use --listen"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failed_start_is_one_message_and_status_1(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _fails(monkeypatch, error)
    assert cli.main(["agent"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "flowlens agent: the port is taken: use --listen\n"


def test_the_traceback_of_a_failed_start_is_for_debugging(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _fails(monkeypatch, agent.StartError("no"))
    assert cli.main(["agent", "--log-level", "debug"]) == 1
    assert "exception=" in capsys.readouterr().err

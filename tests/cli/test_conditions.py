"""Single conditions of `flowlens check`, each made so."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path

import pytest

from flowlens.cli import conditions
from flowlens.kernel import core

from . import stand_in

OK, WARNING, FAILED = conditions.State.OK, conditions.State.WARNING, conditions.State.FAILED


def test_a_free_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert conditions.port(Path("/proc"), f"127.0.0.1:{port}").state is OK


def test_the_process_that_holds_the_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.settimeout(0)
        found = conditions.port(Path("/proc"), f"127.0.0.1:{port}")
    assert found.state is WARNING
    assert f"port {port} is taken by pid {os.getpid()} (" in found.detail
    assert f"--listen 127.0.0.1:{port + 1}" in found.remedy


def test_an_agent_that_holds_the_port_is_recognised() -> None:
    with stand_in.serving(status_page='{"version": "1.2.3", "engine": "core", "node": "n"}') as agent:
        found = conditions.port(Path("/proc"), f"127.0.0.1:{agent.port}")
    assert found.detail.endswith(", a flow-lens agent 1.2.3")
    assert found.remedy.startswith("one agent per host is enough")


def test_another_server_that_holds_the_port_is_no_agent() -> None:
    with stand_in.serving(status_page='{"version": "1.2.3"}') as other:
        assert "agent" not in conditions.port(Path("/proc"), f"127.0.0.1:{other.port}").detail


def test_an_address_that_is_not_ours_is_told() -> None:
    found = conditions.port(Path("/proc"), "192.0.2.1:2112")
    assert found.state is WARNING
    assert "192.0.2.1:2112" in found.detail
    assert "no interface has this address" in found.detail + found.remedy


def test_this_machines_cgroups_are_found() -> None:
    assert conditions.cgroups(Path("/sys/fs/cgroup")).state is OK


def test_a_pure_v2_layout_is_told_from_a_hybrid_one(tmp_path: Path) -> None:
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified" / "cgroup.controllers").touch()
    assert conditions.cgroups(tmp_path).detail.startswith("hybrid, v2 at ")
    (tmp_path / "cgroup.controllers").touch()
    assert conditions.cgroups(tmp_path).detail.startswith("v2 at ")


def test_a_host_with_v1_only_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    found = conditions.cgroups(tmp_path)
    assert found.state is WARNING
    assert found.detail == f"no cgroup v2 below {tmp_path}"
    assert "--host-cgroup" in found.remedy


def test_a_part_of_the_hierarchy_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "cgroup.type").touch()
    found = conditions.cgroups(tmp_path)
    assert found.state is WARNING
    assert "a part of the hierarchy only" in found.detail


def test_this_machines_processes_are_seen() -> None:
    assert conditions.processes(Path("/proc")).state is OK


@pytest.mark.parametrize("missing", [False, True])
def test_a_proc_without_processes_is_warned_of(tmp_path: Path, missing: bool) -> None:
    found = conditions.processes(tmp_path / "missing" if missing else tmp_path)
    assert found.state is WARNING
    assert "--host-proc" in found.remedy


@pytest.mark.parametrize(
    ("release", "state"),
    [
        ("5.10.0-30-amd64", WARNING),
        ("4.18.0-553.el8", WARNING),
        ("5.11.0", OK),
        ("6.18.44-x", OK),
        ("7.2.0", OK),
    ],
)
def test_kernels_older_than_the_engine_are_warned_of(
    release: str, state: conditions.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    assert conditions.kernel().state is state


def test_programs_that_were_not_built_are_told_with_how_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(core, "__file__", str(tmp_path / "kernel" / "core.py"))
    found = conditions.programs()
    assert (found.state, found.remedy) == (FAILED, "build it with `make bpf` (needs clang 14 or newer)")


@pytest.mark.parametrize(
    ("message", "halves"),
    [
        ("it is gone: look for it", ("it is gone", "look for it")),
        ("x (why: y): do: z", ("x (why: y)", "do: z")),
        ("/a:b is gone", ("/a:b is gone", "")),
    ],
)
def test_our_errors_are_told_apart_into_reason_and_remedy(message: str, halves: tuple[str, str]) -> None:
    assert conditions.split(message) == halves

"""`flowlens check` on this kernel, and with each thing taken away that it looks for."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flowlens.kernel import libbpf, probes

from . import conftest

pytestmark = pytest.mark.kernel

NO_CAPABILITY = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
CORE = {program.hook for program in probes.PROGRAMS if program.core}


def _without(*mounts: str) -> tuple[str, ...]:
    """Runs what follows in a mount namespace of its own, after these commands."""
    return ("unshare", "--mount", "sh", "-c", f'{" && ".join(mounts)} && exec "$@"', "sh")


def _report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _condition(report: dict[str, Any], name: str) -> dict[str, str]:
    return next(entry for entry in report["conditions"] if entry["name"] == name)


def _library_path() -> str:
    libbpf.library()
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(line.split()[-1] for line in lines if "libbpf.so" in line)


def test_the_core_set_runs_on_this_machine(run: conftest.Run) -> None:
    done = run("check", "--json")
    report = _report(done)
    assert done.returncode == 0
    assert (report["ok"], report["engine"]) == (True, "core")
    assert {probe["hook"] for probe in report["probes"] if probe["up"] and probe["core"]} == CORE


def test_every_probe_is_listed_with_its_purpose(run: conftest.Run) -> None:
    listed = [(probe["hook"], probe["purpose"]) for probe in _report(run("check", "--json"))["probes"]]
    assert listed == [(program.hook, program.purpose) for program in probes.PROGRAMS]


def test_no_program_stays_in_the_kernel(run: conftest.Run) -> None:
    before = _program_ids()
    assert run("check").returncode == 0
    # Freed after a grace period; other tests and agents may load programs of their own meanwhile.
    conftest.wait_until(lambda: not _holders(_program_ids() - before), lambda: "programs stay loaded")


def _program_ids() -> set[int]:
    shown = subprocess.run(["bpftool", "--json", "prog"], capture_output=True, check=True, timeout=30).stdout
    return {entry["id"] for entry in json.loads(shown)}


def _holders(ids: set[int]) -> set[int]:
    """Those of these programs that no running process holds."""
    shown = subprocess.run(["bpftool", "--json", "prog"], capture_output=True, check=True, timeout=30).stdout
    return {entry["id"] for entry in json.loads(shown) if entry["id"] in ids and not entry.get("pids")}


def test_without_capabilities_it_says_which_and_fails(run: conftest.Run) -> None:
    done = run("check", "--json", before=NO_CAPABILITY)
    report = _report(done)
    privileges = _condition(report, "privileges")
    assert done.returncode == 1
    assert privileges["state"] == "failed"
    assert privileges["detail"] == "this process lacks CAP_BPF and CAP_PERFMON"
    assert privileges["remedy"].startswith("run it as root")
    assert not any(probe["up"] for probe in report["probes"])
    assert all(probe["reason"] and probe["remedy"] for probe in report["probes"])


def test_as_nobody_it_fails_with_a_report_and_no_traceback() -> None:
    # The interpreter may lie where nobody cannot reach it, so everything is imported before.
    program = (
        "import contextlib, io, os; from flowlens import cli\n"
        "with contextlib.redirect_stdout(io.StringIO()): cli.main(['check'])\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "raise SystemExit(cli.main(['check', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=conftest.ROOT,
        capture_output=True,
        text=True,
        timeout=conftest.DEADLINE_SECONDS,
        check=False,
    )
    report = _report(done)
    assert done.returncode == 1
    assert _condition(report, "privileges")["state"] == "failed"
    assert _condition(report, "processes")["state"] == "warning"


def test_without_btf_it_says_so_and_fails(run: conftest.Run) -> None:
    done = run("check", "--json", "--engine", "core", before=_without("mount -t tmpfs none /sys/kernel/btf"))
    report = _report(done)
    types = _condition(report, "kernel types")
    assert done.returncode == 1
    assert types["state"] == "failed"
    assert types["detail"] == "kernel has no BTF (/sys/kernel/btf/vmlinux is missing)"
    assert types["remedy"]


def test_without_libbpf_it_says_what_to_install(run: conftest.Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    hide = f"mount --bind {shlex.quote(str(empty))} {shlex.quote(_library_path())}"
    done = run("check", "--json", before=_without(hide))
    report = _report(done)
    library = _condition(report, "libbpf")
    assert done.returncode == 1
    assert library["state"] == "failed"
    assert "libbpf.so.1 cannot be loaded" in library["detail"]
    assert "apt-get install libbpf1" in library["remedy"]


def test_an_unreadable_proc_is_a_condition_and_no_traceback(run: conftest.Run) -> None:
    done = run("check", "--json", before=_without("mount -t tmpfs none /proc"))
    report = _report(done)
    assert done.returncode == 1
    assert _condition(report, "privileges")["detail"].startswith(
        "capabilities of this process cannot be read (/proc"
    )
    assert _condition(report, "processes")["detail"] == "/proc shows no process"


@pytest.mark.parametrize("is_there", [True, False])
def test_headers_that_the_kernel_carries_are_said_not_to_be_used(run: conftest.Run, is_there: bool) -> None:
    archive = "touch /sys/kernel/kheaders.tar.xz" if is_there else "true"
    hide = _without("mount -t tmpfs none /sys/kernel", archive)  # with it goes the kernel's BTF
    done = run("check", environment={"FLOWLENS_KERNEL_HEADERS": "/nowhere"}, before=hide)
    shown = " ".join(done.stdout.split())
    assert "apt-get install linux-headers-" in shown
    assert ("/sys/kernel/kheaders.tar.xz is there, but is not used" in shown) is is_there


def test_several_gaps_show_at_once(run: conftest.Run) -> None:
    hide = _without("mount -t tmpfs none /sys/kernel/btf")
    report = _report(run("check", "--json", before=(*hide, *NO_CAPABILITY)))
    failed = [entry["name"] for entry in report["conditions"] if entry["state"] == "failed"]
    assert failed == ["privileges", "kernel types"]


def test_a_taken_port_is_a_warning_and_no_failure(run: conftest.Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken.settimeout(0)
        done = run("check", "--json", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 0
    assert f"pid {os.getpid()} (" in _condition(_report(done), "port")["detail"]


def test_the_table_has_a_sign_for_each_line_and_no_colour_in_a_pipe(run: conftest.Run) -> None:
    shown = run("check").stdout
    assert "  ✓ inet_sock_set_state " in shown
    assert "\x1b" not in shown


def test_the_table_is_ascii_where_stdout_is_no_utf_8(run: conftest.Run) -> None:
    done = run("check", environment={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}, before=NO_CAPABILITY)
    assert done.stdout.isascii()
    assert "  XX privileges " in done.stdout
    assert "-> run it as root" in done.stdout


def test_a_reason_that_all_probes_share_is_told_once(run: conftest.Run) -> None:
    _, _, shown = run("check", before=NO_CAPABILITY).stdout.partition("Probes")
    assert shown.count("→ run it as root") == 1
    assert shown.count(": the same") == len(probes.PROGRAMS) - 1

"""What an agent needs and does not find: one message that says what to do, status 1, never a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.agent import process
from tests.agent.conftest import StartAgent

pytestmark = pytest.mark.kernel

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")


def _without(path: Path) -> tuple[str, ...]:
    """A mount namespace in which a folder is empty, or a file has no content."""
    mount = f"mount -t tmpfs none {path}" if path.is_dir() else f"mount --bind {os.devnull} {path}"
    return ("unshare", "--mount", "sh", "-ec", f'{mount}; exec "$@"', "sh")


def _libbpf() -> Path:
    """Where the dynamic linker finds it."""
    listed = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    return next(
        Path(line.split(" => ")[1]).resolve() for line in listed.splitlines() if "libbpf.so.1 " in line
    )


def test_without_privileges_it_says_which_are_missing_and_how_to_get_them() -> None:
    said = process.refused(process.free_port(), before=NOBODY)
    assert "this process lacks CAP_BPF and CAP_PERFMON: run it as root" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("engine", ["core", "bcc", "auto"])
def test_without_proc_it_says_that_capabilities_cannot_be_read_and_what_to_mount(engine: str) -> None:
    said = process.refused(process.free_port(), "--engine", engine, before=_without(Path("/proc")))
    assert "capabilities of this process cannot be read (/proc/self/status: No such file" in said
    assert "mount a proc file system on /proc" in said
    assert len(said.splitlines()) == 1


def test_without_btf_engine_core_names_the_kernel_option_and_the_other_engine() -> None:
    said = process.refused(process.free_port(), "--engine", "core", before=_without(Path("/sys/kernel/btf")))
    for word in ("kernel has no BTF", "/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF=y", "--engine bcc"):
        assert word in said
    assert len(said.splitlines()) == 1


def test_without_btf_auto_says_of_both_engines_what_to_install() -> None:
    """The headers of this kernel are nowhere, else bcc would run: see tests/kernel/test_bcc_engine.py."""
    no_headers = ("env", "FLOWLENS_KERNEL_HEADERS=/nowhere", *_without(Path("/sys/kernel/btf")))
    said = process.refused(process.free_port(), "--engine", "auto", before=no_headers)
    for word in ("no engine runs here", "core: kernel has no BTF", "bcc: ", "FLOWLENS_KERNEL_HEADERS"):
        assert word in said


def test_without_libbpf_it_names_the_packages() -> None:
    said = process.refused(process.free_port(), "--engine", "core", before=_without(_libbpf()))
    assert "libbpf.so.1 cannot be loaded" in said
    assert "apt-get install libbpf1" in said
    assert len(said.splitlines()) == 1


def test_a_port_that_is_taken_is_told_with_who_holds_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = process.refused(port)
    assert f"port {port} is taken by pid {os.getpid()} (" in said
    assert f"--listen 127.0.0.1:{port + 1}" in said


def test_a_second_agent_on_the_same_port_is_refused_and_the_first_serves_on(start_agent: StartAgent) -> None:
    first = start_agent()
    said = process.refused(first.port)
    assert f"port {first.port} is taken by pid {first.pid} (flowlens)" in said
    assert first.scrape().own("scrapes_total") >= 1


BAD_FILES = {
    "missing": (None, ["cannot be read", "No such file", "--config"]),
    "empty": ("", ["is empty", "{}"]),
    "wrong value": ("metrics: [{name: conect}]", ["metrics[0].name", "'conect'", "connect_failures"]),
    "no YAML": ("a: [", ["not YAML"]),
    "no text": (b"\xff\xfe\x00", ["cannot be read"]),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_configuration_at_start_is_told_with_its_file(what: str, tmp_path: Path) -> None:
    content, words = BAD_FILES[what]
    file = tmp_path / "flowlens.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = process.refused(process.free_port(), "--config", str(file))
    for word in (str(file), *words):
        assert word in said
    assert "stays" not in said  # there is none that could

"""Engine `core` on kernels that lack something: a copy of the object asks for what this kernel does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowlens.kernel import core, errors, probes, tracer
from tests.kernel import conftest

pytestmark = pytest.mark.kernel
ABSENT = "inet_sk_error_repxyz"


def _ask_for(monkeypatch: pytest.MonkeyPatch, folder: Path, old: bytes, new: bytes) -> None:
    assert len(old) == len(new)
    content = Path(core.object_path()).read_bytes()
    assert old in content
    changed = folder / "changed.bpf.o"
    changed.write_bytes(content.replace(old, new))
    monkeypatch.setattr(core, "object_path", lambda: str(changed))


def test_a_tracepoint_that_the_kernel_lacks_costs_its_program_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _ask_for(monkeypatch, tmp_path, b"tp_btf/inet_sk_error_report\0", f"tp_btf/{ABSENT}\0".encode())
    hooks = {**probes.TRACEPOINTS, "inet_sk_error_report": ABSENT}
    monkeypatch.setattr(probes, "TRACEPOINTS", hooks)
    loaded = core.load()
    running = tracer.Tracer(loaded, conftest.EVERYTHING)
    running.start()
    down = {probe.hook: probe.reason for probe in running.probe_states() if not probe.up}
    running.close()
    assert down == {"inet_sk_error_report": "this kernel has no such tracepoint"}


def test_an_object_of_another_version_is_refused_with_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _ask_for(monkeypatch, tmp_path, b"hook_tcp_send_reset\0", b"hook_tcp_xxxx_reset\0")
    with pytest.raises(errors.LoadFailed, match="hook_tcp_send_reset"):
        core.load()

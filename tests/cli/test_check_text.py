"""The report of `flowlens check` on terminals of all kinds, and remedies of probes that fail alone."""

from __future__ import annotations

import io
import re

import pytest

from flowlens import metrics
from flowlens.cli import check, check_text, conditions
from flowlens.kernel import core, engines, probes


class Terminal(io.StringIO):
    """A terminal with an encoding of its choice."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True


def _report(*, failed: tuple[str, ...] = ()) -> check.Report:
    found = tuple(
        check.ProbeFinding(
            program.hook,
            program.purpose,
            program.core,
            up=program.hook not in failed,
            reason=f"{program.hook} is missing in this kernel" if program.hook in failed else "",
            remedy="use a newer kernel" if program.hook in failed else "",
        )
        for program in probes.PROGRAMS
    )
    kernel = conditions.Finding("kernel", conditions.State.OK, "Linux 6.1 on x86_64")
    return check.Report("1.0", "core", (kernel,), found)


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = check_text.render(_report(failed=("tcp_send_reset",)), Terminal())
    assert "\x1b[32m✓\x1b[0m kernel" in shown
    assert "\x1b[31m✗\x1b[0m tcp_send_reset" in shown


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in check_text.render(_report(), Terminal())


@pytest.mark.parametrize("columns", [60, 100])
def test_lines_fit_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = _plain(check_text.render(_report(failed=("tcp_send_reset", "task_file")), Terminal()))
    table, _, _ = shown.rpartition("\n\n")
    assert max(map(len, table.splitlines())) <= columns


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "no-such-encoding"])
def test_terminals_that_lack_the_signs_get_others(encoding: str) -> None:
    assert _plain(check_text.render(_report(), Terminal(encoding))).isascii()


def test_a_missing_core_probe_means_that_the_agent_cannot_run() -> None:
    report = _report(failed=("tcp_send_reset",))
    assert not report.ok
    assert "cannot run here yet" in check_text.render(report, io.StringIO())


def test_another_missing_probe_is_a_restriction() -> None:
    report = _report(failed=("task_file",))
    assert report.ok
    shown = check_text.render(report, io.StringIO())
    assert "! task_file" in shown or "!! task_file" in shown
    assert "with the restrictions marked above" in shown


def _loaded_without(
    monkeypatch: pytest.MonkeyPatch, failures: dict[str, str]
) -> dict[str, check.ProbeFinding]:
    monkeypatch.setattr(engines, "load", lambda _engine: core.Loaded("core", {}, {}, failures, dict))
    engine, found = check.load("auto")
    assert engine == "core"
    return {probe.hook: probe for probe in found}


def test_a_probe_that_the_kernel_lacks_names_the_metrics_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _loaded_without(monkeypatch, {metrics.SEND_RESET: "this kernel has no such tracepoint"})
    assert not found[metrics.SEND_RESET].up
    assert (
        found[metrics.SEND_RESET].remedy
        == "use a newer kernel; without it these stay empty: ebpf_tcp_reset_total"
    )
    assert found[metrics.RECEIVE_RESET].up


def test_a_refusal_in_spite_of_capabilities_points_at_lockdown(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _loaded_without(monkeypatch, {"task_file": "load x: Operation not permitted (EPERM)"})
    assert "/sys/kernel/security/lockdown" in found["task_file"].remedy


def test_a_program_that_the_verifier_refuses_is_to_be_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _loaded_without(monkeypatch, {"task_file": "R1 type=ptr_ expected=sock"})
    assert found["task_file"].remedy.startswith("report it with the output of `flowlens check --json`")
    assert found["task_file"].remedy.endswith("not available: sockets that were open before the agent")

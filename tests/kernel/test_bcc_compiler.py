"""The compiler's process: without privileges, within limits, and every way it can fail told in one clear error."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from flowlens.kernel import errors
from flowlens.kernel.bcc import compiler, sources
from tests.kernel.counts import until

CHILD = (resources.files("flowlens.kernel.bcc") / "child.py").read_text()
DEFINITIONS = CHILD[: CHILD.index("\nOUT = ")]
"""Of the child's script, without what it does."""
# bcc takes functions of included files only when a macro makes them, as HOOK does.
PROGRAM = "#define PROGRAM(name) int name(void *ctx)\n"


def _order(text: str) -> compiler.Order:
    return compiler.Order(files={"main.h": PROGRAM + text}, main="main.h", tree=sources.STAND_IN)


NOTHING = _order("PROGRAM(nothing) { return 0; }")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    before = set(Path(tempfile.gettempdir()).glob("flowlens-bcc-*")), _children(), _open_files()
    yield
    assert (set(Path(tempfile.gettempdir()).glob("flowlens-bcc-*")), _children(), _open_files()) == before


def _children() -> set[int]:
    return {
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
    }


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_function_comes_back_as_instructions() -> None:
    compiled = compiler.compile_programs(NOTHING)
    assert compiled.functions == {
        "nothing": bytes.fromhex("b700000000000000 9500000000000000")
    }  # r0 = 0; exit


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_while_it_compiles_it_has_no_privilege_of_any_kind() -> None:
    many = _order("\n".join(f"PROGRAM(f{number}) {{ return {number}; }}" for number in range(500)))
    worker = threading.Thread(target=compiler.compile_programs, args=(many,))
    worker.start()
    try:
        until(lambda: any(_status(pid).get("Seccomp") == "2" for pid in _children()), "a confined child")
        (child,) = _children()
        status = _status(child)
        assert status["Uid"].split() == ["65534"] * 4
        assert status["Gid"].split() == ["65534"] * 4
        assert status["Groups"] == ""
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"
        assert os.readlink(f"/proc/{child}/ns/net") != os.readlink("/proc/self/ns/net")
        assert len(os.listdir(f"/proc/{child}/fd")) <= 6
        limits = Path(f"/proc/{child}/limits").read_text()
        assert re.search(rf"Max address space +{compiler.MEMORY_BYTES} +{compiler.MEMORY_BYTES}", limits)
        assert re.search(rf"Max cpu time +{compiler.CPU_SECONDS} +{compiler.CPU_SECONDS}", limits)
        assert re.search(r"Max core file size +0 +0", limits)
        assert Path(f"/proc/{child}/oom_score_adj").read_text().strip() == "1000"
    finally:
        worker.join()


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.socket(socket.AF_INET)",
        "socket.socket(socket.AF_UNIX)",
        "os.setuid(0)",
        "open('/etc/shadow').read()",
        "open(f'/proc/{order[\"parent\"]}/maps').read()",
        "open('/etc/flow-lens-test', 'w')",
    ],
)
def test_it_may_not(attempt: str) -> None:
    script = (
        f"{DEFINITIONS}\nimport socket\nOUT = os.dup(1)\norder = json.load(sys.stdin)\nlimit(order['limits'])\n"
        "leave_network()\ndrop_privileges(order['uid'])\nrefuse_calls()\n"
        f"try:\n    {attempt}\nexcept OSError as error:\n    fail('compile', f'refused {{error.strerror}}')\n"
        "fail('compile', 'allowed')\n"
    )
    with pytest.raises(compiler.CompilerFailed, match=r"refused (Operation not permitted|Permission denied)"):
        compiler.compile_programs(NOTHING, script=script)


def test_an_error_in_the_source_is_told_in_the_compilers_words() -> None:
    with pytest.raises(compiler.CompilerFailed, match="use of undeclared identifier 'oops'"):
        compiler.compile_programs(_order("PROGRAM(nothing) { return oops; }"))


def test_a_python_without_bcc_is_told_with_the_package_to_install() -> None:
    without = sys.executable  # the virtual environment's Python has no bcc
    with pytest.raises(errors.Unavailable, match="python3-bpfcc"):
        compiler.compile_programs(NOTHING, python=without)


def test_a_missing_python_is_told_with_the_package_to_install(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match="python3-bpfcc"):
        compiler.compile_programs(NOTHING, python=str(tmp_path / "python3"))


def test_one_that_hangs_is_stopped_with_all_it_started() -> None:
    script = "import subprocess, sys; print('stuck', file=sys.stderr); subprocess.run(['sleep', '1000'])"
    with pytest.raises(compiler.CompilerFailed, match="did not finish within 1 s and was stopped: stuck"):
        compiler.compile_programs(NOTHING, script=script, wall_seconds=1)
    until(
        lambda: not any("sleep\x001000" in _command(pid) for pid in _all_pids()), "the child's child is gone"
    )


def _all_pids() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_one_that_is_killed_is_told_with_the_likely_cause() -> None:
    script = "import os; os.kill(os.getpid(), 9)"
    with pytest.raises(compiler.CompilerFailed, match=r"died of SIGKILL \(out of memory\?\)"):
        compiler.compile_programs(NOTHING, script=script)


def test_one_that_needs_more_memory_than_allowed_fails_and_says_so() -> None:
    with pytest.raises((compiler.CompilerFailed, errors.Unavailable), match=r"emory|allocate|map segment"):
        compiler.compile_programs(NOTHING, memory_bytes=100 << 20)


def test_one_that_burns_cpu_time_without_end_is_stopped_by_its_limit() -> None:
    order = "order = json.load(sys.stdin)\norder['limits']['seconds'] = 1\nlimit(order['limits'])"
    script = f"{DEFINITIONS}\n{order}\nwhile True: pass"
    with pytest.raises(compiler.CompilerFailed, match=r"SIGXCPU|SIGKILL"):
        compiler.compile_programs(NOTHING, script=script)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "garbage",
        "{}",
        "[1, 2]",
        '{"bcc": "1", "functions": {}, "peak_kib": 1}',
        '{"bcc": "1", "functions": {"f": "AAAA"}, "peak_kib": 1}',
        '{"bcc": "1", "functions": {"f": "no base64!"}, "peak_kib": 1}',
        '{"bcc": "1", "functions": {"../f": "AAAAAAAAAAA="}, "peak_kib": 1}',
        '{"bcc": "1", "functions": {"f": "AAAAAAAAAAA="}, "peak_kib": 1, "more": 1}',
        '{"bcc": "1", "functions": {"f": 7}, "peak_kib": 1}',
    ],
)
def test_an_answer_that_is_no_answer_is_refused(answer: str) -> None:
    with pytest.raises(compiler.CompilerFailed, match="the bcc compiler"):
        compiler.compile_programs(NOTHING, script=f"print({answer!r}, end='')")


def test_one_that_talks_without_end_is_refused() -> None:
    script = "import sys\nfor _ in range(100): sys.stdout.write('x' * 100000)"
    with pytest.raises(compiler.CompilerFailed, match="more than"):
        compiler.compile_programs(NOTHING, script=script)


def test_its_messages_reach_the_error_when_it_exits_without_an_answer() -> None:
    script = "import sys; sys.exit('LLVM ERROR: something is wrong')"
    with pytest.raises(compiler.CompilerFailed, match=r"exit status 1.*LLVM ERROR: something is wrong"):
        compiler.compile_programs(NOTHING, script=script)

"""`python -m benchmarks` knows every benchmark there is, and says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_help_lists_every_module_that_can_be_run_as_a_part() -> None:
    there = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if "\ndef run() -> None:" in path.read_text(encoding="utf-8")
    }
    done = _bench("--help")
    assert done.returncode == 0, done.stderr
    listed = {line.split()[0] for line in done.stdout.partition("parts:")[2].splitlines() if line[:2] == "  "}
    assert "controller" in listed
    assert listed == there


def test_a_part_that_is_not_there_is_refused_with_those_that_are() -> None:
    done = _bench("no_such_part")
    assert done.returncode == 2
    assert "no part 'no_such_part'" in done.stderr
    assert "controller" in done.stderr

"""What tests of the commands share: a command run as users run it, and a wait that ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "flowlens")
DEADLINE_SECONDS = 20.0

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run() -> Run:
    """Runs `flowlens ARGUMENTS` as a process of its own; `before` goes in front, as in `setpriv ...`."""

    def start(
        *arguments: str,
        before: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, *COMMAND, *arguments],
            cwd=ROOT,
            env={**own_environment(), **(environment or {})},
            input=text,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    return start


def own_environment() -> dict[str, str]:
    """The environment without what would change the commands' output."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("FLOWLENS_", "PYTHONIO"))
    } | {"PYTHONUTF8": "1"}


@pytest.fixture(autouse=True)
def _no_flags_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FLOWLENS_"):
            monkeypatch.delenv(name)


def wait_until(condition: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    """Returns when `condition` holds; fails with `what()` at the deadline."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)

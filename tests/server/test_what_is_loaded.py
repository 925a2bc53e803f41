"""What an endpoint brings into the process: each of these modules was a megabyte or more on every node."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADS = "import sys; from flowlens.agent import node; from flowlens.server import process_metrics, running;"


def _run(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, timeout=60, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "module",
    ["ssl", "_ssl", "_hashlib", "importlib.metadata", "prometheus_client", "urllib.request", "http.client"],
)
def test_an_endpoint_without_tls_does_not_load_what_it_does_not_need(module: str) -> None:
    assert _run(f"{LOADS} running.Server; print({module!r} in sys.modules)") == "False\n"


@pytest.mark.parametrize("module", ["ssl", "importlib.metadata"])
def test_what_was_away_while_cheroot_was_imported_can_be_imported_afterwards(module: str) -> None:
    assert _run(f"{LOADS} import {module}; print({module}.__file__ is not None)") == "True\n"


@pytest.mark.parametrize("module", ["ssl", "importlib.metadata"])
def test_what_was_there_before_cheroot_stays(module: str) -> None:
    assert _run(f"import {module} as before; {LOADS} print(sys.modules[{module!r}] is before)") == "True\n"

"""Builds a /proc tree in a folder from a table: tests/fixtures/proc/<distribution>.yaml.

A table is a mapping pid -> {comm, netns, cgroup}. `netns: denied` makes a link that cannot be read
(an OSError other than "gone", also for root); a missing netns is a process that vanishes mid-read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

TABLES = Path(__file__).parents[1] / "fixtures" / "proc"


def build(root: Path, distribution: str) -> Path:
    """The recorded tree `distribution` under `root`; returns the folder that stands for /proc."""
    table = yaml.safe_load((TABLES / f"{distribution}.yaml").read_text())
    proc = root / "proc"
    proc.mkdir()
    for name in ("self", "uptime", "sys"):  # what is no process
        (proc / name).touch()
    for pid, process in table.items():
        add(proc, pid, process)
    return proc


def add(proc: Path, pid: int, process: Mapping[str, Any]) -> None:
    """One more process."""
    folder = proc / str(pid)
    (folder / "ns").mkdir(parents=True)
    (folder / "comm").write_text(process.get("comm", "process") + "\n")
    netns = process.get("netns")
    if netns == "denied":
        (folder / "ns" / "net").touch()
    elif netns is not None:
        (folder / "ns" / "net").symlink_to(f"net:[{netns}]")
    if "cgroup" in process:
        (folder / "cgroup").write_text("".join(f"{line}\n" for line in process["cgroup"]))

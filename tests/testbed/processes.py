"""Starts the daemons of a node and finds them again: a daemon is its cgroup, not a pid file.

Each daemon gets a cgroup of its own below the node's, entered before its program starts.
So a pid is always right, after any crash and from any process, and the starter may die.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.testbed import cgroups, deadline, places, plan

HOLDER = "holder"
VISITORS = "visitors"

# Joins its cgroup first and becomes the program then. `setsid --fork` returns at once and
# leaves the program to init, which reaps it: a killed daemon is no zombie of the test run.
_JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


class DaemonError(Exception):
    """A daemon is not running where it should be."""


def cgroup(node: plan.Node, name: str) -> str:
    return f"{node.daemons_cgroup}/{name}"


def log(node: plan.Node, name: str) -> Path:
    return places.logs(node.name) / f"{name}.log"


def pid(node: plan.Node, name: str) -> int | None:
    """The pid of a daemon, or None. Its cgroup may hold others: containerd's holds the shims."""
    for candidate in cgroups.processes(cgroup(node, name)):
        if _program(candidate) == ("sleep" if name == HOLDER else name):
            return candidate
    return None


def _program(pid: int) -> str:
    """Name of the program that a process was started as; empty once it is dead."""
    try:
        first = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return ""
    return first.decode(errors="replace").rpartition("/")[2]


def running(node: plan.Node, name: str) -> int:
    """The pid of a daemon that must be running; otherwise DaemonError with the end of its log."""
    found = pid(node, name)
    if found is None:
        raise DaemonError(f"{name} does not run on {node.name}: {last_words(node, name)}")
    return found


def last_words(node: plan.Node, name: str) -> str:
    path = log(node, name)
    return path.read_text(errors="replace")[-1500:] if path.exists() else "it has no log"


def spawn(node: plan.Node, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Start a program in the daemon's cgroup, on the host's side of all namespaces."""
    folder = cgroups.folder(cgroup(node, name))
    folder.mkdir(parents=True, exist_ok=True)
    path = log(node, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as out:
        subprocess.run(
            ["setsid", "--fork", *joined(folder, argv)],
            check=True,
            env=dict(env) if env is not None else None,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def joined(folder: Path, argv: Sequence[str]) -> list[str]:
    """The command that enters a cgroup and then becomes `argv`."""
    return ["sh", "-c", _JOIN, str(folder), *argv]


def enter(node: plan.Node, *spaces: str) -> list[str]:
    """The command prefix that runs something inside the node; all its namespaces by default."""
    chosen = spaces or ("net", "mount", "uts")
    return ["nsenter", "--target", str(running(node, HOLDER)), *(f"--{space}" for space in chosen), "--"]


def visit(node: plan.Node, *spaces: str) -> list[str]:
    """Like `enter`, for commands that come and go: in a cgroup, so that `down` ends them too."""
    return joined(cgroups.folder(cgroup(node, VISITORS)), enter(node, *spaces))


def start(node: plan.Node, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
    """Start a daemon inside the node; argv[0] must end in the daemon's name."""
    spawn(node, name, [*enter(node), *argv], env)


def send(node: plan.Node, name: str, number: signal.Signals) -> None:
    """Send a signal to a running daemon, by its pid."""
    os.kill(running(node, name), number)


def end(node: plan.Node, name: str, number: signal.Signals, timeout_seconds: float = 20) -> None:
    """Send a signal that ends the daemon, and wait until it is gone."""
    target = running(node, name)
    os.kill(target, number)
    deadline.until(
        lambda: pid(node, name) != target,
        f"{name} of {node.name} to end after {number.name}",
        timeout_seconds,
    )

"""The commands: everything that talks to a person at a terminal.

`main` only finds the command; what a command needs is imported when it runs, so that `flowlens top`
never loads the kernel room and `flowlens config` loads neither. Exit status: 0 done, 1 it could not
be done (one message on stderr, never a traceback), 2 the command line is wrong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import flowlens
from flowlens.cli import arguments, failure

ABOUT = "TCP metrics of every container and service on this host, counted in the kernel by eBPF."
COMMANDS = (
    arguments.Command("agent", "run the agent and serve /metrics", "flowlens.cli.agent:main"),
    arguments.Command(
        "controller", "write the status of FlowLensConfigs, one per cluster", "flowlens.cli.controller:main"
    ),
    arguments.Command(
        "check", "say what this machine can run, and what to do where it cannot", "flowlens.cli.check:main"
    ),
    arguments.Command("top", "show a live table of a running agent's numbers", "flowlens.cli.top:main"),
    arguments.Command(
        "config", "explain a configuration, or print the default one", "flowlens.cli.config:main"
    ),
)
EXAMPLES = (
    ("flowlens check", "can this machine run it?"),
    ("sudo flowlens agent", "serve http://127.0.0.1:2112/metrics until Ctrl-C"),
    ("flowlens top", "who connects, what fails, what is retransmitted, now"),
    ("flowlens config explain limits.yaml", "what would this configuration do?"),
)
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def version() -> str:
    """Of this source."""
    return flowlens.__version__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command in `argv` (default: sys.argv) and returns its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        print(f"flowlens {version()}")
        return 0
    try:
        return arguments.dispatch("flowlens", ABOUT, COMMANDS, EXAMPLES, words)
    except failure.CommandFailedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; Python would complain again while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as request:  # argparse, after --help (0) or a wrong command line (2)
        return request.code if isinstance(request.code, int) else 0

"""`flowlens config`: what a configuration means in words, and the default one with every field explained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from flowlens import config
from flowlens.cli import arguments, default_config, failure

ABOUT = "A configuration (FlowLensConfig) says which metrics are counted, for whom, and with which labels."
COMMANDS = (
    arguments.Command(
        "explain", "check a configuration and say in words what it does", "flowlens.cli.config:explain"
    ),
    arguments.Command(
        "default", "print the default configuration with every field explained", "flowlens.cli.config:default"
    ),
)
EXPLAIN_EXAMPLES = (
    ("flowlens config explain limits.yaml", "a bare spec, or a whole manifest"),
    ("kubectl get flc noisy -o yaml | flowlens config explain -", "what runs in the cluster"),
    ("flowlens config default | flowlens config explain -", "what happens without any configuration"),
)
DEFAULT_EXAMPLES = (
    ("flowlens config default > mine.yaml", "begin a configuration of your own"),
    ("sudo flowlens agent --config mine.yaml", "and use it; later changes apply while it runs"),
)


def main(argv: Sequence[str]) -> int:
    """Runs `config explain` or `config default`."""
    return arguments.dispatch(
        "flowlens config", ABOUT, COMMANDS, (*EXPLAIN_EXAMPLES, *DEFAULT_EXAMPLES), argv
    )


def explain(argv: Sequence[str]) -> int:
    """Prints the explanation; raises failure.CommandFailedError with every problem of the file."""
    parser = arguments.Parser(
        "flowlens config explain",
        "Checks a configuration and says in words what it does. Exit status 1 and the list of problems if\n"
        "the agent would refuse it.",
        EXPLAIN_EXAMPLES,
    )
    parser.add_argument("file", metavar="FILE", help="YAML file, or - for standard input")
    source = parser.read(argv).file
    name = "standard input" if source == "-" else source
    try:
        print(config.explain(config.load(_text(source), source=name)))
    except config.ConfigError as error:
        raise failure.CommandFailedError(str(error)) from error
    return 0


def _text(source: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return raw.decode("utf-8")
    except OSError as error:
        raise failure.CommandFailedError(
            f"{source}: {error.strerror}: give a readable YAML file, or - for standard input"
        ) from error
    except UnicodeDecodeError as error:
        raise failure.CommandFailedError(
            f"{source}: not text in UTF-8 (byte {error.start}): save it as UTF-8"
        ) from error


def default(argv: Sequence[str]) -> int:
    """Prints the default configuration."""
    arguments.Parser(
        "flowlens config default",
        "Prints the default configuration with every field explained. Applying it changes nothing.",
        DEFAULT_EXAMPLES,
    ).read(argv)
    print(default_config.text(), end="")
    return 0

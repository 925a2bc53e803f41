"""Flags about the machine and the endpoint that `flowlens agent` and `flowlens check` share."""

from __future__ import annotations

import argparse
from pathlib import Path

from flowlens.cli import arguments
from flowlens.kernel import engines
from flowlens.server import address


def add_flags(made: arguments.Parser) -> None:
    """Where to listen, how programs are loaded, and where the host is mounted."""
    made.flag(
        "--listen",
        default="127.0.0.1:2112",
        type=endpoint,
        metavar="HOST:PORT",
        help="where the agent serves /metrics (default: 127.0.0.1:2112)",
    )
    made.flag(
        "--engine",
        default="auto",
        type=arguments.one_of(engines.CHOICES),
        metavar="|".join(engines.CHOICES),
        help="how programs get into the kernel (default: auto)",
    )
    made.flag(
        "--host-proc",
        default=Path("/proc"),
        type=Path,
        metavar="DIR",
        help="the host's /proc (default: /proc)",
    )
    made.flag(
        "--host-cgroup",
        default=Path("/sys/fs/cgroup"),
        type=Path,
        metavar="DIR",
        help="the host's /sys/fs/cgroup (default: /sys/fs/cgroup)",
    )


def endpoint(text: str) -> str:
    """An argparse type: what the server can parse, returned as it was given."""
    try:
        address.parse(text)
    except address.ServerError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text

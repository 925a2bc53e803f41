"""Flags about the machine that `flowlens agent` and `flowlens check` share."""

from __future__ import annotations

from pathlib import Path

from flowlens.cli import arguments
from flowlens.kernel import engines


def add_flags(made: arguments.Parser) -> None:
    """How programs are loaded, and where the host is mounted."""
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

"""Single key presses from a terminal, without waiting for Enter, and the terminal as it was afterwards."""

from __future__ import annotations

import os
import re
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

LEFT, RIGHT = "left", "right"
# CSI and SS3 sequences: terminals send one or the other for arrows (application cursor keys).
_SEQUENCE = re.compile(rb"\x1b(?:\[[0-9;]*|O)(?P<final>[@-~])|(?P<plain>[\x20-\x7e])")
_ARROWS = {b"D": LEFT, b"C": RIGHT}


@contextmanager
def single_presses(fd: int) -> Iterator[None]:
    """Within it each key press is readable at once and not echoed; Ctrl-C still interrupts."""
    former = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, former)


def read(fd: int) -> list[str]:
    """Keys that were pressed: LEFT, RIGHT, or the character; other keys are left out. Empty at the end."""
    return list(decode(os.read(fd, 1024)))


def decode(raw: bytes) -> Iterator[str]:
    """Keys in what a terminal sent."""
    for match in _SEQUENCE.finditer(raw):
        if match["plain"]:
            yield match["plain"].decode("ascii")
        elif match["final"] in _ARROWS:
            yield _ARROWS[match["final"]]

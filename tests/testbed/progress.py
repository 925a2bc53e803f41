"""Says what is going on while a person or a CI log waits: what, since when, and what remains.

On a terminal one line is rewritten every second; elsewhere a line is added every 20 seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

LOG_EVERY_SECONDS = 20


class Progress:
    """Elapsed and remaining time over a list of steps whose usual duration is known.

    The estimate of what remains is scaled by how the finished steps compared with theirs,
    because a busy or faster machine shows itself in the first step already.
    """

    def __init__(
        self,
        expected_seconds: float,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out or sys.stderr
        self._clock = clock
        self._start = clock()
        self._pending = expected_seconds
        self._planned = 0.0
        self._spent = 0.0
        self._step = ("", 0.0, self._start)
        self._written = self._start

    @contextmanager
    def step(self, label: str, expected_seconds: float) -> Iterator[None]:
        """Announce a step, and learn from how long it took unless it failed."""
        began = self._clock()
        self._step = (label, expected_seconds, began)
        self._write()
        yield
        took = self._clock() - began
        self._step = ("", 0.0, self._clock())
        self._pending -= expected_seconds
        self._planned += expected_seconds
        self._spent += took
        self._line(f"{label}: done in {took:.0f} s", keep=True)

    def tick(self) -> None:
        """Call often; writes only when a reader would want to know."""
        every = 1 if self._out.isatty() else LOG_EVERY_SECONDS
        if self._clock() - self._written >= every:
            self._write()

    def remaining_seconds(self) -> float:
        """What the steps still to come will take, at the pace seen so far."""
        _, expected, began = self._step
        current = min(self._clock() - began, expected)
        # A short first step says little: it weighs as if a minute had gone exactly as planned.
        pace = (self._spent + 60) / (self._planned + 60)
        return max(0.0, self._pending - current) * pace

    def _write(self) -> None:
        label, _, began = self._step
        here = self._clock() - began
        self._line(f"{label}: {here:.0f} s; about {spoken(self.remaining_seconds())} remain", keep=False)

    def _line(self, text: str, *, keep: bool) -> None:
        self._written = self._clock()
        total = f"[{self._written - self._start:4.0f} s] {text}"
        if self._out.isatty():
            self._out.write(f"\r\033[K{total}" + ("\n" if keep else ""))
        else:
            self._out.write(total + "\n")
        self._out.flush()


def spoken(seconds: float) -> str:
    """A duration as one would say it: 40 s, 6 min."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def say(text: str) -> None:
    """One line for the person who waits; standard output stays free for results."""
    sys.stderr.write(f"testbed: {text}\n")
    sys.stderr.flush()

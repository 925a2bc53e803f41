"""Waiting for a condition with a deadline: the only way in which the testbed waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class LateError(Exception):
    """A condition did not come true in time; says which, and what was seen last."""


def until(check: Callable[[], T | None], what: str, timeout_seconds: float, pause_seconds: float = 0.05) -> T:
    """The first true answer of `check`; raises LateError when there is none in time."""
    end = time.monotonic() + timeout_seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > end:
            raise LateError(f"waited {timeout_seconds:g} s in vain for {what} (last seen: {answer!r})")
        time.sleep(pause_seconds)

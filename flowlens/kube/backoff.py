"""How long to wait before the next try: growing, bounded, and never in step with other agents."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Waits of `first` s, doubled each time up to `most` s, each shortened by up to a half at random.

    The jitter is what keeps thousands of agents from coming back in the same second after an API
    server's restart.
    """

    def __init__(
        self,
        first_seconds: float = 0.5,
        most_seconds: float = 30.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self._chance = chance
        self._next = first_seconds

    def wait_seconds(self, at_least: float = 0.0) -> float:
        """The next wait. `at_least` is what the server asked for (Retry-After), taken up to `most`."""
        wait = self._next * (1.0 - self._chance() / 2)
        self._next = min(self._next * 2, self._most)
        return max(wait, min(at_least, self._most))

    def succeeded(self) -> None:
        """Start small again."""
        self._next = self._first

"""A token bucket: some things may be asked for at once, but not all the time."""

from __future__ import annotations


class TokenBucket:
    """`burst` grants at once, `per_second` after that, never closer than `apart_seconds`.

    The caller brings the time, in seconds of any clock that only goes forward. One thread owns it.
    """

    def __init__(self, per_second: float, burst: int, apart_seconds: float) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._apart = apart_seconds
        self._tokens = float(burst)
        self._at = float("-inf")
        self._granted = float("-inf")

    def wait_seconds(self, now: float) -> float:
        """Seconds until the next grant; 0 if `take` may be called now."""
        self._refill(now)
        missing = max(0.0, 1.0 - self._tokens) / self._per_second
        return max(missing, self._granted + self._apart - now, 0.0)

    def take(self, now: float) -> None:
        """Uses a grant, also one that was not waited for (the regular round counts as well)."""
        self._refill(now)
        self._tokens = max(0.0, self._tokens - 1.0)
        self._granted = now

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
            self._at = now

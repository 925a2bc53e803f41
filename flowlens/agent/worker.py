"""The one thread that changes things: new configurations, names of new cgroups, the slow tick.

It sleeps until the kernel announces a cgroup, somebody wakes it, or a second is over (then it looks at the
configuration file, which costs a stat(2)). An idle agent does nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import select
import threading
import time
from collections.abc import Callable

from flowlens.agent import health, intent, observer

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
STUCK_SECONDS = 120.0
"""A worker that did not come round for so long fails /healthz."""
MOST_SAID = 100


class Worker:
    """Owns the intent and the configuration's state; `state` is read by others."""

    def __init__(self, seen: observer.Observer, wishes: intent.Intent, state: health.ConfigState) -> None:
        self.state = state
        self._seen, self._wishes = seen, wishes
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._stopping = threading.Event()
        self._round_at = time.monotonic()
        self._said: dict[str, None] = {}
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def wake(self) -> None:
        """Something changed; any thread may say so."""
        with contextlib.suppress(BlockingIOError):  # it is awake already
            os.write(self._wake, b"!")

    def stop(self, wait_seconds: float = 1.0) -> None:
        """Ends the thread."""
        self._stopping.set()
        self.wake()
        if self._thread.ident is not None:
            self._thread.join(wait_seconds)

    @property
    def stuck(self) -> bool:
        """Dead, or busy for too long."""
        return not self._thread.is_alive() or time.monotonic() - self._round_at > STUCK_SECONDS

    def _run(self) -> None:
        tended_at = time.monotonic()
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        poller.register(self._seen.tracer.cgroups.fd, select.POLLIN)
        while not self._stopping.is_set():
            ready = {fd for fd, _ in poller.poll(LOOK_SECONDS * 1000)}
            self._round_at = time.monotonic()
            if self._woken in ready:
                os.read(self._woken, 4096)
            if self._stopping.is_set():
                return
            if self._seen.tracer.cgroups.fd in ready:
                self._guarded("learn cgroups", self._seen.learn_cgroups)
            self._guarded("name new containers", self._seen.nudge)
            self._guarded("look at the configuration", self._follow)
            if self._round_at - tended_at >= self._seen.tend_seconds:
                tended_at = self._round_at
                self._guarded("tend", self._seen.tend)

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        """The thread's outermost loop: a failure is counted and told once per text, and the agent goes on."""
        try:
            action()
        except Exception as error:
            text = f"{what}: {type(error).__name__}: {error}"
            if text not in self._said and len(self._said) < MOST_SAID:
                self._said[text] = None
                logger.exception("worker step failed: %s", text)

    def _follow(self) -> None:
        wish = self._wishes.poll()
        if wish is None:
            return
        if wish.node is None:
            self._refuse(wish.error)
            return
        try:
            self._seen.apply(wish.node)
        except Exception as error:
            self._refuse(f"{wish.node.name}: cannot be applied: {error}")
            raise
        self.state = dataclasses.replace(
            self.state,
            name=wish.node.name,
            generation=wish.node.generation,
            applied_at=time.time(),
            error="",
        )

    def _refuse(self, error: str) -> None:
        logger.error("configuration refused, the last good one stays: %s", error)
        self.state = dataclasses.replace(self.state, error=error, errors=self.state.errors + 1)

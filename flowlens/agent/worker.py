"""The one thread that changes things: new configurations, names of new cgroups, the slow tick.

It sleeps until the kernel announces a cgroup, somebody wakes it, or a second is over (then it looks at the
configuration file, which costs a stat(2)). An idle agent does nothing else. What the kernel did not take is
tried again, less and less often, until it holds or something else is wished.
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

from flowlens import config
from flowlens.agent import health, intent, observer
from flowlens.kernel import errors
from flowlens.kube import backoff

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
STUCK_SECONDS = 120.0
"""A worker that did not come round for so long fails /healthz."""
MOST_SAID = 100
AGAIN_SECONDS, MOST_AGAIN_SECONDS = 1.0, 60.0
"""A configuration that could not be put in force is tried again after the first, then twice as long each time."""


class Worker:
    """Owns the intent and the configuration's state; `state` is read by others."""

    def __init__(
        self,
        seen: observer.Observer,
        wishes: intent.Intent,
        state: health.ConfigState,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = state
        self._clock = clock
        self._wanted = seen.config
        self._try_at: float | None = None
        self._waits = backoff.Backoff(
            AGAIN_SECONDS, MOST_AGAIN_SECONDS, chance=lambda: 0.0
        )  # a node's own kernel: no crowd
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
        if wish is not None:
            self._hear(wish)
        if self._try_at is not None and self._clock() >= self._try_at:
            self._put_in_force(self._wanted)

    def _hear(self, wish: intent.Wish) -> None:
        """Takes a wish: what is refused is told and counted once, for as long as it is refused."""
        fresh = [one for one in wish.refused if one not in self.state.refused]
        for one in fresh:
            logger.error("configuration refused, the last good one stays: %s", one.message)
        self.state = dataclasses.replace(
            self.state, refused=wish.refused, errors=self.state.errors + len(fresh)
        )
        if wish.node is not None and wish.node != self._wanted:
            self._wanted, self._try_at = wish.node, self._clock()
            self._waits.succeeded()

    def _put_in_force(self, node: config.NodeConfig) -> None:
        try:
            self._seen.apply(node)
        except Exception as error:  # noqa: BLE001 - counted and shown; whatever it is, the next try may do
            self._failed(node, error)
            return
        self._try_at = None
        self.state = dataclasses.replace(
            self.state,
            name=node.name,
            generation=node.generation,
            uid=node.uid,
            applied_at=time.time(),
            failed=None,
        )

    def _failed(self, node: config.NodeConfig, error: Exception) -> None:
        """Every attempt counts; the log has it once per configuration and message."""
        message = f"{node.name}: cannot be applied: {error}"
        failed = intent.Refusal(node.name, node.generation, message, node.uid)
        if failed != self.state.failed:
            is_ours = not isinstance(error, (errors.KernelError, OSError))
            logger.error(
                "configuration not in force, trying again until it is: %s", message, exc_info=is_ours
            )
        self.state = dataclasses.replace(self.state, failed=failed, errors=self.state.errors + 1)
        self._try_at = self._clock() + self._waits.wait_seconds()

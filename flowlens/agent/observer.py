"""Tracer, identity and ledger together, behind one lock: what a scrape reads and what a change touches.

Everything that moves a number happens here, so that the order of steps is in one place: names of new
cgroups before the rows that need them, former flows added up before they are deleted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flowlens import config, identity, series
from flowlens.agent import translation
from flowlens.kernel import layout, memory, reading, tracer

logger = logging.getLogger(__name__)

EXPIRE_SHARE = 4
"""Stale series are looked for this often per staleAfter."""
MIN_TEND_SECONDS, MAX_TEND_SECONDS = 5.0, 30.0
UNSCRAPED_SECONDS = 3600.0
"""A stale series waits so long for a scrape that shows its last value; an agent that nobody scrapes must not grow."""
CLOSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Collected:
    """How the last collection went."""

    seconds: float = 0.0
    count: int = 0


class Observer:
    """Thread-safe by its lock, which callers do not see."""

    def __init__(
        self,
        running: tracer.Tracer,
        names: identity.Identity,
        node: config.NodeConfig,
        *,
        owner_pid: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tracer, self.identity, self._owner_pid, self._clock = running, names, owner_pid, clock
        self.config = node
        self.ledger = series.Ledger(
            identify=names.workload,
            alive=names.alive,
            reset_reasons=running.reset_reasons,
            now=clock(),
        )
        self.collected = Collected()
        self._lock = threading.Lock()
        self._cgroup_losses = 0
        self._last_expiry = self._scraped_at = clock()
        self.ledger.configure(node, running.generation, clock())

    @property
    def tend_seconds(self) -> float:
        """How often `tend` is due; more often where series are to go soon after they stopped."""
        return min(MAX_TEND_SECONDS, self._expire_seconds)

    @property
    def _expire_seconds(self) -> float:
        return max(MIN_TEND_SECONDS, self.config.stale_after_seconds / EXPIRE_SHARE)

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Reads the kernel and updates every series; inside the block nobody else may change them."""
        with self._lock:
            began = time.perf_counter()
            self._scraped_at = self._clock()
            self._update()
            self.collected = Collected(time.perf_counter() - began, self.collected.count + 1)
            yield

    @contextmanager
    def look(self) -> Iterator[None]:
        """Inside the block nothing changes; nothing is read anew."""
        with self._lock:
            yield

    def learn_cgroups(self) -> None:
        """Takes the new cgroups' names out of the kernel's ring; cheap, and due whenever its fd is readable."""
        with self._lock:
            self._learn_cgroups()

    def nudge(self) -> None:
        """Names of new containers are asked for before they are needed: they may be gone when somebody scrapes."""
        with self._lock:
            self.identity.nudge()

    def apply(self, node: config.NodeConfig) -> None:
        """Puts a configuration in force without losing or counting twice a single event."""
        with self._lock:
            self._update()
            try:
                self._go_over_to(node)
            except Exception:
                self._go_over_to(self.config)  # not half of each
                raise
        logger.info("configuration applied: config=%s generation=%d", node.name, node.generation)

    def tend(self) -> None:
        """The slow tick: catches names while they last, forgets what is stale."""
        with self._lock:
            self._update()
            now = self._clock()
            if now - self._last_expiry >= self._expire_seconds:
                self._last_expiry = now
                self._expire(now)
            self.identity.retire(self.ledger.owners())
        memory.trim()

    def close(self) -> None:
        """Detaches everything from the kernel, and keeps the lock: who comes later finds nothing to read.

        Where somebody is busy for too long the kernel does it, when the process ends.
        """
        if self._lock.acquire(timeout=CLOSE_SECONDS):
            self.tracer.close()

    # below: the lock is held ---------------------------------------------------------------------

    def _update(self) -> None:
        now = self._clock()
        read = self.tracer.read()
        totals, flows = self._with_names(read.totals), self._with_names(read.flows)
        self.ledger.update(read._replace(totals=totals, flows=flows), now)
        changed = self.identity.changed()
        if changed:
            self.ledger.regroup(changed, now)

    def _with_names(self, tables: Iterable[reading.Table]) -> Iterator[reading.Table]:
        """Once rows are read, the names of all their cgroups are in the ring: take them before anybody asks."""
        for table in tables:
            self._learn_cgroups()
            yield table

    def _learn_cgroups(self) -> None:
        for cgroup, path in self.tracer.cgroups.drain():
            self.identity.cgroup_created(cgroup, path)
        losses = self.tracer.losses()["cgroups", "ENOSPC"]
        if losses != self._cgroup_losses:
            self._cgroup_losses = losses
            self.identity.scan()

    def _go_over_to(self, node: config.NodeConfig) -> None:
        former = self.tracer.apply(translation.settings_of(node, owner_pid=self._owner_pid))
        self.ledger.retire(former, self._clock())
        self.tracer.discard(former)
        self.ledger.configure(node, self.tracer.generation, self._clock())
        self.config = node

    def _expire(self, now: float) -> None:
        shown_until = max(self._scraped_at - 1, now - self.config.stale_after_seconds - UNSCRAPED_SECONDS)
        stale = self.ledger.expire(min(now, shown_until + self.config.stale_after_seconds))
        gone = [key for key in stale if len(key) == layout.KEY.size]
        if gone:
            self.ledger.retire(self.tracer.take(gone), now)
        if len(gone) < len(stale):  # flows: a fresh generation drains the still ones and loses no live one
            self._go_over_to(self.config)

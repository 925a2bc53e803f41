"""Start, wait for a signal, end.

Programs are attached as early as can be: what counts is not what counts later. A thread loads them (kernel.loading);
meanwhile this one imports what it needs to attach them, and everything else (`node`, and with it series, server,
identity) only then: an import in a second thread delayed attaching by some 30 ms (docs/performance.md).
"""

from __future__ import annotations

import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowlens.agent.errors import StartError
from flowlens.agent.options import Options
from flowlens.kernel import loading as loading_of
from flowlens.kernel import memory
from flowlens.kernel.errors import KernelError

if TYPE_CHECKING:
    from flowlens import config
    from flowlens.agent import intent
    from flowlens.kernel import tracer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Begun:
    """What is there once the programs count: all that `node` needs to begin with."""

    options: Options
    name: str
    tracer: tracer.Tracer
    base: intent.Intent
    first: config.NodeConfig
    owner_pid: bool
    at: float


def run(options: Options, *, announce: Callable[[str], None] = print) -> int:
    """Runs an agent until SIGINT or SIGTERM; returns the exit status. Raises StartError."""
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    loading = loading_of.begin(options.engine)
    try:
        begun = _begin(options, loading)
    except BaseException:
        loading.drop()
        raise
    _serve(begun, ending, announce)
    return 0


def _begin(options: Options, loading: loading_of.Loading) -> Begun:
    """Attaches the programs for the configuration to begin with."""
    from flowlens.agent import intent, translation  # noqa: PLC0415 - imported while programs load
    from flowlens.host import cgroupfs  # noqa: PLC0415 - as above
    from flowlens.kernel import tracer  # noqa: PLC0415 - as above

    at = time.monotonic()
    name = options.node or platform.node()
    base: intent.Intent = intent.File(options.config, name) if options.config else intent.Fixed(name)
    wish = base.poll()
    if wish is None or wish.node is None:
        # A file that is wrong at start is no reason to run with something that nobody asked for.
        raise StartError(wish.error if wish else "no configuration")
    owner_pid = cgroupfs.find_mount(options.host_cgroup) is None
    settings = translation.settings_of(wish.node, owner_pid=owner_pid)
    try:
        running = tracer.Tracer(loading.result(), settings)
        running.start()
    except (KernelError, OSError) as error:
        raise StartError(str(error)) from error
    return Begun(options, name, running, base, wish.node, owner_pid, at)


def _serve(begun: Begun, ending: threading.Event, announce: Callable[[str], None]) -> None:
    from flowlens.agent import node  # noqa: PLC0415 - heavy, and the programs count by now

    agent = node.Node(begun)
    try:
        agent.start()
        for line in agent.describe():
            announce(line)
        memory.give_back()
        logger.info("agent started: node=%s pid=%d", begun.name, os.getpid())
        ending.wait()
        logger.info("agent ends: node=%s", begun.name)
    finally:
        agent.stop()

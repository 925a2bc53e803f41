"""Start, wait for a signal, end.

Programs are attached as early as can be: what counts is not what counts later. So this module imports
little; the rest (`node` and with it series, server, identity) is imported by a second thread while the
kernel verifies the programs, and Kubernetes' part only where there is a cluster.
"""

from __future__ import annotations

import importlib
import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flowlens import config
from flowlens.agent import intent, translation
from flowlens.agent.errors import StartError
from flowlens.agent.options import Options
from flowlens.host import cgroupfs
from flowlens.kernel import engines, memory, tracer
from flowlens.kernel.errors import KernelError

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
    memory.use_little()
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    importing = threading.Thread(target=importlib.import_module, args=("flowlens.agent.node",), daemon=True)
    importing.start()
    begun = _begin(options)
    importing.join()
    _serve(begun, ending, announce)
    return 0


def _begin(options: Options) -> Begun:
    """Attaches the programs for the configuration to begin with."""
    at = time.monotonic()
    name = options.node or platform.node()
    base: intent.Intent = intent.File(options.config, name) if options.config else intent.Fixed(name)
    wish = base.poll()
    if wish is None or wish.node is None:
        # A file that is wrong at start is no reason to run with something that nobody asked for.
        raise StartError(wish.error if wish else "no configuration")
    owner_pid = cgroupfs.find_mount(options.host_cgroup) is None
    try:
        running = tracer.Tracer(
            engines.load(options.engine), translation.settings_of(wish.node, owner_pid=owner_pid)
        )
        running.start()
    except (KernelError, OSError) as error:
        raise StartError(str(error)) from error
    return Begun(options, name, running, base, wish.node, owner_pid, at)


def _serve(begun: Begun, ending: threading.Event, announce: Callable[[str], None]) -> None:
    from flowlens.agent import node  # noqa: PLC0415 - imported by then, and heavy

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

"""The kernel does not run a program on top of itself, so a packet that interrupts a program brings events it is not told.

On loopback packets interrupt nothing, which hides this; with RPS they arrive as on a machine with a network card.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from flowlens import metrics
from flowlens.kernel import probes, tracer
from flowlens.kernel.tracer import Tracer
from tests.kernel import traffic
from tests.kernel.conftest import Engine
from tests.kernel.counts import Counts, until
from tests.kernel.hidden import Hidden
from tests.kernel.namespace import Process

pytestmark = pytest.mark.kernel
EACH = 4_000
AT_ONCE = 4


@pytest.fixture
def crowd(ns: Process) -> Iterator[list[Process]]:
    """Processes in one namespace whose packets are spread over all CPUs."""
    assert (os.cpu_count() or 1) > 1, "needs two CPUs: on one, no packet comes from elsewhere"
    ns.spread_packets()
    processes = [Process(share=ns) for _ in range(AT_ONCE)]
    yield processes
    for process in processes:
        process.close()


def _misses(running: Tracer, hook: str) -> int:
    """As the kernel counts them for this program."""
    return tracer._recursion_misses(running._loaded.programs[hook])


def test_no_event_of_a_connection_is_lost_when_packets_interrupt_programs(
    engine: Engine, counts: Counts, ns: Process, crowd: list[Process]
) -> None:
    before = _misses(counts.tracer, metrics.SET_STATE)
    with Hidden() as hidden:
        for process in crowd:
            process.start(traffic.exchange, "127.0.0.1", EACH)
        for process in crowd:
            process.finish()
        unseen = hidden.events()
    expected = EACH * AT_ONCE
    snmp = ns.snmp()
    assert _misses(counts.tracer, metrics.SET_STATE) > before, (
        "no packet interrupted a program, nothing was tried"
    )
    assert counts.total(ns, "connect") == snmp["ActiveOpens"] == snmp["PassiveOpens"] == expected
    opened = counts.total(ns, "accept") + counts.total(ns, "connect_duration")
    # Where a table stands in for socket storage, a hidden end leaves an entry that is taken for the next socket's.
    hidden_ones = unseen["ESTABLISHED"] + (0 if engine.storage else unseen["CLOSE"])
    assert 2 * expected - hidden_ones <= opened <= 2 * expected
    until(lambda: counts.total(ns, "connections") <= unseen["CLOSE"], "all closed")
    # Every close is counted once, in the gauge and in the histogram.
    closed = counts.total(ns, "connection_duration") + counts.total(ns, "connections")
    assert opened <= closed <= 2 * expected


def test_misses_that_a_twin_makes_good_are_not_shown_as_lost(counts: Counts) -> None:
    assert counts.tracer.missed_runs().keys() >= {metrics.RETRANSMIT, metrics.SEND_RESET}
    assert not counts.tracer.missed_runs().keys() & {metrics.SET_STATE, probes.TWINS[metrics.SET_STATE]}

"""An agent that nobody scrapes does next to nothing."""

from __future__ import annotations

import time

import pytest

from tests.agent import process
from tests.agent.conftest import StartAgent

pytestmark = pytest.mark.kernel

SECONDS, MOST_OF_A_CORE = 5.0, 0.01


def test_an_unscraped_agent_uses_less_than_a_hundredth_of_a_core(start_agent: StartAgent) -> None:
    agent = start_agent({})
    process.until(lambda: agent.scrape().own("scrapes_total") >= 2, "it has settled")
    # Containers that somebody starts meanwhile are no idleness: the quietest of three looks counts.
    assert min(_share(agent) for _ in range(3)) < MOST_OF_A_CORE


def _share(agent: process.Agent) -> float:
    before = agent.cpu_seconds
    time.sleep(SECONDS)  # idling is what is measured
    return (agent.cpu_seconds - before) / SECONDS

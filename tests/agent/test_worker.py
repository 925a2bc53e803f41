"""What the worker makes of wishes: what it counts, what it tells, and how it goes on when the kernel says no."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flowlens import config
from flowlens.agent import health, intent, observer, worker
from tests.agent import process
from tests.agent.conftest import StartAgent

FIRST = config.default_config("n1")


def made(generation: int, name: str = "one") -> config.NodeConfig:
    return config.resolve(config.from_object({}, source=name), name=name, generation=generation, node="n1")


def bad(generation: int, name: str = "bad") -> intent.Refusal:
    return intent.Refusal(name, generation, f"FlowLensConfig {name}: unknown field", f"uid-{name}")


class Desk:
    """A worker whose clock, wishes and kernel are the test's; it comes round when told."""

    def __init__(self) -> None:
        self.now, self.failing = 100.0, ""
        self.attempts: list[float] = []
        self._wish: intent.Wish | None = None
        self.held = [FIRST]
        seen = cast(observer.Observer, SimpleNamespace(config=FIRST, apply=self._apply))
        self.worker = worker.Worker(seen, self, health.ConfigState(), clock=lambda: self.now)

    def poll(self) -> intent.Wish | None:
        wish, self._wish = self._wish, None
        return wish

    def _apply(self, node: config.NodeConfig) -> None:
        self.attempts.append(self.now)
        if self.failing:
            raise OSError(self.failing)
        self.held.append(node)

    def wish(self, node: config.NodeConfig | None, *refused: intent.Refusal) -> None:
        self._wish = intent.Wish(node, refused)
        self.worker._follow()

    def run_for(self, seconds: int) -> None:
        """The worker comes round once a second."""
        for _ in range(seconds):
            self.now += 1
            self.worker._follow()

    @property
    def state(self) -> health.ConfigState:
        return self.worker.state


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_an_unreadable_object_is_counted_and_told_once_whatever_happens_to_others(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    for generation in range(1, 6):
        desk.wish(made(generation), bad(1))
        assert (desk.state.generation, desk.state.state) == (generation, "rejected")
    assert desk.state.errors == 1
    assert caplog.text.count("configuration refused") == 1


def test_the_next_generation_of_an_unreadable_object_is_counted_anew(desk: Desk) -> None:
    desk.wish(FIRST, bad(1))
    desk.wish(FIRST, bad(1), bad(1, "worse"))
    desk.wish(FIRST, bad(2), bad(1, "worse"))
    assert desk.state.errors == 3
    assert desk.state.refused == (bad(2), bad(1, "worse"))


def test_all_is_well_when_the_refused_object_is_gone_without_anything_being_applied(desk: Desk) -> None:
    desk.wish(FIRST, bad(1))
    desk.wish(FIRST)
    assert (desk.state.state, desk.state.error, desk.state.errors) == ("applied", "", 1)
    assert desk.attempts == []


def test_what_the_kernel_did_not_take_is_tried_again_less_and_less_often_until_it_holds(desk: Desk) -> None:
    desk.failing = "no memory"
    desk.wish(made(1))
    desk.run_for(300)
    gaps = [later - sooner for sooner, later in zip(desk.attempts, desk.attempts[1:], strict=False)]
    assert gaps == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert desk.state.state == "rejected"
    assert desk.state.error == "one: cannot be applied: no memory"
    assert desk.held == [FIRST]
    desk.failing = ""
    desk.run_for(60)
    assert desk.held == [FIRST, made(1)]
    assert (desk.state.state, desk.state.error, desk.state.generation) == ("applied", "", 1)
    desk.run_for(120)
    assert desk.held == [FIRST, made(1)]


def test_each_failed_attempt_counts_and_the_log_has_them_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.failing = "no memory"
    desk.wish(made(1))
    desk.run_for(10)
    assert desk.state.errors == len(desk.attempts) == 4
    assert caplog.text.count("configuration not in force") == 1


def test_what_was_wished_before_is_put_in_force_again_when_the_new_one_failed(desk: Desk) -> None:
    desk.failing = "no memory"
    desk.wish(made(1))
    desk.failing = ""
    desk.wish(FIRST)  # how much of the new one is in force, nobody knows
    assert desk.held == [FIRST, FIRST]
    assert desk.state.state == "applied"


def test_a_new_wish_does_not_wait_for_the_former_ones_next_attempt(desk: Desk) -> None:
    desk.failing = "no memory"
    desk.wish(made(1))
    desk.run_for(100)
    desk.failing = ""
    desk.wish(made(2))
    assert desk.held == [FIRST, made(2)]


# files -----------------------------------------------------------------------------------------------


def wishes(file: intent.File) -> Iterator[intent.Wish]:
    while (wish := file.poll()) is not None:
        yield wish


def test_a_file_is_refused_once_per_content(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "flowlens.yaml"
    path.write_text("{}")
    file = intent.File(path, "n1")
    texts = ["limmits: {}", "limmits: {}", "limmits: {} # still", "{}", "limmits: {}"]
    for text in texts:
        path.write_text(text)
        for wish in wishes(file):
            desk.wish(wish.node, *wish.refused)
    assert desk.state.errors == 3
    assert desk.state.state == "rejected"


def test_a_file_that_was_no_text_for_a_while_and_came_back_is_in_force_again(
    desk: Desk, tmp_path: Path
) -> None:
    path = tmp_path / "flowlens.yaml"
    path.write_text("{}")
    file = intent.File(path, "n1")
    for content, state in ((b"{}", "applied"), (b"\xff", "rejected"), (b"{}", "applied")):
        path.write_bytes(content)
        for wish in wishes(file):
            desk.wish(wish.node, *wish.refused)
        assert desk.state.state == state


def test_a_file_that_could_not_be_opened_is_looked_at_again_though_it_did_not_change(
    tmp_path: Path,
) -> None:
    path = tmp_path / "flowlens.yaml"
    path.write_text("{}")
    os.utime(path, (1, 1))  # long settled
    file = intent.File(path, "n1")
    none_left = len(os.listdir("/proc/self/fd"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(none_left)]  # no hole below the limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, before[1]))
    try:
        wish = file.poll()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in taken:
            os.close(fd)
    assert wish is not None
    assert "Too many open files" in wish.error
    again = file.poll()
    assert again is not None
    assert again.node is not None


# a real kernel ---------------------------------------------------------------------------------------


def _leave_one_descriptor(pid: int) -> tuple[int, int]:
    """From now on the process can open one more file; returns its limits before."""
    taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    free = next(number for number in range(len(taken) + 1) if number not in taken)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free + 1, before[1]))
    return before


@pytest.mark.kernel
def test_a_configuration_that_the_kernel_did_not_take_holds_as_soon_as_it_can(
    start_agent: StartAgent,
) -> None:
    little: dict[str, Any] = {"defaults": {"enabled": False}, "metrics": [{"name": "synack_retransmit"}]}
    agent = start_agent(little)
    generation = agent.generation
    before = _leave_one_descriptor(agent.process.pid)
    agent.replace({})
    process.until(lambda: "configuration not in force" in agent.log, "the failure told")
    assert "Too many open files" in agent.log
    resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, before)
    process.until(lambda: agent.generation > generation, "tried again")
    assert agent.status()["config"]["error"] == ""
    assert all(probe["up"] for probe in agent.status()["probes"] if probe["reason"] != "off")
    assert agent.scrape().own("config_apply_errors_total") >= 1
    assert agent.log.count("configuration not in force") == 1

"""The live table in a real terminal (tmux): keys, size, an agent that goes away, the way out."""

from __future__ import annotations

import itertools
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowlens.cli.top import keys

from . import conftest, stand_in

END = "the shell is back"


class Terminal:
    """A pane of a tmux server of its own."""

    def __init__(self) -> None:
        self._name = f"flowlens-test-{uuid.uuid4().hex}"

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._name, "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    def start(self, *arguments: str) -> None:
        top = shlex.join([sys.executable, "-m", "flowlens", "top", "--interval", "0.1", *arguments])
        after = f"echo {END}: $?; stty -a | grep -o '[ -]icanon'; exec cat"
        line = f"cd {shlex.quote(str(conftest.ROOT))}; {top}; {after}"
        self.tmux("new-session", "-d", "-x", "120", "-y", "14", line)

    def press(self, *names: str) -> None:
        self.tmux("send-keys", *names)

    def text(self) -> str:
        return self.tmux("capture-pane", "-p")

    def shows(self, *words: str) -> None:
        """Waits until all of `words` are on the screen."""
        conftest.wait_until(
            lambda: all(word in self.text() for word in words), lambda: f"{words}\n{self.text()}"
        )

    def first_owner(self) -> str:
        lines = self.text().splitlines()
        return lines[3].split()[0] if len(lines) > 3 and lines[3] else ""

    def end(self) -> None:
        subprocess.run(
            ["tmux", "-L", self._name, "kill-server"], capture_output=True, timeout=30, check=False
        )


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.end()


@pytest.fixture
def agent() -> Iterator[stand_in.StandIn]:
    pages = itertools.islice(itertools.cycle((stand_in.BEFORE, stand_in.AFTER)), 2000)
    with stand_in.serving(*pages) as running:
        yield running


def test_the_table_shows_owners_with_their_rates(terminal: Terminal, agent: stand_in.StandIn) -> None:
    terminal.start("--url", agent.url)
    terminal.shows("WORKLOAD", "CONN/s ▾", "shop/checkout", "nginx.service", "SystemdService", "q quits")


def test_a_letter_sorts_by_its_column(terminal: Terminal, agent: stand_in.StandIn) -> None:
    terminal.start("--url", agent.url)
    terminal.shows("CONN/s ▾")
    terminal.press("r")
    terminal.shows("RST/s ▾")
    conftest.wait_until(lambda: terminal.first_owner() == "nginx.service", terminal.text)


def test_arrows_move_to_the_next_column_and_back(terminal: Terminal, agent: stand_in.StandIn) -> None:
    terminal.start("--url", agent.url)
    terminal.shows("CONN/s ▾")
    terminal.press("Right")
    terminal.shows("ACC/s ▾")
    terminal.press("Left", "Left")
    terminal.shows("KIND ▴")


def test_i_inverts_the_order(terminal: Terminal, agent: stand_in.StandIn) -> None:
    terminal.start("--url", agent.url, "--sort", "owner")
    terminal.shows("WORKLOAD ▴")
    assert terminal.first_owner() == "0a1b2c3d4e5f"
    terminal.press("i")
    terminal.shows("WORKLOAD ▾")
    conftest.wait_until(lambda: terminal.first_owner() == "shop/checkout", terminal.text)


def test_a_smaller_terminal_gets_fewer_columns_and_rows(terminal: Terminal, agent: stand_in.StandIn) -> None:
    terminal.start("--url", agent.url)
    terminal.shows("RST/s", "q quits")
    terminal.tmux("resize-window", "-x", "64", "-y", "7")
    conftest.wait_until(lambda: "KIND" not in terminal.text() and "2 of 4" in terminal.text(), terminal.text)
    terminal.tmux("resize-window", "-x", "120", "-y", "14")
    terminal.shows("KIND", "RST/s", "cron.service")


def test_the_size_is_the_terminals_whatever_the_environment_says(
    terminal: Terminal, agent: stand_in.StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "50")
    terminal.start("--url", agent.url)
    terminal.shows("flowlens top", "RST/s", "q quits")


@pytest.mark.parametrize("key", ["q", "C-c"])
def test_the_terminal_is_as_before_after(key: str, terminal: Terminal, agent: stand_in.StandIn) -> None:
    terminal.start("--url", agent.url)
    terminal.shows("q quits")
    terminal.press(key)
    terminal.shows(f"{END}: 0", " icanon")
    assert "q quits" not in terminal.text()


def test_the_terminal_is_as_before_when_it_is_ended_by_a_signal(
    terminal: Terminal, agent: stand_in.StandIn
) -> None:
    terminal.start("--url", agent.url)
    terminal.shows("q quits")
    shell = terminal.tmux("list-panes", "-F", "#{pane_pid}").strip()
    (child,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
    subprocess.run(["kill", "-TERM", child], check=True)
    terminal.shows(f"{END}: 143", " icanon")


def test_an_agent_that_went_away_is_told_and_comes_back(terminal: Terminal, agent: stand_in.StandIn) -> None:
    terminal.start("--url", agent.url)
    terminal.shows("q quits", "shop/checkout")
    agent.status = 503
    terminal.shows("is the agent still starting?", "shop/checkout")
    agent.status = 200
    terminal.shows("q quits")


def test_without_an_agent_the_terminal_stays_as_it_is(terminal: Terminal) -> None:
    terminal.start("--url", "http://127.0.0.1:1")
    terminal.shows("no agent answers at", f"{END}: 1")


def test_a_terminal_without_utf_8_gets_ascii(
    terminal: Terminal, agent: stand_in.StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PYTHONUTF8", "0")
    terminal.start("--url", agent.url)
    terminal.shows("CONN/s v", "arrows or a letter sort")
    assert terminal.text().isascii()


@pytest.mark.parametrize(
    ("raw", "pressed"),
    [
        (b"\x1b[C", [keys.RIGHT]),
        (b"\x1bOD", [keys.LEFT]),
        (b"\x1b[A\x1b[5~", []),
        (b"r\x1b[Dq", ["r", keys.LEFT, "q"]),
        (b"\x1b[1;5C", [keys.RIGHT]),
        (b"\xc3\xa9", []),
    ],
)
def test_keys_are_read_from_what_terminals_send(raw: bytes, pressed: list[str]) -> None:
    assert list(keys.decode(raw)) == pressed

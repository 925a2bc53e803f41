"""The live table: keys, ticks, a terminal that changes its size, an agent that goes away and comes back.

Two threads. The poller scrapes, so that a slow agent never holds up a key; it hands each outcome over
by one assignment and wakes the other. The main thread owns the terminal and everything drawn.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from rich.console import Console
from rich.live import Live

from flowlens.cli import failure
from flowlens.cli.top import columns, drawing, endpoint, keys, owners, rates, scrape

_ENDED_BY = (signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class View:
    """What the person chose."""

    by: str
    sort_name: str
    limit: int
    inverted: bool = False

    @property
    def sort(self) -> columns.Column:
        """The column that rows are ordered by."""
        return columns.BY_NAME[self.sort_name]

    def press(self, key: str) -> bool:
        """Changes the view as `key` says; False when it ends the table."""
        names = list(columns.BY_NAME)
        if key == "q":
            return False
        if key == "i":
            self.inverted = not self.inverted
        elif key in (keys.LEFT, keys.RIGHT):
            step = 1 if key == keys.RIGHT else -1
            self.sort_name = names[(names.index(self.sort_name) + step) % len(names)]
        elif key in columns.BY_KEY:
            self.sort_name = next(name for name in names if columns.BY_NAME[name].key == key)
        return True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the poller knows: the last two scrapes, and why there is no newer one ("" if there is)."""

    before: scrape.Scrape | None
    after: scrape.Scrape
    problem: str = ""


class Poller(threading.Thread):
    """Scrapes every `interval` seconds for as long as the process lives."""

    def __init__(self, agent: endpoint.Endpoint, interval: float, wake_fd: int) -> None:
        super().__init__(name="poller", daemon=True)  # a scrape that hangs must not hold up `q`
        self.outcome = Outcome(None, agent.scrape())
        self._agent, self._interval, self._wake_fd = agent, interval, wake_fd
        self._stopped = threading.Event()

    def run(self) -> None:
        """Until `stop`; an agent that is away is asked again at every interval."""
        while not self._stopped.wait(self._interval):
            try:
                self.outcome = Outcome(self.outcome.after, self._agent.scrape())
            except failure.CommandFailedError as error:
                words = str(error).removeprefix("flowlens top: ")
                self.outcome = Outcome(self.outcome.before, self.outcome.after, words)
            with suppress(OSError):  # the screen is gone already
                os.write(self._wake_fd, b"\0")

    def stop(self) -> None:
        """No scrape begins any more."""
        self._stopped.set()


def run(agent: endpoint.Endpoint, view: View, interval: float) -> int:
    """Shows the table until q or Ctrl-C. Raises failure.CommandFailedError if the first scrape fails."""
    wake, wake_fd = os.pipe()
    os.set_blocking(wake_fd, False)
    os.set_blocking(wake, False)
    poller = Poller(agent, interval, wake_fd)
    poller.start()
    try:
        with _signals(wake_fd), keys.single_presses(sys.stdin.fileno()), suppress(KeyboardInterrupt):
            _show(poller, view, agent.url, interval, wake)
    finally:
        poller.stop()
    return 0


def _show(poller: Poller, view: View, url: str, interval: float, wake: int) -> None:
    for name in ("COLUMNS", "LINES"):  # rich would believe them for ever; the terminal knows its size now
        os.environ.pop(name, None)
    console = Console()
    terminal = sys.stdin.fileno()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            picture = _picture(poller.outcome, view, url, interval)
            width, height = console.size
            ascii_only = console.options.ascii_only
            live.update(drawing.draw(picture, width, height, ascii_only=ascii_only), refresh=True)
            ready, _, _ = select.select([terminal, wake], [], [])
            if wake in ready:
                os.read(wake, 4096)
            if terminal in ready:
                pressed = keys.read(terminal)
                if not all(map(view.press, pressed or ["q"])):  # nothing to read: the terminal is gone
                    return


def _picture(outcome: Outcome, view: View, url: str, interval: float) -> drawing.Picture:
    rows = None
    if outcome.before:
        rows = rates.between(outcome.before, outcome.after, owners.grouping(view.by))
    return drawing.Picture(
        url,
        outcome.after.agent,
        view.by,
        interval,
        rows,
        view.sort,
        view.inverted,
        view.limit,
        outcome.problem,
    )


@contextmanager
def _signals(wake_fd: int) -> Iterator[None]:
    """A new terminal size wakes the loop; being ended leaves the terminal as it was; no stopping halfway."""
    signal.set_wakeup_fd(wake_fd, warn_on_full_buffer=False)
    former = {number: signal.signal(number, _end) for number in _ENDED_BY}
    former[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, _ignore)
    former[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _ignore(_number: int, _frame: object) -> None:
    """Only the wake-up matters."""

"""A real agent as tests see it: a process of its own, an endpoint, a configuration file, a log."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.agent import page

ROOT = Path(__file__).parents[2]
FLOWLENS = ROOT / ".venv/bin/flowlens"
START_SECONDS = 30.0
SCRAPE_SECONDS = 20.0


def until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Waits for a condition, not for a time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.02)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def environment() -> dict[str, str]:
    """Ours, without what would change the agent."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FLOWLENS_")}


def command(port: int, *flags: str, before: Sequence[str] = ()) -> list[str]:
    """`flowlens agent` for that port; `before` goes in front, as in `setpriv ...`."""
    listen = ("--kube", "off", "--listen", f"127.0.0.1:{port}")
    return [*before, str(FLOWLENS), "agent", *listen, *flags]


def refused(port: int, *flags: str, before: Sequence[str] = ()) -> str:
    """What an agent says that must not start: status 1, one message, no traceback."""
    done = subprocess.run(
        command(port, *flags, before=before),
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=START_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


class Agent:
    """Runs from construction to `stop`; `folder` takes its configuration and its log.

    `wait`: until it serves. `before`: a command that runs it, as in refused().
    """

    def __init__(
        self,
        folder: Path,
        spec: dict[str, Any] | str | None = None,
        flags: Sequence[str] = (),
        *,
        before: Sequence[str] = (),
        port: int = 0,
        wait: bool = True,
    ) -> None:
        self.port = port or free_port()
        self.file = folder / "flowlens.yaml"
        self.log_file = folder / f"agent-{self.port}.log"
        if spec is not None:
            self.replace(spec)
            flags = ("--config", str(self.file), *flags)
        with self.log_file.open("w") as log:
            self.process = subprocess.Popen(
                command(self.port, *flags, before=before),
                cwd=ROOT, env=environment(), stdout=log, stderr=log,
            )  # fmt: skip
        if not wait:
            return
        try:
            until(self._serves, "serving", START_SECONDS)
        except AssertionError:
            self.kill()
            raise AssertionError(f"agent does not serve: {self.log}") from None

    def _serves(self) -> bool:
        assert self.process.poll() is None, f"agent ended: {self.log}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/healthz")[0] == http.HTTPStatus.OK
        return False

    # what it shows -----------------------------------------------------------------------------------

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SCRAPE_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def scrape(self) -> page.Page:
        """/metrics now."""
        status, body = self.get("/metrics")
        assert status == http.HTTPStatus.OK, body
        return page.Page(body)

    def status(self) -> dict[str, Any]:
        """/status now."""
        status, body = self.get("/status")
        assert status == http.HTTPStatus.OK, body
        return dict(json.loads(body))

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    # its configuration -------------------------------------------------------------------------------

    def replace(self, spec: dict[str, Any] | str) -> None:
        """Puts another file in the place of the configuration, as editors do."""
        new = self.file.with_suffix(".new")
        new.write_text(text_of(spec))
        new.replace(self.file)

    def overwrite(self, spec: dict[str, Any] | str) -> None:
        """Writes into the file that is there."""
        self.file.write_text(text_of(spec))

    def applied(self, what: Callable[[], object], seconds: float = 2.0) -> None:
        """Waits as long as the agent may take to follow a changed file."""
        until(what, "configuration followed", seconds)

    def follow(self, spec: dict[str, Any] | str) -> None:
        """Replaces the file and returns when it is in force, also where it says the same as before."""
        before = self.generation
        self.replace(f"{text_of(spec)}# after generation {before}\n")
        self.applied(lambda: self.generation > before, seconds=10)

    @property
    def generation(self) -> int:
        """Number of the configuration in force."""
        return int(self.status()["config"]["generation"])

    # its process -------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def cpu_seconds(self) -> float:
        """Time on a CPU so far (proc_pid_stat(5), utime and stime)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_bytes(self) -> int:
        """Memory in use now (proc_pid_statm(5))."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Sends a signal; exit status, and seconds until the process was gone."""
        began = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(START_SECONDS)
        return status, time.monotonic() - began

    def stop(self) -> None:
        """Ends it the friendly way; whatever happened, it must have gone without a traceback."""
        if self.process.poll() is None:
            status, _ = self.end()
            assert status == 0, self.log
        assert "Traceback" not in self.log, self.log

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(START_SECONDS)


def text_of(spec: dict[str, Any] | str) -> str:
    """A configuration file's text."""
    return spec if isinstance(spec, str) else yaml.safe_dump(spec)

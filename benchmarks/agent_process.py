"""A real agent as its own process, as a user would run it, for as long as a measurement takes."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

FLOWLENS = Path(sys.executable).with_name("flowlens")


@dataclass(frozen=True, slots=True)
class Running:
    """Seconds from exec: `attached` to the last program's link, `started` to the line that says where to look,
    `served` to the first scrape's last byte."""

    pid: int
    port: int
    attached: float = 0.0
    started: float = 0.0
    served: float = 0.0

    def scrape(self) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
            return bytes(answer.read())

    def rss_mib(self) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise LookupError("VmRSS")

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _watch(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """When the agent got its last BPF link, to 4 ms, and when it said that it serves."""
    assert process.stdout is not None
    poll = select.poll()
    poll.register(process.stdout)
    links, last, said = 0, time.perf_counter(), b""
    while b"metrics at" not in said:
        now = _links(process.pid)
        if now > links:
            links, last = now, time.perf_counter()
        if poll.poll(4):
            said += os.read(process.stdout.fileno(), 4096)
            if process.poll() is not None:
                raise ChildProcessError(f"the agent ended at once: {said.decode()}")
    return last, time.perf_counter()


def _links(pid: int) -> int:
    count = 0
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            count += os.readlink(fd) == "anon_inode:bpf_link"
    return count


@contextmanager
def running(config: str = "", *arguments: str, folder: Path | None = None) -> Iterator[Running]:
    """Starts an agent, waits until it has served a scrape, and ends it afterwards."""
    port = _free_port()
    command = [str(FLOWLENS), "agent", "--listen", f"127.0.0.1:{port}", "--kube", "off", *arguments]
    if config:
        assert folder is not None
        file = folder / "config.yaml"
        file.write_text(config)
        command += ["--config", str(file)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        attached, started = (moment - began for moment in _watch(process))
        Running(process.pid, port).scrape()
        yield Running(process.pid, port, attached, started, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def program_runs(pid: int) -> dict[str, tuple[int, int]]:
    """Runs and ns of every program of this agent so far; needs kernel.bpf_stats_enabled."""
    output = subprocess.run(["bpftool", "-j", "prog"], capture_output=True, check=True, timeout=60).stdout
    ours = _program_ids(pid)
    return {
        program["name"]: (program.get("run_cnt", 0), program.get("run_time_ns", 0))
        for program in json.loads(output)
        if program["id"] in ours
    }


def _program_ids(pid: int) -> set[int]:
    """Ids of the programs that a process has descriptors of."""
    found: set[int] = set()
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # closed since
            found.update(
                int(value)
                for name, _, value in (line.partition(":") for line in file.read_text().splitlines())
                if name == "prog_id"
            )
    return found


@contextmanager
def program_statistics() -> Iterator[None]:
    """Lets the kernel measure program run time (it costs some 20 ns a run itself)."""
    switch = Path("/proc/sys/kernel/bpf_stats_enabled")
    before = switch.read_text()
    switch.write_text("1")
    try:
        yield
    finally:
        switch.write_text(before)

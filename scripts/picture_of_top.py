#!/usr/bin/env python3
"""Draws docs/images/top.svg: `flowlens top` with numbers of a real agent on this machine.

As root: makes a few cgroups with the names that services and containers have, lets small clients and
servers talk over loopback inside them, runs an agent, and draws what the table shows of these owners.
Everything that it made is removed again.

    sudo .venv/bin/python scripts/picture_of_top.py [FILE]
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from flowlens.cli import failure
from flowlens.cli.top import columns, drawing, endpoint, owners, rates, scrape
from flowlens.host import cgroupfs

TARGET = Path(__file__).parents[1] / "docs" / "images" / "top.svg"
WIDTH, HEIGHT = 112, 16
INTERVAL_SECONDS = 5.0
START_SECONDS = 20.0
SLICE = "flowlens-picture.slice"
LINGER_ZERO = struct.pack("ii", 1, 0)  # close() sends a reset
HTTP, DATABASE, CACHE, STUCK, NOBODY = 21080, 21432, 21379, 21025, 21999  # ports; nobody listens on the last
GATEWAY = "docker-4f1c9a7be02d" + "0" * 52 + ".scope"
WORKER = "libpod-b7d20e64c1f8" + "0" * 52 + ".scope"


def serve(port: int, backlog: int = 1024) -> None:
    """Accepts and waits for the other end to close, one connection at a time."""
    with socket.create_server(("127.0.0.1", port), backlog=backlog) as server:
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(ConnectionError):
                connection.recv(16)


def keep(port: int) -> None:
    """Accepts and keeps what it accepted."""
    with socket.create_server(("127.0.0.1", port), backlog=1024) as server:
        kept = []
        while True:
            kept.append(server.accept())


def stuck(port: int) -> None:
    """Listens and never accepts: its queue fills up and SYNs are dropped."""
    with socket.create_server(("127.0.0.1", port), backlog=1):
        time.sleep(3600)


def connect(port: int, per_second: float, linger: bytes = b"") -> None:
    """Short connections at a steady rate; refused ones too."""
    while True:
        time.sleep(1 / per_second)
        with socket.socket() as client, contextlib.suppress(OSError):
            client.settimeout(2.0)
            if linger:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            client.connect(("127.0.0.1", port))


def hold(port: int, count: int, also: int, per_second: float) -> None:
    """Many connections that stay, and short ones to another port."""
    held = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(count)]
    connect(also, per_second)
    del held


def hammer(port: int, parallel: int) -> None:
    """Connections to a full queue: every one sends its SYN again and again."""
    while True:
        waiting = [socket.socket() for _ in range(parallel)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        time.sleep(3.5)
        for client in waiting:
            client.close()


@dataclass(frozen=True, slots=True)
class Part:
    """A process in a cgroup of its own name."""

    cgroup: str
    run: Callable[..., None]
    arguments: tuple[object, ...]


PARTS = (
    Part("nginx.service", serve, (HTTP,)),
    Part("postgresql.service", keep, (DATABASE,)),
    Part("redis-server.service", serve, (CACHE,)),
    Part("postfix.service", stuck, (STUCK,)),
    Part(GATEWAY, connect, (HTTP, 180)),
    Part("checkout.service", hold, (DATABASE, 48, CACHE, 35)),
    Part("checkout.service", connect, (NOBODY, 4)),
    Part(WORKER, connect, (CACHE, 60)),
    Part(WORKER, connect, (CACHE, 3, LINGER_ZERO)),
    Part("cron.service", connect, (HTTP, 0.8)),
    Part("prometheus.service", connect, (HTTP, 6)),
    Part("mailer.service", hammer, (STUCK, 12)),
)


def _enter(folder: Path, part: Part) -> None:
    (folder / "cgroup.procs").write_text("0")
    part.run(*part.arguments)


@contextlib.contextmanager
def cast() -> Iterator[None]:
    """The processes at work in their cgroups; both are gone afterwards."""
    mount = cgroupfs.find_mount(Path("/sys/fs/cgroup"))
    if mount is None:
        sys.exit("no cgroup v2 here: run this on a machine that has it")
    top = mount.path / SLICE
    folders = [top / name for name in dict.fromkeys(part.cgroup for part in PARTS)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    processes = [
        multiprocessing.Process(target=_enter, args=(top / part.cgroup, part), daemon=True) for part in PARTS
    ]
    for process in processes:
        process.start()
        time.sleep(0.1)  # servers come first in PARTS and should listen before somebody asks
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()
        for folder in (*folders, top):
            folder.rmdir()


@contextlib.contextmanager
def agent() -> Iterator[endpoint.Endpoint]:
    """A running agent of this tree."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "flowlens", "agent", "--listen", address, "--kube", "off"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - our own command
        try:
            found = endpoint.Endpoint.of(address, None, insecure=False)
            _wait_for(found)
            yield found
        finally:
            process.terminate()


def _wait_for(found: endpoint.Endpoint) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            found.scrape()
        except failure.CommandFailedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def rows_of(before: scrape.Scrape, after: scrape.Scrape) -> list[rates.Row]:
    """What the table has about the cast, and about nobody else on this machine."""
    names = {part.cgroup for part in PARTS}
    short = {re.sub(r"^[a-z]+-([0-9a-f]{12}).*", r"\1", name) for name in names}
    return [row for row in rates.between(before, after, owners.grouping("workload")) if row.title in short]


def draw(before: scrape.Scrape, after: scrape.Scrape) -> str:
    """The table as SVG, in the fonts that the reader has."""
    picture = drawing.Picture(
        "http://127.0.0.1:2112",
        after.agent,
        "workload",
        2.0,
        rows_of(before, after),
        columns.BY_NAME["connects"],
    )
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(drawing.draw(picture, WIDTH, HEIGHT))
    text = console.export_svg(title="flowlens top", unique_id="top")
    return re.sub(r"\s*@font-face \{.*?\}\n", "\n", text, flags=re.DOTALL)


def main() -> None:
    target = Path(sys.argv[1]) if sys.argv[1:] else TARGET
    with agent() as found, cast():
        time.sleep(INTERVAL_SECONDS)
        before = found.scrape()
        time.sleep(INTERVAL_SECONDS)
        after = found.scrape()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(draw(before, after))
    print(target)


if __name__ == "__main__":
    main()

"""Traffic of these tests beside tests/kernel/traffic: run inside of a place, every loop bounded."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NamedTuple

from tests.kernel import traffic


class Ends(NamedTuple):
    """A connection as its client sees it."""

    src_ip: str
    src_port: int
    dst_ip: str
    dst_port: int


def connect_and_tell(address: str, port: int) -> Ends:
    """Opens one connection that stays."""
    client = socket.create_connection((address, port), timeout=10)
    traffic.held.append(client)
    return Ends(*client.getsockname()[:2], *client.getpeername()[:2])


def listen_at(address: str, port: int) -> None:
    """Opens a listening socket that stays."""
    traffic.listen(address, port=port)


def exchange_at(address: str, port: int, count: int) -> None:
    """`count` connections one after the other to a server at `port`, each closed orderly, the client first."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family, backlog=128) as server:
        for _ in range(count):
            _once(server)


def _once(server: socket.socket) -> None:
    """One connection that waits for no timer: a delayed ACK would close it whenever the machine finds the time."""
    with (
        socket.create_connection(server.getsockname()[:2], timeout=10) as client,
        server.accept()[0] as accepted,
    ):
        client.shutdown(socket.SHUT_WR)
        assert accepted.recv(1) == b""


def refused_at(address: str, port: int, count: int) -> None:
    """Connects where nobody listens."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(count):
        with socket.socket(family) as client:
            assert client.connect_ex((address, port)), "somebody listens"


def visit_from_cgroups(parent: str, count: int, port: int) -> None:
    """`count` times: a new cgroup below `parent`, this process enters it, connects once, leaves; the cgroup is removed."""
    with socket.create_server(("127.0.0.1", port), backlog=128) as server:
        for number in range(count):
            cgroup = Path(parent, f"visit-{number}")
            cgroup.mkdir()
            (cgroup / "cgroup.procs").write_text("0")
            _once(server)
            Path(parent, "cgroup.procs").write_text("0")
            cgroup.rmdir()

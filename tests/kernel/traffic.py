"""TCP traffic that tests drive, as functions which run inside a namespace. Every loop is bounded."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
import time

LOOPBACK = {4: "127.0.0.1", 6: "::1"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
held: list[socket.socket] = []
"""Sockets that stay open in this process until `release`."""


def listen(address: str, *, backlog: int = 128, port: int = 0) -> int:
    """Opens a listening socket that stays; returns its port. `address` "dual" listens on ::, IPv4 too."""
    dual = address == "dual"
    family = socket.AF_INET6 if ":" in address or dual else socket.AF_INET
    server = socket.create_server(
        ("::" if dual else address, port), family=family, backlog=backlog, dualstack_ipv6=dual
    )
    held.append(server)
    return int(server.getsockname()[1])


def release() -> None:
    """Closes what `listen`, `hold` and others left open."""
    while held:
        held.pop().close()


def exchange(address: str, count: int, size: int = 1000) -> None:
    """`count` connections to a server of this process at `address`, each carries `size` bytes and closes orderly."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        for _ in range(count):
            with socket.create_connection(server.getsockname()[:2], timeout=10) as client:
                accepted, _ = server.accept()
                with accepted:
                    client.sendall(bytes(size))
                    client.shutdown(socket.SHUT_WR)
                    while accepted.recv(65536):
                        pass


def exchange_in_parallel(address: str, connections: int) -> None:
    """All open at the same time, then all closed."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        socket.create_server((address, 0), family=family, backlog=connections) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(connections):
            stack.enter_context(socket.create_connection(server.getsockname()[:2], timeout=10))
            accepted, _ = server.accept()
            stack.enter_context(accepted)


def refused(address: str, count: int) -> None:
    """Connects to a port where nobody listens."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
        for _ in range(count):
            with socket.socket(family) as client, contextlib.suppress(ConnectionRefusedError):
                client.connect((address, port))
                raise AssertionError("somebody listens")


def times_out(address: str, port: int, milliseconds: int) -> None:
    """Connects where SYNs are dropped, with TCP_USER_TIMEOUT so that it takes no two minutes."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        client.settimeout(30)
        try:
            client.connect((address, port))
        except OSError as error:
            assert error.errno == errno.ETIMEDOUT, error  # noqa: PT017
        else:
            raise AssertionError("connected")


def meets_half_way(local: str, local_port: int, address: str, port: int, milliseconds: int) -> None:
    """Connects to an end that connects to this one at the same time; gives up after TCP_USER_TIMEOUT."""
    with socket.socket() as client:
        client.bind((local, local_port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        with contextlib.suppress(OSError):
            client.settimeout(30)
            client.connect((address, port))


def unreachable(address: str, port: int) -> None:
    """Connects to a host that a router says is unreachable (the reject rule answers for it)."""
    with socket.socket(socket.AF_INET) as client:
        client.settimeout(10)
        try:
            client.connect((address, port))
        except OSError as error:
            assert error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH), error  # noqa: PT017
        else:
            raise AssertionError("connected")


def gives_up(address: str, port: int) -> None:
    """Starts to connect where SYNs are dropped, and closes the socket before anything came back."""
    with socket.socket(socket.AF_INET) as client:
        client.setblocking(False)
        assert client.connect_ex((address, port)) == errno.EINPROGRESS


def resets(address: str, count: int, *, by_server: bool) -> None:
    """Connections that one end ends with SO_LINGER 0, so with a RST."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        for _ in range(count):
            client = socket.create_connection(server.getsockname()[:2], timeout=10)
            accepted, _ = server.accept()
            first, second = (accepted, client) if by_server else (client, accepted)
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            first.close()
            with contextlib.suppress(ConnectionResetError):
                second.recv(1)
            second.close()


def closes_with_unread_data(address: str, count: int) -> None:
    """The server closes while data waits to be read: the kernel answers with a RST."""
    with socket.create_server((address, 0)) as server:
        for _ in range(count):
            client = socket.create_connection(server.getsockname()[:2], timeout=10)
            accepted, _ = server.accept()
            client.sendall(b"unread")
            deadline = time.monotonic() + 5
            while not accepted.recv(1, socket.MSG_PEEK) and time.monotonic() < deadline:
                pass
            accepted.close()
            with contextlib.suppress(ConnectionResetError):
                client.recv(1)
            client.close()


def serve_bulk(port_holder: int = 0) -> int:
    """A server in a thread that reads everything from any number of connections; returns its port."""
    server = socket.create_server(
        ("::", port_holder), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512
    )
    held.append(server)

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=_drain, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(server.getsockname()[1])


def _drain(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while connection.recv(1 << 20):
            pass


def send_bulk(address: str, port: int, size: int, count: int = 1) -> None:
    """`count` connections, one after the other, of `size` bytes each."""
    data = bytes(min(size, 1 << 20))
    for _ in range(count):
        with socket.create_connection((address, port), timeout=60) as client:
            left = size
            while left > 0:
                left -= client.send(data[: min(left, len(data))])
            client.shutdown(socket.SHUT_WR)
            client.recv(1)


def hold(address: str, port: int, count: int) -> None:
    """Opens connections that stay."""
    held.extend(socket.create_connection((address, port), timeout=10) for _ in range(count))


def hold_both_ends(count: int) -> None:
    """Opens connections to the socket that `listen` left; they and what was accepted of them stay."""
    server = held[0]
    for _ in range(count):
        held.append(socket.create_connection(server.getsockname()[:2], timeout=10))
        held.append(server.accept()[0])


def connect_late(address: str, port: int, timeout: float) -> str:
    """One connection that takes its time (SYNs get lost first); says how it went."""
    try:
        with socket.create_connection((address, port), timeout=timeout):
            return "connected"
    except OSError as error:
        return str(error)


def say(data: bytes) -> None:
    """Sends on every connection that is held."""
    for connection in held:
        connection.send(data)

"""Clients that hang, trickle, read slowly or are many: nobody else notices."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from flowlens import server
from flowlens.server import listener
from tests.server.conftest import Shown

LARGE = os.urandom(1 << 20)


def healthz_seconds(running: server.Server) -> float:
    begun = time.monotonic()
    connection = http.client.HTTPConnection(running.address.host, running.address.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
    return time.monotonic() - begun


@pytest.fixture
def clients(running: server.Server) -> Iterator[Callable[[bytes], socket.socket]]:
    """Opens connections that say something and then nothing more."""
    with contextlib.ExitStack() as opened:

        def say(text: bytes) -> socket.socket:
            client = socket.create_connection(running.address, timeout=20)
            opened.callback(client.close)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(text)
            return client

        yield say


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def is_closed(client: socket.socket) -> bool:
    client.settimeout(0.01)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_clients_that_say_nothing_delay_nobody(
    running: server.Server, clients: Callable[[bytes], socket.socket]
) -> None:
    for _ in range(40):
        clients(b"")
    assert healthz_seconds(running) < 2.0


def test_clients_that_stop_in_the_middle_of_a_request_delay_others_by_a_moment(
    running: server.Server, clients: Callable[[bytes], socket.socket]
) -> None:
    for _ in range(12):
        clients(b"GET /metrics HTTP/1.1\r\nHost:")
    assert healthz_seconds(running) < 9.0


def test_clients_that_do_not_read_delay_others_by_a_moment(
    running: server.Server, shown: Shown, clients: Callable[[bytes], socket.socket]
) -> None:
    shown.page = lambda: [LARGE] * 8
    for _ in range(12):
        clients(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert healthz_seconds(running) < 9.0


def test_a_client_that_does_not_finish_is_cut_off(
    running: server.Server, clients: Callable[[bytes], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "CLIENT_SECONDS", 0.3)
    client = clients(b"GET /metrics HTTP/1.1\r\nHost:")
    wait_until(lambda: is_closed(client))


def test_connections_that_wait_are_bounded(
    running: server.Server, clients: Callable[[bytes], socket.socket]
) -> None:
    opened = [clients(b"") for _ in range(listener.MAX_PARKED + 20)]
    wait_until(lambda: sum(map(is_closed, opened)) >= 20)
    assert healthz_seconds(running) < 2.0


def test_a_page_that_is_being_made_is_not_taken_for_a_slow_client(
    running: server.Server, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "CLIENT_SECONDS", 0.1)
    release = threading.Event()

    def page() -> Iterator[bytes]:
        release.wait(10)
        yield b"x 1\n"

    shown.page = page
    connection = http.client.HTTPConnection(running.address.host, running.address.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        wait_until(lambda: shown.renders == 1)
        seen = time.monotonic() + 3 * listener.TICK_SECONDS
        wait_until(lambda: time.monotonic() > seen)
        release.set()
        assert connection.getresponse().read().startswith(b"x 1\n")


def _busy(running: server.Server) -> list[listener.Connection]:
    with running._http.busy_lock:
        return list(running._http.busy)


@pytest.mark.parametrize(
    "said", [b"", b"GET /metrics HTTP/1.1\r\nHost:", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"]
)
def test_it_stops_within_a_second_whatever_clients_do(
    running: server.Server, shown: Shown, clients: Callable[[bytes], socket.socket], said: bytes
) -> None:
    shown.page = lambda: [LARGE] * 8
    for _ in range(8):
        clients(said)
    if said:
        wait_until(lambda: len(_busy(running)) >= 6)
    begun = time.monotonic()
    running.stop()
    assert time.monotonic() - begun < 1.0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(running.address, timeout=5)


def test_it_stops_within_a_second_even_with_a_page_that_hangs(shown: Shown) -> None:
    release = threading.Event()

    def page() -> Iterator[bytes]:
        release.wait(20)
        yield b""

    shown.page = page
    running = server.Server("127.0.0.1:0", shown.sources())
    running.start()
    with socket.create_connection(running.address, timeout=5) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: shown.renders == 1)
        begun = time.monotonic()
        running.stop()
        assert time.monotonic() - begun < 1.2
    before = threading.active_count()
    release.set()
    wait_until(lambda: threading.active_count() < before)


def test_slow_readers_hold_the_compressed_page_only(
    running: server.Server, shown: Shown, clients: Callable[[bytes], socket.socket]
) -> None:
    shown.page = lambda: (b"x 1\n" * 250_000 for _ in range(60))
    before = resident_bytes()
    for _ in range(5):
        clients(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: len([each for each in _busy(running) if each.waiting_since]) >= 5, 30)
    assert resident_bytes() - before < 30 << 20


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01", b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"\xff" * 40_000]
)
def test_garbage_harms_nobody(
    running: server.Server, clients: Callable[[bytes], socket.socket], garbage: bytes
) -> None:
    clients(garbage)
    assert healthz_seconds(running) < 2.0

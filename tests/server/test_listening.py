"""Where the server listens, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlens import server
from flowlens.server import address
from tests.server.conftest import Shown


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("127.0.0.1:2112", ("127.0.0.1", 2112)),
        ("[::1]:2112", ("::1", 2112)),
        ("[::]:0", ("::", 0)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_an_address_is_host_and_port(text: str, parsed: tuple[str, int]) -> None:
    assert address.parse(text) == parsed
    assert str(address.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "2112", ":2112", "localhost", "::1:2112", "[::1]", "h:65536", "h:-1", "h:²", "[::1:1"]
)
def test_what_is_no_address_is_refused_with_examples(text: str) -> None:
    with pytest.raises(server.ServerError, match=r"write HOST:PORT, for example 127\.0\.0\.1:2112"):
        address.parse(text)


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    with contextlib.suppress(server.ServerError):
        assert address.parse(text).port <= 65535


@pytest.mark.parametrize(
    ("listen", "connect"), [("[::1]:0", "::1"), ("[::]:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1")]
)
def test_it_serves_where_it_was_told_to(shown: Shown, listen: str, connect: str) -> None:
    running = server.Server(listen, shown.sources())
    running.start()
    client = http.client.HTTPConnection(connect, running.address.port, timeout=10)
    client.request("GET", "/healthz")
    assert client.getresponse().read() == b"ok\n"
    client.close()
    running.stop()


def test_the_url_can_be_typed_into_a_browser(shown: Shown) -> None:
    running = server.Server("[::1]:0", shown.sources())
    assert running.url == f"http://[::1]:{running.address.port}"
    running.stop()


def test_a_taken_port_names_who_holds_it_and_what_to_do(shown: Shown) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        name = Path("/proc/self/comm").read_text().strip()
        with pytest.raises(server.ServerError) as refused:
            server.Server(f"127.0.0.1:{port}", shown.sources())
    assert f"port {port} is taken by pid {os.getpid()} ({name})" in str(refused.value)
    assert f"--listen 127.0.0.1:{port + 1}" in str(refused.value)


def test_a_port_taken_on_ipv6_is_named_as_well(shown: Shown) -> None:
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as holder,
        pytest.raises(server.ServerError, match=f"pid {os.getpid()}"),
    ):
        server.Server(f"[::1]:{holder.getsockname()[1]}", shown.sources())


def test_a_holder_that_cannot_be_seen_is_not_guessed(tmp_path: Path) -> None:
    assert address.holder(2112, tmp_path) == "another process (`ss -ltnp` as root names it)"


def test_an_address_of_another_machine_is_refused(shown: Shown) -> None:
    with pytest.raises(server.ServerError, match=r"no interface has this address; use 127\.0\.0\.1"):
        server.Server("192.0.2.1:0", shown.sources())


def test_a_name_that_nobody_knows_is_refused(shown: Shown) -> None:
    with pytest.raises(server.ServerError, match="no address"):
        server.Server("no-such-host.invalid:0", shown.sources())


def test_a_server_that_was_never_started_frees_its_port(shown: Shown) -> None:
    first = server.Server("127.0.0.1:0", shown.sources())
    first.stop()
    second = server.Server(str(first.address), shown.sources())
    second.stop()
    second.stop()


def test_it_can_listen_again_at_once_after_it_served(shown: Shown) -> None:
    listen = "127.0.0.1:0"
    for _ in range(3):
        running = server.Server(listen, shown.sources())
        running.start()
        listen = str(running.address)
        client = http.client.HTTPConnection(*running.address, timeout=10)
        client.request("GET", "/healthz")
        client.getresponse().read()
        running.stop()
        client.close()

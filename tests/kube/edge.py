"""A scripted HTTPS server in threads: what an API server or a kubelet may do to us, on demand.

A test sets `edge.script`, a function that gets each exchange and answers it: whole, line by line,
never, or by breaking the connection. All requests are kept.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What was asked."""

    path: str
    query: dict[str, str]
    token: str
    client: tuple[Any, ...]

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") == "true"


class Exchange:
    """One request, and the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, request: Request, closing: threading.Event) -> None:
        self._handler = handler
        self._closing = closing
        self.request = request

    def json(self, body: Json, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.body(json.dumps(body).encode(), status, headers)

    def body(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._handler.send_response(status)
        for name, value in (headers or {}).items():
            self._handler.send_header(name, value)
        self._handler.send_header("Content-Length", str(len(body)))
        self._handler.end_headers()
        self._handler.wfile.write(body)

    def refuse(self, status: int, message: str = "no", headers: dict[str, str] | None = None) -> None:
        """As the API server does, with a Status object."""
        self.json({"kind": "Status", "code": status, "message": message}, status, headers)

    def open_stream(self, *, chunked: bool = True) -> None:
        self._chunked = chunked
        self._handler.send_response(200)
        self._handler.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
        self._handler.end_headers()

    def send(self, data: bytes) -> None:
        self._handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)
        self._handler.wfile.flush()

    def event(self, kind: str, thing: Json) -> None:
        self.send(line(kind, thing))

    def end(self) -> None:
        self._handler.wfile.write(b"0\r\n\r\n")

    def hang(self) -> None:
        """Says nothing more, until the test ends."""
        self._closing.wait()

    def hang_until(self, condition: Callable[[], bool]) -> None:
        while not condition() and not self._closing.is_set():
            time.sleep(0.002)

    def abort(self) -> None:
        """Breaks the connection with a RST."""
        sock = self._handler.connection
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket(fileno=socket.dup(sock.fileno())).close()
        self._handler.close_connection = True


Script = Callable[[Exchange], None]


def line(kind: str, thing: Json) -> bytes:
    """An event of a watch, as a line."""
    return json.dumps({"type": kind, "object": thing}).encode() + b"\n"


def not_scripted(exchange: Exchange) -> None:
    exchange.refuse(500, "the test has no script")


@dataclass
class Edge:
    """The server."""

    url: str
    port: int
    script: Script = not_scripted
    requests: list[Request] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def watches(self) -> list[Request]:
        return [request for request in self.requests if request.is_watch]

    @property
    def lists(self) -> list[Request]:
        return [request for request in self.requests if not request.is_watch]


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    address_family = socket.AF_INET
    tls: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        # The handshake belongs to the connection's own thread: it happens at the first read.
        sock, address = super().get_request()
        sock.settimeout(30)
        if self.tls is not None:
            sock = self.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return sock, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are what the tests are about."""


@contextlib.contextmanager
def serve(tls: ssl.SSLContext | None, port: int = 0) -> Iterator[Edge]:
    """Runs an edge on 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            request = Request(parts.path, dict(parse_qsl(parts.query)), token, self.client_address)
            edge.requests.append(request)
            with contextlib.suppress(OSError):
                edge.script(Exchange(self, request, edge.closing))
            if edge.closing.is_set():
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parent's name
            pass

    server = _Server(("127.0.0.1", port), Handler)
    server.tls = tls
    connections: list[socket.socket] = []
    accept = server.get_request

    def accept_and_keep() -> tuple[socket.socket, Any]:
        sock, address = accept()
        connections.append(sock)
        return sock, address

    server.get_request = accept_and_keep  # type: ignore[method-assign]
    edge = Edge(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}", server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield edge
    finally:
        edge.closing.set()
        server.shutdown()
        for sock in connections:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        server.server_close()
        thread.join()


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Fails the test when the condition does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.002)

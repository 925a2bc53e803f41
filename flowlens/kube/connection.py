"""TCP connections that another thread can end at any moment, and that notice a dead peer.

A thread that waits in connect(), in a TLS handshake or for the next event of a watch can be woken
in one way only: shutdown() of its socket. A duplicate of the descriptor works at every stage (TLS
wrapping replaces the socket object, not the kernel's socket) and cannot hit a number in reuse.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import urllib3
from urllib3 import connection as urllib3_connection
from urllib3 import exceptions as urllib3_errors

from flowlens.kube import errors

KEEPALIVE = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    # Unacknowledged requests on a broken path end as fast as an idle watch does.
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 50_000),
)
"""A peer that vanished without a FIN (node gone, NAT entry lost) is noticed after 50 s."""


class Interrupter:
    """Holds the one socket that a client may be waiting on. All methods may be called by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._busy = False
        self._closed_while_busy = False
        self.stopped = False

    def hold(self, sock: socket.socket) -> None:
        """From now on `stop` ends this socket. Raises Stopped when it already happened."""
        with self._lock:
            self._drop()
            if self.stopped:
                raise errors.Stopped("the client was closed")
            self._socket = sock.dup()
            self._closed_while_busy = False

    def release(self) -> None:
        """The connection was closed. During a request its answer may still be read from the socket:
        http.client closes the connection object early when the server says `Connection: close`."""
        with self._lock:
            if self._busy:
                self._closed_while_busy = True
            else:
                self._drop()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Spans one request until its answer has been read."""
        with self._lock:
            self._busy = True
        try:
            yield
        finally:
            with self._lock:
                self._busy = False
                if self._closed_while_busy:
                    self._drop()

    def stop(self) -> bool:
        """Wakes whoever waits on the socket, now and for ever. Returns whether a request was under way."""
        with self._lock:
            self.stopped = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            self._drop()
            return self._busy

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Interruptible(urllib3_connection.HTTPConnection):
    """Registers its socket before it connects. urllib3 offers no hook earlier than `_new_conn`."""

    def __init__(self, *args: Any, interrupter: Interrupter, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._interrupter = interrupter

    def _new_conn(self) -> socket.socket:
        host = self.host.strip("[]")
        try:
            addresses = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        except OSError as problem:
            raise urllib3_errors.NewConnectionError(self, f"cannot resolve {host}: {problem}") from problem
        failure = OSError("no address")
        for family, kind, protocol, _, address in addresses:
            sock = socket.socket(family, kind, protocol)
            try:
                self._prepare(sock)
                sock.connect(address)
            except OSError as problem:
                sock.close()
                failure = problem
            else:
                return sock
        raise urllib3_errors.NewConnectionError(self, str(failure)) from failure

    def _prepare(self, sock: socket.socket) -> None:
        for option in KEEPALIVE:
            sock.setsockopt(*option)
        sock.settimeout(self.timeout)
        try:
            self._interrupter.hold(sock)
        except errors.Stopped:
            sock.close()
            raise

    def close(self) -> None:
        super().close()
        self._interrupter.release()


class _InterruptibleTls(_Interruptible, urllib3_connection.HTTPSConnection):
    """The same under TLS."""


class Pool(urllib3.HTTPConnectionPool):
    """One kept connection, plain."""

    ConnectionCls = _Interruptible


class TlsPool(urllib3.HTTPSConnectionPool):
    """One kept connection, TLS."""

    ConnectionCls = _InterruptibleTls

    def _validate_conn(self, conn: Any) -> None:
        """Connects. Overrides a warning at each request to a server whose certificate is not
        verified: whoever switched that off said so once, in the settings."""
        if conn.is_closed:
            conn.connect()

"""HTTP from within a node's network namespace, by this process: no curl, no port on the host.

A thread enters the namespace, connects and ends; the socket stays where it was made, and the
rest of the process never leaves the host's namespace.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import http.client
import json
import os
import socket
import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed import pki

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def connect(pid: int, address: tuple[str, int], timeout_seconds: float) -> socket.socket:
    """A TCP connection made in the network namespace of a process."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(_enter_and_connect, pid, address, timeout_seconds).result()


def _enter_and_connect(pid: int, address: tuple[str, int], timeout_seconds: float) -> socket.socket:
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.setns(namespace, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"entering the network namespace of {pid}: {os.strerror(number)}")
    finally:
        os.close(namespace)
    return socket.create_connection(address, timeout_seconds)


class _Connection(http.client.HTTPConnection):
    """An HTTP connection that starts in another network namespace; TLS when given a context."""

    def __init__(
        self, pid: int, host: str, port: int, tls: ssl.SSLContext | None, timeout_seconds: float
    ) -> None:
        super().__init__(host, port, timeout=timeout_seconds)
        self._pid, self._tls, self._seconds = pid, tls, timeout_seconds

    def connect(self) -> None:
        self.sock = connect(self._pid, (self.host, self.port), self._seconds)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)


def tls(*, verify: bool = True, client: str | None = None, authority: Path | None = None) -> ssl.SSLContext:
    """TLS that trusts the cluster's authority, optionally with one of its client certificates."""
    context = ssl.create_default_context(cafile=str(authority or pki.certificate("ca")))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if client is not None:
        context.load_cert_chain(pki.certificate(client), pki.key(client))
    return context


def request(
    pid: int,
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    context: ssl.SSLContext | None = None,
    timeout_seconds: float = 5,
) -> Reply:
    """One request from the namespace of a process; raises OSError when there is no answer."""
    parts = urllib.parse.urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    chosen = (context or tls()) if secure else None
    connection = _Connection(pid, parts.hostname or "", port, chosen, timeout_seconds)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()

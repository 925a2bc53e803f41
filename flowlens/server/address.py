"""Where to listen, and what to tell a person when that fails: above all, who holds the port."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BACKLOG = 128
_LISTENING = "0A"  # TCP_LISTEN in the `st` column of /proc/net/tcp


class ServerError(Exception):
    """The endpoint cannot be served as asked; the message says why and what to do."""


class Address(NamedTuple):
    """A host (name or address, without brackets) and a port; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """`HOST:PORT`, with an IPv6 address in brackets."""
    host, colon, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ServerError(_expected(text))
    if ":" in host and not is_bracketed:
        raise ServerError(_expected(text))
    return Address(host[1:-1] if is_bracketed else host, int(port))


def _expected(text: str) -> str:
    return (
        f"cannot listen on {text!r}: write HOST:PORT, for example 127.0.0.1:2112, 0.0.0.0:2112 or [::1]:2112"
    )


def listen(address: Address, proc: Path = Path("/proc")) -> socket.socket:
    """A listening socket, or ServerError with the reason and the remedy. `[::]` takes IPv4 as well."""
    try:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        message = f"cannot listen on {address}: {address.host} is no address and has none ({error.strerror})"
        raise ServerError(f"{message}; write an address of this machine") from error
    family, kind, protocol, _, resolved = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and resolved[0] == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(resolved)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ServerError(f"cannot listen on {address}: {_reason(error, address, proc)}") from error
    return listener


def _reason(error: OSError, address: Address, proc: Path) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            remedy = (
                f"stop it, or choose another port with --listen {address._replace(port=address.port + 1)}"
            )
            return f"port {address.port} is taken by {holder(address.port, proc)}; {remedy}"
        case errno.EACCES:
            return f"port {address.port} needs root or CAP_NET_BIND_SERVICE; choose one above 1023"
        case errno.EADDRNOTAVAIL:
            return "no interface has this address; use 127.0.0.1, or 0.0.0.0 or [::] for all interfaces"
        case _:
            return f"{error.strerror}; choose another address with --listen HOST:PORT"


def holder(port: int, proc: Path = Path("/proc")) -> str:
    """Who listens on a port of this network namespace, as far as this process may see it."""
    inodes = set(_listening(port, proc))
    for process in proc.glob("[0-9]*"):
        if inodes & set(_sockets(process)):
            return f"pid {process.name} ({_name(process)})"
    return "another process (`ss -ltnp` as root names it)"


def _listening(port: int, proc: Path) -> Iterator[str]:
    """Inodes of the sockets that listen on a port (proc_pid_net(5))."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{fields[9]}]"


def _sockets(process: Path) -> Iterator[str]:
    try:
        for descriptor in (process / "fd").iterdir():
            yield str(descriptor.readlink())
    except OSError:
        return  # it ended, or it is not ours to look into


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "ended meanwhile"

"""Who listens on a port already: the process, and whether it is a flow-lens agent.

Answers one question of `flowlens check` and of no other: what to do about a port that is taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import urllib3

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
_ANSWER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Holder:
    """`pid` is 0 and `name` "" when no process with that socket may be seen."""

    pid: int
    name: str
    agent_version: str = ""

    def __str__(self) -> str:
        """As in `held by nginx (pid 12)`."""
        process = f"{self.name} (pid {self.pid})" if self.pid else "a process that cannot be seen from here"
        return f"{process}, a flow-lens agent {self.agent_version}" if self.agent_version else process


def find(proc: Path, host: str, port: int) -> Holder:
    """Whoever listens on `port` in this network namespace."""
    version = _agent_version(host or "127.0.0.1", port)
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(proc, port)}
    for pid, name in _processes_with(proc, sockets):
        return Holder(pid, name, version)
    return Holder(0, "", version)


def _listening_inodes(proc: Path, port: int) -> Iterator[str]:
    """Socket inodes from /proc/net/tcp and tcp6 (proc(5)); ports are hexadecimal there."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (proc / "net" / table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                    yield words[9]


def _processes_with(proc: Path, sockets: set[str]) -> Iterator[tuple[int, str]]:
    with suppress(OSError):
        for folder in proc.iterdir():
            if not folder.name.isdecimal():
                continue
            with suppress(OSError):  # gone meanwhile, or somebody else's
                if any(os.readlink(fd) in sockets for fd in (folder / "fd").iterdir()):
                    yield int(folder.name), (folder / "comm").read_text().strip()


def _agent_version(host: str, port: int) -> str:
    """What /status says, "" when the answer is not an agent's."""
    address = f"[{host}]" if ":" in host else host
    try:
        answer = urllib3.request(
            "GET", f"http://{address}:{port}/status", timeout=_ANSWER_SECONDS, retries=False
        )
        status = msgspec.json.decode(answer.data, type=_Status)
    except (urllib3.exceptions.HTTPError, msgspec.MsgspecError, UnicodeError):
        return ""
    return status.version


class _Status(msgspec.Struct):
    """The part of an agent's /status that tells it from other JSON."""

    version: str
    engine: str

"""Simulated agents: one server, thousands of addresses.

`ip route add local <range> dev lo` makes every address of a range ours, so an agent needs nothing
but a line in a table; the server tells them apart by the address that was called. They follow
objects as told by the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

RANGE = "198.18.0.0/15"
FIRST = IPv4Address("198.18.1.0")
PORT = 2112
Json = dict[str, Any]


@dataclass
class Agent:
    """What one agent says. `mode`: answer, refuse, hang, endless, garbage, or a status code."""

    node: str
    address: str
    config: Json = field(default_factory=lambda: state("default", 0))
    probes: list[Json] = field(default_factory=list)
    series: Json = field(default_factory=lambda: {"connect": 10})
    collapsed: Json = field(default_factory=dict)
    limited: list[str] | None = None
    flows: int = 0
    mode: str = "answer"
    asked: int = 0

    def status(self) -> bytes:
        content = {
            "version": "0.1.0",
            "engine": "core",
            "kernel": "6.18.0",
            "node": self.node,
            "uptime_seconds": 12.5,
            "config": {**self.config, "applied_at": 1.0, "metrics": ["connect", "retransmit"]},
            "probes": self.probes or PROBES,
            "maps": {"entries": {"totals": 3, "flows": self.flows}, "capacity": {"flows": 65536}},
            "series": self.series,
            "collapsed": self.collapsed,
            "unattributed": [{"metric": "connect", "cause": "no_socket", "count": 2}],
            "identity": {"problem": ""},
        }
        if self.limited is not None:
            content["limited"] = self.limited
        return json.dumps(content).encode()


def state(name: str, generation: int, error: str = "") -> Json:
    """As an agent of version 0.1.0 says it; later ones add `uid` and `refused`."""
    return {
        "name": name,
        "generation": generation,
        "state": "rejected" if error else "applied",
        "error": error,
    }


def probe(hook: str, reason: str = "") -> Json:
    return {"hook": hook, "purpose": "a purpose", "up": not reason, "reason": reason}


PROBES = [
    probe("inet_sock_set_state"),
    probe("tcp_retransmit_skb"),
    probe("tcp_send_reset", "off"),
]


class Agents:
    """All of them, by node."""

    def __init__(self) -> None:
        self.by_node: dict[str, Agent] = {}
        self._by_address: dict[str, Agent] = {}
        self._at_once = 0
        self.most_at_once = 0

    def add(self, node: str) -> Agent:
        agent = Agent(node, str(FIRST + len(self._by_address)))
        self.by_node[node] = self._by_address[agent.address] = agent
        return agent

    def __getitem__(self, node: str) -> Agent:
        return self.by_node[node]

    def reset(self) -> None:
        """Every agent as it was made."""
        for made in self.by_node.values():
            fresh = Agent(made.node, made.address)
            fresh.asked = made.asked
            vars(made).update(vars(fresh))

    def follow(self, name: str, generation: int, *nodes: str) -> None:
        """These nodes (default: all) run an object from now on."""
        for node in nodes or self.by_node:
            self.by_node[node].config = state(name, generation)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """For a server on every address: the one that was called says who is meant."""
        await self.answer_as(self._by_address[writer.get_extra_info("sockname")[0]], reader, writer)

    async def answer_as(
        self, agent: Agent, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            agent.asked += 1
            if agent.mode == "hang":
                await reader.read()
            elif agent.mode != "refuse":
                writer.write(_answer(agent, request.split(b" ", 2)[1]))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._at_once -= 1
            writer.close()


def _answer(agent: Agent, path: bytes) -> bytes:
    if path != b"/status":
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    body = {"endless": b" " * (3 << 20), "garbage": b"<html>"}.get(agent.mode) or agent.status()
    code = int(agent.mode) if agent.mode.isdecimal() else 200
    head = f"HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def make_room() -> None:
    """Every address of the range is local from now on, in the calling thread's network namespace."""
    subprocess.run(["ip", "route", "add", "local", RANGE, "dev", "lo"], check=True)


@contextlib.contextmanager
def serving(agents: Agents) -> Iterator[None]:
    """Serves in a thread of the calling thread's network namespace."""
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        server = await asyncio.start_server(agents.answer, "0.0.0.0", PORT, backlog=4096)
        started.set()
        await stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    assert started.wait(10), "the agents' server did not start"
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()

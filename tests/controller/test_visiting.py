"""Asking agents over real HTTP on loopback: bounded, patient, and told apart when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flowlens.controller import options, sighting, visiting
from tests.controller import agents as simulated
from tests.kube import pki

Answerer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CHOSEN = options.Options(sweep_seconds=0.2, timeout_seconds=0.5, concurrency=4)


@contextlib.asynccontextmanager
async def asking(
    fleet: simulated.Agents, chosen: options.Options = CHOSEN, tls: ssl.SSLContext | None = None
) -> AsyncIterator[visiting.Visitor]:
    """A visitor at work; every agent has a port of its own on 127.0.0.1."""
    async with contextlib.AsyncExitStack() as stack:
        found = {}
        for agent in fleet.by_node.values():
            server = await asyncio.start_server(_answerer(fleet, agent), "127.0.0.1", 0, ssl=tls)
            stack.callback(server.close)
            found[agent.node] = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        visitor = visiting.Visitor(chosen, lambda: None, lambda *_: None)
        visitor.follow(found)
        task = asyncio.create_task(visitor.run())
        try:
            yield visitor
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _answerer(fleet: simulated.Agents, agent: simulated.Agent) -> Answerer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await fleet.answer_as(agent, reader, writer)

    return answer


async def until(condition: Callable[[], object], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.005)


def fleet(*nodes: str) -> simulated.Agents:
    made = simulated.Agents()
    for node in nodes:
        made.add(node)
    return made


def test_every_agent_is_asked_and_asked_again() -> None:
    async def main() -> None:
        all_of_them = fleet("n1", "n2", "n3")
        async with asking(all_of_them) as visitor:
            await until(
                lambda: all(one.asked > 2 for one in all_of_them.by_node.values()), "asked three times"
            )
            assert {one.seen.config for one in visitor.agents.values()} == {sighting.Version("default", 0)}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        ("hang", "no answer in time"),
        ("refuse", "connection broken (ServerDisconnectedError)"),
        ("503", "its /status answered 503"),
        ("302", "its /status answered 302"),
        ("endless", "its /status has more than 1048576 bytes"),
        ("garbage", "its /status is not what was expected"),
    ],
)
def test_an_agent_that_fails_twice_has_a_problem_in_words_without_its_address(
    mode: str, problem: str
) -> None:
    async def main() -> None:
        one = fleet("n1")
        async with asking(one) as visitor:
            agent = visitor.agents["n1"]
            await until(lambda: agent.seen.config, "first answer")
            one["n1"].mode = mode
            await until(lambda: agent.failures == 1, "first failure")
            assert not agent.seen.problem, "one failure is a hiccup"
            await until(lambda: agent.seen.problem, "a problem")
            assert agent.seen.problem.startswith(problem)
            assert agent.seen.config == sighting.Version("default", 0), "what was known stays"
            one["n1"].mode = "answer"
            await until(lambda: not agent.seen.problem, "well again")

    asyncio.run(main())


def test_a_port_where_nobody_listens_is_told_as_such() -> None:
    async def main() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            async with asking(fleet()) as visitor:
                visitor.follow({"n1": f"127.0.0.1:{closed.getsockname()[1]}"})
                await until(lambda: visitor.agents["n1"].seen.problem, "a problem")
                assert visitor.agents["n1"].seen.problem == "cannot connect (ECONNREFUSED)"

    asyncio.run(main())


def test_a_sweep_asks_each_agent_once() -> None:
    async def main() -> None:
        many = fleet(*[f"n{number}" for number in range(200)])
        async with asking(many, options.Options(sweep_seconds=3600, concurrency=8)) as visitor:
            await until(lambda: all(one.seen.config for one in visitor.agents.values()), "all answered")
            visitor.expect({"n0": sighting.Version("one", 1)})
            await until(lambda: many["n0"].asked > 1, "one is asked again")
        assert [one.asked for one in many.by_node.values()][1:] == [1] * 199

    asyncio.run(main())


def test_silent_agents_do_not_hold_more_connections_than_allowed() -> None:
    async def main() -> None:
        many = fleet(*[f"n{number}" for number in range(20)])
        for agent in many.by_node.values():
            agent.mode = "hang"
        async with asking(many) as visitor:
            await until(lambda: all(one.seen.problem for one in visitor.agents.values()), "all told", 20)
            assert many.most_at_once <= CHOSEN.concurrency

    asyncio.run(main())


def test_who_should_change_is_asked_soon_and_again_until_it_did() -> None:
    async def main() -> None:
        both = fleet("n1", "n2")
        slow = options.Options(sweep_seconds=60, timeout_seconds=1)
        async with asking(both, slow) as visitor:
            await until(lambda: all(one.asked for one in both.by_node.values()), "first look")
            visitor.expect({"n1": sighting.Version("one", 1)})
            await until(lambda: both["n1"].asked > 2, "two more looks, long before the next sweep", 20)
            assert visitor.agents["n1"].is_behind
            both.follow("one", 1)
            await until(lambda: not visitor.agents["n1"].is_behind, "the change is seen", 20)
            assert both["n2"].asked == 1, "nobody else was asked"

    asyncio.run(main())


def test_a_new_address_is_a_new_agent_and_a_vanished_one_is_forgotten() -> None:
    async def main() -> None:
        async with asking(fleet("n1")) as visitor:
            first = visitor.agents["n1"]
            await until(lambda: first.seen.config, "first answer")
            visitor.follow({"n1": "127.0.0.1:1"})
            assert visitor.agents["n1"].seen.config is None
            visitor.follow({})
            assert not visitor.agents

    asyncio.run(main())


@pytest.mark.parametrize(
    ("tls", "name", "problem"),
    [
        ("verify", "agents.test", ""),
        ("insecure", "", ""),
        ("verify", "", "its certificate is not verified"),
        ("verify", "others.test", "its certificate is not verified"),
    ],
)
def test_agents_that_serve_tls_are_known_by_the_name_in_their_certificate(
    tmp_path: Path, tls: str, name: str, problem: str
) -> None:
    ca = pki.authority()
    pair = pki.leaf(ca, "agent", hosts=("agents.test",))
    (tmp_path / "ca.crt").write_bytes(ca.certificate_pem)
    (tmp_path / "agent.pem").write_bytes(pair.certificate_pem + pair.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "agent.pem")
    chosen = replace(CHOSEN, agents_tls=tls, agents_ca=tmp_path / "ca.crt", agents_server_name=name)

    async def main() -> None:
        async with asking(fleet("n1"), chosen, context) as visitor:
            agent = visitor.agents["n1"]
            await until(lambda: agent.seen.config or agent.seen.problem, "an answer")
            assert agent.seen.problem.startswith(problem)
            assert bool(agent.seen.problem) == bool(problem)

    asyncio.run(main())


def test_a_ca_file_that_is_none_says_which_flag_to_mend(tmp_path: Path) -> None:
    chosen = replace(CHOSEN, agents_tls="verify", agents_ca=tmp_path / "missing.crt")
    visitor = visiting.Visitor(chosen, lambda: None, lambda *_: None)
    with pytest.raises(options.StartError, match=r"--agents-ca: CA .*missing\.crt"):
        asyncio.run(visitor.run())


def test_an_agent_that_runs_the_former_object_of_that_name_is_behind() -> None:
    new = sighting.Version("one", 1, "new")
    agent = visiting.Agent("n1", "198.18.0.1:2112", wanted=new)
    for uid, is_behind in (("former", True), ("new", False), ("", False)):  # "": it does not tell
        agent.seen = sighting.Sighting(config=sighting.Version("one", 1, uid))
        assert agent.is_behind is is_behind

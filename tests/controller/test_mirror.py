"""List and watch within the event loop, against a scripted server: pages, 410, a rotated token."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from flowlens.controller import api, finding, mirror
from flowlens.kube import access
from tests.kube import edge as edges


@pytest.fixture
def edge() -> Iterator[edges.Edge]:
    with edges.serve(None) as running:
        yield running


def node(name: str, version: int = 1, **labels: str) -> edges.Json:
    return {"metadata": {"name": name, "resourceVersion": str(version), "labels": labels}}


def page(*items: edges.Json, version: int = 1, more: str = "") -> edges.Json:
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items) or None}


@contextlib.asynccontextmanager
async def mirrored(server: access.Access) -> AsyncIterator[mirror.Mirror[finding.Labels]]:
    """A mirror of nodes at work."""
    asking = api.Api(server)
    one = mirror.Mirror(asking, finding.nodes(), lambda: None)
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asking.close()


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.005)


def test_a_list_is_read_page_by_page(edge: edges.Edge) -> None:
    def script(exchange: edges.Exchange) -> None:
        if exchange.request.is_watch:
            exchange.open_stream()
            exchange.hang()
        elif exchange.request.query.get("continue") == "p2":
            exchange.json(page(node("n2"), version=7))
        else:
            exchange.json(page(node("n1", zone="a"), version=7, more="p2"))

    async def main() -> None:
        async with mirrored(access.Access(edge.url)) as one:
            await until(lambda: one.connected, "a watch")
            assert one.objects == {"n1": {"zone": "a"}, "n2": {}}
        assert [request.query["limit"] for request in edge.lists] == ["500", "500"]
        assert edge.watches[0].query["resourceVersion"] == "7"

    edge.script = script
    asyncio.run(main())


def test_an_empty_list_is_a_list(edge: edges.Edge) -> None:
    """The API server writes null for it."""
    edge.script = lambda exchange: exchange.json(page())

    async def main() -> None:
        async with mirrored(access.Access(edge.url)) as one:
            await until(lambda: one.synced, "the list")
            assert one.objects == {}

    asyncio.run(main())


def test_events_change_the_copy_and_only_changes_are_announced(edge: edges.Edge) -> None:
    def script(exchange: edges.Exchange) -> None:
        if not exchange.request.is_watch:
            exchange.json(page(node("n1"), node("n2")))
        elif len(edge.watches) == 1:
            exchange.open_stream()
            exchange.event("MODIFIED", node("n1", 2))  # a heartbeat: same labels
            exchange.event("ADDED", node("n3", 3, zone="c"))
            exchange.event("DELETED", node("n2", 4))
            exchange.event("BOOKMARK", {"metadata": {"resourceVersion": "9"}})
            exchange.end()
        else:
            exchange.open_stream()
            exchange.hang()

    async def main() -> None:
        async with mirrored(access.Access(edge.url)) as one:
            await until(lambda: len(edge.watches) == 2, "a second watch")
            assert one.objects == {"n1": {}, "n3": {"zone": "c"}}
            assert one.changes == 3, "the list, one more, one less"
            assert edge.watches[1].query["resourceVersion"] == "9"

    edge.script = script
    asyncio.run(main())


def test_a_version_that_is_gone_is_listed_again(edge: edges.Edge) -> None:
    def script(exchange: edges.Exchange) -> None:
        if not exchange.request.is_watch:
            exchange.json(page(*[node("n1")] * (len(edge.lists) < 2), version=len(edge.lists)))
            return
        exchange.open_stream()
        if len(edge.watches) == 1:
            exchange.event("ERROR", {"kind": "Status", "code": 410, "message": "too old"})
            exchange.end()
        else:
            exchange.hang()

    async def main() -> None:
        async with mirrored(access.Access(edge.url)) as one:
            await until(lambda: len(edge.watches) == 2, "a second watch")
            assert one.objects == {}, "what vanished meanwhile is gone"

    edge.script = script
    asyncio.run(main())


def test_failures_are_waited_out(edge: edges.Edge) -> None:
    def script(exchange: edges.Exchange) -> None:
        if len(edge.requests) < 3:
            exchange.refuse(503)
        else:
            exchange.json(page(node("n1")))

    async def main() -> None:
        async with mirrored(access.Access(edge.url)) as one:
            await until(lambda: "503" in one.last_error, "the failure is noted")
            await until(lambda: one.synced, "the list")
            assert not one.last_error

    edge.script = script
    asyncio.run(main())


def test_a_rotated_token_is_read_again_after_a_refusal(edge: edges.Edge, tmp_path: Path) -> None:
    def script(exchange: edges.Exchange) -> None:
        if exchange.request.token == "new":
            exchange.json(page())
        else:
            exchange.refuse(401)

    async def main() -> None:
        file = tmp_path / "token"
        file.write_text("old")
        token = access.TokenFile(file)
        assert token.value() == "old"
        file.unlink()
        file.write_text("new")
        asking = api.Api(access.Access(edge.url, token=token))
        assert b"items" in await asking.get("/api/v1/nodes")
        await asking.close()
        assert [request.token for request in edge.requests] == ["old", "new"]

    edge.script = script
    asyncio.run(main())

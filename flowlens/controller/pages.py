"""/metrics, /healthz and /readyz of the controller, on one port of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from flowlens.controller import options

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ROOT = b"flow-lens controller: /metrics /healthz /readyz\n"


@contextlib.asynccontextmanager
async def serving(
    listen: str, *, render: Callable[[], bytes], healthy: Callable[[], str], ready: Callable[[], str]
) -> AsyncIterator[int]:
    """Serves until the block ends; gives the port. `healthy` and `ready` return what is wrong, or "".

    Raises StartError when the address cannot be had.
    """

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=render(), headers={"Content-Type": CONTENT_TYPE})

    async def health(_: web.Request) -> web.Response:
        return _verdict(healthy())

    async def readiness(_: web.Request) -> web.Response:
        return _verdict(ready())

    async def root(_: web.Request) -> web.Response:
        return web.Response(body=_ROOT)

    app = web.Application()
    app.add_routes(
        [
            web.get("/", root),
            web.get("/metrics", metrics),
            web.get("/healthz", health),
            web.get("/readyz", readiness),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    try:
        site = web.TCPSite(runner, host.strip("[]") or None, int(port))
        try:
            await site.start()
        except OSError as problem:
            raise options.StartError(f"cannot listen on {listen}: {problem.strerror or problem}") from problem
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _verdict(problem: str) -> web.Response:
    return web.Response(text=problem or "ok", status=503 if problem else 200)

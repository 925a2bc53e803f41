"""HTTP to the API server, asynchronously: a few reads, a watch, and the two writes that there are.

Credentials and errors are those of the `kube` room, whose own client blocks and only reads. The
session that kopf gets is made here too, so both read a rotated token again in the same way.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import aiohttp

from flowlens.kube import access, errors, objects

PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""Metadata only: a node's object is 10 to 20 kB, of which we read the labels."""
MERGE_PATCH = "application/merge-patch+json"
CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 20.0
SILENCE_SECONDS = 90.0
"""The server sends a bookmark about once a minute; a watch silent for longer is half open."""
MOST_LINE_BYTES = 16 << 20


def session(server: access.Access) -> aiohttp.ClientSession:
    """A session of its own. Raises NoAccess when a file of the credentials is unusable."""
    tls = server.tls() if server.url.startswith("https:") else True
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls, limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "flow-lens-controller"},
        middlewares=(_bearer(server.token),),
    )


def _bearer(token: access.Token) -> aiohttp.ClientMiddlewareType:
    """Sends the token as it is now; a refused one is read again, and the request repeated if it changed."""

    async def middleware(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        sent = token.value()
        if sent:
            request.headers["Authorization"] = f"Bearer {sent}"
        response = await handler(request)
        if response.status == 401:
            token.distrust()
            fresh = token.value()
            if fresh != sent:
                response.close()
                request.headers["Authorization"] = f"Bearer {fresh}"
                response = await handler(request)
        return response

    return middleware


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]
    parameters: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


class Api:
    """Speaks to the API server of one `Access`, within one event loop."""

    def __init__(self, server: access.Access) -> None:
        self._server = server
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Ends all requests."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(
        self, path: str, parameters: Mapping[str, str] | None = None, accept: str = "application/json"
    ) -> bytes:
        """The body of an answer 200. Raises KubeError."""
        return await self._whole(_Request("GET", path, {"Accept": accept}, parameters or {}))

    async def patch(self, path: str, body: bytes) -> bytes:
        """Sends a merge patch. Raises KubeError."""
        return await self._whole(_Request("PATCH", path, {"Content-Type": MERGE_PATCH}, body=body))

    async def create(self, path: str, body: bytes) -> bool:
        """Creates an object; False when there is one of that name. Raises KubeError."""
        try:
            await self._whole(_Request("POST", path, {"Content-Type": "application/json"}, body=body))
        except Exists:
            return False
        return True

    @contextlib.asynccontextmanager
    async def lines(
        self, path: str, parameters: Mapping[str, str], accept: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The lines of an endless answer; SILENCE_SECONDS without any raise Temporary. Raises KubeError."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        async with self._answer(_Request("GET", path, {"Accept": accept}, parameters), limits) as response:
            yield _lines(response, path)

    async def _whole(self, request: _Request) -> bytes:
        limits = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        async with self._answer(request, limits) as response:
            return await response.read()

    @contextlib.asynccontextmanager
    async def _answer(
        self, request: _Request, limits: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer 200 or 201 whose body is yet to be read."""
        where = f"{request.method} {self._server.url}{request.path}"
        if self._session is None:
            self._session = session(self._server)
        try:
            async with self._session.request(
                request.method,
                self._server.url + request.path,
                params=request.parameters,
                headers=request.headers,
                data=request.body,
                timeout=limits,
            ) as response:
                if response.status not in (200, 201):
                    raise await _refusal(response, where)
                yield response
        except aiohttp.ClientConnectorCertificateError as problem:
            await self.close()  # the CA may have been replaced on disk: the next request reads it again
            raise errors.CertificateNotVerified(f"{where}: certificate not verified ({problem})") from problem
        except TimeoutError as problem:
            raise errors.Temporary(f"{where}: no answer in time; it may be half open") from problem
        except (aiohttp.ClientError, OSError) as problem:
            raise errors.Temporary(f"{where}: {problem or type(problem).__name__}") from problem


class Exists(errors.Refused):
    """409 to a POST: an object of that name is there."""


async def _refusal(response: aiohttp.ClientResponse, where: str) -> errors.KubeError:
    said = objects.status_message(await response.content.read(1 << 16))
    if response.status == 409 and response.method == "POST":
        return Exists(f"{where}: {said}")
    wait = response.headers.get("Retry-After", "")
    return errors.of_status(
        response.status, where, said, retry_after_seconds=float(wait) if wait.isdigit() else 0.0
    )


async def _lines(response: aiohttp.ClientResponse, path: str) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
        for line in whole:
            if line:
                yield line
        if len(rest) > MOST_LINE_BYTES:
            raise errors.Unexpected(f"{path} sent a line of more than {MOST_LINE_BYTES} bytes")

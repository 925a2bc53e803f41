"""Paths and their answers. Pure of sockets: a request's method, path and headers in, a response out."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from flowlens import exposition
from flowlens.server import front_page, process_metrics, shared_page

log = logging.getLogger(__name__)

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{front_page.STYLE_HASH}'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Sources:
    """What is shown. All are called from several threads.

    `metrics`: text of the agent's families, in chunks; never called twice at a time. `status`: anything
    that JSON can say. `ailing`, `unready`: "" when all is well, else what is wrong.
    """

    metrics: Callable[[], Iterable[bytes]]
    status: Callable[[], object]
    overview: Callable[[], front_page.Overview]
    ailing: Callable[[], str]
    unready: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Response:
    """`length`: bytes of the body, known before it is made."""

    status: HTTPStatus
    headers: Mapping[str, str]
    body: Iterable[bytes]
    length: int


class Pages:
    """Answers by path."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._page = shared_page.SharedPage(
            lambda: itertools.chain(sources.metrics(), [process_metrics.text()])
        )
        self._complaints: set[str] = set()
        self._routes: Mapping[str, Callable[[str], Response]] = {
            "/": lambda _: _whole("text/html; charset=utf-8", front_page.render(sources.overview())),
            "/metrics": self._metrics,
            "/healthz": lambda _: _verdict(sources.ailing()),
            "/readyz": lambda _: _verdict(sources.unready()),
            "/status": lambda _: _whole("application/json", msgspec.json.encode(sources.status()) + b"\n"),
        }

    def answer(self, method: str, path: str, accept_encoding: str) -> Response:
        """The response to a request; an error of a source is a 500 that says so."""
        route = self._routes.get(path)
        if route is None:
            return _plain(HTTPStatus.NOT_FOUND, f"not found; there are {', '.join(self._routes)}")
        if method not in ("GET", "HEAD"):
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", {"Allow": "GET, HEAD"})
        try:
            return route(accept_encoding)
        except Exception as error:  # noqa: BLE001 - a thread's outermost loop: the next request may fare better
            self._complain(f"{path}: {error or type(error).__name__}", error)
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, f"{path} failed: {error}; see the agent's log")

    def _complain(self, message: str, error: Exception) -> None:
        """Logs each distinct message once; a scrape every 15 s must not fill a disk."""
        if message not in self._complaints and len(self._complaints) < 100:
            self._complaints.add(message)
            log.error(
                "endpoint failed, further failures like this are not logged: %s", message, exc_info=error
            )

    def _metrics(self, accept_encoding: str) -> Response:
        page = self._page.get()
        headers = {"Content-Type": exposition.CONTENT_TYPE, "Vary": "Accept-Encoding"}
        if accepts_gzip(accept_encoding):
            headers["Content-Encoding"] = "gzip"
            return Response(HTTPStatus.OK, headers, page.compressed, page.compressed_bytes)
        return Response(HTTPStatus.OK, headers, page.text(), page.text_bytes)


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header takes gzip (RFC 9110, 12.5.3): q=0 says no."""
    for entry in header.lower().split(","):
        coding, _, parameters = entry.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return parameters.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _whole(content_type: str, body: bytes) -> Response:
    return Response(HTTPStatus.OK, {"Content-Type": content_type}, (body,), len(body))


def _plain(status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> Response:
    body = f"{text}\n".encode("utf-8", "backslashreplace")
    return Response(status, {"Content-Type": _TEXT, **(headers or {})}, (body,), len(body))


def _verdict(problem: str) -> Response:
    return _plain(HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK, problem or "ok")

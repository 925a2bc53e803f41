"""HTTP GETs to one server: whole bodies, and endless ones line by line.

A client belongs to one thread, which makes one request at a time; only `close` may be called by
others, and ends a request in flight at once. Every failure leaves as one of `errors`.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Mapping
from urllib.parse import urlencode, urlsplit

import msgspec
import urllib3
from urllib3 import exceptions as urllib3_errors

import flowlens
from flowlens.kube import access, connection, errors, objects

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
MOST_BODY_BYTES = 64 << 20
MOST_LINE_BYTES = 16 << 20
"""Bounds against a server gone mad: etcd takes objects of 1.5 MiB, a node runs some hundred pods."""
_CHUNK_BYTES = 1 << 16


class Client:
    """Speaks to the server of one `Access`."""

    def __init__(self, server: access.Access) -> None:
        self.server = server
        self._interrupter = connection.Interrupter()
        self._pool: urllib3.HTTPConnectionPool | None = None
        self._agent = f"flow-lens/{flowlens.__version__}"

    def close(self) -> None:
        """Ends the request in flight (its thread gets Stopped) and refuses later ones. Any thread."""
        if not self._interrupter.stop():
            self._close_pool()

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> bytes:
        """The whole body. Raises KubeError."""
        with self._answer(path, parameters or {}, READ_SECONDS) as (response, where):
            body = bytearray()
            for chunk in response.stream(_CHUNK_BYTES):
                body += chunk
                if len(body) > MOST_BODY_BYTES:
                    raise errors.Unexpected(f"{where} sent more than {MOST_BODY_BYTES} bytes")
            return bytes(body)

    @contextlib.contextmanager
    def lines(
        self, path: str, parameters: Mapping[str, str], *, read_seconds: float
    ) -> Iterator[Iterator[list[bytes]]]:
        """Batches of lines, as they arrive, until the server ends the answer.

        A batch is what came at once, so that a burst of events can be handled as one change.
        `read_seconds` of silence raise Temporary. Raises KubeError.
        """
        with self._answer(path, parameters, read_seconds) as (response, where):
            yield _lines(response, where)

    @contextlib.contextmanager
    def _answer(
        self, path: str, parameters: Mapping[str, str], read_seconds: float
    ) -> Iterator[tuple[urllib3.BaseHTTPResponse, str]]:
        """An answer 200 whose body is yet to be read, and its name for messages."""
        where = f"{self.server.url}{path}"
        with contextlib.ExitStack() as ending:
            ending.callback(self._close_pool_if_stopped)
            ending.enter_context(self._interrupter.request())
            ending.enter_context(self._named_failures(where))
            response = self._request(path, parameters, read_seconds)
            complete = False
            try:
                if response.status != 200:
                    raise self._refusal(response, where)
                yield response, where
                complete = True
            finally:
                if complete:
                    response.release_conn()
                else:
                    response.close()

    def _request(
        self, path: str, parameters: Mapping[str, str], read_seconds: float
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": self._agent}
        if token := self.server.token.value():
            headers["Authorization"] = f"Bearer {token}"
        if (pool := self._pool) is None:  # a local name: close() may empty the attribute meanwhile
            pool = self._pool = self._new_pool()
        base = urlsplit(self.server.url).path.rstrip("/")
        query = f"?{urlencode(parameters)}" if parameters else ""
        return pool.urlopen(
            "GET",
            f"{base}{path}{query}",
            headers=headers,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )

    def _new_pool(self) -> urllib3.HTTPConnectionPool:
        url = urlsplit(self.server.url)
        if not url.hostname or url.scheme not in {"http", "https"}:
            raise errors.NoAccess(f"{self.server.url!r} is not the http(s) address of a server")
        if url.scheme == "http":
            return connection.Pool(url.hostname, url.port or 80, maxsize=1, interrupter=self._interrupter)
        return connection.TlsPool(
            access.bracketed(url.hostname),
            url.port or 443,
            maxsize=1,
            interrupter=self._interrupter,
            ssl_context=self.server.tls(),
            server_hostname=self.server.server_name or None,
            # The context decides; urllib3 would otherwise set it to CERT_REQUIRED.
            cert_reqs="CERT_REQUIRED" if self.server.verify else "CERT_NONE",
            assert_hostname=None if self.server.verify else False,
        )

    def _refusal(self, response: urllib3.BaseHTTPResponse, where: str) -> errors.KubeError:
        said = objects.status_message(response.read(_CHUNK_BYTES) or b"")
        if response.status == 401:
            self._start_afresh()
        wait = response.headers.get("Retry-After", "")
        return errors.of_status(
            response.status, where, said, retry_after_seconds=float(wait) if wait.isdigit() else 0.0
        )

    def _start_afresh(self) -> None:
        """Token, CA and client certificate may all have been replaced on disk: read them again."""
        self.server.token.distrust()
        self._close_pool()

    def _close_pool_if_stopped(self) -> None:
        if self._interrupter.stopped:
            self._close_pool()

    def _close_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    @contextlib.contextmanager
    def _named_failures(self, where: str) -> Iterator[None]:
        """Turns what urllib3 and ssl raise into our errors."""
        try:
            yield
        except (urllib3_errors.HTTPError, OSError, errors.KubeError) as problem:
            if self._interrupter.stopped:
                raise errors.Stopped(f"{where}: the client was closed") from problem
            if isinstance(problem, errors.KubeError):
                raise
            if (refusal := _certificate_refusal(problem)) is not None:
                self._start_afresh()
                raise errors.CertificateNotVerified(
                    f"{where}: certificate not verified ({refusal.verify_message}); "
                    "name the CA that signed it, or switch its verification off"
                ) from problem
            raise errors.Temporary(f"{where}: {_in_words(problem)}") from problem


def decode_into(decoder: msgspec.json.Decoder[objects.Decoded], body: bytes, where: str) -> objects.Decoded:
    """The body as the decoder's type. Raises Unexpected with the path of what does not fit."""
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as problem:
        raise errors.Unexpected(f"{where} sent something else than expected: {problem}") from problem


def _lines(response: urllib3.BaseHTTPResponse, where: str) -> Iterator[list[bytes]]:
    rest = bytearray()
    for chunk in response.stream(_CHUNK_BYTES):
        rest += chunk
        if b"\n" not in chunk:
            if len(rest) > MOST_LINE_BYTES:
                raise errors.Unexpected(f"{where} sent a line of more than {MOST_LINE_BYTES} bytes")
            continue
        whole, _, tail = bytes(rest).rpartition(b"\n")
        rest = bytearray(tail)
        if batch := [line for line in whole.split(b"\n") if line.strip()]:
            yield batch
    if rest.strip():
        raise errors.Temporary(f"{where}: the stream ended in the middle of a line")


def _certificate_refusal(problem: BaseException) -> ssl.SSLCertVerificationError | None:
    """The verification failure within whatever urllib3 wrapped around it."""
    seen: BaseException | None = problem
    while seen is not None:
        for inner in (seen, *seen.args):
            if isinstance(inner, ssl.SSLCertVerificationError):
                return inner
        seen = seen.__cause__ or seen.__context__
    return None


def _in_words(problem: BaseException) -> str:
    match problem:
        case urllib3_errors.NewConnectionError():
            return f"cannot connect ({problem.__cause__})"
        case urllib3_errors.TimeoutError():
            return "no answer in time; the connection may be half open"
        case _:
            return f"connection broken ({problem})"

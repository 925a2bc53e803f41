"""The server as the agent starts and stops it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flowlens.server import address, listener, pages
from flowlens.server.library import server

if TYPE_CHECKING:
    from cheroot.ssl import Adapter

THREADS = 6
PIECE_BYTES = 64 * 1024
"""Largest single write: cheroot copies what a socket did not take at once."""


class Server:
    """Listens from construction on, serves from `start` to `stop`.

    `listen`: HOST:PORT. `certificate`, `key`: PEM files, both or none; they are read again when they
    change. Raises ServerError.
    """

    def __init__(
        self,
        listen: str,
        sources: pages.Sources,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        threads: int = THREADS,
    ) -> None:
        wanted = address.parse(listen)
        adapter = _tls(certificate, key)
        listening = address.listen(wanted)
        self.address = wanted._replace(port=listening.getsockname()[1])
        self.url = f"{'https' if adapter else 'http'}://{self.address}"
        self._http = listener.Listener(listening, _gateway(pages.Pages(sources)), threads)
        self._http.ssl_adapter = adapter
        self._thread = threading.Thread(target=self._http.serve, name="http-accept", daemon=True)

    def start(self) -> None:
        """Begins to answer."""
        self._http.prepare()
        self._thread.start()

    def stop(self) -> None:
        """Ends within a second, with every connection."""
        if not self._http.ready:
            self._http.socket.close()
            return
        self._http.stop()
        self._thread.join(1.0)


def _tls(certificate: Path | None, key: Path | None) -> Adapter | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise address.ServerError("TLS needs a certificate and its key: give both files, or none")
    from flowlens.server import tls  # noqa: PLC0415 - 4 MiB of OpenSSL that a plain endpoint never needs

    try:
        return tls.LateHandshake(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        message = f"cannot serve TLS with {certificate} and {key}: {error}; both must be readable PEM files that belong together"
        raise address.ServerError(message) from error


def _gateway(answers: pages.Pages) -> type[server.Gateway]:
    class Gateway(server.Gateway):
        """Between cheroot's request and our response."""

        def respond(self) -> None:
            request = self.req
            request.conn.waiting_since = None  # from here on the client waits for us
            path = request.path.decode("latin-1")
            accepted = request.inheaders.get(b"Accept-Encoding", b"").decode("latin-1")
            response = answers.answer(request.method.decode("latin-1"), path, accepted)
            request.conn.waiting_since = time.monotonic()
            if not request.server.ready:
                request.conn.cut()  # `stop` came while the answer was made, and did not see this client
            request.status = f"{response.status.value} {response.status.phrase}".encode()
            headers = {**response.headers, "Content-Length": str(response.length), **pages.SECURITY_HEADERS}
            request.outheaders = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            request.ensure_headers_sent()
            if request.method != b"HEAD":
                for chunk in response.body:
                    for start in range(0, len(chunk), PIECE_BYTES):
                        request.write(chunk[start : start + PIECE_BYTES])

    return Gateway

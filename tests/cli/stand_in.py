"""An HTTP server that answers like an agent (or unlike one) with text that a test chooses."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PAGES = Path(__file__).parent / "pages"
"""Two scrapes of an agent in a cluster, one interval apart, written by hand to the catalogue."""
BEFORE = (PAGES / "before.txt").read_text()
AFTER = (PAGES / "after.txt").read_text()


class StandIn:
    """Answers each GET /metrics with the next of `pages`, the last one again and again; GET /status too."""

    def __init__(self, pages: Sequence[str], status: int = 200, status_page: str = "") -> None:
        self.pages, self.status, self.status_page, self.scrapes = list(pages), status, status_page, 0
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def page(self) -> str:
        self.scrapes += 1
        return self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]

    def _handler(stand_in) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805 - self is the handler
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = stand_in.page() if self.path == "/metrics" else stand_in.status_page
                known, body = bool(page), page.encode()
                self.send_response(stand_in.status if known else 404)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@contextmanager
def serving(
    *pages: str, status: int = 200, status_page: str = "", certificate: tuple[Path, Path] | None = None
) -> Iterator[StandIn]:
    """A running StandIn; `certificate`: (chain, key) for TLS."""
    stand_in = StandIn(pages or (BEFORE, AFTER), status, status_page)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        stand_in.server.socket = context.wrap_socket(stand_in.server.socket, server_side=True)
    thread = threading.Thread(target=stand_in.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.server.shutdown()
        thread.join()
        stand_in.server.server_close()

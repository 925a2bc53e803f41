"""What each path answers, asked with the standard library's client."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import json
from html.parser import HTMLParser

import pytest
from prometheus_client import parser

from flowlens import server
from tests.server.conftest import Shown


def ask(
    running: server.Server, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(running.address.host, running.address.port, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_metrics_are_the_agents_and_the_process_own(running: server.Server) -> None:
    response, body = ask(running, "/metrics")
    assert response.status == 200
    assert response.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in parser.text_string_to_metric_families(body.decode())}
    assert {"x", "process_resident_memory_bytes", "process_cpu_seconds", "python_gc_collections"} <= names


def test_metrics_are_compressed_for_who_takes_it(running: server.Server) -> None:
    response, body = ask(running, "/metrics", headers={"Accept-Encoding": "deflate, gzip;q=0.5"})
    assert response.getheader("Content-Encoding") == "gzip"
    assert response.getheader("Vary") == "Accept-Encoding"
    assert gzip.decompress(body).startswith(b"# HELP x y\n")


@pytest.mark.parametrize("header", ["", "identity", "gzip;q=0", "br"])
def test_metrics_are_plain_for_who_does_not(running: server.Server, header: str) -> None:
    response, body = ask(running, "/metrics", headers={"Accept-Encoding": header})
    assert response.getheader("Content-Encoding") is None
    assert body.startswith(b"# HELP x y\n")
    assert response.getheader("Content-Length") == str(len(body))


def test_a_query_does_not_matter(running: server.Server) -> None:
    assert ask(running, "/metrics?name[]=x")[0].status == 200


@pytest.mark.parametrize("path", ["/metrics", "/", "/status", "/healthz"])
def test_head_has_the_headers_and_no_body(running: server.Server, path: str) -> None:
    response, body = ask(running, path, "HEAD")
    assert response.status == 200
    assert int(response.getheader("Content-Length") or 0) > 0
    assert body == b""


@pytest.mark.parametrize("path", ["/metrics/", "/favicon.ico", "/..%2f..%2fetc/passwd", "/static/"])
def test_other_paths_are_not_found(running: server.Server, path: str) -> None:
    response, body = ask(running, path)
    assert response.status == 404
    assert b"/metrics" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_only_get_and_head_are_answered(running: server.Server, method: str) -> None:
    response, _ = ask(running, "/metrics", method)
    assert response.status == 405
    assert response.getheader("Allow") == "GET, HEAD"


@pytest.mark.parametrize(("path", "field"), [("/healthz", "ailing"), ("/readyz", "unready")])
def test_a_probe_says_what_is_wrong(running: server.Server, shown: Shown, path: str, field: str) -> None:
    response, body = ask(running, path)
    assert (response.status, body) == (200, b"ok\n")
    setattr(shown, field, "worker has been stuck for 40 s")
    response, body = ask(running, path)
    assert (response.status, body) == (503, b"worker has been stuck for 40 s\n")


def test_status_is_json(running: server.Server) -> None:
    response, body = ask(running, "/status")
    assert response.getheader("Content-Type") == "application/json"
    assert json.loads(body) == {"generation": 3, "probes": []}


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_front_page_links_to_pages_that_exist(running: server.Server) -> None:
    seen = _Seen()
    seen.feed(ask(running, "/")[1].decode())
    assert seen.links
    assert [ask(running, link)[0].status for link in seen.links] == [200] * len(seen.links)


def test_the_policy_lets_the_page_have_its_own_style(running: server.Server) -> None:
    response, body = ask(running, "/")
    style = body.partition(b"<style>")[2].partition(b"</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in (response.getheader("Content-Security-Policy") or "")


def test_the_front_page_shows_names_as_text(running: server.Server, shown: Shown) -> None:
    name = "<script>alert('x')</script>"
    shown.overview = server.Overview(version=name, config=name, probes=[server.Probe(name, False, name)])
    seen = _Seen()
    seen.feed(ask(running, "/")[1].decode())
    assert "script" not in seen.tags
    assert seen.texts.count(name) == 4


@pytest.mark.parametrize("path", ["/", "/metrics", "/status", "/nothing"])
def test_no_answer_may_be_framed_sniffed_or_scripted(running: server.Server, path: str) -> None:
    response, _ = ask(running, path)
    assert "default-src 'none'" in (response.getheader("Content-Security-Policy") or "")
    assert response.getheader("X-Content-Type-Options") == "nosniff"
    assert response.getheader("Server") == "flow-lens"


def test_an_error_of_a_source_is_said_and_logged_once(
    running: server.Server, shown: Shown, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> list[bytes]:
        raise OSError("map is gone")

    shown.page = fail
    for _ in range(3):
        response, body = ask(running, "/metrics")
        assert response.status == 500
        assert b"map is gone" in body
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1


def test_a_kept_connection_is_used_again(running: server.Server) -> None:
    connection = http.client.HTTPConnection(running.address.host, running.address.port, timeout=10)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    used = connection.sock
    connection.request("GET", "/readyz")
    assert connection.getresponse().read() == b"ok\n"
    assert connection.sock is used
    connection.close()


def test_long_headers_are_refused(running: server.Server) -> None:
    assert ask(running, "/metrics", headers={"X-Long": "x" * 20_000})[0].status == 413

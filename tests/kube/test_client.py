"""Each way in which a server can fail us has its type, and closing ends a request wherever it waits."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowlens.kube import access, client, connection, errors

from . import edge as edges
from . import pki


@pytest.fixture
def asking(server: access.Access) -> Iterator[client.Client]:
    with _client(server) as one:
        yield one


@contextlib.contextmanager
def _client(server: access.Access) -> Iterator[client.Client]:
    one = client.Client(server)
    yield one
    one.close()


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (401, errors.Unauthorized, "check the service account token"),
        (403, errors.Forbidden, "grant the verb in the agent's ClusterRole"),
        (404, errors.NotFound, "is the CRD installed"),
        (410, errors.Gone, "list again"),
        (422, errors.Unexpected, ""),
        (302, errors.Unexpected, ""),
        (429, errors.Temporary, ""),
        (500, errors.Temporary, ""),
        (503, errors.Temporary, ""),
    ],
)
def test_a_status_becomes_its_error_with_the_servers_words(
    edge: edges.Edge, asking: client.Client, status: int, kind: type[Exception], remedy: str
) -> None:
    edge.script = lambda exchange: exchange.refuse(status, "because I say so")
    with pytest.raises(kind) as caught:
        asking.get("/api/v1/pods")
    assert type(caught.value) is kind
    message = str(caught.value)
    assert f"{edge.url}/api/v1/pods answered {status}: because I say so" in message
    assert remedy in message


def test_a_kubelets_plain_text_refusal_is_quoted(edge: edges.Edge, asking: client.Client) -> None:
    said = (
        b"Forbidden (user=system:serviceaccount:x:y, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"
    )
    edge.script = lambda exchange: exchange.body(said, 403)
    with pytest.raises(errors.Forbidden, match=r"subresource\(s\)=\[pods proxy\]"):
        asking.get("/pods")


def test_a_temporary_refusal_carries_the_wait_that_the_server_asks_for(
    edge: edges.Edge, asking: client.Client
) -> None:
    edge.script = lambda exchange: exchange.refuse(429, "later", {"Retry-After": "7"})
    with pytest.raises(errors.Temporary) as caught:
        asking.get("/x")
    assert (caught.value.retry_after_seconds, caught.value.status) == (7.0, 429)


def test_the_token_and_the_query_are_sent(edge: edges.Edge, asking: client.Client) -> None:
    edge.script = lambda exchange: exchange.body(b"hello")
    assert asking.get("/x", {"fieldSelector": "spec.nodeName=n&1"}) == b"hello"
    assert edge.requests[0].token == "open sesame"
    assert edge.requests[0].query == {"fieldSelector": "spec.nodeName=n&1"}


def test_a_path_in_the_servers_address_is_kept(edge: edges.Edge, server: access.Access) -> None:
    edge.script = lambda exchange: exchange.body(b"hello")
    with _client(replace(server, url=edge.url + "/k8s/clusters/c-1")) as asking:
        asking.get("/api/v1/nodes")
    assert edge.requests[0].path == "/k8s/clusters/c-1/api/v1/nodes"


def test_one_connection_serves_many_requests(edge: edges.Edge, asking: client.Client) -> None:
    edge.script = lambda exchange: exchange.body(b"hello")
    for _ in range(5):
        asking.get("/x")
    assert len({request.client for request in edge.requests}) == 1


def test_a_refusal_leaves_a_client_that_works(edge: edges.Edge, asking: client.Client) -> None:
    edge.script = lambda exchange: exchange.refuse(403)
    with pytest.raises(errors.Forbidden):
        asking.get("/x")
    edge.script = lambda exchange: exchange.body(b"hello")
    assert asking.get("/x") == b"hello"


def test_a_restarted_server_is_found_again(server_tls: Callable[[], Any], ca_file: Path) -> None:
    with edges.serve(server_tls()) as edge:
        edge.script = lambda exchange: exchange.body(b"before")
        asking = client.Client(access.Access(edge.url, ca_file=ca_file))
        assert asking.get("/x") == b"before"
    with pytest.raises(errors.Temporary, match="Connection refused"):
        asking.get("/x")
    with edges.serve(server_tls(), edge.port) as edge:
        edge.script = lambda exchange: exchange.body(b"after")
        assert asking.get("/x") == b"after"
        asking.close()


def test_a_token_rotated_on_disk_is_sent_after_a_401(
    edge: edges.Edge, server: access.Access, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("old")

    def script(exchange: edges.Exchange) -> None:
        if exchange.request.token == "new":
            exchange.body(b"hello")
        else:
            exchange.refuse(401)

    edge.script = script
    with _client(replace(server, token=access.TokenFile(file))) as asking:
        with pytest.raises(errors.Unauthorized):
            asking.get("/x")
        file.write_text("new")
        with contextlib.suppress(errors.Unauthorized):
            asking.get("/x")
        assert asking.get("/x") == b"hello"


def test_a_certificate_of_another_ca_is_not_verified(
    server_tls: Callable[..., Any], server: access.Access
) -> None:
    with (
        edges.serve(server_tls(pki.authority("self-signed"))) as edge,
        _client(replace(server, url=edge.url)) as asking,
    ):
        with pytest.raises(errors.CertificateNotVerified, match="name the CA that signed it"):
            asking.get("/pods")
        assert edge.requests == []


def test_a_certificate_for_another_address_is_not_verified(
    server_tls: Callable[..., Any], server: access.Access
) -> None:
    with (
        edges.serve(server_tls(hosts=("192.0.2.1",))) as edge,
        _client(replace(server, url=edge.url)) as asking,
        pytest.raises(errors.CertificateNotVerified, match="IP address mismatch"),
    ):
        asking.get("/pods")


def test_any_certificate_will_do_when_verification_is_off(
    server_tls: Callable[..., Any], server: access.Access
) -> None:
    foreign = server_tls(pki.authority("self-signed"), hosts=("elsewhere",))
    with edges.serve(foreign) as edge, _client(replace(server, url=edge.url, verify=False)) as asking:
        edge.script = lambda exchange: exchange.body(b"hello")
        assert asking.get("/pods") == b"hello"


def test_a_ca_replaced_on_disk_is_trusted_at_the_next_try(
    server_tls: Callable[..., Any], tmp_path: Path, ca: pki.Pair
) -> None:
    file, new = tmp_path / "ca.crt", pki.authority("new")
    file.write_bytes(ca.certificate_pem)
    with edges.serve(server_tls(new)) as edge, _client(access.Access(edge.url, ca_file=file)) as asking:
        edge.script = lambda exchange: exchange.body(b"hello")
        with pytest.raises(errors.CertificateNotVerified):
            asking.get("/x")
        file.write_bytes(new.certificate_pem)
        assert asking.get("/x") == b"hello"


def test_plain_http_works_for_kubectl_proxy() -> None:
    with edges.serve(None) as edge, _client(access.Access(edge.url)) as asking:
        edge.script = lambda exchange: exchange.body(b"hello")
        assert asking.get("/x") == b"hello"


def test_a_connection_broken_in_the_middle_is_temporary(edge: edges.Edge, asking: client.Client) -> None:
    def script(exchange: edges.Exchange) -> None:
        exchange.open_stream()
        exchange.send(b"half a bo")
        exchange.abort()

    edge.script = script
    with pytest.raises(errors.Temporary, match="connection broken"):
        asking.get("/x")


def test_silence_is_temporary_and_named(
    edge: edges.Edge, asking: client.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "READ_SECONDS", 0.05)
    edge.script = edges.Exchange.hang
    with pytest.raises(errors.Temporary, match="half open"):
        asking.get("/x")


def test_a_body_without_end_is_refused(
    edge: edges.Edge, asking: client.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST_BODY_BYTES", 1000)
    edge.script = lambda exchange: exchange.body(b"x" * 2000)
    with pytest.raises(errors.Unexpected, match="more than 1000 bytes"):
        asking.get("/x")


def test_a_line_without_end_is_refused(
    edge: edges.Edge, asking: client.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST_LINE_BYTES", 1000)

    def script(exchange: edges.Exchange) -> None:
        exchange.open_stream()
        while True:
            exchange.send(b"x" * 600)

    edge.script = script
    with pytest.raises(errors.Unexpected, match="a line of more than 1000 bytes"):
        _read_lines(asking)


def _read_lines(asking: client.Client, read_seconds: float = 30.0) -> list[bytes]:
    with asking.lines("/watch", {}, read_seconds=read_seconds) as batches:
        return [line for batch in batches for line in batch]


def test_lines_are_whole_wherever_chunks_are_cut(edge: edges.Edge, asking: client.Client) -> None:
    text = b"".join(b'{"number": %d}\n' % number for number in range(50)) + b"\n"

    def script(exchange: edges.Exchange) -> None:
        exchange.open_stream()
        for start in range(0, len(text), 7):
            exchange.send(text[start : start + 7])
        exchange.end()

    edge.script = script
    assert _read_lines(asking) == [b'{"number": %d}' % number for number in range(50)]


def test_a_stream_that_ends_within_a_line_is_temporary(edge: edges.Edge, asking: client.Client) -> None:
    def script(exchange: edges.Exchange) -> None:
        exchange.open_stream()
        exchange.send(b'{"whole": 1}\n{"ha')
        exchange.end()

    edge.script = script
    with pytest.raises(errors.Temporary, match="in the middle of a line"):
        _read_lines(asking)


def test_a_finished_stream_leaves_its_connection_for_the_next(
    edge: edges.Edge, asking: client.Client
) -> None:
    def script(exchange: edges.Exchange) -> None:
        exchange.open_stream()
        exchange.send(b"{}\n")
        exchange.end()

    edge.script = script
    _read_lines(asking)
    _read_lines(asking)
    assert len({request.client for request in edge.requests}) == 1


# --- closing, wherever a request waits ------------------------------------------------------------


@contextlib.contextmanager
def _blackhole() -> Iterator[str]:
    """An address that answers no SYN: a listener whose queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def _no_handshake() -> Iterator[str]:
    """An address where TCP works and nobody talks TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("place", [_blackhole, _no_handshake])
def test_closing_ends_connecting_and_handshake_at_once(
    place: Callable[[], contextlib.AbstractContextManager[str]], server: access.Access
) -> None:
    with place() as url:
        asking = client.Client(replace(server, url=url))
        _close_ends(asking, lambda: asking.get("/x"), lambda: asking._interrupter._socket is not None)


def _close_ends(asking: client.Client, work: Callable[[], object], waiting: Callable[[], object]) -> None:
    """The work raises Stopped within a second after close()."""
    caught: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as problem:  # noqa: BLE001 - the test looks at it
            caught.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    edges.wait_until(waiting, "the request waits")
    began = time.monotonic()
    asking.close()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - began < 1
    assert [type(problem) for problem in caught] == [errors.Stopped]


def test_closing_ends_waiting_for_an_answer(edge: edges.Edge, asking: client.Client) -> None:
    edge.script = edges.Exchange.hang
    _close_ends(asking, lambda: asking.get("/x"), lambda: edge.requests)


@pytest.mark.parametrize("chunked", [True, False])
def test_closing_ends_a_silent_stream(edge: edges.Edge, asking: client.Client, chunked: bool) -> None:
    """Also one whose server announced `Connection: close`: http.client lets go of that socket early."""
    sent = threading.Event()

    def script(exchange: edges.Exchange) -> None:
        exchange.open_stream(chunked=chunked)
        exchange.send(b"{}\n")
        sent.set()
        exchange.hang()

    edge.script = script
    _close_ends(asking, lambda: _read_lines(asking), sent.is_set)


def test_a_closed_client_refuses_later_requests(edge: edges.Edge, asking: client.Client) -> None:
    asking.close()
    with pytest.raises(errors.Stopped):
        asking.get("/x")
    assert edge.requests == []


def test_the_kernel_watches_over_idle_connections(edge: edges.Edge, asking: client.Client) -> None:
    edge.script = lambda exchange: exchange.body(b"hello")
    asking.get("/x")
    held = asking._interrupter._socket
    assert held is not None
    for level, option, value in connection.KEEPALIVE:
        assert held.getsockopt(level, option) == value


def test_no_descriptor_is_left_behind(edge: edges.Edge, server: access.Access) -> None:
    edge.script = lambda exchange: exchange.body(b"hello")
    with _client(server) as warm:
        warm.get("/x")
    before = _sockets()
    for _ in range(5):
        with _client(server) as asking:
            asking.get("/x")
    edges.wait_until(lambda: _sockets() <= before, "all sockets closed")


def _sockets() -> int:
    return sum(
        "socket:" in str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()
    )

"""Servers and the access to them, for all tests of this folder."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowlens.kube import access

from . import edge as edges
from . import pki


@pytest.fixture(scope="session")
def ca() -> pki.Pair:
    return pki.authority()


@pytest.fixture(scope="session")
def ca_file(ca: pki.Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pki") / "ca.crt"
    path.write_bytes(ca.certificate_pem)
    return path


@pytest.fixture(scope="session")
def server_tls(ca: pki.Pair, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ssl.SSLContext]:
    """Makes a server's TLS context: signed by `ca`, or by another."""
    folder = tmp_path_factory.mktemp("server")

    def make(signed_by: pki.Pair = ca, hosts: tuple[str, ...] = ("127.0.0.1", "::1")) -> ssl.SSLContext:
        pair = pki.leaf(signed_by, "server", hosts=hosts)
        file = folder / f"{pair.certificate.serial_number}.pem"
        file.write_bytes(pair.certificate_pem + pair.key_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    return make


@pytest.fixture
def edge(server_tls: Callable[..., ssl.SSLContext]) -> Iterator[edges.Edge]:
    with edges.serve(server_tls()) as running:
        yield running


@pytest.fixture
def server(edge: edges.Edge, ca_file: Path) -> access.Access:
    """Access to the edge with a token."""
    return access.Access(edge.url, ca_file=ca_file, token=access.FixedToken("open sesame"))

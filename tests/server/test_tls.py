"""TLS: with certificates made for the test."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flowlens import server
from tests.server.conftest import Shown


def write_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "tls.crt", folder / "tls.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return files


@pytest.fixture
def secure(shown: Shown, tmp_path: Path) -> Iterator[server.Server]:
    certificate, key = write_certificate(tmp_path, "first")
    running = server.Server("127.0.0.1:0", shown.sources(), certificate=certificate, key=key)
    running.start()
    yield running
    running.stop()


def ask(running: server.Server, folder: Path) -> tuple[bytes, str]:
    """The answer of /healthz, and the common name of the certificate shown."""
    context = ssl.create_default_context(cafile=str(folder / "tls.crt"))
    client = http.client.HTTPSConnection(*running.address, timeout=10, context=context)
    client.request("GET", "/healthz")
    body = client.getresponse().read()
    shown = client.sock.getpeercert(binary_form=True)
    client.close()
    assert shown
    names = x509.load_der_x509_certificate(shown).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return body, str(names[0].value)


def test_it_is_served_with_the_certificate(secure: server.Server, tmp_path: Path) -> None:
    assert secure.url.startswith("https://127.0.0.1:")
    assert ask(secure, tmp_path) == (b"ok\n", "first")


def test_a_renewed_certificate_is_used_without_a_restart(secure: server.Server, tmp_path: Path) -> None:
    ask(secure, tmp_path)
    write_certificate(tmp_path, "second")
    assert ask(secure, tmp_path) == (b"ok\n", "second")


def test_clients_that_do_not_shake_hands_delay_nobody(secure: server.Server, tmp_path: Path) -> None:
    silent = [socket.create_connection(secure.address) for _ in range(20)]
    begun = time.monotonic()
    assert ask(secure, tmp_path)[0] == b"ok\n"
    assert time.monotonic() - begun < 1.0
    for client in silent:
        client.close()


def test_plain_http_is_refused_and_harms_nobody(secure: server.Server, tmp_path: Path) -> None:
    client = http.client.HTTPConnection(*secure.address, timeout=10)
    client.request("GET", "/healthz")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        client.getresponse()
    client.close()
    assert ask(secure, tmp_path)[0] == b"ok\n"


def test_old_protocol_versions_are_refused(secure: server.Server) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(secure.address) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain)


def test_a_certificate_without_its_key_is_refused(shown: Shown, tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path, "first")
    with pytest.raises(server.ServerError, match="give both files"):
        server.Server("127.0.0.1:0", shown.sources(), certificate=certificate)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_files_that_are_no_certificate_are_named(shown: Shown, tmp_path: Path, content: str | None) -> None:
    certificate, key = write_certificate(tmp_path, "first")
    certificate.unlink()
    if content is not None:
        certificate.write_text(content)
    with pytest.raises(server.ServerError, match=r"tls\.crt and .*tls\.key"):
        server.Server("127.0.0.1:0", shown.sources(), certificate=certificate, key=key)

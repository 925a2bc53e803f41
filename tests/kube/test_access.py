"""Where the API server is, and the token that changes under us."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from flowlens.kube import access, errors

from . import pki


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path, ca: pki.Pair) -> Path:
    """A service account folder as the kubelet writes it: files behind a ..data link."""
    _publish(tmp_path, "first", ca)
    (tmp_path / "token").symlink_to("..data/token")
    (tmp_path / "ca.crt").symlink_to("..data/ca.crt")
    return tmp_path


def _publish(folder: Path, token: str, ca: pki.Pair) -> None:
    """The kubelet's atomic writer: a new folder, then the link is replaced by rename."""
    version = folder / f"..{token}"
    version.mkdir()
    (version / "token").write_text(token + "\n")
    (version / "ca.crt").write_bytes(ca.certificate_pem)
    (folder / "..data_tmp").symlink_to(version.name)
    os.replace(folder / "..data_tmp", folder / "..data")


def test_in_a_pod_the_environment_and_the_folder_name_the_api_server(folder: Path) -> None:
    found = access.in_cluster(
        folder, {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    )
    assert found.url == "https://10.96.0.1:443"
    assert found.token.value() == "first"
    assert found.tls().verify_mode is ssl.CERT_REQUIRED


def test_an_ipv6_service_address_is_put_in_brackets(folder: Path) -> None:
    found = access.in_cluster(
        folder, {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    )
    assert found.url == "https://[fd00::1]:6443"


def test_outside_a_cluster_the_message_says_what_to_do(folder: Path) -> None:
    with pytest.raises(errors.NoAccess, match="name a kubeconfig"):
        access.in_cluster(folder, {})


def test_a_rotated_token_is_used_within_a_minute(folder: Path, ca: pki.Pair) -> None:
    clock = Clock()
    token = access.TokenFile(folder / "token", clock=clock)
    assert token.value() == "first"
    _publish(folder, "second", ca)
    clock.now += 59
    assert token.value() == "first"
    clock.now += 1
    assert token.value() == "second"


def test_a_refused_token_is_read_again_at_once(folder: Path, ca: pki.Pair) -> None:
    token = access.TokenFile(folder / "token", clock=Clock())
    assert token.value() == "first"
    _publish(folder, "second", ca)
    token.distrust()
    assert token.value() == "second"


def test_an_unchanged_token_file_is_not_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    clock = Clock()
    token = access.TokenFile(file, clock=clock)
    token.value()
    status = file.stat()
    file.write_text("other")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    clock.now += 60
    assert token.value() == "first"


def test_a_token_file_that_vanishes_for_a_moment_does_not_take_the_token_away(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    clock = Clock()
    token = access.TokenFile(file, clock=clock)
    token.value()
    file.unlink()
    clock.now += 60
    assert token.value() == "first"


def test_a_missing_token_is_an_error_until_it_appears(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token = access.TokenFile(file, clock=Clock())
    with pytest.raises(errors.NoAccess, match="automountServiceAccountToken"):
        token.value()
    file.write_text("late")
    assert token.value() == "late"


def test_the_kubelet_is_asked_with_the_same_token_and_the_clusters_ca(folder: Path) -> None:
    api = access.in_cluster(folder, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    kubelet = access.kubelet(api, "fd00::7")
    assert kubelet.url == "https://[fd00::7]:10250"
    assert kubelet.token is api.token
    assert kubelet.ca_file == api.ca_file


def test_a_ca_of_its_own_replaces_the_clusters_for_the_kubelet(folder: Path, ca_file: Path) -> None:
    api = access.Access("https://127.0.0.1", ca_data="the cluster's")
    kubelet = access.kubelet(api, "192.0.2.1", ca=ca_file)
    assert (kubelet.ca_file, kubelet.ca_data) == (ca_file, "")


def test_a_ca_file_that_is_no_pem_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("not a certificate")
    with pytest.raises(errors.NoAccess, match=r"ca\.crt .* must be a readable PEM file"):
        access.Access("https://127.0.0.1", ca_file=tmp_path / "ca.crt").tls()


def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.NoAccess, match=r"absent\.crt"):
        access.Access("https://127.0.0.1", ca_file=tmp_path / "absent.crt").tls()


def test_secrets_do_not_show_in_the_representation() -> None:
    pair = access.ClientCertificate(b"certificate", b"very secret")
    assert "secret" not in repr(pair)
    assert "sesame" not in repr(access.Access("https://127.0.0.1", token=access.FixedToken("sesame")))

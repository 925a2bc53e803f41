"""Kubeconfig files as kubectl and cluster installers write them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowlens.kube import access, client, errors, kubeconfig

from . import edge as edges
from . import pki


def _write(folder: Path, cluster: dict[str, Any], user: dict[str, Any], **more: Any) -> Path:
    path = folder / "config"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "preferences": {},
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
        **more,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_inline_ca_and_token_reach_the_server(tmp_path: Path, edge: edges.Edge, ca: pki.Pair) -> None:
    cluster = {"server": edge.url + "/", "certificate-authority-data": _b64(ca.certificate_pem)}
    path = _write(tmp_path, cluster, {"token": "of the file"})
    edge.script = lambda exchange: exchange.body(b"hello")
    assert client.Client(kubeconfig.load(path)).get("/x") == b"hello"
    assert (edge.requests[0].path, edge.requests[0].token) == ("/x", "of the file")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from the token file")
    cluster = {"server": "https://127.0.0.1", "certificate-authority": "ca.crt"}
    found = kubeconfig.load(_write(tmp_path, cluster, {"tokenFile": "token", "token": "inline"}))
    assert found.ca_file == tmp_path / "ca.crt"
    assert found.token.value() == "from the token file"


@pytest.mark.parametrize("inline", [True, False])
def test_a_client_certificate_is_shown_to_the_server(
    tmp_path: Path, ca: pki.Pair, ca_file: Path, server_tls: Any, inline: bool
) -> None:
    tls = server_tls()
    tls.load_verify_locations(ca_file)
    tls.verify_mode = 2  # CERT_REQUIRED
    pair = pki.leaf(ca, "someone", "system:masters")
    if inline:
        user = {
            "client-certificate-data": _b64(pair.certificate_pem),
            "client-key-data": _b64(pair.key_pem),
        }
    else:
        (tmp_path / "me.crt").write_bytes(pair.certificate_pem)
        (tmp_path / "me.key").write_bytes(pair.key_pem)
        user = {"client-certificate": "me.crt", "client-key": "me.key"}
    with edges.serve(tls) as edge:
        edge.script = lambda exchange: exchange.body(b"hello")
        path = _write(tmp_path, {"server": edge.url, "certificate-authority": str(ca_file)}, user)
        asking = client.Client(kubeconfig.load(path))
        assert asking.get("/x") == b"hello"
        asking.close()


def test_another_context_can_be_chosen(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        {"server": "https://127.0.0.1:1"},
        {},
        contexts=[{"name": "other", "context": {"cluster": "c", "user": "u"}}],
    )
    assert kubeconfig.load(path, "other").url == "https://127.0.0.1:1"
    with pytest.raises(errors.NoAccess, match="no context 'main'; it has: other"):
        kubeconfig.load(path)


@pytest.mark.parametrize("plugin", ["exec", "auth-provider"])
def test_credential_plugins_are_refused_with_a_way_out(tmp_path: Path, plugin: str) -> None:
    path = _write(tmp_path, {"server": "https://127.0.0.1"}, {plugin: {"command": "aws"}})
    with pytest.raises(errors.NoAccess, match="kubectl create token"):
        kubeconfig.load(path)


def test_a_cluster_without_verification_is_asked_all_the_same(tmp_path: Path, edge: edges.Edge) -> None:
    path = _write(tmp_path, {"server": edge.url, "insecure-skip-tls-verify": True}, {})
    edge.script = lambda exchange: exchange.body(b"hello")
    asking = client.Client(kubeconfig.load(path))
    assert asking.get("/x") == b"hello"
    asking.close()


def test_the_certificates_name_can_be_another_than_the_servers_address(
    tmp_path: Path, server_tls: Any, ca_file: Path
) -> None:
    with edges.serve(server_tls(hosts=("kubernetes.default.svc",))) as edge:
        edge.script = lambda exchange: exchange.body(b"hello")
        cluster = {
            "server": edge.url,
            "certificate-authority": str(ca_file),
            "tls-server-name": "kubernetes.default.svc",
        }
        asking = client.Client(kubeconfig.load(_write(tmp_path, cluster, {})))
        assert asking.get("/x") == b"hello"
        asking.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clusters: [", "is not usable"),
        ("clusters: 5", r"is not usable: Expected `array`, got `int` - at `\$.clusters`"),
        ("", "no context ''; it has: none"),
    ],
)
def test_an_unusable_file_is_named_with_its_fault(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(errors.NoAccess, match=said) as caught:
        kubeconfig.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.NoAccess, match="absent: No such file"):
        kubeconfig.load(tmp_path / "absent")


def test_a_key_that_does_not_fit_is_an_access_error(tmp_path: Path, ca: pki.Pair) -> None:
    one, other = pki.leaf(ca, "one"), pki.leaf(ca, "other")
    user = {"client-certificate-data": _b64(one.certificate_pem), "client-key-data": _b64(other.key_pem)}
    found = kubeconfig.load(_write(tmp_path, {"server": "https://127.0.0.1"}, user))
    assert isinstance(found, access.Access)
    with pytest.raises(errors.NoAccess, match="do not fit"):
        found.tls()


def test_data_that_is_not_base64_is_named(tmp_path: Path) -> None:
    cluster = {"server": "https://127.0.0.1", "certificate-authority-data": "%%%"}
    with pytest.raises(errors.NoAccess, match="certificate-authority-data is not base64"):
        kubeconfig.load(_write(tmp_path, cluster, {}))

"""Reads the part of a kubeconfig file that leads to one server: for running outside a cluster.

Client certificates and tokens (inline or in files) are understood; credential plugins (`exec`,
`auth-provider`) are not, since they would start foreign programs inside the agent.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from flowlens.kube import access, errors


class Cluster(msgspec.Struct, rename="kebab"):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""


class User(msgspec.Struct, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    exec: msgspec.Raw | object = None
    auth_provider: object = None


class Context(msgspec.Struct):
    cluster: str = ""
    user: str = ""


class NamedCluster(msgspec.Struct):
    name: str
    cluster: Cluster


class NamedUser(msgspec.Struct):
    name: str
    user: User


class NamedContext(msgspec.Struct):
    name: str
    context: Context


class Config(msgspec.Struct, rename="kebab"):
    current_context: str = ""
    clusters: list[NamedCluster] = []
    users: list[NamedUser] = []
    contexts: list[NamedContext] = []


Named = TypeVar("Named", NamedCluster, NamedUser, NamedContext)


def load(path: Path, context: str = "") -> access.Access:
    """Access to the cluster of `context` (default: the current one). Raises NoAccess with the reason."""
    config = _decode(path)
    chosen = _pick(path, "context", config.contexts, context or config.current_context).context
    cluster = _pick(path, "cluster", config.clusters, chosen.cluster).cluster
    user = _pick(path, "user", config.users, chosen.user).user if chosen.user else User()
    if not cluster.server:
        raise errors.NoAccess(f"kubeconfig {path}: cluster {chosen.cluster!r} has no server")
    if user.exec is not None or user.auth_provider is not None:
        raise errors.NoAccess(
            f"kubeconfig {path}: user {chosen.user!r} gets its credentials from a plugin, which is not "
            "supported; use a token (kubectl create token) or a client certificate"
        )
    return access.Access(
        url=cluster.server.rstrip("/"),
        ca_file=_beside(path, cluster.certificate_authority),
        ca_data=_inline(path, "certificate-authority-data", cluster.certificate_authority_data).decode(),
        verify=not cluster.insecure_skip_tls_verify,
        server_name=cluster.tls_server_name,
        token=_token(path, user),
        certificate=_certificate(path, user),
    )


def _decode(path: Path) -> Config:
    import yaml  # noqa: PLC0415 - costs 3 MiB, and an agent in a pod never comes here

    try:
        return msgspec.convert(yaml.safe_load(path.read_text()) or {}, Config)
    except OSError as problem:
        raise errors.NoAccess(f"kubeconfig {path}: {problem.strerror}") from problem
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as problem:
        raise errors.NoAccess(f"kubeconfig {path} is not usable: {problem}") from problem


def _pick(path: Path, what: str, among: list[Named], name: str) -> Named:
    for one in among:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in among) or "none"
    raise errors.NoAccess(f"kubeconfig {path} has no {what} {name!r}; it has: {known}")


def _beside(path: Path, name: str) -> Path | None:
    """Paths in a kubeconfig are relative to the file itself."""
    return path.parent / name if name else None


def _inline(path: Path, what: str, data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as problem:
        raise errors.NoAccess(f"kubeconfig {path}: {what} is not base64 ({problem})") from problem


def _token(path: Path, user: User) -> access.Token:
    """As in client-go, a token file wins over an inline token: it is the one that is kept fresh."""
    file = _beside(path, user.token_file)
    return access.TokenFile(file) if file is not None else access.FixedToken(user.token)


def _certificate(path: Path, user: User) -> Callable[[], access.ClientCertificate] | None:
    if not (user.client_certificate or user.client_certificate_data):
        return None

    def part(what: str, name: str, data: str) -> bytes:
        if data:
            return _inline(path, f"{what}-data", data)
        file = path.parent / name
        try:
            return file.read_bytes()
        except OSError as problem:
            raise errors.NoAccess(f"kubeconfig {path}: {what} {file}: {problem.strerror}") from problem

    def read() -> access.ClientCertificate:
        return access.ClientCertificate(
            part("client-certificate", user.client_certificate, user.client_certificate_data),
            part("client-key", user.client_key, user.client_key_data),
        )

    return read

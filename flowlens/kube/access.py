"""Where a server is, which CA vouches for it, and how we prove who we are.

In a pod: KUBERNETES_SERVICE_HOST and the service account folder. Bound service account tokens
are replaced on disk by the kubelet before they expire, so a token is read again when its file
changed, which is looked at once a minute at most, and at once after a 401.
"""

from __future__ import annotations

import os
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from flowlens.kube import errors

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts token, ca.crt and namespace, unless a projected volume says otherwise."""
TOKEN_CHECK_SECONDS = 60.0


class Token(Protocol):
    """A bearer token that may change while we run."""

    def value(self) -> str:
        """The token now, "" for none."""

    def distrust(self) -> None:
        """The server refused it: look again at the next use, however fresh it seems."""


class FixedToken:
    """A token written into a kubeconfig, or none."""

    def __init__(self, value: str = "") -> None:
        self._value = value

    def value(self) -> str:
        return self._value

    def distrust(self) -> None:
        """There is nothing to look at again."""


class TokenFile:
    """A token in a file that somebody else keeps fresh. Any thread may use it."""

    def __init__(
        self,
        path: Path,
        *,
        check_seconds: float = TOKEN_CHECK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._check_seconds = check_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._value = ""
        self._stamp: tuple[int, int] = (0, 0)
        self._check_at = float("-inf")

    def value(self) -> str:
        """The token, read anew when due and changed. While the file cannot be read the last one stays."""
        with self._lock:
            if self._clock() >= self._check_at:
                self._check()
            return self._value

    def _check(self) -> None:
        try:
            self._read_if_changed()
        except OSError as problem:
            if not self._value:
                raise errors.NoAccess(
                    f"service account token {self._path}: {problem.strerror}; mount the service "
                    "account's token (automountServiceAccountToken) or use a kubeconfig"
                ) from problem
        self._check_at = self._clock() + self._check_seconds

    def distrust(self) -> None:
        self._check_at = float("-inf")

    def _read_if_changed(self) -> None:
        # stat follows the ..data link that the kubelet swaps, so the inode tells versions apart.
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp or not self._value:
            self._value = self._path.read_text().strip()
            self._stamp = stamp


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """PEM bytes of a certificate chain and its key."""

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Access:
    """One server and our credentials for it.

    `ca_file` is read at every new TLS context (CAs rotate too); `ca_data` is PEM text; with neither,
    the system's CAs are used. `server_name` overrides the name that the certificate must carry.
    """

    url: str
    ca_file: Path | None = None
    ca_data: str = ""
    verify: bool = True
    server_name: str = ""
    token: Token = field(default_factory=FixedToken)
    certificate: Callable[[], ClientCertificate] | None = None

    def tls(self) -> ssl.SSLContext:
        """A fresh context. Raises NoAccess when a file of it is missing or is no PEM.

        Built by hand: create_default_context() of newer Pythons sets VERIFY_X509_STRICT, which
        refuses cluster CAs made without an Authority Key Identifier, of which there are many.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            self._load_ca(context)
        if self.certificate is not None:
            _load_certificate(context, self.certificate())
        return context

    def _load_ca(self, context: ssl.SSLContext) -> None:
        try:
            if self.ca_file is not None:
                context.load_verify_locations(cafile=self.ca_file)
            elif self.ca_data:
                context.load_verify_locations(cadata=self.ca_data)
            else:
                context.load_default_certs()
        except (OSError, ValueError) as problem:
            source = str(self.ca_file) if self.ca_file is not None else "of the kubeconfig"
            raise errors.NoAccess(
                f"CA {source} for {self.url}: {problem}; it must be a readable PEM file of certificates"
            ) from problem


def in_cluster(folder: Path = SERVICE_ACCOUNT, environment: Mapping[str, str] | None = None) -> Access:
    """The API server as a pod sees it. Raises NoAccess outside a cluster."""
    environment = os.environ if environment is None else environment
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    if not host:
        raise errors.NoAccess(
            "KUBERNETES_SERVICE_HOST is not set: this is no pod of a Kubernetes cluster; name a kubeconfig"
        )
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    return Access(
        url=f"https://{bracketed(host)}:{port}",
        ca_file=folder / "ca.crt",
        token=TokenFile(folder / "token"),
    )


def kubelet(
    api: Access, node_ip: str, *, port: int = 10250, ca: Path | None = None, verify: bool = True
) -> Access:
    """This node's kubelet, asked with the credentials that the API server gets.

    Without `ca` the cluster's CA must have signed its certificate; many clusters leave kubelets
    with self-signed ones, which only a `ca` of their own or `verify=False` gets past.
    """
    return Access(
        url=f"https://{bracketed(node_ip)}:{port}",
        ca_file=ca or api.ca_file,
        ca_data="" if ca else api.ca_data,
        verify=verify,
        token=api.token,
        certificate=api.certificate,
    )


def bracketed(host: str) -> str:
    """A host as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _load_certificate(context: ssl.SSLContext, pair: ClientCertificate) -> None:
    # OpenSSL's Python binding takes client keys from files only; the file lives for this call.
    with tempfile.NamedTemporaryFile(prefix="flowlens-") as file:
        file.write(pair.certificate + b"\n" + pair.key)
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except ssl.SSLError as problem:
            raise errors.NoAccess(
                f"client certificate and key do not fit or are no PEM ({problem}): see the kubeconfig's user"
            ) from problem

"""A real etcd and kube-apiserver, in a network namespace that the test's own thread has entered.

Nothing else of Kubernetes runs: objects are what kubectl makes them. The server listens on an
address of the namespace's loopback device; taking that address away is a partition, in which no
packet reaches the other side and none is refused. All programs die with the test run (setpriv).
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from flowlens.kube import access, kubeconfig
from tests.testbed import parts, store

from . import edge as edges
from . import pki

ADDRESS = "192.0.2.10"
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET, linux/sched.h


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Moves the calling thread, and all that it starts, into a new network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "unshare of the network failed: these tests need root")
        _ip("link", "set", "lo", "up")
        _ip("address", "add", f"{ADDRESS}/32", "dev", "lo")
        yield
    finally:
        libc.setns(before, _NEW_NETWORK)
        os.close(before)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@dataclass
class ApiServer:
    """The pair of programs, and an administrator's kubectl."""

    folder: Path
    programs: Path
    ca: pki.Pair = field(default_factory=pki.authority)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def prepare(self) -> None:
        server = pki.leaf(self.ca, "kube-apiserver", hosts=(ADDRESS, "127.0.0.1"))
        for name, content in {
            "ca.crt": self.ca.certificate_pem,
            "server.crt": server.certificate_pem,
            "server.key": server.key_pem,
            "accounts.key": server.key_pem,
            "accounts.pub": server.key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            "admin.json": self._kubeconfig(),
        }.items():
            (self.folder / name).write_bytes(content)

    def _kubeconfig(self) -> bytes:
        admin = pki.leaf(self.ca, "admin", "system:masters")
        user = {
            "client-certificate-data": base64.b64encode(admin.certificate_pem).decode(),
            "client-key-data": base64.b64encode(admin.key_pem).decode(),
        }
        cluster = {"server": f"https://{ADDRESS}:6443", "certificate-authority": "ca.crt"}
        content = {
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "admin"}}],
        }
        return json.dumps(content).encode()

    def start_etcd(self) -> None:
        url = "http://127.0.0.1:2379"
        self._start(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def start(self) -> None:
        """Starts kube-apiserver and waits until it is ready."""
        self._start(
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={ADDRESS}",
            "--secure-port=6443",
            f"--tls-cert-file={self.folder / 'server.crt'}",
            f"--tls-private-key-file={self.folder / 'server.key'}",
            f"--client-ca-file={self.folder / 'ca.crt'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            f"--service-account-key-file={self.folder / 'accounts.pub'}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--service-cluster-ip-range=10.96.0.0/24",
        )
        edges.wait_until(self._is_ready, "kube-apiserver is ready", 90)

    def _is_ready(self) -> bool:
        assert self._running["kube-apiserver"].poll() is None, f"it ended: see {self.folder}"
        return self._kubectl("get", "--raw=/readyz").returncode == 0

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = ["setpriv", "--pdeathsig", "KILL", str(self.programs / name), *arguments]
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def kill(self, name: str = "kube-apiserver") -> None:
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for name in reversed(list(self._running)):
            self.kill(name)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """kube-apiserver holds its breath: the kernel still answers for it, it does not."""
        process = self._running["kube-apiserver"]
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def partitioned(self) -> Iterator[None]:
        """No packet to or from the server's address arrives."""
        _ip("address", "del", f"{ADDRESS}/32", "dev", "lo")
        try:
            yield
        finally:
            _ip("address", "add", f"{ADDRESS}/32", "dev", "lo")

    def _kubectl(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        own = {**os.environ, "KUBECONFIG": str(self.folder / "admin.json"), "KUBECACHEDIR": str(self.folder)}
        command = [str(self.programs / "kubectl"), *words]
        return subprocess.run(command, env=own, input=stdin, capture_output=True, text=True, check=False)

    def kubectl(self, *words: str, stdin: str = "") -> str:
        done = self._kubectl(*words, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def apply(self, *things: edges.Json) -> None:
        content = {"apiVersion": "v1", "kind": "List", "items": list(things)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(content))

    def admin(self) -> access.Access:
        return kubeconfig.load(self.folder / "admin.json")

    def account(self, token: str) -> access.Access:
        return access.Access(
            f"https://{ADDRESS}:6443", ca_file=self.folder / "ca.crt", token=access.FixedToken(token)
        )


@contextlib.contextmanager
def run(folder: Path) -> Iterator[ApiServer]:
    """Both programs, until the block ends."""
    server = ApiServer(folder, store.folder(parts.KUBERNETES))
    server.prepare()
    try:
        server.start_etcd()
        server.start()
        yield server
    finally:
        server.stop()


def connections(port: int = 6443) -> int:
    """Established connections to the server, by the kernel's own table of this thread's namespace."""
    rows = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
    wanted = f"{int.from_bytes(socket.inet_aton(ADDRESS), 'little'):08X}:{port:04X}"
    return sum(row.split()[2] == wanted and row.split()[3] == "01" for row in rows)

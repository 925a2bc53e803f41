"""A kube-apiserver and its etcd in a network namespace of their own, for judging the CRD.

No node, no controller: 5 seconds instead of a cluster's 15. The programs are the testbed's.
Everything dies with the process that started it.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.testbed import build, parts, store

_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
_START_SECONDS = 90.0
_TOKEN = "only-reachable-inside-its-own-namespace"
_SERVER = "https://127.0.0.1:6443"


@dataclass(frozen=True, slots=True)
class Answer:
    """What kubectl said; `ok` when it exited with 0."""

    ok: bool
    output: str
    errors: str


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Speaks to the server through kubectl, in the server's network namespace."""

    holder: int
    kubectl_path: pathlib.Path
    kubeconfig: pathlib.Path

    def kubectl(self, *arguments: str, text: str = "") -> Answer:
        command = [
            *_inside(self.holder),
            str(self.kubectl_path),
            f"--kubeconfig={self.kubeconfig}",
            *arguments,
        ]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        return Answer(done.returncode == 0, done.stdout, done.stderr)

    def must(self, *arguments: str, text: str = "") -> str:
        answer = self.kubectl(*arguments, text=text)
        assert answer.ok, answer.errors
        return answer.output


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[ApiServer]:
    """A server that is ready; its files, logs included, are in `folder`."""
    build.ensure((parts.KUBERNETES,))
    programs = store.folder(parts.KUBERNETES)
    _write_credentials(folder)
    with contextlib.ExitStack() as stack:
        holder = stack.enter_context(
            _started([*_WITH_US, "unshare", "--net", "sleep", "infinity"], folder / "holder.log")
        )
        _wait(lambda: _own_network(holder.pid), "the network namespace")
        subprocess.run([*_inside(holder.pid), "ip", "link", "set", "lo", "up"], check=True)
        for name, flags in (("etcd", _etcd(folder)), ("kube-apiserver", _kube_apiserver(folder))):
            command = [*_inside(holder.pid), *_WITH_US, "nice", "-n", "5", str(programs / name), *flags]
            stack.enter_context(_started(command, folder / f"{name}.log"))
        server = ApiServer(holder.pid, programs / "kubectl", folder / "kubeconfig.json")
        _wait(lambda: server.kubectl("get", "--raw", "/readyz").ok, f"kube-apiserver (logs: {folder})")
        yield server


def _inside(holder: int) -> list[str]:
    return ["nsenter", f"--net=/proc/{holder}/ns/net"]


def _own_network(pid: int) -> bool:
    ours, theirs = (pathlib.Path(f"/proc/{who}/ns/net").readlink() for who in ("self", pid))
    return ours != theirs


@contextlib.contextmanager
def _started(command: list[str], log: pathlib.Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait(met, what: str) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + _START_SECONDS
    while not met():
        assert time.monotonic() < deadline, f"{what} did not come up in {_START_SECONDS:g} s"
        time.sleep(0.05)


def _etcd(folder: pathlib.Path) -> list[str]:
    urls = [f"--{kind}-client-urls=http://127.0.0.1:2379" for kind in ("listen", "advertise")]
    return [f"--data-dir={folder / 'etcd'}", *urls, "--unsafe-no-fsync", "--log-level=warn"]


def _kube_apiserver(folder: pathlib.Path) -> list[str]:
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--secure-port=6443",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={folder / 'service-accounts.key'}",
        f"--service-account-key-file={folder / 'service-accounts.key'}",
        "--service-cluster-ip-range=10.96.0.0/24",
        "--endpoint-reconciler-type=none",
    ]


def _write_credentials(folder: pathlib.Path) -> None:
    secret = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "service-accounts.key").write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (folder / "tokens.csv").write_text(f'{_TOKEN},tester,tester,"system:masters"\n')
    cluster = {"server": _SERVER, "insecure-skip-tls-verify": True}
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "tester", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "tester"}}],
        "current-context": "test",
    }
    (folder / "kubeconfig.json").write_text(json.dumps(kubeconfig))

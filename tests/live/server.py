"""A real etcd and kube-apiserver that audits its agents, in a network namespace that tests enter and leave.

tests/kube's server lives as long as its thread stays in the namespace; here one server serves a whole
folder of tests, some of which need the host's network in between.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from flowlens.kube import client, errors, objects
from tests.kube import apiserver, edge
from tests.testbed import parts, store

ROOT = Path(__file__).parents[2]
CRD_FILE = ROOT / "deploy/manifests/crd.yaml"
AGENT_MANIFEST = ROOT / "deploy/manifests/flow-lens.yaml"
CONFIGS = "flowlensconfigs.flowlens.io"
KEEP = "keep"
"""Label of objects that outlive their test."""
ACCOUNTS = "default"
"""Namespace of the agents' service accounts."""
_NETWORK = 0x40000000  # CLONE_NEWNET
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}


@contextlib.contextmanager
def inside(network: int) -> Iterator[None]:
    """The calling thread in another network namespace (a file descriptor), and back."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(network)
        yield
    finally:
        _enter(before)
        os.close(before)


def _enter(network: int) -> None:
    if _libc.setns(network, _NETWORK):
        raise OSError(ctypes.get_errno(), "setns: these tests need root")


def new_network() -> int:
    """A namespace with the API server's address, kept alive by the descriptor alone."""
    with apiserver.own_network():
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


class Request(NamedTuple):
    """A line of the audit log."""

    user: str
    verb: str
    resource: str
    code: int
    uri: str


class Server(apiserver.ApiServer):
    """Its methods are for threads inside of its network."""

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "audit.yaml").write_text(json.dumps(AUDIT_POLICY))

    def _start(self, name: str, *arguments: str) -> None:
        more = (f"--audit-policy-file={self.folder / 'audit.yaml'}", f"--audit-log-path={self.audit_log}")
        super()._start(name, *arguments, *(more if name == "kube-apiserver" else ()))

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    def requests(self, account: str = "") -> list[Request]:
        """What service accounts asked for, each request once (a watch is logged when it starts and when it ends)."""
        found: dict[str, Request] = {}
        for line in self.audit_log.read_text().splitlines() if self.audit_log.exists() else ():
            event = json.loads(line)
            about, answer = event.get("objectRef", {}), event.get("responseStatus", {})
            resource = "/".join(filter(None, (about.get("resource"), about.get("subresource"))))
            user = event["user"]["username"]
            if user.startswith(f"system:serviceaccount:{ACCOUNTS}:{account}"):
                one = Request(user, event["verb"], resource, answer.get("code", 0), event["requestURI"])
                found[event["auditID"]] = one
        return list(found.values())

    def install_crd(self) -> None:
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD_FILE))
        self.kubectl("wait", "--for=condition=Established", f"crd/{CONFIGS}", "--timeout=20s")

    # FlowLensConfigs -------------------------------------------------------------------------------

    def configure(self, name: str, spec: dict[str, Any]) -> int:
        """Applies an object, returns its generation."""
        done = self.kubectl(
            "apply", "-f", "-", "-o", "jsonpath={.metadata.generation}", stdin=manifest(name, spec)
        )
        return int(done)

    def unconfigure(self, *names: str) -> None:
        """Deletes objects; when none is named all but those labelled KEEP, with one request."""
        everything = f"{objects.FLOW_LENS_CONFIGS.path}?labelSelector=%21{KEEP}"
        if names:
            self.kubectl("delete", "flc", *names)
            return
        everything = f"{objects.FLOW_LENS_CONFIGS.path}?labelSelector=%21{KEEP}"
        # 429 for a moment after the CRD's schema changed.
        until(lambda: self._kubectl("delete", "--raw", everything).returncode == 0, "all objects deleted")

    # who agents are --------------------------------------------------------------------------------

    def agent_account(self, rules: Sequence[dict[str, Any]] | None = None) -> Path:
        """A kubeconfig of a new service account with the chart's ClusterRole, or with other rules."""
        name = f"agent-{next(_numbers)}"
        self.apply(*account_manifests(name, chart_rules() if rules is None else rules))
        return self._kubeconfig_of(name)

    def refuses(self, token: str) -> bool:
        """Whether a token is no good (any more)."""
        asking = client.Client(self.account(token))
        try:
            asking.get(objects.FLOW_LENS_CONFIGS.path)
        except errors.Unauthorized:
            return True
        except errors.KubeError:
            return False
        finally:
            asking.close()
        return False

    def _kubeconfig_of(self, name: str) -> Path:
        file, token = self.folder / f"{name}.json", self.folder / f"{name}.token"
        token.write_text(self.kubectl("create", "token", name, "-n", ACCOUNTS))
        content = json.loads((self.folder / "admin.json").read_text())
        content["users"][0]["user"] = {"tokenFile": token.name}
        file.write_text(json.dumps(content))
        return file


def manifest(name: str, spec: dict[str, Any]) -> str:
    """A FlowLensConfig as text for kubectl."""
    return json.dumps(
        {
            "apiVersion": "flowlens.io/v1alpha1",
            "kind": "FlowLensConfig",
            "metadata": {"name": name},
            "spec": spec,
        }
    )


def account_manifests(name: str, rules: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A service account, and a ClusterRole of these rules that is bound to it."""
    account = {"name": name, "namespace": ACCOUNTS}
    group = "rbac.authorization.k8s.io"
    role = {"kind": "ClusterRole", "name": name}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": list(rules),
        },
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, **role},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    ]


def chart_rules() -> list[dict[str, Any]]:
    """The agents' ClusterRole as the chart renders it."""
    documents = yaml.safe_load_all(AGENT_MANIFEST.read_text())
    found = [
        document["rules"]
        for document in documents
        if document
        and document["kind"] == "ClusterRole"
        and document["metadata"]["labels"]["app.kubernetes.io/component"] == "agent"
    ]
    assert len(found) == 1
    return list(found[0])


@contextlib.contextmanager
def run(folder: Path) -> Iterator[tuple[Server, int]]:
    """The server with the CRD, and its network (enter it to speak to the server)."""
    network = new_network()
    server = Server(folder, store.folder(parts.KUBERNETES))
    try:
        with inside(network):
            server.prepare()
            server.start_etcd()
            server.start()
            server.install_crd()
        yield server, network
    finally:
        server.stop()
        os.close(network)


@contextlib.contextmanager
def dropping(address: str = apiserver.ADDRESS) -> Iterator[None]:
    """A partition: nftables drops every packet to or from an address of this network. 127.0.0.1 works on."""
    chain = ["type filter hook input priority 0;", f"ip saddr {address} drop;", f"ip daddr {address} drop;"]
    rules = "\n".join(("table inet partition {", "chain i {", *chain, "}", "}", ""))
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "partition"], check=True)


def until(condition: Any, what: str, seconds: float = 10.0) -> float:
    """Waits for a condition; the seconds that it took."""
    began = time.monotonic()
    edge.wait_until(condition, what, seconds)
    return time.monotonic() - began

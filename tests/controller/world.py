"""A real etcd and kube-apiserver with the real CRD, nodes and EndpointSlices; agents are simulated.

The controller runs as its pod would: a numeric user without a passwd entry and without USER, no
capability (but one to read this checkout), a read-only file system, a service account's token with
exactly the rules of `rules`. The API server writes down every request.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowlens.config import schema
from tests.controller import agents as simulated
from tests.controller import rules
from tests.kube import apiserver, edge
from tests.testbed import parts, store

ROOT = Path(__file__).parents[2]
USER = 65532
LISTEN = "127.0.0.1:2113"
Json = dict[str, Any]
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
}


@dataclass
class ApiServer(apiserver.ApiServer):
    """With an audit log."""

    audit_level: str = "Request"

    @property
    def audit(self) -> Path:
        return self.folder / "audit.log"

    def _start(self, name: str, *arguments: str) -> None:
        if name == "kube-apiserver":
            policy = self.folder / "policy.json"
            policy.write_text(json.dumps({**AUDIT_POLICY, "rules": [{"level": self.audit_level}]}))
            log = (
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self.audit}",
                "--audit-log-mode=blocking",
            )
            arguments = (*arguments, *log)
        super()._start(name, *arguments)

    def forget_events(self) -> None:
        """A restart after changes: the server's memory of events begins after them."""
        self.kill()
        self.start()

    def requests(self, user: str) -> list[Json]:
        """Audited requests of a service account, oldest first."""
        lines = self.audit.read_text().splitlines()
        found = [json.loads(line) for line in lines if user in line]
        return [one for one in found if one["user"]["username"].endswith(f":{user}")]


@dataclass
class World:
    """What the tests change and look at."""

    server: ApiServer
    agents: simulated.Agents = field(default_factory=simulated.Agents)

    # objects --------------------------------------------------------------------------------------

    def add_nodes(self, *names: str, **labels: str) -> None:
        """Nodes with an agent each; `publish` says where the agents are."""
        self.server.apply(*[_node(name, labels) for name in names])
        for name in names:
            self.agents.add(name)
        self.publish()

    def publish(self, *nodes: str) -> None:
        """The EndpointSlices as the controller of Services would write them, for these agents (default: all)."""
        chosen = [self.agents[node] for node in nodes or self.agents.by_node]
        wanted = [
            _slice(number, chosen[at : at + 100]) for number, at in enumerate(range(0, len(chosen), 100))
        ]
        self.server.apply(*wanted)
        kept = {one["metadata"]["name"] for one in wanted}
        there = self.server.kubectl("-n", rules.NAMESPACE, "get", "endpointslices", "-o", "name").split()
        gone = [name for name in there if name.partition("/")[2] not in kept]
        if gone:
            self.server.kubectl("-n", rules.NAMESPACE, "delete", *gone)

    def apply(self, name: str, **spec: Any) -> int:
        """A FlowLensConfig; returns its generation."""
        self.server.apply(
            {
                "apiVersion": "flowlens.io/v1alpha1",
                "kind": "FlowLensConfig",
                "metadata": {"name": name},
                "spec": spec,
            }
        )
        return int(self.get(name)["metadata"]["generation"])

    def get(self, name: str) -> Json:
        found: Json = json.loads(self.server.kubectl("get", "flc", name, "-o", "json"))
        return found

    def status(self, name: str) -> Json:
        found: Json = self.get(name).get("status", {})
        return found

    def conditions(self, name: str) -> dict[str, Json]:
        return {one["type"]: one for one in self.status(name).get("conditions", ())}

    def delete(self, *names: str) -> None:
        self.server.kubectl("delete", "flc", *names)

    def wait_for(self, name: str, condition: str, status: str, reason: str = "", seconds: float = 30) -> Json:
        """The condition, once it has this status (and reason)."""

        def holds() -> bool:
            one = self.conditions(name).get(condition, {})
            return one.get("status") == status and reason in ("", one["reason"])

        try:
            edge.wait_until(holds, f"{condition}={status} {reason} of {name}", seconds)
        except AssertionError as problem:
            raise AssertionError(f"{problem}: {json.dumps(self.status(name), indent=1)}") from None
        return self.conditions(name)[condition]

    def events(self, name: str) -> list[Json]:
        found = json.loads(self.server.kubectl("get", "events.v1.events.k8s.io", "-o", "json"))["items"]
        return [one for one in found if one["regarding"]["name"] == name]

    # controller -------------------------------------------------------------------------------------

    def token(self) -> str:
        return self.server.kubectl("-n", rules.NAMESPACE, "create", "token", rules.ACCOUNT)

    def kubeconfig(self) -> Path:
        """Of the controller's service account, for anybody to read."""
        home = self.server.folder / "account"
        home.mkdir(exist_ok=True)
        (home / "token").write_text(self.token())
        (home / "ca.crt").write_bytes((self.server.folder / "ca.crt").read_bytes())
        content = {
            "current-context": "c",
            "clusters": [
                {
                    "name": "c",
                    "cluster": {
                        "server": f"https://{apiserver.ADDRESS}:6443",
                        "certificate-authority": "ca.crt",
                    },
                }
            ],
            "users": [{"name": "u", "user": {"tokenFile": "token"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        (home / "config.json").write_text(json.dumps(content))
        return home / "config.json"

    @contextlib.contextmanager
    def controller(
        self,
        *flags: str,
        listen: str = LISTEN,
        wait: bool = True,
        kubeconfig: Path | None = None,
        with_kubernetes: bool = True,
    ) -> Iterator[Controller]:
        """A controller process, until the block ends.

        `with_kubernetes=False`: as in the image, where the package that kopf would import is missing.
        """
        log = self.server.folder / f"controller-{time.monotonic_ns()}.log"
        command = [
            *CONFINED,
            sys.executable,
            *(("-m", "flowlens") if with_kubernetes else ("-c", WITHOUT_KUBERNETES)),
            "controller",
            f"--kubeconfig={kubeconfig or self.kubeconfig()}",
            f"--agents-namespace={rules.NAMESPACE}",
            f"--listen={listen}",
            "--status-seconds=2",
            "--sweep-seconds=2",
            "--timeout-seconds=1",
            *flags,
        ]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env={}, cwd=ROOT)
        running = Controller(process, log, listen)
        try:
            if wait:
                edge.wait_until(lambda: running.answers("/readyz"), f"controller is ready: {log}", 30)
            yield running
        finally:
            running.stop()


WITHOUT_KUBERNETES = (
    "import sys; sys.modules['kubernetes'] = None; from flowlens import cli; sys.exit(cli.main())"
)
CONFINED = [
    *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "sh", "-c"),
    'mount -o remount,bind,ro / && exec "$@"',
    "sh",
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"),
    *(
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
    ),
]


@dataclass
class Controller:
    """A running one."""

    process: subprocess.Popen[bytes]
    log: Path
    listen: str

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one of its pages."""
        try:
            with urllib.request.urlopen(f"http://{self.listen}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def answers(self, path: str) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get(path)[0] == 200
        except OSError:
            return False

    def number(self, sample: str) -> float:
        """A sample of /metrics by its full name with labels; 0 when absent."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def words(self) -> str:
        """Its log so far."""
        return self.log.read_text()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"does not end on SIGTERM: {self.log.read_text()}") from None


def _node(name: str, labels: dict[str, str]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
    }


def _slice(number: int, members: list[simulated.Agent]) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"flow-lens-{number}",
            "namespace": rules.NAMESPACE,
            "labels": {"kubernetes.io/service-name": "flow-lens"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "metrics", "port": simulated.PORT, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [one.address], "nodeName": one.node, "conditions": {"ready": True}}
            for one in members
        ],
    }


@contextlib.contextmanager
def running(folder: Path, audit_level: str = "Request") -> Iterator[World]:
    """The world, in a network namespace that the calling thread has entered until the block ends."""
    os.chmod(folder, 0o755)
    with contextlib.ExitStack() as stack:
        stack.enter_context(apiserver.own_network())
        simulated.make_room()
        server = ApiServer(folder, store.folder(parts.KUBERNETES), audit_level=audit_level)
        stack.callback(server.stop)
        server.prepare()
        server.start_etcd()
        server.start()
        server.kubectl("apply", "--server-side", "-f", "-", stdin=schema.files()[schema.CRD_PATHS[0]])
        server.kubectl(
            "wait", "--for=condition=Established", "crd/flowlensconfigs.flowlens.io", "--timeout=30s"
        )
        server.apply(*rules.manifests(rules.ALL))
        world = World(server)
        stack.enter_context(simulated.serving(world.agents))
        yield world


def wait_until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    edge.wait_until(condition, what, seconds)

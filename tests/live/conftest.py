"""One API server for all tests of this folder; agents with the chart's rights; pods; objects that go with their test."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel import namespace
from tests.live import lens, pods
from tests.live import server as servers

StartAgent = Callable[..., lens.Agent]
MakePod = Callable[..., pods.Pod]


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[servers.Server, int]]:
    with servers.run(tmp_path_factory.mktemp("apiserver")) as running:
        yield running


@pytest.fixture
def server(running: tuple[servers.Server, int]) -> Iterator[servers.Server]:
    """The API server, with the test's thread in its network, and no FlowLensConfig left afterwards."""
    server, network = running
    with servers.inside(network):
        yield server
        server.unconfigure()


@pytest.fixture
def node(server: servers.Server) -> str:
    """A node of a name nobody else has."""
    return make_node(server)


def make_node(server: servers.Server, **labels: str) -> str:
    """Only an object: nobody but the agents asks about it."""
    name = f"node-{secrets.token_hex(3)}"
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}
    server.apply({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
    return name


@pytest.fixture
def cgroup_root() -> Iterator[Path]:
    """The cgroup that is the node's cgroupRoot."""
    root = namespace.CGROUPS / f"flowlens-live-{secrets.token_hex(3)}"
    root.mkdir()
    yield root
    pods.remove(root)


@pytest.fixture(scope="package")
def account(running: tuple[servers.Server, int]) -> Path:
    """The kubeconfig of agents: a service account with the ClusterRole of the chart, and nothing else."""
    server, network = running
    with servers.inside(network):
        return server.agent_account()


@pytest.fixture
def start_agent(
    server: servers.Server, account: Path, node: str, cgroup_root: Path, tmp_path: Path
) -> Iterator[StartAgent]:
    """Starts agents of `node`; those still running at the end must end well."""
    started: list[lens.Agent] = []

    def start(
        spec: dict[str, Any] | None = None, *flags: str, on: str = node, kubeconfig: Path = account
    ) -> lens.Agent:
        root = "/" + str(cgroup_root.relative_to(namespace.CGROUPS))
        folder = tmp_path / f"agent-{len(started)}"
        folder.mkdir()
        started.append(lens.Agent(folder, kubeconfig, on, spec, ("--cgroup-root", root, *flags)))
        return started[-1]

    yield start
    for each in reversed(started):
        each.stop()


@pytest.fixture
def make_pod(server: servers.Server, node: str, cgroup_root: Path) -> Iterator[MakePod]:
    """Makes pods on `node`."""
    made: list[pods.Pod] = []

    def make(name: str = "web", project: str = "", **options: Any) -> pods.Pod:
        chosen = project or f"live-{secrets.token_hex(3)}"
        made.append(pods.Pod(server, cgroup_root, name=name, project=chosen, node=node, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()
        _emptied(each.cgroup)
        server.kubectl("delete", "pod", "-n", each.project, each.name, "--grace-period=0", "--force")


def _emptied(cgroup: Path) -> None:
    """A killed process leaves its cgroup a moment later."""
    servers.until(lambda: not (cgroup / "cgroup.procs").read_text().strip(), f"nobody in {cgroup}")


@pytest.fixture
def stop_file(tmp_path: Path) -> Path:
    """Traffic runs until it exists."""
    return tmp_path / f"stop-{os.getpid()}"

"""The chart installed once for all tests of this folder, as `helm install` does it, and pods that make traffic."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import lens as lenses
from tests.testbed import deploy, places
from tests.testbed.cluster import Cluster, ClusterError

VALUES = (
    # All nodes of the testbed share one kernel: each agent keeps to the cgroups of its own kubelet.
    "--set-string",
    f"agent.cgroupRoot=/{places.NAME}/$(NODE_NAME)",
    # The host's cgroups are seen by every agent, and other tests make thousands of them.
    "--set",
    "config.limits.maxSeries=200000",
)


@pytest.fixture(scope="session")
def lens(cluster: Cluster) -> lenses.Lens:
    """Agents on every node, from an image built of this very tree, or from the archive FLOWLENS_IMAGE."""
    made = os.environ.get("FLOWLENS_IMAGE")
    archive = Path(made) if made else deploy.ARCHIVE
    if not made:
        subprocess.run(["make", "image"], cwd=places.REPOSITORY, check=True)
    # The image's name is always the same: the annotation replaces pods of a cluster that ran an older one.
    image = f"agent.podAnnotations.image={manifest_digest(archive)}"
    deploy.deploy(cluster, archive, (*VALUES, "--set-string", image), build_first=False)
    installed = lenses.Lens(cluster)
    installed.wait_ready()
    return installed


def manifest_digest(archive: Path) -> str:
    """What identifies the first image of an OCI archive."""
    with tarfile.open(archive) as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        return str(json.load(index)["manifests"][0]["digest"])


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"traffic-{secrets.token_hex(3)}"
    cluster.kubectl("create", "namespace", name)
    cluster.wait_for_service_account(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


Run = Callable[..., str]


@pytest.fixture
def run(cluster: Cluster, namespace: str) -> Run:
    """Runs a shell command in a container of a pod: run(pod, command, container=)."""

    def execute(pod: str, command: str, container: str = "main") -> str:
        return cluster.kubectl("exec", "-n", namespace, pod, "-c", container, "--", "sh", "-c", command)

    return execute


def fetch(url: str, times: int) -> str:
    """A shell command that GETs a URL so many times, one connection each. Debian's `wget -T` crashes."""
    return f"for i in $(seq {times}); do timeout 5 wget -qO- {url} >/dev/null || exit 1; done"


def await_service(cluster: Cluster, run: Run, address: str) -> None:
    """Until a Service answers the pod `client`: kube-proxy takes a moment, and no answer comes before."""

    def answers() -> bool:
        with contextlib.suppress(ClusterError):
            run("client", f"timeout 1 wget -qO- http://{address}/")
            return True
        return False

    cluster.wait(answers, f"the Service {address} to answer", 15)

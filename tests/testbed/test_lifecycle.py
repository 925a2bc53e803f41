"""Up, down, and what happens to people who interrupt them: nothing may stay on the machine.

Runs the commands as a person does, on a cluster of another name beside the session's own.
What is left is judged from outside: the host's links, mounts, processes and kernel settings.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed import deadline, fixtures, places
from tests.testbed.cluster import Cluster

# The session's cluster comes first: it builds the programs, and tells that this machine can.
pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

NAME = "flowlens-testbed-second"
STATE = places.STATE.with_name(NAME)
SETTINGS = ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "net/ipv4/ip_forward")


@pytest.fixture(autouse=True)
def _second_cluster_gone() -> Iterator[None]:
    run("down")
    yield
    run("down")


def start(*args: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "FLOWLENS_TESTBED": NAME}
    command = [sys.executable, "-m", "tests.testbed", *args]
    return subprocess.Popen(
        command,
        cwd=places.REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(*args: str) -> tuple[int, str]:
    process = start(*args)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def traces() -> dict[str, object]:
    """Everything on the host that a cluster could change, told without the testbed's own code."""
    links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True).stdout
    return {
        "links": [line.split(":")[1].strip() for line in links.splitlines()],
        "mounts": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "settings": [Path("/proc/sys", name).read_text() for name in SETTINGS],
        "cgroups": [str(path) for path in Path("/sys/fs/cgroup").rglob(f"{NAME}*")],
        "processes": members(),
        "folders": [path.exists() for path in (STATE, Path("/opt/containerd"), Path("/run/containerd"))],
        "namespaces": sorted(os.listdir("/run/netns")) if Path("/run/netns").exists() else [],
    }


def members() -> list[str]:
    """Processes that were started for the second cluster: their environment says so."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if f"FLOWLENS_TESTBED={NAME}".encode() in (entry / "environ").read_bytes():
                found.append(f"{entry.name} {(entry / 'comm').read_text().strip()}")
        except OSError:
            continue
    return found


def folder_appeared(name: str) -> None:
    deadline.until((STATE / name).exists, f"{STATE / name} to appear", 30, pause_seconds=0.01)


def test_down_leaves_nothing_behind() -> None:
    before = traces()
    assert run("up", "--nodes", "1")[0] == 0
    assert (
        run("shell", "--", "kubectl", "run", "p", "--image=localhost/busybox:1", "--image-pull-policy=Never")[
            0
        ]
        == 0
    )
    wait = ("kubectl", "wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
    assert run("shell", "--", *wait)[0] == 0
    assert run("leftovers")[0] == 1
    assert run("down")[0] == 0
    assert run("leftovers") == (0, "")
    assert traces() == before


@pytest.mark.parametrize("landmark", ["node1", "pki", "config", "logs/node1/kubelet.log"])
def test_up_interrupted_by_a_person_clears_up_by_itself(landmark: str) -> None:
    before = traces()
    process = start("up", "--nodes", "1")
    folder_appeared(landmark)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert traces() == before


@pytest.mark.parametrize(
    "landmark", ["node1", "pki", "logs/node1/kube-apiserver.log", "logs/node1/kubelet.log"]
)
def test_up_recovers_from_an_up_that_was_killed_half_way(landmark: str) -> None:
    before = traces()
    process = start("up", "--nodes", "1")
    folder_appeared(landmark)
    process.kill()
    process.communicate(timeout=60)
    assert run("up", "--nodes", "1")[0] == 0
    assert run("shell", "--", "kubectl", "get", "nodes")[0] == 0
    assert run("down")[0] == 0
    assert traces() == before


def test_down_clears_what_a_killed_up_left() -> None:
    before = traces()
    process = start("up", "--nodes", "2")
    folder_appeared("logs/node2/kubelet.log")
    process.kill()
    process.communicate(timeout=60)
    assert run("leftovers")[0] == 1
    assert run("down")[0] == 0
    assert traces() == before


def test_down_finishes_what_a_killed_down_began() -> None:
    before = traces()
    assert run("up", "--nodes", "1")[0] == 0
    process = start("down")
    deadline.until(lambda: len(members()) < 5, "down to have begun", 30, pause_seconds=0.01)
    process.kill()
    process.communicate(timeout=60)
    assert run("down")[0] == 0
    assert traces() == before


def test_shell_passes_on_the_status_of_its_command() -> None:
    assert run("shell", "--", "true") == (1, "testbed: no cluster is up: python -m tests.testbed up\n")
    assert run("up", "--nodes", "1")[0] == 0
    assert run("shell", "--", "sh", "-c", "hostname; exit 7") == (7, "node1\n")


def test_two_clusters_do_not_see_each_other(cluster: Cluster) -> None:
    assert run("up", "--nodes", "1")[0] == 0
    assert len(cluster.kubectl_json("get", "nodes")["items"]) == len(cluster.nodes)
    assert run("down")[0] == 0
    cluster.wait_for_nodes(timeout_seconds=5)


def test_cluster_tests_fail_in_ci_and_are_skipped_only_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, expected in (("true", True), ("1", True), ("", False), ("false", False)):
        monkeypatch.setenv("CI", value)
        assert fixtures.in_ci() is expected

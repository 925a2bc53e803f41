"""Identity over this machine's own /proc and cgroupfs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowlens import identity
from flowlens.host import cgroupfs, procfs
from tests.identity import fakes

PROC, CGROUPFS = Path("/proc"), Path("/sys/fs/cgroup")
CONTAINER_ID = "0123456789abcdef" * 4


@pytest.fixture
def container() -> Iterator[Path]:
    """A cgroup as Docker would make it, below one of our own; removed afterwards."""
    mount = cgroupfs.find_mount(CGROUPFS)
    assert mount is not None, f"no cgroup2 mount at or in {CGROUPFS}: mount one to run these tests"
    own = mount.path / f"flowlens-identity-test-{os.getpid()}"
    folder = own / "docker" / CONTAINER_ID
    folder.mkdir(parents=True)
    yield folder
    for made, _, _ in os.walk(own, topdown=False):
        os.rmdir(made)


@pytest.fixture
def asked() -> identity.Identity:
    return identity.Identity(proc=PROC, cgroupfs=CGROUPFS, clock=fakes.Clock())


@pytest.mark.kernel
def test_a_real_cgroup_is_named_and_its_end_noticed(container: Path, asked: identity.Identity) -> None:
    asked.scan()
    owner = identity.Owner(container.stat().st_ino, 0, 0)
    before = asked.alive(owner)
    container.rmdir()

    found = asked.workload(owner)

    assert found is not None
    assert (found.container, found.workload_kind) == (CONTAINER_ID[:12], "Docker")
    assert (before, asked.alive(owner)) == (True, False)


@pytest.mark.kernel
def test_a_real_namespace_belongs_to_the_container_whose_process_is_in_it(
    container: Path, asked: identity.Identity
) -> None:
    enter = 'echo $$ > "$1/cgroup.procs"; exec unshare --net sh -c "echo in; read _"'
    with subprocess.Popen(
        ["sh", "-c", enter, "sh", str(container)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"in\n"
        asked.scan()
        netns = procfs.netns_inode(PROC, child.pid)
        assert netns is not None
        found = asked.workload(identity.Owner(0, netns, 0))
        in_root = asked.workload(identity.Owner(1, netns, 0))
        child.communicate(b"\n")

    assert found is not None
    assert found.container == CONTAINER_ID[:12]
    assert in_root is not None
    assert in_root.workload_kind == "Host"


@pytest.mark.kernel
def test_the_root_cgroup_of_this_machine_is_the_host(asked: identity.Identity) -> None:
    asked.scan()
    mount = cgroupfs.find_mount(CGROUPFS)
    assert mount is not None
    found = asked.workload(identity.Owner(mount.root_inode, 0, 0))
    assert found == identity.Workload(workload_kind="Host", cgroup_path="/", is_host=True)
    assert asked.problem == ""

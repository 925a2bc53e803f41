"""Processes, in recorded trees and in this machine's /proc."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlens.host import cgroupfs, procfs
from tests.host import proc_tree

REDIS = "/system.slice/docker-aaaaaaaaaaaa000000000000000000000000000000000000000000000000000a.scope"
AGENT = "/kubepods/besteffort/pod0d2a5c2a-7b0e-4e36-9c39-48b1a4c89f11/" + "d" * 64


def test_processes_are_told_by_their_network_namespace(tmp_path: Path) -> None:
    found = procfs.netns_pids(proc_tree.build(tmp_path, "ubuntu2204-docker-v2"))

    assert sorted(found.by_netns[4026532301]) == [1500, 1501]
    assert sorted(found.by_netns[4026531840]) == [1, 2, 812, 1800]


def test_unreadable_processes_are_counted_and_vanished_ones_are_not(tmp_path: Path) -> None:
    assert procfs.netns_pids(proc_tree.build(tmp_path, "ubuntu2204-docker-v2")).unreadable == 1


def test_the_hosts_network_namespace_is_that_of_pid_1(tmp_path: Path) -> None:
    assert procfs.host_netns(proc_tree.build(tmp_path, "ubuntu2204-docker-v2")) == 4026531840


def test_the_hosts_network_namespace_is_kthreadds_where_pid_1_is_out_of_reach(tmp_path: Path) -> None:
    assert procfs.host_netns(proc_tree.build(tmp_path, "debian12-hybrid")) == 4026531833


def test_pid_2_of_another_pid_namespace_is_not_taken_for_the_host(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    proc_tree.add(proc, 1, {"netns": "denied"})
    proc_tree.add(proc, 2, {"netns": 4026532301, "comm": "sh"})

    assert procfs.host_netns(proc) is None


def test_a_process_on_a_hybrid_host_has_paths_in_both_versions(tmp_path: Path) -> None:
    found = procfs.process_cgroups(proc_tree.build(tmp_path, "debian12-hybrid"), 15695)

    assert found.v2 == "/"
    assert found.v1["memory"] == "/process_api/11aff1ff986833bbedfe97bfa3fd3de3"


def test_a_process_on_a_v1_only_host_has_no_v2_path(tmp_path: Path) -> None:
    found = procfs.process_cgroups(proc_tree.build(tmp_path, "rhel7-kubernetes-v1"), 700)

    assert found.v2 is None
    assert found.v1 == {
        "memory": "/system.slice",
        "cpu,cpuacct": "/system.slice",
        "name=systemd": "/system.slice/kubelet.service",
    }


def test_a_zombies_removed_cgroup_keeps_its_name(tmp_path: Path) -> None:
    found = procfs.process_cgroups(proc_tree.build(tmp_path, "ubuntu2204-docker-v2"), 1800)
    assert found.v2 == "/system.slice/gone.service"


def test_a_vanished_process_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        procfs.process_cgroups(proc_tree.build(tmp_path, "ubuntu2204-docker-v2"), 1901)


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    proc_tree.add(tmp_path, 5, {"cgroup": ["0::/a\u2028b:c\x0bd"]})
    assert procfs.process_cgroups(tmp_path, 5).v2 == "/a\u2028b:c\x0bd"


@given(st.binary())
def test_no_bytes_in_a_cgroup_file_make_the_reader_fail(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    proc = tmp_path_factory.mktemp("proc")
    (proc / "5").mkdir()
    (proc / "5" / "cgroup").write_bytes(text)

    assert isinstance(procfs.process_cgroups(proc, 5), procfs.ProcessCgroups)


def test_a_reader_outside_of_namespaces_sees_paths_from_the_root(tmp_path: Path) -> None:
    proc = proc_tree.build(tmp_path, "ubuntu2204-docker-v2")
    assert procfs.namespace_root(proc, cgroupfs.Tree({}, 0), None) == "/"


def test_a_reader_in_a_cgroup_namespace_finds_its_root_by_its_own_mounts_inode(tmp_path: Path) -> None:
    proc = proc_tree.build(tmp_path, "kubernetes-from-a-pod")
    tree = cgroupfs.Tree({1: "/", 77: AGENT}, 0)
    own = cgroupfs.Mount(Path("/sys/fs/cgroup"), 77, is_whole=False)

    root = procfs.namespace_root(proc, tree, own)

    assert root == AGENT
    seen = procfs.process_cgroups(proc, 3000).v2
    assert seen is not None
    assert procfs.absolute(seen, root) == (
        "/kubepods/burstable/pod48b1a4c8-7b0e-4e36-9c39-0d2a5c2a9f11/bbbbbbbbbbbb" + 51 * "0" + "b"
    )


@pytest.mark.parametrize("inode", [1, 5], ids=["the host's mount in its place", "not in the tree"])
def test_a_reader_in_a_namespace_that_cannot_tell_which_is_refused(tmp_path: Path, inode: int) -> None:
    proc = proc_tree.build(tmp_path, "kubernetes-from-a-pod")
    own = cgroupfs.Mount(Path("/sys/fs/cgroup"), inode, is_whole=True)

    assert procfs.namespace_root(proc, cgroupfs.Tree({1: "/", 77: AGENT}, 0), own) is None


names = st.text("abc-._x", min_size=1).filter(lambda name: name not in ("..", "."))
places = st.lists(names, max_size=6).map(lambda found: "/" + "/".join(found))


@given(places, places)
def test_a_relative_path_leads_back_to_where_it_was_seen_from(place: str, reader: str) -> None:
    relative = os.path.relpath(place, reader)
    seen = "/" if relative == "." else f"/{relative}"

    assert procfs.absolute(seen, reader) == place


@pytest.mark.kernel
def test_a_real_process_is_found_in_its_namespace_and_cgroup() -> None:
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo in; read _"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"in\n"
        own = procfs.netns_inode(Path("/proc"), child.pid)
        assert own != procfs.netns_inode(Path("/proc"), os.getpid())
        assert own is not None
        found = procfs.netns_pids(Path("/proc"))
        cgroups = procfs.process_cgroups(Path("/proc"), child.pid)
        child.stdin.close()

    assert found.by_netns[own] == (child.pid,)
    assert cgroups == procfs.process_cgroups(Path("/proc"), os.getpid())

"""The cgroup tree, in folders that look like it and in the kernel's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowlens.host import cgroupfs, procfs
from tests.host import cgroup_tree

REAL = Path("/sys/fs/cgroup")


def test_a_pure_v2_host_has_its_mount_at_the_root(tmp_path: Path) -> None:
    root = cgroup_tree.pure(tmp_path)
    assert cgroupfs.find_mount(root) == cgroupfs.Mount(root, root.stat().st_ino, is_whole=True)


def test_a_hybrid_host_has_its_mount_beside_the_v1_controllers(tmp_path: Path) -> None:
    root = cgroup_tree.hybrid(tmp_path)
    found = cgroupfs.find_mount(root)
    assert found is not None
    assert found.path == root / "unified"


def test_a_mount_under_another_name_is_found_by_what_is_in_it(tmp_path: Path) -> None:
    root = cgroup_tree.v1_only(tmp_path)
    cgroup_tree.hybrid(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "cgroup" / "unified").rename(root / "v2")

    found = cgroupfs.find_mount(root)
    assert found is not None
    assert found.path == root / "v2"


def test_a_host_with_v1_only_has_no_mount(tmp_path: Path) -> None:
    assert cgroupfs.find_mount(cgroup_tree.v1_only(tmp_path)) is None


def test_a_missing_cgroup_root_has_no_mount(tmp_path: Path) -> None:
    assert cgroupfs.find_mount(tmp_path / "absent") is None


def test_a_containers_own_mount_is_told_from_the_hosts(tmp_path: Path) -> None:
    root = cgroup_tree.pure(tmp_path, ["/docker/abc"])
    found = cgroupfs.find_mount(root / "docker" / "abc")
    assert found is not None
    assert not found.is_whole


def test_a_scan_gives_every_cgroup_by_its_inode(tmp_path: Path) -> None:
    root = cgroup_tree.pure(tmp_path, ["/init.scope", "/system.slice/nginx.service", "/a/b/c/d"])
    mount = cgroupfs.find_mount(root)
    assert mount is not None

    tree = cgroupfs.scan(mount)

    expected = [
        "/",
        "/init.scope",
        "/system.slice",
        "/system.slice/nginx.service",
        "/a",
        "/a/b",
        "/a/b/c",
        "/a/b/c/d",
    ]
    assert tree.paths == {cgroup_tree.inode(root, path): path for path in expected}
    assert tree.unreadable == 0


def test_a_cgroup_that_was_made_again_is_another_one(tmp_path: Path) -> None:
    root = cgroup_tree.pure(tmp_path, ["/a"])
    mount = cgroupfs.find_mount(root)
    assert mount is not None
    inode = cgroup_tree.inode(root, "/a")

    assert cgroupfs.is_alive(mount, "/a", inode)
    assert not cgroupfs.is_alive(mount, "/a", inode + 1)
    assert not cgroupfs.is_alive(mount, "/b", inode)


def test_folders_that_vanish_during_a_scan_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cgroup_tree.pure(tmp_path, ["/a/b", "/c"])
    mount = cgroupfs.find_mount(root)
    assert mount is not None
    lstat = os.lstat

    def vanishing(path: str) -> os.stat_result:
        if path.endswith("/a"):
            raise FileNotFoundError(2, "gone", path)
        return lstat(path)

    monkeypatch.setattr(os, "lstat", vanishing)
    tree = cgroupfs.scan(mount)

    assert sorted(tree.paths.values()) == ["/", "/c"]
    assert tree.unreadable == 0


def test_folders_that_may_not_be_read_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = cgroup_tree.pure(tmp_path, ["/a/b", "/c"])
    mount = cgroupfs.find_mount(root)
    assert mount is not None
    scandir = os.scandir

    def guarded(path: str) -> Iterator[os.DirEntry[str]]:
        if path.endswith("/a"):
            raise PermissionError(13, "denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    tree = cgroupfs.scan(mount)

    assert sorted(tree.paths.values()) == ["/", "/a", "/c"]
    assert tree.unreadable == 1


@pytest.fixture
def real() -> Iterator[Path]:
    """A cgroup of our own in this machine's cgroup2 hierarchy, removed afterwards with all below."""
    mount = cgroupfs.find_mount(REAL)
    assert mount is not None, f"no cgroup2 mount at or in {REAL}: mount one to run these tests"
    own = mount.path / f"flowlens-host-test-{os.getpid()}"
    own.mkdir()
    yield own
    for folder, _, _ in os.walk(own, topdown=False):
        os.rmdir(folder)


@pytest.mark.kernel
def test_inodes_of_the_real_tree_are_the_kernels_cgroup_ids(real: Path) -> None:
    inner = real / "docker" / "inner"
    inner.mkdir(parents=True)
    mount = cgroupfs.find_mount(REAL)
    assert mount is not None

    tree = cgroupfs.scan(mount)

    # A cgroup's file handle holds its id (kernfs id, FILEID_KERNFS): the kernel's own word for it.
    assert tree.paths[_id_by_handle(inner)] == f"/{real.name}/docker/inner"
    assert cgroupfs.is_alive(mount, f"/{real.name}/docker/inner", _id_by_handle(inner))


@pytest.mark.kernel
def test_a_scan_survives_cgroups_that_come_and_go(real: Path) -> None:
    churn = (
        "import os, sys\n"
        "print('go', flush=True)\n"
        "while True:\n"
        "    for i in range(50): os.makedirs(f'{sys.argv[1]}/{i}/below')\n"
        "    for i in range(50): os.rmdir(f'{sys.argv[1]}/{i}/below'); os.rmdir(f'{sys.argv[1]}/{i}')\n"
    )
    mount = cgroupfs.find_mount(REAL)
    assert mount is not None
    with subprocess.Popen(
        [sys.executable, "-c", churn, str(real)], stdout=subprocess.PIPE, text=True
    ) as busy:
        assert busy.stdout is not None
        assert busy.stdout.readline() == "go\n"
        trees = [cgroupfs.scan(mount) for _ in range(200)]
        busy.kill()

    assert all(f"/{real.name}" in tree.paths.values() for tree in trees)
    assert sum(tree.unreadable for tree in trees) == 0


def _id_by_handle(path: Path) -> int:
    """The id in the folder's file handle (name_to_handle_at(2)), as bpf_get_current_cgroup_id() has it."""
    import ctypes  # noqa: PLC0415 - only these tests speak to libc

    class Handle(ctypes.Structure):
        _fields_ = (("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("id", ctypes.c_uint64))

    handle, mount_id = Handle(bytes=8), ctypes.c_int()
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount_id), 0)
    assert not failed, os.strerror(ctypes.get_errno())
    return int(handle.id)


@pytest.mark.kernel
def test_a_reader_in_a_real_cgroup_namespace_learns_where_it_is(real: Path, tmp_path: Path) -> None:
    inside = real / "reader"
    inside.mkdir()
    look = (
        "import sys; from pathlib import Path; from flowlens.host import cgroupfs, procfs\n"
        "tree = cgroupfs.scan(cgroupfs.find_mount(Path('/sys/fs/cgroup')))\n"
        "root = procfs.namespace_root(Path('/proc'), tree, cgroupfs.find_mount(Path(sys.argv[1])))\n"
        "print(root, procfs.absolute(procfs.process_cgroups(Path('/proc'), 1).v2, root))\n"
    )
    script = (
        'echo $$ > "$1/cgroup.procs"\n'
        'inside=\'mount -t cgroup2 none "$1" && exec "$2" -c "$3" "$1"\'\n'
        'exec unshare --cgroup --mount sh -c "$inside" sh "$2" "$3" "$4"'
    )
    words = subprocess.run(
        ["sh", "-c", script, "sh", str(inside), str(tmp_path), sys.executable, look],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    assert words == [f"/{real.name}/reader", procfs.process_cgroups(Path("/proc"), 1).v2]

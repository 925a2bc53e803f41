"""Builds folders that look like cgroupfs: pure v2, hybrid, or v1 only.

Folders of an ordinary file system count links as kernfs does on ext4 and tmpfs; where one does not
(overlayfs, btrfs), every folder is listed, which is slower and equally right.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def pure(root: Path, paths: Iterable[str] = ()) -> Path:
    """A v2 hierarchy mounted at the root itself."""
    return _hierarchy(root / "cgroup", paths)


def hybrid(root: Path, paths: Iterable[str] = ()) -> Path:
    """v1 controllers, and v2 without any at `unified`."""
    legacy = v1_only(root)
    _hierarchy(legacy / "unified", paths)
    return legacy


def v1_only(root: Path) -> Path:
    """v1 controllers alone."""
    for controller in ("memory", "pids", "systemd"):
        folder = root / "cgroup" / controller
        folder.mkdir(parents=True)
        for name in ("cgroup.procs", "cgroup.clone_children", "release_agent", "tasks"):
            (folder / name).touch()
    return root / "cgroup"


def inode(mount: Path, path: str) -> int:
    """The id of the cgroup at `path`."""
    return (mount / path.lstrip("/")).stat().st_ino


def make(mount: Path, path: str) -> int:
    """One more cgroup, with its parents; returns its id."""
    folder = mount
    for part in path.strip("/").split("/"):
        folder /= part
        folder.mkdir(exist_ok=True)
        for name in ("cgroup.controllers", "cgroup.procs", "cgroup.type"):
            (folder / name).touch()
    return folder.stat().st_ino


def _hierarchy(mount: Path, paths: Iterable[str]) -> Path:
    mount.mkdir(parents=True)
    for name in ("cgroup.controllers", "cgroup.procs", "cgroup.subtree_control"):
        (mount / name).touch()
    for path in paths:
        make(mount, path)
    return mount

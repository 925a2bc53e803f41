"""The cgroup v2 hierarchy: where it is mounted, and which inode is which path.

The inode of a cgroup's folder is the id that the kernel's programs see (kernfs id, 64 bits, never
given twice while the machine runs). The tree is read by names and link counts alone; no file in it
is opened.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

LEAF_LINKS = 2
"""kernfs counts a folder's links as 2 + subfolders (kernfs_refresh_inode): a leaf need not be listed."""
_VANISHED = frozenset({errno.ENOENT, errno.ENODEV})
"""kernfs answers ENODEV where a folder was removed while it was open."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A cgroup2 mount. `is_whole`: it shows the hierarchy from its root, not a subtree of it."""

    path: Path
    root_inode: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Tree:
    """All cgroups at one moment: inode -> path from the mount's root ("/" for the root itself).

    `unreadable` folders were there and could not be read: what is below them is missing.
    """

    paths: dict[int, str]
    unreadable: int


def find_mount(root: Path) -> Mount | None:
    """The cgroup2 mount at `root` (pure v2) or in a folder of it (hybrid); None where there is v1 only.

    cgroup.controllers exists in cgroup2 alone, and cgroup.type in all its folders but the root
    (Documentation/admin-guide/cgroup-v2.rst), so neither names nor mount tables are trusted.
    """
    for path in (root, root / "unified", *_folders(root)):
        try:
            if (path / "cgroup.controllers").exists():
                return Mount(path, path.stat().st_ino, not (path / "cgroup.type").exists())
        except OSError:
            continue  # unmounted or forbidden meanwhile: the next one may do
    return None


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(Path(entry.path) for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def scan(mount: Mount) -> Tree:
    """Reads the whole tree. Folders that vanish meanwhile are left out, without an error."""
    paths = {mount.root_inode: "/"}
    unreadable = 0
    base = os.fspath(mount.path)
    waiting = [""]
    while waiting:
        above = waiting.pop()
        try:
            with os.scandir(base + above) as entries:
                folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            unreadable += error.errno not in _VANISHED
            continue
        for entry in folders:
            path = f"{above}/{entry.name}"
            try:
                # Not entry.inode(): where ino_t has 32 bits it differs from the id that stat() gives.
                found = os.lstat(entry.path)
            except OSError as error:
                unreadable += error.errno not in _VANISHED
                continue
            paths[found.st_ino] = path
            if found.st_nlink != LEAF_LINKS:
                waiting.append(path)
    return Tree(paths, unreadable)


def is_alive(mount: Mount, path: str, inode: int) -> bool:
    """Whether the cgroup at `path` still is the one with that inode, and not a namesake made later."""
    try:
        return os.lstat(f"{mount.path}{path}").st_ino == inode
    except OSError:
        return False

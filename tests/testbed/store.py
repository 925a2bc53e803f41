"""Built programs outside the tree: found by what was asked for, or absent. Never half there.

An entry is a folder that is filled under another name and renamed when complete, so a killed
build leaves nothing that looks like a hit. One builder at a time, by a lock on the store.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testbed import parts, places, progress


class MissingPartError(Exception):
    """A program was asked for that has not been built."""


def toolchain() -> str:
    """The Go version and architecture that programs are built with, as part of their key."""
    wanted = ["go", "env", "GOVERSION", "GOARCH"]
    version, arch = subprocess.run(wanted, check=True, capture_output=True, text=True).stdout.split()
    return f"{version}-{arch}"


def entry(part: parts.Part) -> Path:
    """Where the finished part is, or would be."""
    return places.programs() / parts.key(part, toolchain())


def has(part: parts.Part) -> bool:
    return entry(part).is_dir()


def missing(wanted: tuple[parts.Part, ...]) -> list[parts.Part]:
    return [part for part in wanted if not has(part)]


def folder(part: parts.Part) -> Path:
    """The folder of a finished part; raises MissingPartError with the command that makes it."""
    found = entry(part)
    if not found.is_dir():
        raise MissingPartError(
            f"{part.name} {part.version} is not built: python -m tests.testbed build {part.name}"
        )
    return found


def search_path() -> str:
    """PATH with every finished part first; a preinstalled kubectl may be minors behind."""
    own = [str(entry(part)) for part in parts.ALL if has(part)]
    usual = os.environ.get("PATH", "/usr/bin:/bin").split(":")
    system = [path for path in ("/usr/sbin", "/sbin") if path not in usual]
    return ":".join([*own, *usual, *system])


@contextmanager
def building(part: parts.Part) -> Iterator[Path]:
    """An empty folder to fill; becomes the entry if the block ends well, and vanishes otherwise."""
    final = entry(part)
    draft = final.with_name(f".{final.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        shutil.rmtree(final, ignore_errors=True)
        draft.rename(final)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def sole_use(path: Path) -> Iterator[None]:
    """Hold the lock of this file; says so when somebody else has it, and waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say(f"another testbed command is at work, waiting for it ({path})")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

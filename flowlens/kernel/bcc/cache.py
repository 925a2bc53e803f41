"""Bytecode that was compiled before, in a folder that only the agent may write.

What is in here is loaded into the kernel, so an entry counts only if it is a plain file of ours, writable by
nobody else, whole, and made for this very kernel build, compiler and source. Everything else is refused, said
once, and made anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

DEFAULT_FOLDER = Path("/var/cache/flow-lens")
FOLDER_VARIABLE = "FLOWLENS_CACHE_DIR"
KEPT_ENTRIES = 8
"""Old kernels, compilers and versions of ours leave entries behind; the oldest beyond these are removed."""
_MAGIC = b"flow-lens bytecode 1\n"
_MAX_BYTES = 8 << 20
_SUFFIX = ".bytecode"
_log = logging.getLogger(__name__)


class Cache:
    """Entries by key (hexadecimal). Every failure means "not there"; a cache that cannot be used is none."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER)

    def read(self, key: str) -> bytes | None:
        """The content, or None when there is none that can be believed."""
        path = self._path(key)
        try:
            content, why = self._read(path, key)
        except FileNotFoundError:
            return None
        except OSError as error:
            content, why = None, error.strerror or str(error)
        if content is None:
            _log.warning("cached bytecode refused and made anew path=%s reason=%r", path, why)
        return content

    def write(self, key: str, content: bytes) -> None:
        """Puts an entry in place of what was there; a failure costs the next start a compilation, no more."""
        head = _head(key, content)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            why = self._distrust()
            if why:
                _log.warning("bytecode is not cached path=%s reason=%r", self._folder, why)
                return
            self._replace(self._path(key), head + content)
            self._remove_old()
        except OSError as error:
            _log.warning("bytecode is not cached path=%s reason=%r", self._folder, error.strerror)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"

    def _distrust(self) -> str:
        """Why others could have put something into the folder; "" when they could not."""
        state = self._folder.lstat()
        if not stat.S_ISDIR(state.st_mode):
            return "not a folder of its own"
        return _others_may_write(state)

    def _read(self, path: Path, key: str) -> tuple[bytes | None, str]:
        why = self._distrust()
        if why:
            return None, f"folder: {why}"
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            state = os.fstat(fd)
            if not stat.S_ISREG(state.st_mode) or state.st_nlink != 1:
                return None, "not a plain file"
            why = _others_may_write(state)
            if why:
                return None, why
            if state.st_size > _MAX_BYTES:
                return None, f"larger than {_MAX_BYTES} bytes"
            raw = file.read(_MAX_BYTES)
        head_bytes = len(_head(key, b""))
        content = raw[head_bytes:]
        if raw[:head_bytes] != _head(key, content):
            return None, "damaged, cut short or of another kernel"
        return content, ""

    def _replace(self, path: Path, raw: bytes) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with suppress(FileNotFoundError):
            temporary.unlink()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(raw)
            temporary.rename(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _remove_old(self) -> None:
        entries = sorted(
            self._folder.glob(f"*{_SUFFIX}"), key=lambda path: path.lstat().st_mtime, reverse=True
        )
        for path in entries[KEPT_ENTRIES:]:
            path.unlink(missing_ok=True)


def _head(key: str, content: bytes) -> bytes:
    return _MAGIC + f"{key} {hashlib.sha256(content).hexdigest()} {len(content):8}\n".encode()


def _others_may_write(state: os.stat_result) -> str:
    if state.st_uid != os.geteuid():
        return f"belongs to uid {state.st_uid}, not to {os.geteuid()}"
    if state.st_mode & 0o077:
        return f"mode {stat.S_IMODE(state.st_mode):04o} lets others in"
    return ""

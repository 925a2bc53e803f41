"""Which configuration should hold now, and why not the one that somebody just wrote.

An intent is asked about once a second by the worker; it answers only when something changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flowlens import config

SETTLED_NS = 50_000_000
"""A file that was changed less than this ago may be changed again without its times telling."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A configuration that cannot be read or put in force, and why. Equal ones are the same, told again.

    `generation` of a file: the number of contents that were seen in it. `uid`: of an object.
    """

    name: str
    generation: int
    message: str
    uid: str = ""


def in_words(refused: Iterable[Refusal]) -> str:
    """All their messages, "" if there are none."""
    return "; ".join(one.message for one in refused)


@dataclass(frozen=True, slots=True)
class Wish:
    """How things should be: the configuration in force (None: the one wished last), and all that is refused now."""

    node: config.NodeConfig | None
    refused: tuple[Refusal, ...] = ()

    @property
    def error(self) -> str:
        """Why what is refused is refused, "" if nothing is."""
        return in_words(self.refused)


class Intent(Protocol):
    """Where wishes come from."""

    def poll(self) -> Wish | None:
        """The wish that holds from now on, None while nothing changed since the last call."""


class Fixed:
    """Nobody wishes anything: the defaults, for ever."""

    def __init__(self, node: str) -> None:
        self._wish: Wish | None = Wish(config.default_config(node))

    def poll(self) -> Wish | None:
        wish, self._wish = self._wish, None
        return wish


class File:
    """A configuration file, looked at by its identity, size and times; read only when those changed.

    Editors replace files and others write into them, so the path is looked up anew each time, and a file
    that is missing or empty is no error before it still is at the next look. A file that was written a
    moment ago is read again: it may not have been whole, and a clock that ticks every 4 ms would not tell.
    """

    def __init__(self, path: Path, node: str) -> None:
        self._path, self._node = path, node
        self._seen: tuple[int, ...] = ()
        self._content: bytes | None = None
        self._looks = self._absent_looks = 0
        self._generation = 0

    def poll(self) -> Wish | None:
        self._looks += 1
        try:
            state = os.stat(self._path)
        except OSError as error:
            return self._absent(self._unreadable(error))
        if not state.st_size:
            return self._absent(f"{self._path}: is empty: write {{}} for the defaults")
        self._absent_looks = 0
        seen = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if seen == self._seen:
            return None
        is_settled = abs(time.time_ns() - state.st_mtime_ns) > SETTLED_NS
        self._seen = seen if is_settled else ()
        return self._read()

    def _absent(self, error: str) -> Wish | None:
        self._absent_looks += 1
        if self._looks > 1 and self._absent_looks != 2:
            return None
        self._seen, self._content = (), None  # whatever comes back is news
        return self._refused(error)

    def _refused(self, error: str) -> Wish:
        return Wish(None, (Refusal(self._path.name, self._generation, error),))

    def _unreadable(self, error: Exception) -> str:
        reason = error.strerror if isinstance(error, OSError) else error
        return f"{self._path}: cannot be read: {reason}; name a readable YAML file with --config"

    def _read(self) -> Wish | None:
        try:
            content = self._path.read_bytes()
            if content == self._content:
                return None
            self._content = content
            self._generation += 1
            spec = config.load(content.decode(), source=str(self._path))
        except config.ConfigError as error:
            return self._refused(str(error))
        except UnicodeDecodeError as error:
            return self._refused(self._unreadable(error))
        except OSError as error:
            self._seen, self._content = (), None  # nothing is wrong with what it says: look again
            return self._refused(self._unreadable(error))
        return Wish(config.resolve(spec, name=self._path.name, generation=self._generation, node=self._node))

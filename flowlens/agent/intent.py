"""Which configuration should hold now, and why not the one that somebody just wrote.

An intent is asked about once a second by the worker; it answers only when something changed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flowlens import config


@dataclass(frozen=True, slots=True)
class Wish:
    """A change: a configuration to put in force, or why the new one cannot be."""

    node: config.NodeConfig | None
    error: str = ""


class Intent(Protocol):
    """Where wishes come from."""

    def poll(self) -> Wish | None:
        """What changed since the last call, if anything."""


class Fixed:
    """Nobody wishes anything: the defaults, for ever."""

    def __init__(self, node: str) -> None:
        self._wish: Wish | None = Wish(config.default_config(node))

    def poll(self) -> Wish | None:
        wish, self._wish = self._wish, None
        return wish


class File:
    """A configuration file, looked at by its identity, size and times; read only when those changed.

    Editors replace files, so the path is looked up anew each time; a file that is missing for a moment is
    not an error until it is still missing at the next look.
    """

    def __init__(self, path: Path, node: str) -> None:
        self._path, self._node = path, node
        self._seen: tuple[int, ...] = ()
        self._missing_looks = 0
        self._generation = 0

    def poll(self) -> Wish | None:
        try:
            state = os.stat(self._path)
        except OSError as error:
            return self._missing(error)
        self._missing_looks = 0
        seen = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        if seen == self._seen:
            return None
        self._seen = seen
        return self._read()

    def _missing(self, error: OSError) -> Wish | None:
        self._missing_looks += 1
        if self._missing_looks != 2 and self._seen:
            return None
        if not self._seen and self._missing_looks > 1:
            return None
        return Wish(None, f"{self._path}: {error.strerror}: the configuration in force stays")

    def _read(self) -> Wish:
        try:
            spec = config.load(self._path.read_text(encoding="utf-8"), source=str(self._path))
        except config.ConfigError as error:
            return Wish(None, str(error))
        except (OSError, UnicodeDecodeError) as error:
            return Wish(None, f"{self._path}: cannot be read: {error}")
        self._generation += 1
        return Wish(config.resolve(spec, name=self._path.name, generation=self._generation, node=self._node))

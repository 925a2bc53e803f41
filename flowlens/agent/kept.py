"""The FlowLensConfig that held last, on disk, for a start while the API server is away.

Nothing depends on it: a file that cannot be written or read costs a line in the log, and the node starts
with its defaults. It goes when no object holds any more, or a restart would bring a deleted one back.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec

from flowlens import config

logger = logging.getLogger(__name__)

FILE = "flowlensconfig.json"


class _Content(msgspec.Struct, frozen=True):
    name: str
    generation: int
    spec: Any
    uid: str = ""  # absent in what an older version wrote


class Shelf:
    """One file in `folder` (None: nothing is kept). Belongs to one thread."""

    def __init__(self, folder: Path | None) -> None:
        self._file = folder / FILE if folder else None
        self._written: bytes | None = None

    def read(self) -> config.Candidate | None:
        """What is kept, None if nothing usable is."""
        if self._file is None or not self._file.exists():
            return None
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=_Content)
            spec = config.from_object(found.spec, source=str(self._file))
        except (OSError, msgspec.DecodeError, config.ConfigError) as error:
            logger.warning("kept configuration is not usable: file=%s error=%s", self._file, error)
            return None
        return config.Candidate(found.name, "", spec, found.generation, found.uid)

    def put(self, held: config.Candidate, spec: bytes) -> None:
        """Keeps an object, whose `spec` is JSON text. The file is replaced in one step."""
        self._write(msgspec.json.encode(_Content(held.name, held.generation, msgspec.Raw(spec), held.uid)))

    def clear(self) -> None:
        """No object holds."""
        self._write(b"")

    def _write(self, text: bytes) -> None:
        if self._file is None or text == self._written:
            return
        try:
            self._replace(self._file, text)
        except OSError as error:
            logger.warning(
                "configuration cannot be kept for the next start: file=%s error=%s", self._file, error
            )
        self._written = text

    def _replace(self, file: Path, text: bytes) -> None:
        if not text:
            file.unlink(missing_ok=True)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_bytes(text)
        new.replace(file)

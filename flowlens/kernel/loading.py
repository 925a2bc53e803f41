"""Programs are loaded in a thread of their own: that is the C library's and the kernel's time, and Python goes on meanwhile.

`flowlens agent` begins with it before it has read its command line, so this module and what it imports (core, probes,
metrics) import little: no dataclasses, no pathlib, no logging.
"""

from __future__ import annotations

import threading

from flowlens.kernel import engines, memory
from flowlens.kernel.core import Loaded

AUTO = "auto"
_early: list[Loading] = []


class Loading(threading.Thread):
    """Loads the programs; `result` waits for them and raises what went wrong."""

    def __init__(self, engine: str) -> None:
        super().__init__(name="load", daemon=True)
        self.engine = engine
        self._loaded: Loaded | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._loaded = engines.load(self.engine)
        except Exception as error:  # noqa: BLE001 - `result` raises it where somebody can answer it
            self._error = error

    def result(self) -> Loaded:
        """Hands them over: whoever asked closes them."""
        self.join()
        if self._loaded is None:
            raise self._error or RuntimeError(
                "the thread that loads programs was not started, or was asked before"
            )
        loaded, self._loaded = self._loaded, None
        return loaded

    def drop(self) -> None:
        """Nobody will ask for them."""
        self.join()
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None


def begin_early() -> None:
    """Begins to load what `begin` will most likely be asked for."""
    _early.append(_start(AUTO))


def begin(engine: str) -> Loading:
    """Begins to load the programs by this engine, or goes on with what was begun early."""
    while _early:
        begun = _early.pop()
        if begun.engine == engine:
            return begun
        begun.drop()
    return _start(engine)


def _start(engine: str) -> Loading:
    memory.use_little()  # before there is a second thread
    loading = Loading(engine)
    loading.start()
    return loading

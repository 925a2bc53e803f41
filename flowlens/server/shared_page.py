"""One page rendered at a time: scrapers that arrive while it is made get the same one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from flowlens import exposition

PATIENCE_SECONDS = 20.0


class RenderFailed(Exception):
    """The page could not be made; the cause is in `__cause__`."""


class _Render:
    """A page in the making."""

    def __init__(self) -> None:
        self.is_done = threading.Event()
        self.page: exposition.Page | None = None
        self.error: Exception | None = None
        self.readers = 0


class SharedPage:
    """Kept compressed while readers read it: what a slow reader holds is a tenth of the text."""

    def __init__(self, render: Callable[[], Iterable[bytes]]) -> None:
        self._render = render
        self._lock = threading.Lock()
        self._current: _Render | None = None

    @property
    def readers(self) -> int:
        """How many wait for the page that is being made."""
        with self._lock:
            return self._current.readers if self._current else 0

    def get(self) -> exposition.Page:
        """A page that was begun after, or is being made at, the time of the call."""
        with self._lock:
            current = self._current
            mine = current is None
            if current is None:
                current = self._current = _Render()
            current.readers += 1
        if mine:
            self._make(current)
        elif not current.is_done.wait(PATIENCE_SECONDS):
            raise RenderFailed(f"the page was not made within {PATIENCE_SECONDS:.0f} s")
        if current.page is None:
            raise RenderFailed(str(current.error)) from current.error
        return current.page

    def _make(self, render: _Render) -> None:
        try:
            render.page = exposition.compress(self._render())
        except Exception as error:  # noqa: BLE001 - all who wait for the page must hear of it
            render.error = error
        finally:
            with self._lock:
                self._current = None
            render.is_done.set()

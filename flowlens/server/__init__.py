"""The agent's HTTP endpoint: /metrics, /healthz, /readyz, /status and a page for people at /.

Knows how to listen and nothing of what it shows: that comes from the callables in `Sources`. A scraper
that hangs costs one of a few threads for seconds, never another scraper its answer.

address (where to listen, who holds the port) -> listener (cheroot, with deadlines) <- pages (answers)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from flowlens.server.address import Address, ServerError

if TYPE_CHECKING:
    from flowlens.server.front_page import Overview, Probe
    from flowlens.server.pages import Sources
    from flowlens.server.running import Server

__all__ = ["Address", "Overview", "Probe", "Server", "ServerError", "Sources"]

_HOMES = {"Overview": "front_page", "Probe": "front_page", "Server": "running", "Sources": "pages"}


def __getattr__(name: str) -> Any:
    """What needs cheroot is imported when it is used: a command line that only checks HOST:PORT does not wait 90 ms."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

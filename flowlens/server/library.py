"""cheroot without what it imports and we do not use: OpenSSL and importlib.metadata, 6 MiB on every node (measured).

cheroot asks both for a version, and goes on where Python has no ssl or a package says nothing of its version. So
while it is imported both are away, unless somebody has them already; a test says that they stay away. Import
cheroot through this module. `tls` brings OpenSSL where a certificate is given.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator
from typing import Any


def _unknown_version(package: str) -> str:
    raise LookupError(package)


@contextlib.contextmanager
def _away() -> Iterator[None]:
    """Inside the block there is no ssl (None: ModuleNotFoundError), and no package has a version."""
    silent = types.ModuleType("importlib.metadata")
    silent.version = _unknown_version  # type: ignore[attr-defined]
    stand_ins: dict[str, Any] = {"ssl": None, "importlib.metadata": silent}
    modules: dict[str, Any] = sys.modules
    absent = [name for name in stand_ins if name not in modules]
    modules.update((name, stand_ins[name]) for name in absent)
    try:
        yield
    finally:
        for name in absent:
            del modules[name]


with _away():
    from cheroot import connections, server
    from cheroot.workers import threadpool

__all__ = ["connections", "server", "threadpool"]

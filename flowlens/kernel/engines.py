"""Which engine this machine gets: `core` where BTF and libbpf are there, else what can be had, said in one sentence."""

from __future__ import annotations

from flowlens.kernel import core
from flowlens.kernel.core import Loaded

CHOICES = ("auto", "core")


def load(engine: str = "auto") -> Loaded:
    """Loads the programs with the named engine. Raises errors.KernelError that says what to do."""
    del engine  # one engine so far; `auto` means core
    return core.load()

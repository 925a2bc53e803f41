"""Which engine this machine gets: `core` where it runs, else `bcc`, else one sentence: what to install."""

from __future__ import annotations

import logging

from flowlens.kernel import core, errors
from flowlens.kernel.core import Loaded

CHOICES = ("auto", core.NAME, "bcc")
_log = logging.getLogger(__name__)


def load(engine: str = "auto", way: str | None = None) -> Loaded:
    """Loads the programs by the named engine; `way` (typed, raw, headers) is bcc's. Raises errors.KernelError."""
    match engine:
        case core.NAME:
            return core.load()
        case "bcc":
            return _bcc(way)
        case _:
            return _first_that_runs(way)


def _first_that_runs(way: str | None) -> Loaded:
    core.require_privileges()  # no engine can do without: say that, and not what else is missing
    try:
        return core.load()
    except (errors.Unavailable, errors.LoadFailed) as error:
        _log.info("engine core does not run here, trying bcc reason=%r", str(error))
        not_core = error
    try:
        return _bcc(way)
    except errors.KernelError as error:
        raise errors.Unavailable(f"no engine runs here. core: {not_core}. bcc: {error}") from error


def _bcc(way: str | None) -> Loaded:
    from flowlens.kernel.bcc import engine  # noqa: PLC0415 - 2 MiB that a host with BTF never needs

    return engine.load(way)

"""Which engine this machine gets: `core` where it runs, else `bcc`, else one sentence: what to install."""

from __future__ import annotations

from flowlens.kernel import core, errors, probes
from flowlens.kernel.core import Loaded

CHOICES = ("auto", core.NAME, "bcc")


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
        return _worth_having(core.load())
    except (errors.Unavailable, errors.LoadFailed) as error:
        _tell(error)
        not_core = error
    try:
        return _bcc(way)
    except errors.KernelError as error:
        raise errors.Unavailable(f"no engine runs here. core: {not_core}. bcc: {error}") from error


def _tell(error: errors.KernelError) -> None:
    import logging  # noqa: PLC0415 - 5 ms that need not pass before the programs are loaded

    logging.getLogger(__name__).info("engine core does not run here, trying bcc reason=%r", str(error))


def _worth_having(loaded: Loaded) -> Loaded:
    """`loaded`, unless this kernel refused all the programs that count; then errors.LoadFailed, nothing left open."""
    if any(probes.BY_HOOK[hook].core for hook in loaded.programs):
        return loaded
    loaded.close()
    reasons = (reason for hook, reason in loaded.failures.items() if probes.BY_HOOK[hook].core)
    raise errors.LoadFailed(f"no program that counts could be loaded: {next(reasons, '')}")


def _bcc(way: str | None) -> Loaded:
    from flowlens.kernel.bcc import engine  # noqa: PLC0415 - 2 MiB that a host with BTF never needs

    return engine.load(way)

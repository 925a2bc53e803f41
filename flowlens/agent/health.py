"""The agent's own families and its /status: facts about itself, from one look at the observer."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import flowlens
from flowlens import exposition, metrics
from flowlens.agent import intent, observer

VERSION = flowlens.__version__


@dataclass(frozen=True, slots=True)
class ConfigState:
    """Which configuration holds; what is refused now; what should hold and cannot be applied (it is tried again)."""

    name: str = "default"
    generation: int = 0
    applied_at: float = 0.0
    uid: str = ""
    refused: tuple[intent.Refusal, ...] = ()
    failed: intent.Refusal | None = None
    errors: int = 0

    @property
    def problems(self) -> tuple[intent.Refusal, ...]:
        """Both kinds, the one that should hold first."""
        return (self.failed, *self.refused) if self.failed else self.refused

    @property
    def error(self) -> str:
        """All of them in words, "" if there is none."""
        return intent.in_words(self.problems)

    @property
    def state(self) -> str:
        return "rejected" if self.error else "applied"


def families(seen: observer.Observer, state: ConfigState) -> Iterator[exposition.Family]:
    """Everything under flow_lens_, in the catalogue's order. Called with the observer's lock held."""
    tracer, ledger = seen.tracer, seen.ledger
    build = {"version": VERSION, "engine": tracer.engine, "way": tracer.way, "kernel": platform.release()}
    yield _family(metrics.BUILD_INFO, [(build, 1)])
    yield _family(
        metrics.PROBE_UP,
        [({"probe": probe.hook, "reason": probe.reason}, int(probe.up)) for probe in tracer.probe_states()],
    )
    yield _family(metrics.MAP_ENTRIES, _by("map", tracer.entries()))
    yield _family(metrics.MAP_CAPACITY, _by("map", tracer.capacities()))
    losses = tracer.losses().items()
    yield _family(metrics.MAP_ERRORS, [({"map": name, "errno": errno}, n) for (name, errno), n in losses])
    yield _family(metrics.MISSED_RUNS, _by("probe", tracer.missed_runs()))
    yield _family(metrics.SERIES, _by("metric", ledger.series))
    yield _family(metrics.SERIES_COLLAPSED, _by("metric", ledger.collapsed))
    unnamed = ledger.unattributed.items()
    yield _family(
        metrics.UNATTRIBUTED, [({"metric": name, "cause": cause}, n) for (name, cause), n in unnamed]
    )
    labels = {"config": state.name, "generation": str(state.generation), "state": state.state}
    yield _family(metrics.CONFIG_INFO, [(labels, 1)])
    yield _family(metrics.CONFIG_ERRORS, [({}, state.errors)])
    yield _family(metrics.CONFIG_APPLIED, [({}, state.applied_at)])
    yield _family(metrics.COLLECT_SECONDS, [({}, seen.collected.seconds)])
    yield _family(metrics.SCRAPES, [({}, seen.collected.count)])
    counted = asdict(seen.identity.counters)
    unread = {what: n for what, n in counted.items() if what not in ("rescans", "process_scans")}
    yield _family(metrics.IDENTITY_ERRORS, _by("what", unread))


def _family(
    metric: metrics.HealthMetric, samples: Sequence[tuple[Mapping[str, str], float]]
) -> exposition.Family:
    return exposition.Family(metric.exposed, metric.help, metric.kind, samples)


def _by(label: str, numbers: Mapping[str, float]) -> list[tuple[Mapping[str, str], float]]:
    return [({label: name}, number) for name, number in numbers.items()]


def status(
    seen: observer.Observer, state: ConfigState, *, node: str, started: float, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """What /status says: plain data, bounded in size."""
    return {
        "version": VERSION,
        "engine": seen.tracer.engine,
        "way": seen.tracer.way,
        "kernel": platform.release(),
        "node": node,
        "uptime_seconds": round(time.monotonic() - started, 1),
        "config": {
            "name": state.name,
            "uid": state.uid,
            "generation": state.generation,
            "state": state.state,
            "error": state.error,
            "refused": _refused(state),
            "applied_at": state.applied_at,
            "metrics": sorted(seen.config.metrics),
        },
        "probes": [
            {"hook": probe.hook, "purpose": probe.purpose, "up": probe.up, "reason": probe.reason}
            for probe in seen.tracer.probe_states()
        ],
        "maps": {"entries": dict(seen.tracer.entries()), "capacity": dict(seen.tracer.capacities())},
        "series": ledger_series(seen),
        "limited": limited(seen),
        "collapsed": {name: n for name, n in seen.ledger.collapsed.items() if n},
        "unattributed": [
            {"metric": name, "cause": cause, "count": n}
            for (name, cause), n in seen.ledger.unattributed.items()
        ],
        "identity": {"problem": seen.identity.problem, **asdict(seen.identity.counters)},
        **extra,
    }


def _refused(state: ConfigState) -> dict[str, Any] | None:
    """The one that should hold, else the first by name; `error` has all."""
    return asdict(state.problems[0]) if state.problems else None


def limited(seen: observer.Observer) -> list[str]:
    """Metrics of which some label sets are in `other` now, for want of series or of flows."""
    is_full = seen.tracer.entries()["flows"] >= seen.tracer.capacities()["flows"]
    without_flow = {name for name, each in seen.config.metrics.items() if each.flow_labels and is_full}
    return sorted(seen.ledger.limited | without_flow)


def ledger_series(seen: observer.Observer) -> dict[str, int]:
    """Time series by metric."""
    return dict(seen.ledger.series)

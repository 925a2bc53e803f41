"""From objects, nodes and what agents say to counts: which object wins where, and what became of it.

Pure functions. Which object a node follows is `config.choose`, the agents' own rule.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flowlens import config
from flowlens.config import selectors, status
from flowlens.controller import sighting

Labels = Mapping[str, str]
MESSAGE_CHARACTERS = 1024
"""As the CRD's schema allows in a failure's message."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A FlowLensConfig as the API server has it. `spec` is None when this version cannot read it: see `error`."""

    name: str
    uid: str
    generation: int
    created: str
    spec: config.Spec | None
    error: str = ""
    status: status.Status = field(default_factory=status.Status)

    @property
    def version(self) -> sighting.Version:
        """As an agent reports what it runs."""
        return sighting.Version(self.name, self.generation, self.uid)


@dataclass(frozen=True, slots=True)
class Reach:
    """Nodes that an object's selector takes: those that it wins, and those it loses, by the winner's name."""

    won: tuple[str, ...] = ()
    lost: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def selected(self) -> int:
        """How many there are."""
        return len(self.won) + sum(map(len, self.lost.values()))


def reach(intents: Iterable[Intent], nodes: Mapping[str, Labels]) -> dict[str, Reach]:
    """What each object wins and loses, by its name. Objects that cannot be read reach nothing."""
    readable = [(one, one.spec) for one in intents if one.spec is not None]
    candidates = [config.Candidate(one.name, one.created, spec, one.generation) for one, spec in readable]
    won: dict[str, list[str]] = defaultdict(list)
    lost: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for node, labels in nodes.items():
        matching = [one for one in candidates if selectors.matches(one.spec.node_selector, labels)]
        winner = config.choose(matching, labels) if matching else None
        for one in matching:
            if winner is not None and one is not winner:
                lost[one.name][winner.name].append(node)
            else:
                won[one.name].append(node)
    return {
        one.name: Reach(tuple(won[one.name]), {name: tuple(nodes) for name, nodes in lost[one.name].items()})
        for one in candidates
    }


def wanted(intents: Iterable[Intent], reached: Mapping[str, Reach]) -> dict[str, sighting.Version]:
    """What each node should run. Nodes that no object takes are left out: their defaults are the chart's."""
    return {node: one.version for one in intents for node in reached.get(one.name, Reach()).won}


class Outcome(enum.Enum):
    """What became of an object on a node that it wins."""

    APPLIED = enum.auto()
    PENDING = enum.auto()
    FAILED = enum.auto()
    UNREACHABLE = enum.auto()
    NO_AGENT = enum.auto()


def outcome(version: sighting.Version, seen: sighting.Sighting | None, *, settling: bool) -> Outcome:
    """`settling`: the object changed a moment ago, and an error of which nobody says what it is about may be old."""
    if seen is None:
        return Outcome.NO_AGENT
    if seen.problem:
        return Outcome.UNREACHABLE
    if seen.runs(version):
        return Outcome.APPLIED
    is_ours = bool(seen.error) and not settling
    if seen.refused is not None:
        is_ours = seen.refused.is_same(version)
    return Outcome.FAILED if is_ours else Outcome.PENDING


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes of which the same can be said."""

    reason: str
    text: str
    nodes: tuple[str, ...]

    @property
    def examples(self) -> tuple[str, ...]:
        """A few, always the same ones while the group does not change."""
        return tuple(sorted(self.nodes)[: status.MAX_EXAMPLES])


class _Groups:
    def __init__(self) -> None:
        self._nodes: dict[tuple[str, str], list[str]] = defaultdict(list)

    def add(self, reason: str, text: str, node: str) -> None:
        self._nodes[reason, text].append(node)

    def sorted(self) -> tuple[Group, ...]:
        """The commonest first, equal ones by name, so that the order holds still."""
        groups = (Group(reason, text, tuple(nodes)) for (reason, text), nodes in self._nodes.items())
        return tuple(sorted(groups, key=lambda one: (-len(one.nodes), one.reason, one.text)))


@dataclass(frozen=True, slots=True)
class Tally:
    """An object's nodes, counted. `down` and `limited` are of nodes that run it."""

    counts: status.NodeCounts
    without_agent: int
    series: int
    failures: tuple[Group, ...]
    down: tuple[Group, ...]
    limited: tuple[Group, ...]


def tally(
    intent: Intent, won: Sequence[str], sightings: Mapping[str, sighting.Sighting], *, settling: bool
) -> Tally:
    """Counts an object's nodes by what became of it there."""
    found: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
    failures, down, limited = _Groups(), _Groups(), _Groups()
    series = 0
    limits = _limits(intent)
    for node in won:
        seen = sightings.get(node)
        result = outcome(intent.version, seen, settling=settling)
        found[result] += 1
        if seen is None:
            failures.add("NoAgent", "no agent runs there", node)
        elif result is Outcome.UNREACHABLE:
            failures.add("Unreachable", seen.problem[:MESSAGE_CHARACTERS], node)
        elif result is Outcome.FAILED:
            failures.add("Rejected", seen.error[:MESSAGE_CHARACTERS], node)
        elif result is Outcome.APPLIED:
            series += seen.series
            for hook, reason in seen.down:
                down.add("ProbeDown", f"{hook}: {reason}" if reason else hook, node)
            for text in _at_limit(seen, limits):
                limited.add("LimitReached", text, node)
    counts = status.NodeCounts(
        matched=len(won),
        applied=found[Outcome.APPLIED],
        pending=found[Outcome.PENDING],
        failed=found[Outcome.FAILED],
        unreachable=found[Outcome.UNREACHABLE] + found[Outcome.NO_AGENT],
    )
    return Tally(counts, found[Outcome.NO_AGENT], series, failures.sorted(), down.sorted(), limited.sorted())


@dataclass(frozen=True, slots=True)
class _Limits:
    """Limits in Prometheus time series, and what one more label set of a metric would take."""

    series: int
    flows: int
    by_metric: Mapping[str, tuple[int, int]]


def _limits(intent: Intent) -> _Limits:
    if intent.spec is None:
        return _Limits(0, 0, {})
    node = config.resolve(intent.spec, name=intent.name, generation=intent.generation)
    by_metric = {
        name: (one.max_series, len(one.buckets) + 3 if one.buckets else 1)
        for name, one in node.metrics.items()
    }
    return _Limits(node.max_series, node.max_flows, by_metric)


def _at_limit(seen: sighting.Sighting, limits: _Limits) -> Iterable[str]:
    """Which limits keep label sets out now. Of agents that do not tell, the numbers must prove it."""
    found: dict[str, None] = {}
    lacks_flows = bool(limits.flows) and seen.flows >= limits.flows
    for name, series in seen.crowded:
        most, weight = limits.by_metric.get(name, (0, 1))
        if not most:
            continue  # the metric was switched off since
        if series + weight > most < limits.series:
            found[f"{name} has its maxSeries"] = None
        elif seen.series + weight > limits.series:
            found["limits.maxSeries is reached"] = None
        elif seen.tells_limits and not lacks_flows:
            found[f"{name} has been at a limit"] = None  # there is room again, for label sets that are new
    if lacks_flows:
        found["limits.maxFlows is reached"] = None
    return found

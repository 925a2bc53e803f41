"""What an agent says of itself, cut down to what a status needs.

5,000 of these are kept, so an answer of some kilobytes becomes a few numbers and shared texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import msgspec

OFF = "off"
"""Reason of a probe that no metric asks for: down on purpose (as kernel.probes.OFF)."""
FLOWS = "flows"
"""The kernel's map of rows per connection or peer, the one that `limits.maxFlows` bounds."""


class _Refused(msgspec.Struct, frozen=True):
    name: str = ""
    generation: int = 0
    message: str = ""
    uid: str = ""


class _Config(msgspec.Struct, frozen=True):
    name: str = ""
    generation: int = 0
    error: str = ""
    uid: str = ""
    refused: _Refused | None = None


class _Probe(msgspec.Struct, frozen=True):
    hook: str
    up: bool
    reason: str = ""


class _Maps(msgspec.Struct, frozen=True):
    entries: dict[str, int] = {}


class _Answer(msgspec.Struct, frozen=True):
    """The part of an agent's /status that is read here. Older agents have no `uid`, `refused` and `limited`."""

    config: _Config
    node: str = ""
    version: str = ""
    probes: tuple[_Probe, ...] = ()
    maps: _Maps = _Maps()
    series: dict[str, int] = {}
    collapsed: dict[str, int] = {}
    limited: tuple[str, ...] | None = None


class Version(NamedTuple):
    """A spec of an object. `uid` is "" where an agent does not tell it."""

    name: str
    generation: int
    uid: str = ""

    def is_same(self, other: Version) -> bool:
        """As far as both tell."""
        may_be = not (self.uid and other.uid) or self.uid == other.uid
        return may_be and (self.name, self.generation) == (other.name, other.generation)


Down = tuple[tuple[str, str], ...]
"""(hook, reason) of probes that should be up and are not."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One node's agent as it was last seen.

    `config` is what it runs, None while it has never answered; `error` why it refused something else,
    `refused` what that was, None where it does not tell or refuses several. `crowded`: metrics at a limit,
    with their series now; unless it `tells_limits`, those that have ever been at one. `problem`: why it
    does not answer, "" while it does.
    """

    config: Version | None = None
    error: str = ""
    refused: Version | None = None
    series: int = 0
    crowded: tuple[tuple[str, int], ...] = ()
    tells_limits: bool = False
    flows: int = 0
    down: Down = ()
    problem: str = ""

    def runs(self, version: Version) -> bool:
        """Whether this is what it runs."""
        return self.config is not None and self.config.is_same(version)


class UnreadableError(Exception):
    """The answer is not the /status of an agent."""


_decoder = msgspec.json.Decoder(_Answer)
Shared = TypeVar("Shared")
_shared: dict[Any, Any] = {}
_MOST_SHARED = 1000


def read(body: bytes, node: str) -> Sighting:
    """An agent's answer. Raises UnreadableError, also when another node's agent answered."""
    try:
        answer = _decoder.decode(body)
    except msgspec.DecodeError as problem:
        raise UnreadableError(f"its /status is not what was expected: {problem}") from problem
    if answer.node and answer.node != node:
        raise UnreadableError("another node's agent answered (was the address given to somebody else?)")
    down = tuple((p.hook, p.reason) for p in answer.probes if not p.up and p.reason != OFF)
    told, ever = answer.limited, (name for name, n in answer.collapsed.items() if n)
    return Sighting(
        config=_share(Version(answer.config.name, answer.config.generation, answer.config.uid)),
        error=_share(answer.config.error),
        refused=_share(_refused(answer.config)),
        series=sum(answer.series.values()),
        crowded=tuple((name, answer.series.get(name, 0)) for name in (ever if told is None else told)),
        tells_limits=told is not None,
        flows=answer.maps.entries.get(FLOWS, 0),
        down=_share(down),
    )


def _refused(said: _Config) -> Version | None:
    """What the error is about, if it is about one thing."""
    one = said.refused
    if one is None or one.message != said.error:
        return None
    return Version(one.name, one.generation, one.uid)


def _share(value: Shared) -> Shared:
    """The first equal value that was seen, so that thousands of nodes hold one."""
    if len(_shared) > _MOST_SHARED:
        _shared.clear()
    shared: Shared = _shared.setdefault(value, value)
    return shared

"""Kubernetes Events about an object: one for each change of a condition that somebody may wait for.

An Event's name follows from what it says, so a second controller, or the same one after a restart,
meets its own Event instead of repeating it. Events about cluster-scoped objects live in `default`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from flowlens import config
from flowlens.config import status
from flowlens.controller import judgement

PATH = "/apis/events.k8s.io/v1/namespaces/default/events"
COMPONENT = "flowlens.io/controller"
_NOTE_CHARACTERS = 1024
_NAME_CHARACTERS = 230

_WORTH: dict[tuple[str, str], tuple[str, str]] = {
    ("Accepted", "False"): ("Warning", "NotAccepted"),
    ("Applied", "True"): ("Normal", "Applied"),
    ("Applied", "Unknown"): ("Warning", "AgentsUnreachable"),
    ("Conflict", "True"): ("Warning", "Overruled"),
    ("Degraded", "True"): ("Warning", "Degraded"),
    ("CardinalityLimited", "True"): ("Warning", "CardinalityLimited"),
}
"""(condition, status) -> (type, reason). A bad state's end is an Event too: see `_ENDED`."""
_ENDED = {
    ("Accepted", "True"): "Accepted",
    ("Conflict", "False"): "ConflictResolved",
    ("Degraded", "False"): "Recovered",
    ("CardinalityLimited", "False"): "WithinLimits",
}


@dataclass(frozen=True, slots=True)
class Change:
    """What an Event says."""

    kind: str
    reason: str
    note: str


def changes(old: status.Status, new: status.Status) -> Iterator[Change]:
    """Changes between two statuses that are worth an Event."""
    before = {one.type: one for one in old.conditions}
    for now in new.conditions:
        was = before.get(now.type)
        again = (
            now.type == "Applied" and was is not None and was.observed_generation != now.observed_generation
        )
        if was is not None and was.status == now.status and was.reason == now.reason and not again:
            continue
        found = _worth(was, now)
        if found is not None:
            yield Change(*found, now.message[:_NOTE_CHARACTERS])


def _worth(was: status.Condition | None, now: status.Condition) -> tuple[str, str] | None:
    if now.type == "Applied" and now.reason in ("Rejected", "NoAgents"):
        return "Warning", now.reason
    if (now.type, now.status) in _WORTH:
        return _WORTH[now.type, now.status]
    if was is not None and (was.type, was.status) in _WORTH and (now.type, now.status) in _ENDED:
        return "Normal", _ENDED[now.type, now.status]
    return None


def event(intent: judgement.Intent, change: Change, now: str, instance: str) -> bytes:
    """The Event as JSON. `now` as RFC 3339 with microseconds."""
    said = f"{intent.uid} {intent.generation} {change.reason} {change.note}"
    mark = hashlib.sha256(said.encode()).hexdigest()[:16]
    content: dict[str, Any] = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{intent.name[:_NAME_CHARACTERS]}.{mark}", "namespace": "default"},
        "eventTime": now,
        "type": change.kind,
        "reason": change.reason,
        "action": "Report",
        "note": change.note,
        "reportingController": COMPONENT,
        "reportingInstance": instance[:128],
        "regarding": {
            "apiVersion": config.API_VERSION,
            "kind": config.KIND,
            "name": intent.name,
            "uid": intent.uid,
        },
    }
    return msgspec.json.encode(content)

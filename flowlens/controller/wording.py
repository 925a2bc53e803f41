"""A tally in words: the conditions and failures of a status, bounded, and telling what to do.

Pure. A condition's time is filled in by `renewed`, which knows the status before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from flowlens.config import status
from flowlens.controller import judgement

_MOST_GROUPS = 4
_MESSAGE_CHARACTERS = 2048
_SERIES_DRIFT = 0.1


def new_status(
    intent: judgement.Intent,
    reach: judgement.Reach,
    tally: judgement.Tally,
    priorities: Mapping[str, int],
) -> status.Status:
    """The status as the facts are, with conditions that have no times yet. `priorities` by object name."""
    conditions = (
        _accepted(intent),
        _applied(intent, reach, tally),
        _conflict(intent, reach, priorities),
        _degraded(tally),
        _limited(tally),
    )
    return status.Status(
        observed_generation=intent.generation,
        conditions=tuple(
            msgspec.structs.replace(one, observed_generation=intent.generation, message=_cut(one.message))
            for one in conditions
        ),
        nodes=tally.counts,
        series=tally.series,
        failures=_failures(tally.failures),
    )


def _cut(message: str) -> str:
    return message if len(message) <= _MESSAGE_CHARACTERS else message[: _MESSAGE_CHARACTERS - 3] + "..."


def _condition(kind: str, holds: bool | None, reason: str, message: str) -> status.Condition:
    text = {True: "True", False: "False", None: "Unknown"}[holds]
    return msgspec.convert(
        {"type": kind, "status": text, "reason": reason, "message": message, "lastTransitionTime": ""},
        status.Condition,
    )


def _accepted(intent: judgement.Intent) -> status.Condition:
    if intent.spec is not None:
        return _condition("Accepted", True, "Valid", "The spec is understood.")
    message = f"This version of flow-lens cannot read the spec, and agents leave it out: {intent.error}"
    return _condition("Accepted", False, "Invalid", message)


def _applied(intent: judgement.Intent, reach: judgement.Reach, tally: judgement.Tally) -> status.Condition:
    if intent.spec is None:
        return _condition("Applied", False, "NotAccepted", "It applies nowhere: see condition Accepted.")
    if reach.won:
        return _applied_somewhere(intent, tally)
    if reach.lost:
        return _condition("Applied", False, "Overruled", "It wins no node: see condition Conflict.")
    return _condition("Applied", False, "NoNodes", "No node has labels that spec.nodeSelector selects.")


def _applied_somewhere(intent: judgement.Intent, tally: judgement.Tally) -> status.Condition:
    counts, silent = tally.counts, tally.counts.unreachable - tally.without_agent
    parts = (
        (counts.pending, "pending"),
        (counts.failed, "failed"),
        (silent, "with an agent that does not answer"),
        (tally.without_agent, "without an agent"),
    )
    rest = "".join(f", {number} {what}" for number, what in parts if number)
    message = f"Generation {intent.generation} runs on {counts.applied} of {_nodes(counts.matched)}{rest}."
    holds: bool | None = False
    if counts.failed:
        reason, message = "Rejected", f"{message} See status.failures."
    elif counts.pending:
        reason = "Progressing"
    elif silent:
        holds, reason, message = None, "AgentsUnreachable", f"{message} See status.failures."
    elif not counts.applied:
        reason, message = "NoAgents", f"{message} Look at the agents' DaemonSet."
    else:
        holds, reason = True, "WhereAgentsRun" if tally.without_agent else "EveryNode"
    return _condition("Applied", holds, reason, message)


def _conflict(
    intent: judgement.Intent, reach: judgement.Reach, priorities: Mapping[str, int]
) -> status.Condition:
    if not reach.lost:
        return _condition("Conflict", False, "None", "No other object wins a node that it selects.")
    own = priorities.get(intent.name, 0)
    stronger = sorted(reach.lost.items(), key=lambda item: (-len(item[1]), item[0]))
    said = [
        f"{name} wins {_nodes(len(nodes))} ({_why(own, priorities.get(name, 0))}), e.g. {_some(nodes)}"
        for name, nodes in stronger[:_MOST_GROUPS]
    ]
    if len(stronger) > _MOST_GROUPS:
        said.append(f"{len(stronger) - _MOST_GROUPS} other objects win the rest")
    lost = reach.selected - len(reach.won)
    message = (
        f"On {lost} of {_nodes(reach.selected)} that it selects another object is stronger: "
        f"{'; '.join(said)}. Change spec.priority or make the node selectors disjoint."
    )
    return _condition("Conflict", True, "Overruled", message)


def _why(own: int, other: int) -> str:
    return f"priority {other} over {own}" if other > own else "same priority, but older or first by name"


def _degraded(tally: judgement.Tally) -> status.Condition:
    if not tally.counts.applied:
        return _condition("Degraded", None, "NoReports", "No node reports that it runs this object.")
    if not tally.down:
        return _condition("Degraded", False, "ProbesUp", "Every kernel program that is needed runs.")
    return _condition("Degraded", True, "ProbesDown", f"Kernel programs are missing: {_listed(tally.down)}.")


def _limited(tally: judgement.Tally) -> status.Condition:
    if not tally.counts.applied:
        return _condition(
            "CardinalityLimited", None, "NoReports", "No node reports that it runs this object."
        )
    if not tally.limited:
        return _condition("CardinalityLimited", False, "WithinLimits", "Every series fits.")
    message = (
        f"Some label sets are summed in rows labelled other: {_listed(tally.limited)}. "
        "Use fewer labels or raise the limit."
    )
    return _condition("CardinalityLimited", True, "LimitReached", message)


def _nodes(number: int) -> str:
    return f"{number} node" if number == 1 else f"{number} nodes"


def _some(nodes: Iterable[str]) -> str:
    return ", ".join(sorted(nodes)[: status.MAX_EXAMPLES])


def _listed(groups: Sequence[judgement.Group]) -> str:
    said = [
        f"{one.text} ({_nodes(len(one.nodes))}, e.g. {', '.join(one.examples)})"
        for one in groups[:_MOST_GROUPS]
    ]
    rest = len(groups) - _MOST_GROUPS
    return "; ".join(said) + (f"; and {rest} more" if rest > 0 else "")


def _failures(groups: Sequence[judgement.Group]) -> tuple[status.Failure, ...]:
    """All of them, or the commonest and one entry for the nodes of the rest."""
    shown = groups if len(groups) <= status.MAX_FAILURES else groups[: status.MAX_FAILURES - 1]
    failures = [
        status.Failure(reason=one.reason, message=one.text, nodes=len(one.nodes), examples=one.examples)
        for one in shown
    ]
    if rest := groups[len(shown) :]:
        nodes = [node for one in rest for node in one.nodes]
        message = f"{len(rest)} further reasons: see the agents' logs"
        examples = tuple(sorted(nodes)[: status.MAX_EXAMPLES])
        failures.append(status.Failure(reason="Other", message=message, nodes=len(nodes), examples=examples))
    return tuple(failures)


def renewed(new: status.Status, old: status.Status, now: str) -> status.Status:
    """`new` with the conditions' times, and equal to `old` when nothing changed that is worth a write.

    A condition's time moves with its status only. The number of series always moves a little:
    the old number stays until it is a tenth off.
    """
    times = {one.type: (one.status, one.last_transition_time) for one in old.conditions}
    conditions = tuple(
        msgspec.structs.replace(
            one,
            last_transition_time=times[one.type][1] if times.get(one.type, ("",))[0] == one.status else now,
        )
        for one in new.conditions
    )
    drift = abs(new.series - old.series)
    still = new.nodes.applied == old.nodes.applied and drift <= _SERIES_DRIFT * old.series
    return msgspec.structs.replace(new, conditions=conditions, series=old.series if still else new.series)

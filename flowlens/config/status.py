"""What the controller writes into the status of a FlowLensConfig, as types.

Bounded on purpose: counts, and a handful of examples, never a list of all nodes (one object that
every node writes to has overloaded API servers before). The CRD's schema comes from these types.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_FAILURES = 10
MAX_EXAMPLES = 3

Count = Annotated[int, Meta(ge=0)]


class Part(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A mapping of the status. Unknown fields pass: a newer controller may have written them."""


class Condition(Part, frozen=True):
    """One answer to a question about the object (as metav1.Condition)."""

    type: Annotated[
        Literal["Accepted", "Applied", "Conflict", "Degraded", "CardinalityLimited"],
        Meta(
            description="Accepted: the agents understand it. Applied: every node that it wins and that has an "
            "agent runs this generation. Conflict: another object wins nodes that this one selects too. Degraded: a "
            "node lacks a kernel program that a metric needs. CardinalityLimited: a limit keeps a "
            "node from having all series; the rest is in rows labelled other."
        ),
    ]
    status: Annotated[Literal["True", "False", "Unknown"], Meta(description="Whether the condition holds.")]
    reason: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            description="Why, in one CamelCase word.",
        ),
    ]
    message: Annotated[str, Meta(max_length=2048, description="Why, in words, and what to do.")]
    last_transition_time: Annotated[
        str,
        Meta(
            description="When the condition's status last changed.",
            extra_json_schema={"format": "date-time"},
        ),
    ]
    observed_generation: Annotated[
        Count, Meta(description="Generation of the spec that the condition is about.")
    ] = 0


class NodeCounts(Part, frozen=True):
    """Nodes by what became of this object there."""

    matched: Annotated[
        Count,
        Meta(description="Nodes that this object wins: its selector matches, and no other is stronger."),
    ] = 0
    applied: Annotated[Count, Meta(description="Of these, nodes that run this generation.")] = 0
    pending: Annotated[Count, Meta(description="Of these, nodes whose agent still runs something older.")] = 0
    failed: Annotated[Count, Meta(description="Of these, nodes whose agent could not apply it.")] = 0
    unreachable: Annotated[
        Count, Meta(description="Of these, nodes whose agent does not answer, or that have none.")
    ] = 0


class Failure(Part, frozen=True):
    """One reason why nodes could not apply the object."""

    reason: Annotated[str, Meta(max_length=128, description="Why, in one CamelCase word.")]
    message: Annotated[str, Meta(max_length=1024, description="What the agent says.")] = ""
    nodes: Annotated[Count, Meta(description="How many nodes have this reason.")] = 0
    examples: Annotated[
        tuple[Annotated[str, Meta(max_length=253)], ...],
        Meta(max_length=MAX_EXAMPLES, description="Some of these nodes."),
    ] = ()


class Status(Part, frozen=True):
    """What became of the object on the nodes; written by the controller, at most every 30 s."""

    observed_generation: Annotated[
        Count, Meta(description="Generation of the spec that this status is about.")
    ] = 0
    conditions: Annotated[
        tuple[Condition, ...],
        Meta(max_length=8, description="Accepted, Applied, Conflict, Degraded, CardinalityLimited."),
    ] = ()
    nodes: Annotated[NodeCounts, Meta(description="Nodes by what became of this object there.")] = (
        NodeCounts()
    )
    series: Annotated[
        Count, Meta(description="Series that all nodes together expose under this configuration.")
    ] = 0
    failures: Annotated[
        tuple[Failure, ...],
        Meta(
            max_length=MAX_FAILURES, description="Reasons why nodes could not apply it, the commonest first."
        ),
    ] = ()

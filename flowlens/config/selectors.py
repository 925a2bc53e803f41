"""Label selectors: what can be written in one, and which labels it selects.

As in Kubernetes, with the node affinity's Gt and Lt beside the label selector's four operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from flowlens.config import notation


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Anything that is a mapping in the YAML text."""


LabelKey = Annotated[str, Meta(min_length=1, max_length=317, pattern=notation.LABEL_KEY_PATTERN)]
LabelValue = Annotated[str, Meta(max_length=63, pattern=notation.LABEL_VALUE_PATTERN)]


class Requirement(Section, frozen=True):
    """One condition on a label."""

    key: Annotated[LabelKey, Meta(description="Label that the condition is about.")]
    operator: Annotated[
        Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"],
        Meta(
            description="In, NotIn: the label's value is (is not) one of the values; NotIn also holds "
            "where the label is missing. Exists, DoesNotExist: the label is there (is not). "
            "Gt, Lt: the label is a whole number greater (less) than the one value."
        ),
    ]
    values: Annotated[
        tuple[LabelValue, ...],
        Meta(
            max_length=32,
            description="At least one for In and NotIn, exactly one whole number for Gt and Lt, none for "
            "Exists and DoesNotExist.",
        ),
    ] = ()


class Selector(Section, frozen=True):
    """Conditions on labels; all of them must hold. An empty selector selects everything."""

    match_labels: Annotated[
        dict[LabelKey, LabelValue],
        Meta(max_length=32, description="Labels that must be there with exactly this value."),
    ] = {}
    match_expressions: Annotated[
        tuple[Requirement, ...],
        Meta(max_length=16, description="Further conditions, all of which must hold."),
    ] = ()


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether labels meet every condition of a selector; an empty selector takes all labels."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _meets(requirement, labels) for requirement in selector.match_expressions
    )


def _meets(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    """As k8s.io/apimachinery does: a missing label meets NotIn and DoesNotExist only."""
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return value is not None and _compares(requirement, value)


def _compares(requirement: Requirement, value: str) -> bool:
    limit = requirement.values[0]
    if not (value.isascii() and value.isdecimal() and limit.isdecimal()):
        return False
    return int(value) > int(limit) if requirement.operator == "Gt" else int(value) < int(limit)

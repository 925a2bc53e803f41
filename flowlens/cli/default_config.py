"""The default configuration as a text to start from: every field with its meaning and its default.

Written from the definitions themselves, so that it cannot disagree with them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import yaml

from flowlens import metrics
from flowlens.config import definitions

_WIDTH = 100
_METRIC_EXAMPLE: dict[str, object] = {
    "name": "connect_duration",
    "enabled": True,
    "labels": ["namespace", "workload", "dst_port"],
    "maxSeries": 2000,
    "buckets": [0.001, 0.01, 0.1, 1.0],
}


def text() -> str:
    """A whole FlowLensConfig manifest in YAML that changes nothing when it is applied."""
    head = (
        "# The default configuration of flow-lens, every field with its default: applying it changes\n"
        "# nothing. Fields that are left out keep their default, so keep only the lines you change.\n"
        f"apiVersion: {definitions.API_VERSION}\nkind: {definitions.KIND}\n"
        "metadata:\n  name: default\nspec:\n"
    )
    return head + "\n".join(_fields(definitions.Spec(), "  ")) + "\n"


def _fields(section: msgspec.Struct, indent: str) -> Iterator[str]:
    hints = get_type_hints(type(section), include_extras=True)
    for number, field in enumerate(msgspec.structs.fields(type(section))):
        if number and len(indent) == len("  "):
            yield ""
        yield from _comment(_description(hints[field.name]), indent)
        value = getattr(section, field.name)
        if isinstance(value, msgspec.Struct):
            yield f"{indent}{field.encode_name}:"
            yield from _fields(value, indent + "  ")
        else:
            yield f"{indent}{field.encode_name}: {_flow(value)}"
        if field.name == "metrics":
            yield from _metric_example(indent)


def _metric_example(indent: str) -> Iterator[str]:
    """The names that `metrics` may list, and an entry with all its fields; all of it commented out."""
    inner = indent + "# "
    for metric in metrics.CATALOGUE:
        yield from _comment(f"- {metric.name}: {metric.exposed}. {metric.help}", indent, hanging="  ")
    yield from _comment("For example, instead of the line above:", indent)
    yield f"{inner}metrics:"
    hints = get_type_hints(definitions.MetricSettings, include_extras=True)
    for field in msgspec.structs.fields(definitions.MetricSettings):
        start = "  - " if field.name == "name" else "    "
        if field.name != "name":
            yield from _comment(_description(hints[field.name]), inner + "    ")
        yield f"{inner}{start}{field.encode_name}: {_flow(_METRIC_EXAMPLE[field.encode_name])}"


def _description(hint: Any) -> str:
    """The text that `kubectl explain` shows too; "" for a hint without one."""
    if get_origin(hint) is not Annotated:
        return ""
    found = [meta.description for meta in get_args(hint)[1:] if isinstance(meta, msgspec.Meta)]
    return next((description for description in found if description), "")


def _comment(words: str, indent: str, hanging: str = "") -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(
        words, _WIDTH, initial_indent=start, subsequent_indent=start + hanging, break_on_hyphens=False
    )


def _flow(value: object) -> str:
    """A value on one line of YAML."""
    plain = msgspec.to_builtins(value)
    return str(yaml.safe_dump(plain, default_flow_style=True, width=10_000)).removesuffix("...\n").strip()

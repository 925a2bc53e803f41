"""The typed definitions as a structural OpenAPI v3 schema, the form that Kubernetes wants.

msgspec derives a JSON schema from the types; a CRD takes only a part of that language (no `$ref`,
no `title`, no `propertyNames`, no `additionalProperties: false`). The same tree serves three
readers: `validation` walks it beside the data, `schema` puts it into the CRD, `reference` prints it.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from flowlens.config import definitions

Schema = dict[str, Any]

_FOREIGN = ("title", "propertyNames", "additionalProperties")


@functools.cache
def spec() -> Schema:
    """Schema of `spec`. Callers share one object: copy before changing it."""
    return of(definitions.Spec)


def of(struct: type[msgspec.Struct]) -> Schema:
    """Structural schema of a struct, references inlined."""
    (root,), components = msgspec.json.schema_components((struct,))
    plain: Schema = msgspec.json.decode(msgspec.json.encode(_structural(root, components)))
    return plain


def _structural(node: Schema, components: dict[str, Any]) -> Schema:
    """A `$ref` is replaced by its target; a description beside it says more, and wins."""
    if "$ref" in node:
        target = components[node["$ref"].rpartition("/")[2]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    kept = {key: value for key, value in node.items() if key not in _FOREIGN}
    if "enum" in kept:
        kept["type"] = "string"  # a Literal's schema has no type of its own, and a CRD wants one
    if "x-kubernetes-int-or-string" in kept:
        del kept["anyOf"]
    if not kept.get("required", True):
        del kept["required"]
    if "properties" in kept:
        kept["properties"] = {
            name: _structural(child, components) for name, child in node["properties"].items()
        }
    elif isinstance(node.get("additionalProperties"), dict):
        kept["additionalProperties"] = _structural(node["additionalProperties"], components)
        kept["x-flowlens-keys"] = _structural(node.get("propertyNames", {}), components)
    if "items" in kept:
        kept["items"] = _structural(node["items"], components)
    return kept


def public(node: Schema) -> Schema:
    """A copy without the marks that only `validation` reads."""
    return {
        key: public(value) if isinstance(value, dict) and key != "default" else value
        for key, value in node.items()
        if not key.startswith("x-flowlens-")
    }


def without_defaults(node: Schema) -> Schema:
    """A copy without defaults, marks and closed fields: for a status, where nothing is filled in."""
    return {
        key: {name: without_defaults(child) for name, child in value.items()}
        if key == "properties"
        else without_defaults(value)
        if isinstance(value, dict)
        else value
        for key, value in public(node).items()
        if key != "default"
    }

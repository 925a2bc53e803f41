"""Text or an API object into a `Spec`, or every reason why not.

Two passes over the plain data: the schema's (types, bounds, names), which the API server makes
too, and the rules that join fields. A field that fails the first is left out of the second, so
one run reports all there is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import msgspec

from flowlens.config import definitions, notation, problems, rules, structure

Found = tuple[problems.Path, str]
_ABSENT = object()
_MANIFEST_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


def load(text: str, *, source: str) -> definitions.Spec:
    """The configuration in a YAML text: a bare spec, or a whole FlowLensConfig manifest.

    `source` names the text in messages (a path, or "-"). Raises ConfigError with all problems.
    """
    from flowlens.config import documents  # noqa: PLC0415 - PyYAML takes 25 ms, API objects do without

    try:
        document = documents.read(text)
    except documents.DocumentError as error:
        raise problems.ConfigError(source, [problems.Problem("", str(error), error.line)]) from error
    tree = document.tree
    if tree is None:
        message = "is empty: write {} for the defaults"
        raise problems.ConfigError(source, [problems.Problem("", message)])
    found: list[Found] = []
    spec_tree, depth = _spec_of(tree, found)
    spec, more = _decode(spec_tree)
    found += more
    if spec is None or found:
        lines = {("spec", *path) if depth == 0 else path: line for path, line in document.lines.items()}
        raise _error(source, found, lines)
    return spec


def from_object(tree: object, *, source: str) -> definitions.Spec:
    """The configuration in an API object's decoded `spec`. Raises ConfigError with all problems."""
    spec, found = _decode(tree)
    if spec is None:
        raise _error(source, found, {})
    return spec


def _error(source: str, found: Iterable[Found], lines: Mapping[problems.Path, int]) -> problems.ConfigError:
    said = [
        problems.Problem(problems.path_text(path), message, _line(path, lines)) for path, message in found
    ]
    return problems.ConfigError(source, sorted(said, key=lambda problem: problem.line))


def _line(path: problems.Path, lines: Mapping[problems.Path, int]) -> int:
    """Line of a field, or of the nearest thing around it that was written."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _spec_of(tree: object, found: list[Found]) -> tuple[object, int]:
    """The spec inside a document, and how deep it lies (1 in a manifest, 0 when bare)."""
    if not isinstance(tree, dict) or not any(name in tree for name in _MANIFEST_FIELDS):
        return tree, 0
    for name, expected in (("apiVersion", definitions.API_VERSION), ("kind", definitions.KIND)):
        if tree.get(name) != expected:
            given = f"is {problems.shown(tree[name])}" if name in tree else "is missing"
            found.append(((name,), f"{given}: a manifest read here has {name}: {expected}"))
    found += [
        ((str(name),), f"unknown field{problems.one_of(name, _MANIFEST_FIELDS)}")
        for name in tree
        if name not in _MANIFEST_FIELDS
    ]
    if not isinstance(tree.get("metadata", {}), dict):
        found.append((("metadata",), f"is {problems.shown(tree['metadata'])}, not a mapping"))
    if "spec" not in tree:
        found.append((("spec",), "is missing: write spec: {} for the defaults"))
        return {}, 1
    return tree["spec"], 1


def _decode(tree: object) -> tuple[definitions.Spec | None, list[Found]]:
    found: list[Found] = []
    clean = _walk(tree, structure.spec(), ("spec",), found)
    if clean is _ABSENT or not isinstance(clean, dict):
        return None, found
    found += [(("spec", *path), message) for path, message in rules.broken(clean)]
    if found:
        return None, found
    return msgspec.convert(clean, definitions.Spec), found


def _walk(value: object, schema: structure.Schema, path: problems.Path, found: list[Found]) -> object:
    """`value` without what the schema refuses; _ABSENT when nothing is left of it.

    A refused item of a list becomes None, so that the others keep their numbers.
    """
    if "x-kubernetes-int-or-string" in schema:
        return _leaf(value, schema, path, found)
    match schema["type"]:
        case "object" if isinstance(value, dict):
            return _walk_mapping(value, schema, path, found)
        case "array" if isinstance(value, list):
            return _walk_list(value, schema, path, found)
        case _:
            return _leaf(value, schema, path, found)


def _walk_mapping(
    value: dict[object, object], schema: structure.Schema, path: problems.Path, found: list[Found]
) -> object:
    fields = schema.get("properties")
    limit = schema.get("maxProperties", math.inf)
    if len(value) > limit:
        found.append((path, f"has {len(value)} entries: at most {limit}"))
        return _ABSENT
    clean: dict[object, object] = {}
    for key, child in value.items():
        here = (*path, str(key))
        if fields is not None and key not in fields:
            found.append((here, f"unknown field{problems.one_of(key, fields)}"))
            continue
        if fields is not None and child is None:
            continue  # `metrics:` with nothing behind it means what leaving it out means
        if fields is None:
            _leaf(str(key), {"type": "string", **schema["x-flowlens-keys"]}, here, found)
        kept = _walk(child, fields[key] if fields else schema["additionalProperties"], here, found)
        if kept is not _ABSENT:
            clean[key] = kept
    missing = [name for name in schema.get("required", ()) if value.get(name) is None]
    found += [((*path, name), "is required") for name in missing]
    return clean


def _walk_list(
    value: list[object], schema: structure.Schema, path: problems.Path, found: list[Found]
) -> object:
    least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    if len(value) > most:
        found.append((path, f"has {len(value)} items: at most {most}"))
        return _ABSENT
    if len(value) < least:
        found.append((path, f"has {len(value)} items: at least {least}"))
        return _ABSENT
    kept = (_walk(item, schema["items"], (*path, index), found) for index, item in enumerate(value))
    return [None if item is _ABSENT else item for item in kept]


def _leaf(value: object, schema: structure.Schema, path: problems.Path, found: list[Found]) -> object:
    message = _refusal(value, schema)
    if message:
        found.append((path, message))
        return _ABSENT
    return value


_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), "a text"),
    "integer": ((int,), "a whole number"),
    "number": ((int, float), "a number"),
    "boolean": ((bool,), "true or false"),
    "object": ((dict,), "a mapping of fields"),
    "array": ((list,), "a list"),
}


def _refusal(value: object, schema: structure.Schema) -> str:
    """Why the schema refuses a value that is neither mapping nor list; "" when it does not."""
    if "x-kubernetes-int-or-string" in schema:
        types: tuple[type, ...] = (int, str)
        expected = notation.MEANING[schema["pattern"]]
    else:
        types, expected = _TYPES[schema["type"]]
        expected = notation.MEANING.get(schema.get("pattern", ""), expected)
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        quoted = problems.shown(value)
        fits = str in types and not isinstance(value, dict | list) and not _text_refusal(quoted, schema, "")
        return f"is {quoted}, not {expected}" + (f': write "{quoted}" in quotes' if fits else "")
    if isinstance(value, str):
        return _text_refusal(value, schema, expected)
    return _number_refusal(value, schema)


def _text_refusal(value: str, schema: structure.Schema, expected: str) -> str:
    if "enum" in schema and value not in schema["enum"]:
        return f"unknown value {problems.shown(value)}{problems.one_of(value, schema['enum'])}"
    most = schema.get("maxLength", math.inf)
    if len(value) > most:
        return f"{problems.shown(value)} has {len(value)} characters: at most {most}"
    if len(value) < schema.get("minLength", 0) or not re.fullmatch(schema.get("pattern", ".*"), value):
        return f"{problems.shown(value)} is not {expected}"
    return ""


def _number_refusal(value: object, schema: structure.Schema) -> str:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    if isinstance(value, bool) or (isinstance(value, int | float) and low <= value <= high):
        return ""
    return f"is {problems.shown(value)}: allowed are {low:,} to {high:,}"

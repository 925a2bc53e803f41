"""YAML text into plain data, with the line of every field, and without surprises.

What PyYAML would accept silently and nobody means is refused: a key written twice, several
documents, aliases that multiply, nesting without end. The text may be hostile: it is measured
as a stream of events before anything is built from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from flowlens.config import problems

MAX_BYTES = 256 * 1024
"""What `kubectl apply` can carry in its annotation; a real configuration has a few kilobytes."""
MAX_DEPTH = 16
MAX_VALUES = 20_000
"""Values in a document with its aliases written out."""


if yaml.__with_libyaml__:
    _Loader: type[yaml.CSafeLoader] | type[yaml.SafeLoader] = yaml.CSafeLoader
else:  # a PyYAML built without libyaml reads the same language, slower
    _Loader = yaml.SafeLoader


class DocumentError(Exception):
    """The text is not one plain YAML document; `line` is 1-based, 0 when there is none."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None, dates) and the line of each path in it."""

    tree: object
    lines: Mapping[problems.Path, int]


def read(text: str) -> Document:
    """The one document in `text`; None as tree when there is only white space and comments."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise DocumentError(f"{size:,} bytes is too long: at most {MAX_BYTES:,} are read")
    try:
        _measure(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            lines: dict[problems.Path, int] = {}
            return Document(None if node is None else _build(loader, node, (), lines), lines)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise DocumentError(*_syntax(error)) from error
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise DocumentError(f"not YAML: {' '.join(str(error).split())}") from error


def _syntax(error: yaml.MarkedYAMLError) -> tuple[str, int]:
    mark = error.problem_mark or error.context_mark
    words = " ".join(part for part in (error.context, error.problem) if part)
    if mark is None:
        return f"not YAML: {words}", 0
    return f"not YAML: {words} (column {mark.column + 1})", mark.line + 1


def _measure(text: str) -> None:
    """Refuse what would cost more to build than a configuration may: reads events, builds nothing."""
    tally = _Tally()
    for event in yaml.parse(text, Loader=_Loader):
        try:
            tally.add(event)
        except DocumentError as error:
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise DocumentError(str(error), line) from None


class _Tally:
    """Values, levels and documents in a stream of events so far, as if its aliases were written out."""

    def __init__(self) -> None:
        self._documents = 0
        self._values = 0
        self._open: list[tuple[str | None, int]] = []
        self._anchored: dict[str, int] = {}

    def add(self, event: yaml.Event) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise DocumentError("several YAML documents: write one file per FlowLensConfig")
            case yaml.AliasEvent():
                if event.anchor not in self._anchored:
                    raise DocumentError(f"alias *{event.anchor} has no finished anchor before it")
                self._values += self._anchored[event.anchor]
            case yaml.ScalarEvent():
                self._values += 1
                self._close(event.anchor, self._values - 1)
            case yaml.CollectionStartEvent():
                self._open.append((event.anchor, self._values))
                self._values += 1
            case yaml.CollectionEndEvent():
                self._close(*self._open.pop())
        if len(self._open) > MAX_DEPTH:
            raise DocumentError(f"nested deeper than {MAX_DEPTH} levels")
        if self._values > MAX_VALUES:
            raise DocumentError(f"more than {MAX_VALUES:,} values (aliases written out)")

    def _close(self, anchor: str | None, before: int) -> None:
        if anchor:
            self._anchored[anchor] = self._values - before


def _build(
    loader: yaml.CSafeLoader | yaml.SafeLoader,
    node: yaml.Node,
    path: problems.Path,
    lines: dict[problems.Path, int],
) -> object:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, item, (*path, index), lines) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(loader, node, path, lines)
    try:
        return loader.construct_object(node)
    except (ValueError, OverflowError) as error:  # 5,000 digits, the 45th of a month, !!int "a"
        raise DocumentError(f"unreadable value: {error}", node.start_mark.line + 1) from error


def _build_mapping(
    loader: yaml.CSafeLoader | yaml.SafeLoader,
    node: yaml.MappingNode,
    path: problems.Path,
    lines: dict[problems.Path, int],
) -> dict[str, object]:
    mapping: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise DocumentError("a list or a mapping cannot be a field's name", line)
        key = key_node.value
        if key in mapping:
            raise DocumentError(f"field {key!r} is written twice", line)
        lines[(*path, key)] = line
        mapping[key] = _build(loader, value_node, (*path, key), lines)
    return mapping

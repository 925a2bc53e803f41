"""What is wrong with a configuration, said so that its author can mend it.

ConfigError   one file or object that was refused, with every Problem found in it
  Problem     one field: where it stands, what is wrong, what would be right
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Path = tuple[str | int, ...]
"""Steps from a document's root to a value: names of fields, positions in lists."""

_SHOWN_CHARACTERS = 60
_SHOWN_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """`path` is like `spec.metrics[2].labels[1]`, "" for the document itself; `line` is 0 if unknown."""

    path: str
    message: str
    line: int = 0


class ConfigError(Exception):
    """A configuration was refused. `str()` is one line per problem, each naming `source`."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        lines = [_sentence(source, problem) for problem in self.problems[:_SHOWN_PROBLEMS]]
        left = len(self.problems) - len(lines)
        if left:
            lines.append(f"{source}: and {left} more problems")
        super().__init__("\n".join(lines))


def _sentence(source: str, problem: Problem) -> str:
    place = f"{source}:{problem.line}" if problem.line else source
    return ": ".join(part for part in (place, problem.path, problem.message) if part)


def path_text(path: Path) -> str:
    """`("spec", "metrics", 2, "name")` as `spec.metrics[2].name`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not step or any(char in step for char in ". []"):
            text += f'["{step}"]'
        else:
            text += f".{step}" if text else step
    return text


def shown(value: object) -> str:
    """A value as its author may have written it, cut to a line."""
    match value:
        case bool():
            text = str(value).lower()
        case None:
            text = "null"
        case str():
            text = repr(value)
        case list():
            text = "a list"
        case dict():
            text = "a mapping"
        case _:
            text = str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def one_of(word: object, allowed: Iterable[str]) -> str:
    """`; did you mean x? Allowed: x, y, z` for a word that is none of `allowed`."""
    names = list(allowed)
    by_folded = {name.casefold(): name for name in names}
    folded = str(word)[:_SHOWN_CHARACTERS].casefold()
    import difflib  # noqa: PLC0415 - only for who mistyped

    near = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    hint = f"; did you mean {by_folded[near[0]]}?" if near else "."
    return f"{hint} Allowed: {', '.join(names) or 'none'}"

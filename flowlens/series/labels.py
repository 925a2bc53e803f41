"""The text of a label set, which is also the key of its series.

A series is known by its label set written as Prometheus writes it, and by nothing else: a second
representation would cost 20 MiB at 65,536 flows. What a label set is made of can be read back, for
the rare moment when the labels of a metric change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_ORIGINALS = {r"\\": "\\", r"\"": '"', r"\n": "\n"}
_PAIR = re.compile(r'([^=,"]+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\.")


def escape(value: str) -> str:
    """A label value as it stands between quotes (text format 0.0.4: backslash, quote, line feed).

    Bytes of a path that are no UTF-8 come as lone surrogates; they are shown as `\\udcXX`, since a
    page that is not UTF-8 would be refused as a whole.
    """
    if not value.isascii():
        value = value.encode("utf-8", "backslashreplace").decode()
    return value.translate(_ESCAPES)


def write(pairs: Iterable[tuple[str, str]]) -> str:
    """`name="value",...` in the order given; "" for no labels."""
    return ",".join([f'{name}="{escape(value)}"' for name, value in pairs])


def read(text: str) -> dict[str, str]:
    """The names and values that `write` was given."""
    return {name: _ESCAPED.sub(_original, value) for name, value in _PAIR.findall(text)}


def _original(escaped: re.Match[str]) -> str:
    return _ORIGINALS[escaped.group()]

"""The text of label sets: what is written is what is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlens.series import labels

names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True)


@given(st.dictionaries(names, st.text()))
def test_what_is_written_is_read_back(pairs: dict[str, str]) -> None:
    assert labels.read(labels.write(pairs.items())) == pairs


@pytest.mark.parametrize(
    ("value", "shown"),
    [("a", "a"), ('a"b', r"a\"b"), ("a\\b", r"a\\b"), ("a\nb", r"a\nb"), ("\\n", r"\\n"), ("ü", "ü")],
)
def test_three_characters_are_escaped_and_no_other(value: str, shown: str) -> None:
    assert labels.escape(value) == shown


def test_a_path_that_is_no_utf8_still_becomes_utf8() -> None:
    assert labels.escape(b"/sys/\xff".decode("utf-8", "surrogateescape")).encode() == rb"/sys/\\udcff"

"""How numbers are written, rows ordered, and which columns a narrow terminal keeps."""

from __future__ import annotations

import pytest

from flowlens.cli.top import columns, rates


def _row(title: str, **values: float | None) -> rates.Row:
    names = ("connects", "accepts", "failures", "open", "p50", "p99", "retransmits", "resets")
    return rates.Row(title, {"workload": title}, **{name: values.get(name) for name in names})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.02, "0.02"),
        (0.05, "0.1"),
        (9.94, "9.9"),
        (9.96, "10"),
        (9998.0, "9998"),
        (9999.9, "10.0k"),
        (123_456.0, "123.5k"),
        (2_500_000.0, "2.5M"),
        (3e9, "3.0G"),
    ],
)
def test_rates_are_short(value: float, text: str) -> None:
    assert columns.rate_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 us"), (0.00042, "420 us"), (0.0012, "1.2 ms"), (0.9999, "1 s"), (3.44, "3.44 s")],
)
def test_seconds_are_written_in_the_unit_that_fits(value: float, text: str) -> None:
    assert columns.seconds_text(value) == text


def test_the_largest_comes_first_and_the_unknown_last() -> None:
    rows = [_row("b", p99=None), _row("a", p99=1.0), _row("c", p99=2.0)]
    titles = [row.title for row in columns.ordered(rows, columns.BY_NAME["p99"])]
    assert titles == ["c", "a", "b"]


def test_inverted_the_unknown_stays_last() -> None:
    rows = [_row("b", p99=None), _row("a", p99=1.0), _row("c", p99=2.0)]
    titles = [row.title for row in columns.ordered(rows, columns.BY_NAME["p99"], inverted=True)]
    assert titles == ["a", "c", "b"]


def test_owners_are_ordered_from_a_to_z() -> None:
    rows = [_row("b"), _row("a")]
    assert [row.title for row in columns.ordered(rows, columns.BY_NAME["owner"])] == ["a", "b"]
    assert [row.title for row in columns.ordered(rows, columns.BY_NAME["owner"], inverted=True)] == ["b", "a"]


def test_equal_rows_keep_their_places_from_scrape_to_scrape() -> None:
    rows = [_row("b", connects=1.0), _row("a", connects=1.0)]
    assert columns.ordered(rows, columns.BY_NAME["connects"]) == columns.ordered(
        rows[::-1], columns.BY_NAME["connects"]
    )


def test_every_column_has_a_key_of_its_own() -> None:
    assert len(columns.BY_KEY) == len(columns.COLUMNS)
    assert not {"q", "i"} & columns.BY_KEY.keys()


def test_a_narrow_terminal_keeps_the_owner_the_troubles_and_the_sorted_column() -> None:
    widths = {column.name: 10 for column in columns.COLUMNS}
    kept = columns.fitting(50, columns.BY_NAME["p50"], widths)
    assert [column.name for column in kept] == ["title", "connects", "failures", "p50", "retransmits"]


def test_a_wide_terminal_keeps_all_columns() -> None:
    widths = {column.name: 10 for column in columns.COLUMNS}
    assert columns.fitting(100, columns.BY_NAME["p50"], widths) == columns.COLUMNS

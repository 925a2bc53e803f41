"""The columns of the table, as data: name, key, how a value is written, how rows are ordered by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flowlens.cli.top.rates import Row

ABSENT = "-"


def rate_text(value: float) -> str:
    """Four characters or so, whatever the size: 0, 0.4, 37, 12.5k."""
    if value == 0:
        return "0"
    if value < 9.95:
        return f"{value:.1f}" if value >= 0.05 else f"{value:.2g}"
    return _large(value)


def count_text(value: float) -> str:
    """A whole number."""
    return _large(value)


def _large(value: float) -> str:
    for least, size, unit in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if value >= least * 0.9999:
            return f"{value / size:.1f}{unit}"
    return f"{value:.0f}"


def seconds_text(value: float) -> str:
    """420 us, 1.2 ms, 3.4 s."""
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= size * 0.9995:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.0f} us"


@dataclass(frozen=True, slots=True)
class Column:
    """`key` sorts by it; `drop` orders what a narrow terminal leaves out first (0: never).

    `text` writes a number; None for a column of words.
    """

    name: str
    key: str
    title: str
    text: Callable[[float], str] | None
    drop: int = 0
    is_trouble: bool = False

    def value(self, row: Row) -> float | None:
        """The row's number."""
        number: float | None = getattr(row, self.name)
        return number

    def shown(self, row: Row) -> str:
        """The row's number or word as text, `-` for none."""
        if self.text is None:
            return str(getattr(row, self.name)) or ABSENT
        value = self.value(row)
        return ABSENT if value is None else self.text(value)


COLUMNS: tuple[Column, ...] = (
    Column("title", "n", "OWNER", None),
    Column("kind", "k", "KIND", None, drop=1),
    Column("connects", "c", "CONN/s", rate_text),
    Column("accepts", "a", "ACC/s", rate_text, drop=5),
    Column("failures", "f", "FAIL/s", rate_text, is_trouble=True),
    Column("open", "o", "OPEN", count_text, drop=2),
    Column("p50", "m", "p50", seconds_text, drop=3),
    Column("p99", "p", "p99", seconds_text, drop=4),
    Column("retransmits", "t", "RETR/s", rate_text, is_trouble=True),
    Column("resets", "r", "RST/s", rate_text, drop=6, is_trouble=True),
)
BY_NAME: Mapping[str, Column] = {
    "owner" if column.name == "title" else column.name: column for column in COLUMNS
}
BY_KEY: Mapping[str, Column] = {column.key: column for column in COLUMNS}


def ordered(rows: Sequence[Row], column: Column, *, inverted: bool = False) -> list[Row]:
    """Largest number or first word first; rows without a number are last either way; ties by owner."""
    by_title = sorted(rows, key=lambda row: (row.title, *row.labels.values()))
    if column.text is None:
        return sorted(by_title, key=column.shown, reverse=inverted)
    known = [row for row in by_title if column.value(row) is not None]
    unknown = [row for row in by_title if column.value(row) is None]
    return sorted(known, key=lambda row: column.value(row) or 0.0, reverse=not inverted) + unknown


def fitting(width: int, kept: Column, widths: Mapping[str, int]) -> tuple[Column, ...]:
    """The columns that a terminal of `width` has room for; `kept` is among them. `widths` by name."""
    chosen = list(COLUMNS)
    for column in sorted((c for c in COLUMNS if c.drop and c is not kept), key=lambda c: c.drop):
        if sum(widths[c.name] for c in chosen) <= width:
            break
        chosen.remove(column)
    return tuple(chosen)

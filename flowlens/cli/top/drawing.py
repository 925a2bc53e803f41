"""What the live table looks like: a title, the rows that fit, a line about keys or about what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flowlens.cli.top import columns, rates

_FRAME_LINES = 5
"""Title, header with its rule, an empty line, the line of keys."""
_GAP = 2
_OWNER_COLUMNS = 30
"""A longer owner is cut before another column is left out."""
_KEYS = "◂ ▸ or a letter sorts   i inverts   q quits"
_KEYS_ASCII = "arrows or a letter sort   i inverts   q quits"


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is on the screen at one moment. `problem`: why the numbers are not fresh, or ""."""

    url: str
    agent: Mapping[str, str]
    by: str
    interval: float
    rows: Sequence[rates.Row] | None
    sort: columns.Column
    inverted: bool = False
    limit: int = 0
    problem: str = ""


def draw(picture: Picture, width: int, height: int, *, ascii_only: bool = False) -> RenderableType:
    """The whole screen, `width` x `height` characters at most."""
    lines: list[RenderableType] = [_title(picture)]
    shown: Sequence[rates.Row] = ()
    if picture.rows is None:
        lines.append(Text(f"\nfirst numbers in {picture.interval:g} s ..."))
    else:
        room = max(height - _FRAME_LINES, 1)
        shown = columns.ordered(picture.rows, picture.sort, inverted=picture.inverted)
        shown = shown[: min(room, picture.limit or room)]
        lines.append(_table(picture, shown, width, ascii_only))
    lines += [Text(""), _last_line(picture, len(shown), ascii_only)]
    return Group(*lines)


def _title(picture: Picture) -> Text:
    agent = " ".join(picture.agent.get(label, "") for label in ("node", "version", "engine")).split()
    parts = [picture.url, *agent, f"by {picture.by}", f"every {picture.interval:g} s"]
    return Text.assemble(("flowlens top", "bold"), "  ", "  ".join(parts), no_wrap=True, overflow="ellipsis")


def _table(picture: Picture, rows: Sequence[rates.Row], width: int, ascii_only: bool) -> Table:
    widths = {column.name: _width(column, rows) + _GAP for column in columns.COLUMNS}
    widths["title"] = min(widths["title"], _OWNER_COLUMNS)
    chosen = columns.fitting(width + _GAP, picture.sort, widths)
    head = _PLAIN_HEAD if ascii_only else box.SIMPLE_HEAD
    table = Table(box=head, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, expand=True)
    for column in chosen:
        is_words = column.text is None
        table.add_column(
            _header(picture, column, ascii_only),
            justify="left" if is_words else "right",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if column.name == "title" else None,
            min_width=None if column.name == "title" else widths[column.name] - _GAP,
        )
    for row in rows:
        table.add_row(*(_cell(column, row) for column in chosen))
    return table


# rich's SIMPLE_HEAD with a rule that every terminal can show.
_PLAIN_HEAD = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def _width(column: columns.Column, rows: Sequence[rates.Row]) -> int:
    sign = 2  # of the sorted column, kept free so that nothing moves when another one is chosen
    return max([len(column.title) + sign, *(len(column.shown(row)) for row in rows)])


def _header(picture: Picture, column: columns.Column, ascii_only: bool) -> Text:
    title = picture.by.upper() if column.name == "title" else column.title
    if column is not picture.sort:
        return Text(title, style="bold")
    down, up = ("v", "^") if ascii_only else ("▾", "▴")
    falls = (column.text is None) == picture.inverted
    return Text(f"{title} {down if falls else up}", style="bold reverse")


def _cell(column: columns.Column, row: rates.Row) -> Text:
    text = column.shown(row)
    if column.text is None:
        return Text(text, style="dim" if column.name == "kind" else "")
    value = column.value(row)
    if not value:
        return Text(text, style="dim")
    return Text(text, style="yellow" if column.is_trouble else "")


def _last_line(picture: Picture, shown: int, ascii_only: bool) -> Text:
    if picture.problem:
        return Text(picture.problem, style="bold red", overflow="fold")
    keys = _KEYS_ASCII if ascii_only else _KEYS
    total = len(picture.rows or ())
    counted = f"   {shown} of {total} rows" if shown < total else ""
    return Text(keys + counted, style="dim", no_wrap=True, overflow="ellipsis")

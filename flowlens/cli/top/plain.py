"""The table for scripts and pipes: aligned text without colour, and JSON."""

from __future__ import annotations

from collections.abc import Sequence

from flowlens.cli.top import columns, rates, scrape


def table(rows: Sequence[rates.Row], by: str) -> str:
    """A header and a line per row; two spaces between columns, one word per value."""
    titles = [by.upper() if column.name == "title" else column.title for column in columns.COLUMNS]
    lines = [titles, *([_cell(column, row) for column in columns.COLUMNS] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column.text is None else cell.rjust(width)
            for column, cell, width in zip(columns.COLUMNS, cells, widths, strict=True)
        )
        for cells in lines
    )


def _cell(column: columns.Column, row: rates.Row) -> str:
    return column.shown(row).replace(" ", "")


def document(
    before: scrape.Scrape, after: scrape.Scrape, by: str, rows: Sequence[rates.Row]
) -> dict[str, object]:
    """The same as data, with units in the names; null for what is not known."""
    return {
        "by": by,
        "interval_seconds": round(after.taken_at - before.taken_at, 3),
        "agent": dict(after.agent),
        "owners": [_entry(row) for row in rows],
    }


def _entry(row: rates.Row) -> dict[str, object]:
    return {
        "owner": row.title,
        "labels": dict(row.labels),
        "connects_per_second": row.connects,
        "accepts_per_second": row.accepts,
        "failures_per_second": row.failures,
        "open_connections": row.open,
        "handshake_p50_seconds": row.p50,
        "handshake_p99_seconds": row.p99,
        "retransmitted_segments_per_second": row.retransmits,
        "resets_per_second": row.resets,
    }

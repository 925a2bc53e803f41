"""How the report of `flowlens check` looks: signs that the terminal can show, colour only on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TextIO

from flowlens.cli import conditions

if TYPE_CHECKING:
    from flowlens.cli import check

_UNICODE_SIGNS: Mapping[str, str] = {"ok": "✓", "warning": "!", "failed": "✗", "so": "→"}
_ASCII_SIGNS: Mapping[str, str] = {"ok": "ok", "warning": "!!", "failed": "XX", "so": "->"}
_COLOURS: Mapping[str, str] = {"ok": "\x1b[32m", "warning": "\x1b[33m", "failed": "\x1b[31m", "so": "\x1b[2m"}
_MOST_COLUMNS = 110
_LEAST_TEXT = 30


class _Page:
    """Signs, colours and width of where the text goes."""

    def __init__(self, out: TextIO) -> None:
        self._signs = _UNICODE_SIGNS if _shows(out, "".join(_UNICODE_SIGNS.values())) else _ASCII_SIGNS
        self._colours = _COLOURS if out.isatty() and not os.environ.get("NO_COLOR") else {}
        self._columns = (
            min(shutil.get_terminal_size().columns, _MOST_COLUMNS) if out.isatty() else _MOST_COLUMNS
        )

    def sign(self, state: str) -> str:
        """A state's sign, coloured."""
        colour = self._colours.get(state, "")
        return f"{colour}{self._signs[state]}\x1b[0m" if colour else self._signs[state]

    def entry(self, state: str, name: str, width: int, detail: str, remedy: str) -> Iterator[str]:
        """`✓ name   detail`, and the remedy below."""
        sign_width = len(self._signs[state])
        indent = 2 + sign_width + 1 + width + 2
        first, *others = self._wrapped(detail, indent) or [""]
        yield f"  {self.sign(state)} {name:<{width}}  {first}".rstrip()
        yield from (" " * indent + line for line in others)
        if remedy:
            start = len(self._signs["so"]) + 1
            first, *others = self._wrapped(remedy, indent + start)
            yield " " * indent + f"{self.sign('so')} {first}"
            yield from (" " * (indent + start) + line for line in others)

    def _wrapped(self, words: str, indent: int) -> list[str]:
        room = max(self._columns - indent, _LEAST_TEXT)
        return textwrap.wrap(words, room, break_long_words=False, break_on_hyphens=False)


def render(report: check.Report, out: TextIO | None = None) -> str:
    """The report as text for `out` (default: stdout)."""
    page = _Page(out or sys.stdout)
    width = max(len(entry.hook) for entry in report.probes)
    lines = ["This machine"]
    for finding in report.conditions:
        lines += page.entry(finding.state, finding.name, width, finding.detail, finding.remedy)
    lines += ["", f"Probes, loaded by engine {report.engine}" if report.engine else "Probes"]
    lines += _probes(report, page, width)
    return "\n".join((*lines, "", _verdict(report, page)))


def _probes(report: check.Report, page: _Page, width: int) -> Iterator[str]:
    told = ""
    for probe in report.probes:
        state = "ok" if probe.up else "failed" if probe.core else "warning"
        detail = probe.purpose + (" (core)" if probe.core else "")
        if not probe.up and probe.reason == told:
            detail += ": the same"
            yield from page.entry(state, probe.hook, width, detail, "")
            continue
        told = probe.reason
        yield from page.entry(state, probe.hook, width, f"{detail}: {told}" if told else detail, probe.remedy)


def _verdict(report: check.Report, page: _Page) -> str:
    if not report.ok:
        return f"{page.sign('failed')} The agent cannot run here yet: mend what is marked, then check again."
    lacking = sum(not probe.up for probe in report.probes)
    warned = sum(finding.state is not conditions.State.OK for finding in report.conditions)
    if lacking or warned:
        return f"{page.sign('warning')} The agent runs here, with the restrictions marked above."
    return f"{page.sign('ok')} The agent runs here: sudo flowlens agent"


def _shows(out: TextIO, characters: str) -> bool:
    try:
        characters.encode(out.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True

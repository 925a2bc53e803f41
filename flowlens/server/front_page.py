"""The page for people: what runs here, with which configuration, and which probes work."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

LINKS = (
    ("/metrics", "metrics for Prometheus"),
    ("/status", "state of the agent as JSON"),
    ("/healthz", "is it alive?"),
    ("/readyz", "has it read the kernel?"),
)
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{padding:.2rem 1rem .2rem 0;text-align:left;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}"
)
STYLE_HASH = "gYeYmvRrmmpuLmx90vDqPHDWF/QA9WxzjMtfrrLpiwU="
"""SHA-256 of STYLE, for the page's security policy. Written down, for hashlib loads OpenSSL; a test makes it anew."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A hook of the kernel; `reason` says why it is not up, and what would help."""

    name: str
    is_up: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """What the page shows. `facts`: further lines, such as the engine or the uptime."""

    version: str
    config: str
    probes: Sequence[Probe] = field(default=())
    facts: Sequence[tuple[str, str]] = field(default=())


def render(overview: Overview) -> bytes:
    """The page as UTF-8."""
    facts = [("Version", overview.version), ("Configuration", overview.config), *overview.facts]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>flow-lens</title>',
        '<meta name="viewport" content="width=device-width">',
        f"<style>{STYLE}</style></head><body><h1>flow-lens</h1>",
        "<p>TCP metrics per container, from the kernel.</p><ul>",
        *(f'<li><a href="{path}">{path}</a>: {html.escape(what)}</li>' for path, what in LINKS),
        "</ul><table>",
        *(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in facts),
        "</table><h2>Probes</h2><table>",
        *map(_row, overview.probes),
        "</table></body></html>\n",
    ]
    return "".join(parts).encode("utf-8", "backslashreplace")


def _row(probe: Probe) -> str:
    state = "up" if probe.is_up else "down"
    return f"<tr><th>{html.escape(probe.name)}</th><td>{state}</td><td>{html.escape(probe.reason)}</td></tr>"

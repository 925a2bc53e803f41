"""The agent's log on stderr: one line per record, as key=value or as JSON.

Set up here and nowhere else; rooms only call logging.getLogger(__name__). What a call gives in
`extra` becomes fields of its own.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TextIO

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_CHATTY = ("urllib3",)
"""Libraries whose debug lines come per request; ours are per change."""
_NEEDS_QUOTES = frozenset(" \"'=\t\n\r\\")


def configure(format_name: str, level: str, stream: TextIO | None = None) -> None:
    """Replaces the root logger's handlers by one that writes to `stream` (default: stderr)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format_name == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.raiseExceptions = False  # a closed stderr is no reason to stop counting, or to print tracebacks
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def fields(record: logging.LogRecord) -> dict[str, object]:
    """What a line holds, in its order. `time` is RFC 3339 in UTC with milliseconds."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    found: dict[str, object] = {
        "time": f"{moment}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "msg": record.getMessage(),
    }
    found |= {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}
    if record.exc_info and record.exc_info[0]:
        found["exception"] = logging.Formatter().formatException(record.exc_info)
    return found


class TextFormatter(logging.Formatter):
    """key=value, values quoted where they need it; always one line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line without its newline."""
        return " ".join(f"{name}={_quoted(str(value))}" for name, value in fields(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line without its newline."""
        return json.dumps(fields(record), default=str)


def _quoted(text: str) -> str:
    plain = text and text.isprintable() and not _NEEDS_QUOTES.intersection(text)
    return text if plain else json.dumps(text, ensure_ascii=False)

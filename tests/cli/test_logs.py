"""Lines of the agent's log, as key=value and as JSON."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from flowlens.cli import logs


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    former = (root.handlers[:], root.level, logging.raiseExceptions)
    yield
    root.handlers[:], root.level, logging.raiseExceptions = former[0], former[1], former[2]


def _written(format_name: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(format_name, level, stream)
    return stream


def test_a_text_line_is_key_value_with_quotes_where_needed() -> None:
    stream = _written("text")
    logging.getLogger("flowlens.agent").info(
        "probe %s is down", "x", extra={"hook": "x", "reason": "not there"}
    )
    line = stream.getvalue()
    assert line.startswith("time=20")
    assert line.endswith(
        ' level=info logger=flowlens.agent msg="probe x is down" hook=x reason="not there"\n'
    )


def test_a_message_of_many_lines_stays_one_line() -> None:
    stream = _written("text")
    logging.getLogger("a").warning('first\nsecond = "3"')
    assert stream.getvalue().count("\n") == 1
    assert r'msg="first\nsecond = \"3\""' in stream.getvalue()


def test_a_json_line_holds_the_same_fields() -> None:
    stream = _written("json")
    logging.getLogger("flowlens.kube").error("é", extra={"pods": 3})
    entry = json.loads(stream.getvalue())
    assert entry.pop("time").endswith("Z")
    assert entry == {"level": "error", "logger": "flowlens.kube", "msg": "é", "pods": 3}


def test_an_exception_is_a_field() -> None:
    stream = _written("json")
    try:
        int("broken")
    except ValueError:
        logging.getLogger("a").exception("it went wrong")
    assert json.loads(stream.getvalue())["exception"].endswith("base 10: 'broken'")


def test_lines_below_the_level_are_left_out() -> None:
    stream = _written("text", "warning")
    logging.getLogger("a").info("quiet")
    assert stream.getvalue() == ""


def test_debug_lines_of_the_http_client_stay_out() -> None:
    stream = _written("text", "debug")
    logging.getLogger("urllib3.connectionpool").debug("GET /pods")
    assert stream.getvalue() == ""

"""Programs that were begun to load early are used, or leave nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowlens import __main__ as entry
from flowlens.kernel import core, errors, loading

pytestmark = pytest.mark.kernel


def _programs_held() -> int:
    held = (os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())
    return sum(target == "anon_inode:bpf-prog" for target in held)


def test_what_was_begun_early_is_what_the_agent_gets() -> None:
    loading.begin_early()
    early = loading._early[-1]
    asked = loading.begin("auto")
    assert asked is early
    assert not loading._early
    asked.result().close()


def test_programs_of_an_engine_that_nobody_asked_for_are_gone_again() -> None:
    before = _programs_held()
    loading.begin_early()
    asked = loading.begin("core")
    loaded = asked.result()
    assert _programs_held() == before + len(loaded.programs)
    loaded.close()
    assert _programs_held() == before


def test_programs_that_nobody_asks_for_any_more_are_gone() -> None:
    before = _programs_held()
    asked = loading.begin("core")
    asked.drop()
    assert _programs_held() == before


def test_what_went_wrong_is_raised_where_the_programs_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> core.Loaded:
        raise errors.Unavailable("no privileges")

    monkeypatch.setattr(core, "load", fail)
    loading.begin_early()
    with pytest.raises(errors.Unavailable, match="no privileges"):
        loading.begin("core").result()


@pytest.mark.parametrize(
    ("line", "loads"),
    [
        ("agent", True),
        ("agent --listen [::]:2112 --log-format json", True),
        ("agent --help", False),
        ("agent --engine bcc", False),
        ("agent --eng=core", False),
        ("agent --engine=auto --listen [::]:2112", True),
        ("agent --engine auto", True),
        ("agent --engine=auto --engine=bcc", False),
        ("check", False),
        ("top --once", False),
        ("", False),
    ],
)
def test_only_an_agent_with_the_usual_engine_begins_early(
    monkeypatch: pytest.MonkeyPatch, line: str, loads: bool
) -> None:
    monkeypatch.delenv("FLOWLENS_ENGINE", raising=False)
    assert entry._will_load(line.split()) == loads


@pytest.mark.parametrize(
    ("variable", "line", "loads"),
    [
        ("bcc", "agent", False),
        ("auto", "agent", True),
        ("", "agent", True),
        ("bcc", "agent --engine=auto", True),
    ],
)
def test_the_variable_names_the_engine_unless_a_flag_does(
    monkeypatch: pytest.MonkeyPatch, variable: str, line: str, loads: bool
) -> None:
    monkeypatch.setenv("FLOWLENS_ENGINE", variable)
    assert entry._will_load(line.split()) == loads

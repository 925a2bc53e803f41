"""Finding the command, and what people see who mistype."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flowlens import cli

from . import conftest

HELPS = (["agent"], ["check"], ["top"], ["config", "explain"], ["config", "default"])


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"flowlens {cli.version()}\n"


def test_the_module_can_be_run_like_the_command(run: conftest.Run) -> None:
    assert run("--version").stdout == f"flowlens {cli.version()}\n"


def test_a_mistyped_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tpo"]) == 2
    assert "no command 'tpo'; did you mean top?" in capsys.readouterr().err


def test_a_mistyped_command_of_config_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "explan", "x"]) == 2
    assert "flowlens config: no command 'explan'; did you mean explain?" in capsys.readouterr().err


def test_a_mistyped_flag_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", "--intervall=3"]) == 2
    assert "--intervall=3: no such argument; did you mean --interval?" in capsys.readouterr().err


def test_without_a_command_help_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert all(command.name in shown.err for command in cli.COMMANDS)


@pytest.mark.parametrize("command", HELPS, ids=" ".join)
def test_help_teaches_by_two_to_five_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*command, "--help"]) == 0
    examples = capsys.readouterr().out.partition("examples:\n")[2].splitlines()
    assert 2 <= sum(line.startswith("  # ") for line in examples) <= 5
    assert any(f"flowlens {' '.join(command)}" in line for line in examples)


@pytest.mark.parametrize("command", HELPS, ids=" ".join)
def test_help_fits_a_terminal_of_100_columns(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([*command, "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


@pytest.mark.parametrize("arguments", [["top", "--help"], ["config", "default"]], ids=" ".join)
def test_commands_that_need_no_kernel_do_not_load_its_room(arguments: list[str]) -> None:
    program = (
        "import sys; from flowlens import cli; cli.main(sys.argv[1:]);"
        "sys.exit(' '.join(n for n in sys.modules if n == 'ctypes' or n.startswith('flowlens.kernel')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=conftest.ROOT,
        capture_output=True,
        text=True,
        timeout=conftest.DEADLINE_SECONDS,
        check=False,
    )
    assert found.stderr.strip() == ""


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    pipe = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m flowlens config default | head -n 1"],
        cwd=conftest.ROOT,
        capture_output=True,
        text=True,
        timeout=conftest.DEADLINE_SECONDS,
        check=True,
    )
    assert pipe.stdout.startswith("# The default configuration")
    assert pipe.stderr == ""

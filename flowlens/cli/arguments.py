"""How every command reads its command line: help by example, environment variables, did-you-mean.

argparse does the reading. A value comes from the flag, else from its FLOWLENS_* variable (an empty
one counts as not set), else from the default.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

Examples = Sequence[tuple[str, str]]
"""(command line, what it does) pairs."""

USAGE_STATUS = 2


@dataclass(frozen=True, slots=True)
class Command:
    """`target` is `module:function`, imported when the command runs; it takes argv and returns a status."""

    name: str
    summary: str
    target: str


@dataclass(frozen=True, slots=True)
class _FromEnvironment:
    """A value that is converted only if its command runs and no flag replaced it."""

    variable: str
    text: str


class Parser(argparse.ArgumentParser):
    """ArgumentParser with examples in its help, and flags that can come from the environment."""

    def __init__(self, prog: str, about: str, examples: Examples) -> None:
        super().__init__(
            prog=prog,
            description=about,
            epilog=_examples_text(examples),
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        self._types: dict[str, Callable[[str], Any]] = {}
        self._place: argparse._ActionsContainer = self

    def section(self, title: str) -> None:
        """Flags from here on stand under this title in the help."""
        self._place = self.add_argument_group(title)

    def flag(self, name: str, *, default: Any, type: Callable[[str], Any], metavar: str, help: str) -> None:  # noqa: A002 (argparse's own words)
        """A flag with a value, also read from FLOWLENS_<NAME>."""
        variable = "FLOWLENS_" + name.removeprefix("--").replace("-", "_").upper()
        text = os.environ.get(variable, "")
        action = self._place.add_argument(
            name,
            type=type,
            metavar=metavar,
            default=_FromEnvironment(variable, text) if text else default,
            help=f"{help} [{variable}]",
        )
        self._types[action.dest] = type

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """parse_args with did-you-mean, then with the environment's values converted."""
        options, unknown = self.parse_known_args(argv)
        if unknown:
            flags = [name for action in self._actions for name in action.option_strings]
            self.error(f"{unknown[0]}: no such argument{near(unknown[0].partition('=')[0], flags)}")
        for name, value in vars(options).items():
            if isinstance(value, _FromEnvironment):
                setattr(options, name, self._converted(name, value))
        return options

    def _converted(self, name: str, value: _FromEnvironment) -> Any:
        try:
            return self._types[name](value.text)
        except (argparse.ArgumentTypeError, ValueError) as error:
            self.error(f"environment variable {value.variable}: {error}")

    def error(self, message: str) -> NoReturn:
        """One line and where to read on, instead of the whole usage."""
        self.exit(USAGE_STATUS, f"{self.prog}: {message}\nSee: {self.prog} --help\n")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Room for long flags, and no wider than people like to read."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)


def _examples_text(examples: Examples) -> str:
    return "examples:\n" + "\n".join(f"  # {meaning}\n  {line}" for line, meaning in examples)


def near(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean x?`, or "" when nothing is near."""
    import difflib  # noqa: PLC0415 - only for who mistyped

    found = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.55)
    return f"; did you mean {found[0]}?" if found else ""


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """An argparse type that takes these words and says which there are."""

    def read(word: str) -> str:
        if word in allowed:
            return word
        raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(allowed)}{near(word, allowed)}")

    return read


def positive(text: str) -> float:
    """An argparse type: a number of seconds above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def dispatch(
    prog: str, about: str, commands: Sequence[Command], examples: Examples, argv: Sequence[str]
) -> int:
    """Runs the command that `argv` begins with; prints help or what is wrong otherwise."""
    word = argv[0] if argv else ""
    for command in commands:
        if command.name == word:
            module, _, name = command.target.partition(":")
            run: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), name)
            return run(argv[1:])
    if word in ("-h", "--help", "help"):
        print(_commands_help(prog, about, commands, examples))
        return 0
    if not word:
        print(_commands_help(prog, about, commands, examples), file=sys.stderr)
        return USAGE_STATUS
    names = [command.name for command in commands]
    print(f"{prog}: no command {word!r}{near(word, names)}\nCommands: {', '.join(names)}", file=sys.stderr)
    return USAGE_STATUS


def _commands_help(prog: str, about: str, commands: Sequence[Command], examples: Examples) -> str:
    width = max(len(command.name) for command in commands)
    listed = "\n".join(f"  {command.name:<{width}}   {command.summary}" for command in commands)
    return (
        f"usage: {prog} COMMAND [ARGUMENTS]\n\n{about}\n\ncommands:\n{listed}\n\n"
        f"{_examples_text(examples)}\n\nEach command has its own help: {prog} {commands[0].name} --help"
    )

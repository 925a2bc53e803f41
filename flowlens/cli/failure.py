"""The one error that commands raise: it ends the command with a message for people and status 1."""

from __future__ import annotations


class CommandFailedError(Exception):
    """`str()` is printed on stderr as it is: what happened, to which object, what to do next."""

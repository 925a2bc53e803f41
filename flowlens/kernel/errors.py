"""Errors of the kernel room.

KernelError
 +- Unavailable        this machine cannot do it: the message says what to install or change
 +- SystemCallFailed   bpf(2) or another call failed; `errno` says how
 +- LoadFailed         the verifier or the loader refused a program; `log` is what it said
"""

from __future__ import annotations


class KernelError(Exception):
    """Base of everything this room raises."""


class Unavailable(KernelError):
    """Permanent on this machine as it is."""


class SystemCallFailed(KernelError):
    """`errno` is the kernel's."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(message)
        self.errno = errno


class LoadFailed(KernelError):
    """`log`: last lines of the verifier's log."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log

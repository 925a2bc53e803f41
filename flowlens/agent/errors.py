"""What the agent raises before it serves; afterwards it degrades and says so instead."""

from __future__ import annotations


class StartError(Exception):
    """The agent cannot start; the message says why and what to do."""

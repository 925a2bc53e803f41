"""The first lines that run: `flowlens agent` begins to load its programs before anything else is imported.

What a container does in its first moments is counted only from when they are attached, and reading a command line
takes as long as a third of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main() -> int:
    """Runs the command of sys.argv; returns its exit status."""
    if _will_load(sys.argv[1:]):
        from flowlens.kernel import loading  # noqa: PLC0415 - no other command loads programs here

        loading.begin_early()
    from flowlens import cli  # noqa: PLC0415 - comes after

    return cli.main()


def _will_load(words: Sequence[str]) -> bool:
    """Is it an agent, by the engine that is chosen when nobody says which?"""
    if words[:1] != ["agent"] or os.environ.get("FLOWLENS_ENGINE"):
        return False
    return not any(word in {"-h", "--help"} or word.startswith("--e") for word in words)


if __name__ == "__main__":
    sys.exit(main())

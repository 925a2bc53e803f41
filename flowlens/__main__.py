"""The first lines that run: `flowlens agent` begins to load its programs before anything else is imported.

What a container does in its first moments is counted only from when they are attached.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence


def main() -> int:
    """Runs the command of sys.argv; returns its exit status."""
    if _will_load(sys.argv[1:]):
        from flowlens.kernel import loading  # noqa: PLC0415 - no other command loads programs here

        # From now on there is something to end; `agent.run` takes the signal over.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        loading.begin_early()
    from flowlens import cli  # noqa: PLC0415 - comes after

    return cli.main()


def _will_load(words: Sequence[str]) -> bool:
    """Is it an agent, by the engine that is chosen when nobody says which? Manifests say so: --engine=auto."""
    if words[:1] != ["agent"] or {"-h", "--help"} & set(words):
        return False
    engine = os.environ.get("FLOWLENS_ENGINE") or "auto"
    for word, following in zip(words, (*words[1:], ""), strict=True):
        if word.startswith("--e"):  # as argparse abbreviates; the last one holds
            engine = word.partition("=")[2] or following
    return engine == "auto"


if __name__ == "__main__":
    sys.exit(main())

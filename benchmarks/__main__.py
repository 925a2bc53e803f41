"""`make bench`: everything, or the parts named on the command line."""

from __future__ import annotations

import importlib
import os
import platform
import sys

PARTS = ("traffic_cost", "agent_cost", "exposition", "engines")


def main(names: list[str]) -> None:
    print(
        f"{platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    for name in names or PARTS:
        print(f"\n== {name}")
        importlib.import_module(f"benchmarks.{name}").run()


if __name__ == "__main__":
    main(sys.argv[1:])

"""`make bench`: the usual parts, or those named on the command line.

What a part measures is the first line of its module, read without importing it: some need much that others do not.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path

PARTS = ("traffic_cost", "agent_cost", "exposition", "engines")
ON_REQUEST = ("controller",)
"""Minutes long, and needs etcd and kube-apiserver."""


def main(arguments: Sequence[str] | None = None) -> None:
    names = parser().parse_args(arguments).parts
    load = os.getloadavg()[0]
    print(f"{platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, load {load:.1f}")
    for name in names or PARTS:
        print(f"\n== {name}")
        importlib.import_module(f"benchmarks.{name}").run()


def parser() -> argparse.ArgumentParser:
    """The command line; its help lists every part."""
    listed = [f"  {name:<14} {_told(name)}" for name in PARTS]
    listed += ["", "only when named (minutes long, needs etcd and kube-apiserver):"]
    listed += [f"  {name:<14} {_told(name)}" for name in ON_REQUEST]
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures cost and prints figures; needs root. Without names: the parts that are listed first.",
        epilog="\n".join(["parts:", *listed]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("parts", nargs="*", metavar="PART", type=_part, help="what to measure")
    return made


def _part(name: str) -> str:
    if name not in (*PARTS, *ON_REQUEST):
        raise argparse.ArgumentTypeError(f"no part {name!r}: there are {', '.join((*PARTS, *ON_REQUEST))}")
    return name


def _told(name: str) -> str:
    text = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


if __name__ == "__main__":
    main()

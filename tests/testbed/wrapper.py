"""Generates the module in which programs are built whose own module `go install` refuses.

Kubernetes and prometheus-operator have `replace` directives in their go.mod. A module of our
own that requires them and names their commands as tools is enough: Go's version selection
then yields the versions that upstream wrote down.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.testbed import parts


def _json(argv: list[str], folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    done = subprocess.run(argv, cwd=folder, env=env, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} failed: {done.stderr.strip() or done.stdout.strip()}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def download(part: parts.GoPart, folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Fetch the part's module; `folder` must hold no go.mod (a half-written one would be read)."""
    return _json(["go", "mod", "download", "-json", f"{part.module}@{part.version}"], folder, env)


def staged(upstream: Mapping[str, Any]) -> list[str]:
    """The modules that upstream both requires and replaces by a folder of its own tree.

    Some are replaced but not required (sample-cli-plugin) and not served by the proxy.
    """
    required = {entry["Path"] for entry in upstream["Require"]}
    replaced = upstream.get("Replace") or []
    names = (entry["Old"]["Path"] for entry in replaced if entry["New"]["Path"].startswith("./staging/"))
    return sorted(name for name in names if name in required)


def text(part: parts.GoPart, upstream: Mapping[str, Any]) -> str:
    """The go.mod of the wrapping module."""
    go = upstream["Go"]
    tools = "".join(f"\t{program.package}\n" for program in part.programs)
    lines = f"module testbed.local/{part.name}\n\ngo {go}\n\n"
    lines += f"godebug default=go{'.'.join(go.split('.')[:2])}\n\ntool (\n{tools})\n\n"
    lines += f"require {part.module} {part.version}\n"
    if part.staging:
        pairs = "".join(f"\t{name} => {name} {part.staging}\n" for name in staged(upstream))
        lines += f"\nreplace (\n{pairs})\n"
    return lines


def write(part: parts.GoPart, folder: Path, env: Mapping[str, str]) -> None:
    """Write the wrapping go.mod into `folder`, whose parent must hold no module."""
    fetched = download(part, folder.parent, env)
    upstream = _json(["go", "mod", "edit", "-json", fetched["GoMod"]], folder.parent, env)
    (folder / "go.mod").write_text(text(part, upstream))

"""What an agent has in the kernel, by bpftool and by the kernel's own account of file descriptors."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple


class Held(NamedTuple):
    """Ids of BPF objects that a process has descriptors of (fdinfo, proc_pid_fdinfo(5))."""

    programs: frozenset[int]
    maps: frozenset[int]
    links: frozenset[int]


def held(pid: int) -> Held:
    """What a process holds now."""
    found: dict[str, set[int]] = {"prog_id": set(), "map_id": set(), "link_id": set()}
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            fields = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
            kind = next((kind for kind in ("link_id", "map_id", "prog_id") if kind in fields), None)
            if kind:
                found[kind].add(int(fields[kind]))
    return Held(*(frozenset(found[kind]) for kind in ("prog_id", "map_id", "link_id")))


def bpftool(what: str) -> list[dict[str, Any]]:
    """All objects of a kind (prog, map, link) on this machine."""
    output = subprocess.run(["bpftool", "-j", what], capture_output=True, check=True, timeout=30).stdout
    return list(json.loads(output))


def attached(pid: int) -> set[str]:
    """Names of the programs that the links of a process run."""
    links = held(pid).links
    names = {program["id"]: str(program.get("name", "")) for program in bpftool("prog")}
    return {names.get(link["prog_id"], "") for link in bpftool("link") if link["id"] in links}


def left(of: Held) -> Held:
    """What of these is still in the kernel."""
    exist = {kind: {each["id"] for each in bpftool(kind)} for kind in ("prog", "map", "link")}
    return Held(of.programs & exist["prog"], of.maps & exist["map"], of.links & exist["link"])

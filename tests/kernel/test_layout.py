"""Python's structs are the object's structs: sizes, offsets and numbers, as bpftool reads them from its BTF."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flowlens import metrics
from flowlens.kernel import core, layout

BPF = Path(__file__).parents[2] / "bpf"


@cache
def _types() -> list[dict[str, Any]]:
    command = ["bpftool", "-j", "btf", "dump", "file", core.object_path()]
    return list(
        json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)["types"]
    )


def _struct(name: str) -> tuple[int, Mapping[str, int]]:
    """Size and member offsets, in bytes."""
    found = next(each for each in _types() if each["kind"] == "STRUCT" and each["name"] == name)
    return found["size"], {member["name"]: member["bits_offset"] // 8 for member in found["members"]}


@pytest.mark.parametrize(
    ("name", "ours", "members"),
    [
        (
            "fl_key",
            layout.KEY,
            "cgroup netns pid generation family role metric pad detail local_port remote_port pad2",
        ),
        ("fl_value", layout.VALUE, "count sum"),
        ("fl_listener", layout.LISTENER, "netns port"),
    ],
)
def test_struct_has_the_same_members_at_the_same_offsets(
    name: str, ours: struct.Struct, members: str
) -> None:
    size, offsets = _struct(name)
    assert size == ours.size
    codes = [code for code in ours.format if code.isalpha()]
    expected, at = {}, 0
    for member, code in zip(members.split(), codes, strict=True):
        expected[member] = at
        at += struct.calcsize("<" + code)
    assert offsets == expected


def test_flow_is_a_key_and_two_addresses() -> None:
    assert _struct("fl_flow") == (layout.FLOW.size, {"key": 0, "local": layout.KEY.size, "remote": 48})


def test_socket_storage_stays_small() -> None:
    size, _ = _struct("fl_socket")
    assert size < 100  # charged to the socket's owner


def test_settings_are_encoded_where_the_programs_read_them() -> None:
    settings = layout.Settings(
        enabled=frozenset({"accept", "reset"}),
        masks={"reset": 9},
        bounds={"connect_duration": (7, 8), "connection_duration": (9,)},
        include_ports=((1, 2), (3, 4)),
        exclude_ports=((1, 1), (3, 3)),
        v4_prefix=9,
        v6_prefix=33,
        max_flows=77,
        owner_pid=True,
    )
    raw = layout.encode(settings, generation=5, bounds_generations={"connect_duration": 3}, flags=4)
    size, at = _struct("fl_settings")
    bounds_size, in_bounds = _struct("fl_bounds")
    assert len(raw) == size == layout.SETTINGS_BYTES

    def number(offset: int, width: int) -> int:
        return int.from_bytes(raw[offset : offset + width], "little")

    assert number(at["enabled"], 8) == 1 << 1 | 1 << 9
    assert (number(at["generation"], 4), number(at["max_flows"], 4)) == (5, 77)
    assert number(at["flags"], 4) == 4 | layout.FLAG_OWNER_PID | layout.FLAG_PORTS
    assert number(at["ports"], 8) == 0b10100  # 1 to 4 without 1 and 3
    assert raw[at["masks"] + metrics.BY_NAME["reset"].number] == 9
    assert raw[at["keep_v4"] :][:4] == b"\xff\x80\0\0"
    assert raw[at["keep_v6"] :][:16] == b"\xff\xff\xff\xff\x80" + bytes(11)
    first, second = at["bounds"], at["bounds"] + bounds_size
    assert (number(first + in_bounds["generation"], 4), number(first + in_bounds["count"], 4)) == (3, 2)
    assert struct.unpack_from("<2Q", raw, first + in_bounds["upper_ns"]) == (7, 8)
    assert (number(second + in_bounds["generation"], 4), number(second + in_bounds["count"], 4)) == (5, 1)


NUMBERS: Mapping[str, int] = {
    **{f"METRIC_{metric.name.upper()}": metric.number for metric in metrics.CATALOGUE},
    **{f"ROLE_{role.name}": role.value for role in metrics.Role},
    **{f"FIELD_{label.upper()}": bit for label, bit in layout.FIELDS.items()},
    **{f"HISTOGRAM_{name.upper()}": number for number, name in enumerate(layout.HISTOGRAMS)},
    "METRICS": layout.METRICS,
    "HISTOGRAMS": len(layout.HISTOGRAMS),
    "LOSSES": len(layout.LOSSES),
    "DETAIL_OTHER": metrics.DETAIL_OTHER,
    "MAX_BOUNDS": layout.MAX_BOUNDS,
    "FLAG_PORTS": layout.FLAG_PORTS,
    "NEVER_NS": layout.NEVER_NS,
    "FLAG_OWNER_PID": layout.FLAG_OWNER_PID,
    "FLAG_ADOPT_CONNECTIONS": layout.FLAG_ADOPT_CONNECTIONS,
    "FLAG_REBASE": layout.FLAG_REBASE,
}


def test_numbers_are_the_same_on_both_sides() -> None:
    claims = "".join(f'_Static_assert({name} == {number}, "{name}");\n' for name, number in NUMBERS.items())
    source = f"""
        typedef unsigned char u8; typedef unsigned short u16; typedef unsigned u32; typedef unsigned long long u64;
        #define SOCKET_LOCK u32 lock
        #include "records.h"
        {claims}"""
    compiler = ["clang", "-fsyntax-only", "-I", str(BPF), "-x", "c", "-"]
    done = subprocess.run(compiler, input=source, text=True, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr

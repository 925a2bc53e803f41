"""The header that stands in for CO-RE: every field where clang finds it in bpftool's dump of the same kernel."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from flowlens.kernel.bcc import generator, kernel_types, sources

KERN_H = (sources.folder() / sources.KERN_H).read_text()
TYPES = "typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;"
STRUCTS = re.compile(r"struct (\w+) \{([^}]*)\} KERN;")
FIELD = re.compile(r"\b(\w+)(?:\[\d+\])?;")
OURS_ONLY = {("in6_addr", "fl_bytes")}
"""What kern.h has in place of a union of the kernel."""


def _clang() -> str:
    names = ("clang", *(f"clang-{version}" for version in range(22, 13, -1)))
    return next(path for name in names if (path := shutil.which(name)))


def _fields() -> list[tuple[str, str]]:
    """Of all structs in kern.h, without bit fields, which have no offset in bytes."""
    found = []
    for struct, body in STRUCTS.findall(re.sub(r"/\*.*?\*/", "", KERN_H, flags=re.DOTALL)):
        for line in body.splitlines():
            match = FIELD.search(line)
            if match and ":" not in line and (struct, match[1]) not in OURS_ONLY:
                found.append((struct, match[1]))
    return found


def _assembly(text: str, folder: Path) -> str:
    source = folder / "unit.c"
    source.write_text(text)
    command = [
        _clang(),
        "-target",
        "bpf",
        "-O2",
        "-S",
        "-DBPF_NO_PRESERVE_ACCESS_INDEX",
        "-o",
        "-",
        str(source),
    ]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout


def _layout(declarations: str, folder: Path) -> Mapping[tuple[str, str], tuple[int, int]]:
    """(struct, field) -> (offset, bytes), as clang sees these declarations."""
    fields = _fields()
    questions = ",".join(
        f"__builtin_offsetof(struct {struct}, {field}), sizeof(((struct {struct} *)0)->{field})"
        for struct, field in fields
    )
    assembly = _assembly(f"{declarations}\nunsigned long long answers[] = {{ {questions} }};\n", folder)
    numbers = [int(number) for number in re.findall(r"\.quad\s+(\d+)", assembly)]
    return dict(zip(fields, zip(numbers[::2], numbers[1::2], strict=True), strict=True))


@pytest.fixture(scope="module")
def vmlinux_h() -> str:
    command = ["bpftool", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "c"]
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout


@pytest.fixture(scope="module")
def padded_h() -> str:
    with kernel_types.opened() as types:
        return generator.generate(KERN_H, types)


def test_every_field_has_the_offset_and_size_that_it_has_in_the_kernel(
    vmlinux_h: str, padded_h: str, tmp_path: Path
) -> None:
    ours = _layout(f"{TYPES}\n{padded_h}", tmp_path)
    assert len(ours) > 50
    assert ours == _layout(vmlinux_h, tmp_path)


def test_a_bit_field_is_where_the_compiler_puts_it(vmlinux_h: str, padded_h: str, tmp_path: Path) -> None:
    ones = "struct inet_connection_sock ones = { .icsk_ca_state = 31 };"
    data = _assembly(f"{vmlinux_h}\n{ones}\n", tmp_path).split("\nones:\n")[1]
    offset = 0
    for what, value in re.findall(r"\.(zero|byte|short|long|quad)\s+(\d+)", data):
        if what != "zero" and int(value):
            break
        offset += int(value) if what == "zero" else {"byte": 1, "short": 2, "long": 4, "quad": 8}[what]
    place = {
        key: int(number)
        for key, number in re.findall(r"#define (\w+)_inet_connection_sock_icsk_ca_state (\d+)", padded_h)
    }
    assert (place["BYTE"], place["MASK"] << place["SHIFT"]) == (offset, int(value))


def test_a_field_that_the_kernel_lacks_compiles_and_is_marked(tmp_path: Path) -> None:
    text = "struct sock { int sk_err; u64 *no_such_field; } KERN;\nstruct no_such_struct { int a; u16 b[4]; } KERN;\n"
    with kernel_types.opened() as types:
        padded = generator.generate(text, types)
    flags = dict(re.findall(r"#define HAS_(\w+) (\d)", padded))
    assert flags == {
        "sock_sk_err": "1",
        "sock_no_such_field": "0",
        "no_such_struct_a": "0",
        "no_such_struct_b": "0",
    }
    _assembly(f"{TYPES}\n{padded}\nu64 *f(struct sock *sk) {{ return sk->no_such_field; }}", tmp_path)


def test_an_enum_gets_the_kernels_numbers(tmp_path: Path) -> None:
    text = "enum bpf_map_type {\n\tBPF_MAP_TYPE_ARRAY,\n\tBPF_MAP_TYPE_NO_SUCH,\n};\n"
    with kernel_types.opened() as types:
        padded = generator.generate(text, types)
    assert "BPF_MAP_TYPE_ARRAY = 2" in padded
    assert "#define HAS_bpf_map_type_BPF_MAP_TYPE_ARRAY 1" in padded
    assert "#define HAS_bpf_map_type_BPF_MAP_TYPE_NO_SUCH 0" in padded


@pytest.mark.parametrize(
    "text",
    [
        "int loose;",
        "struct sock { int sk_err; };",  # without KERN the core engine would take our offsets for true ones
        "struct sock { int (*call)(void); } KERN;",
        "union sock { int sk_err; } KERN;",
    ],
)
def test_anything_but_plain_declarations_is_refused(text: str) -> None:
    with kernel_types.opened() as types, pytest.raises(generator.UnreadableHeader):
        generator.generate(text, types)

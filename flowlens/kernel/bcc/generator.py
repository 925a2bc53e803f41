"""Writes `kern_padded.h`: kern.h again, each field at its true offset in the running kernel.

The C compiler on the node has no CO-RE relocations, so the offsets come from the kernel's BTF beforehand.
kern.h is the only input: what it does not name, no program can read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from flowlens.kernel import errors
from flowlens.kernel.bcc import kernel_types

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_DIRECTIVE = re.compile(r"^#.*$", re.MULTILINE)
_DECLARATION = re.compile(
    r"struct\s+(?P<struct>\w+)\s*\{(?P<fields>[^}]*)\}\s*KERN\s*;"
    r"|typedef\s+struct\s*\{(?P<typedef_fields>[^}]*)\}\s*(?P<typedef>\w+)\s*;"
    r"|enum\s+(?P<enum>\w+)\s*\{(?P<values>[^}]*)\}\s*;"
)
_FIELD = re.compile(r"^(?P<type>[\w\s]+?[\s*]+)(?P<name>\w+)(?P<array>\[\d+\])?(?:\s*:\s*(?P<bits>\d+))?$")


class UnreadableHeader(errors.KernelError):
    """kern.h has something else than plain declarations; an error of ours."""


class _Declared(NamedTuple):
    type: str
    name: str
    array: str
    is_bit_field: bool


def generate(kern_h: str, types: kernel_types.Types) -> str:
    """Text of kern_padded.h. Raises UnreadableHeader for what it does not understand."""
    text = _DIRECTIVE.sub("", _COMMENT.sub("", kern_h))
    rest = _DECLARATION.sub("", text).strip()
    if rest:
        raise UnreadableHeader(f"kern.h: only plain declarations are allowed, found {rest[:60]!r}")
    return (
        "\n".join(line for match in _DECLARATION.finditer(text) for line in _declaration(match, types)) + "\n"
    )


def _declaration(match: re.Match[str], types: kernel_types.Types) -> Iterator[str]:
    if match["enum"]:
        yield from _enum(match["enum"], match["values"], types)
    elif match["typedef"]:
        yield from _struct("typedef struct { union {", match["typedef"], match["typedef_fields"], types)
        yield f"}}; }} {match['typedef']};"
    else:
        yield from _struct(f"struct {match['struct']} {{ union {{", match["struct"], match["fields"], types)
        yield "}; };"


def _enum(name: str, values: str, types: kernel_types.Types) -> Iterator[str]:
    known = types.enum_values(name)
    names = [value.strip() for value in values.split(",") if value.strip()]
    yield f"enum {name} {{ {', '.join(f'{value} = {known.get(value, 0)}' for value in names)} }};"
    for value in names:
        yield f"#define HAS_{name}_{value} {int(value in known)}"


def _struct(opening: str, name: str, fields: str, types: kernel_types.Types) -> Iterator[str]:
    """A union of the fields, each behind as many bytes as it has before it in the kernel."""
    macros: list[str] = []
    yield opening
    for number, field in enumerate(_fields(name, fields)):
        place = types.field(name, field.name)
        macros.append(f"#define HAS_{name}_{field.name} {int(place is not None)}")
        if field.is_bit_field:
            macros.extend(_bit_field(name, field.name, place))
        elif place is None or place.bit_offset == 0:
            yield f"\t{field.type}{field.name}{field.array};"
        else:
            padding = f"u8 fl_pad_{number}[{place.bit_offset // 8}]"
            yield f"\tstruct {{ {padding}; {field.type}{field.name}{field.array}; }};"
    if size := types.size(name):
        yield f"\tu8 fl_bytes_in_all[{size}];"
    yield from macros


def _fields(name: str, fields: str) -> Iterator[_Declared]:
    for line in (part.strip() for part in fields.split(";")):
        if not line:
            continue
        match = _FIELD.match(line)
        if not match:
            raise UnreadableHeader(f"kern.h: struct {name}: cannot read {line!r}")
        yield _Declared(match["type"], match["name"], match["array"] or "", match["bits"] is not None)


def _bit_field(name: str, field: str, place: kernel_types.Field | None) -> Iterator[str]:
    offset, bits = place or (0, 0)
    if offset % 8 + bits > 8:
        raise UnreadableHeader(f"kern.h: bit field {name}.{field} lies across two bytes in this kernel")
    yield f"#define BYTE_{name}_{field} {offset // 8}"
    yield f"#define SHIFT_{name}_{field} {offset % 8}"
    yield f"#define MASK_{name}_{field} {(1 << bits) - 1}"

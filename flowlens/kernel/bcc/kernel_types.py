"""Where the running kernel has its fields, read from its own type information (BTF).

Parsing is libbpf's; we walk single types, because a Python object for each of a kernel's 100,000 costs a second.
Layout of the records: include/uapi/linux/btf.h.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from flowlens.kernel import btf, libbpf

STRUCT, UNION, ENUM, TYPEDEF, FUNC = 4, 5, 6, 8, 12  # BTF_KIND_*
_NAMES_ANOTHER = frozenset((8, 9, 10, 11, 18))  # typedef, volatile, const, restrict, type tag
_HEAD = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_ENUM_VALUE = struct.Struct("<Ii")


class Field(NamedTuple):
    """Place of a field in its struct; `bits` is 0 unless it is a bit field."""

    bit_offset: int
    bits: int


class _Type(NamedTuple):
    kind: int
    entries: int
    has_bit_fields: bool
    size_or_type: int
    address: int


@dataclass(frozen=True, slots=True)
class Types:
    """One kernel's BTF, open; only valid inside `opened`."""

    handle: ctypes.c_void_p

    def find(self, name: str, kind: int) -> int:
        """Type id, or 0."""
        found = libbpf.library().btf__find_by_name_kind(self.handle, name.encode(), kind)
        return max(int(found), 0)

    def size(self, name: str) -> int:
        """Bytes of a struct (or of a typedef of one); 0 where this kernel has none."""
        struct_id = self._struct_id(name)
        return self._type(struct_id).size_or_type if struct_id else 0

    def field(self, name: str, field: str) -> Field | None:
        """The place of a field of a struct, also inside its anonymous members; None where there is none."""
        struct_id = self._struct_id(name)
        return self._search(struct_id, field, 0) if struct_id else None

    def enum_values(self, name: str) -> dict[str, int]:
        """Values by name; empty where this kernel has no such enum."""
        enum_id = self.find(name, ENUM)
        if not enum_id:
            return {}
        found = self._type(enum_id)
        raw = ctypes.string_at(found.address + _HEAD.size, found.entries * _ENUM_VALUE.size)
        return {self._text(text): value for text, value in _ENUM_VALUE.iter_unpack(raw)}

    def _struct_id(self, name: str) -> int:
        found = self.find(name, STRUCT)
        if found:
            return found
        typedef = self.find(name, TYPEDEF)
        return self._resolve(typedef) if typedef else 0

    def _resolve(self, type_id: int) -> int:
        found = self._type(type_id)
        while found.kind in _NAMES_ANOTHER:
            type_id = found.size_or_type
            found = self._type(type_id)
        return type_id

    def _type(self, type_id: int) -> _Type:
        address = libbpf.library().btf__type_by_id(self.handle, type_id)
        _, info, size_or_type = _HEAD.unpack(ctypes.string_at(address, _HEAD.size))
        return _Type(info >> 24 & 0x1F, info & 0xFFFF, bool(info >> 31), size_or_type, address)

    def _text(self, offset: int) -> str:
        text: bytes = libbpf.library().btf__name_by_offset(self.handle, offset)
        return text.decode()

    def _search(self, struct_id: int, field: str, base: int) -> Field | None:
        found = self._type(struct_id)
        raw = ctypes.string_at(found.address + _HEAD.size, found.entries * _MEMBER.size)
        for text, type_id, place in _MEMBER.iter_unpack(raw):
            offset = base + (place & 0xFFFFFF if found.has_bit_fields else place)
            if text and self._text(text) == field:
                return Field(offset, place >> 24 if found.has_bit_fields else 0)
            if not text:
                inner = self._resolve(type_id)
                if self._type(inner).kind in (STRUCT, UNION) and (
                    deeper := self._search(inner, field, offset)
                ):
                    return deeper
        return None


@contextmanager
def opened(path: Path = Path(btf.VMLINUX)) -> Iterator[Types]:
    """The types in a file of raw BTF. Raises errors.SystemCallFailed when it cannot be read."""
    lib = libbpf.library()
    lib.btf__parse_raw.restype = ctypes.c_void_p
    handle = libbpf.pointer(lib.btf__parse_raw(str(path).encode()), f"read {path}")
    try:
        yield Types(handle)
    finally:
        lib.btf__free(handle)

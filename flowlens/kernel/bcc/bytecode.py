"""What one compilation yields, as it is cached: instructions by program and the shapes of the maps they use.

Instructions name a map by a placeholder number. A map's shape is told by a function that is never loaded
(MAP_SHAPE in bpf/engine_bcc.h): its constants are read off its instructions, so only C knows sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from flowlens.kernel import errors

_INSTRUCTION = struct.Struct("<BBhi")  # struct bpf_insn: opcode, registers, offset, immediate
_MOVE_64, _MOVE_32, _LOAD_64 = 0xB7, 0xB4, 0x18
_PSEUDO_MAP_FD = 1
_ARGUMENTS = range(1, 6)
MAP_PREFIX = "map_"


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`extra`: flags, or the offset of the lock in the value of socket storage."""

    placeholder: int
    type: int
    key_bytes: int
    value_bytes: int
    entries: int
    extra: int


class Bytecode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`attach_ids`: hook -> BTF id of what its program attaches to (typed way only).

    `absent`: hook -> why this kernel has no place for it.
    """

    way: str
    bcc: str
    programs: dict[str, bytes]
    maps: dict[str, Shape]
    attach_ids: dict[str, int]
    absent: dict[str, str]
    reset_reasons: dict[int, str]


class Malformed(errors.KernelError):
    """Instructions that cannot be ours."""


class _Step(NamedTuple):
    opcode: int
    registers: int
    offset: int
    immediate: int


def split(functions: Mapping[str, bytes]) -> tuple[dict[str, bytes], dict[str, Shape]]:
    """Functions as compiled -> programs, and shapes of the maps. Raises Malformed."""
    maps = {
        name.removeprefix(MAP_PREFIX): _shape(name, code)
        for name, code in functions.items()
        if name.startswith(MAP_PREFIX)
    }
    return {name: code for name, code in functions.items() if not name.startswith(MAP_PREFIX)}, maps


def with_maps(name: str, code: bytes, fds: Mapping[int, int]) -> bytes:
    """The instructions with each placeholder replaced by a descriptor. Raises Malformed for an unknown one."""
    patched = bytearray(code)
    for index, step in _maps_used(code):
        if step.registers >> 4 != _PSEUDO_MAP_FD or step.immediate not in fds:
            raise Malformed(f"program {name}: instruction {index} refers to something that is no map of ours")
        fd = fds[step.immediate]
        _INSTRUCTION.pack_into(
            patched, index * _INSTRUCTION.size, step.opcode, step.registers, step.offset, fd
        )
    return bytes(patched)


def _maps_used(code: bytes) -> Iterator[tuple[int, _Step]]:
    """64-bit loads of something that only the kernel can resolve; each takes two instructions."""
    second_half = False
    for index, fields in enumerate(_INSTRUCTION.iter_unpack(code)):
        step = _Step(*fields)
        if step.opcode == _LOAD_64 and not second_half:
            second_half = True
            if step.registers >> 4:
                yield index, step
        else:
            second_half = False


def _shape(name: str, code: bytes) -> Shape:
    constants = {}
    for fields in _INSTRUCTION.iter_unpack(code):
        step = _Step(*fields)
        if step.opcode in {_MOVE_64, _MOVE_32}:
            constants[step.registers & 15] = step.immediate
    try:
        return Shape(constants[0], *(constants[register] for register in _ARGUMENTS))
    except KeyError as error:
        raise Malformed(f"{name}: no constant in register {error}") from error

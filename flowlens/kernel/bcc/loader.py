"""Makes the maps that compiled programs need and loads them, by bpf(2) through libbpf's thin wrappers."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator, Mapping

from flowlens.kernel import errors, libbpf, probes
from flowlens.kernel.bcc import bytecode, ways

_RAW_TRACEPOINT, _TRACING = 17, 26  # enum bpf_prog_type, include/uapi/linux/bpf.h
_ATTACH_TRACEPOINT, _ATTACH_ITERATOR = 23, libbpf.BPF_TRACE_ITER  # BPF_TRACE_RAW_TP
_SOCKET_STORAGE, _NO_PREALLOC, _CLONE = 24, 1, 1 << 9
_PREALLOCATED_BEFORE = (6, 1)
"""Before 34dd3bad1a6f (6.1) the kernel warns of raw tracepoint programs whose hash maps allocate as they grow."""
_LOG_BYTES = 1 << 20


class _LoadOptions(ctypes.Structure):
    """struct bpf_prog_load_opts of libbpf 1.x."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_int),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
        ("attach_btf_obj_fd", ctypes.c_uint32),
        ("fd_array", ctypes.c_void_p),
        ("func_info", ctypes.c_void_p),
        ("func_info_cnt", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_void_p),
        ("line_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_void_p),
    )


def make_maps(
    shapes: Mapping[str, bytecode.Shape], *, typed: bool, release: tuple[int, int]
) -> dict[str, int]:
    """File descriptors by name. Raises errors.SystemCallFailed; then none is left open."""
    made: dict[str, int] = {}
    try:
        for name, shape in shapes.items():
            if shape.type == _SOCKET_STORAGE:
                made[name] = _make_socket_storage(name, shape)
            else:
                preallocated = not typed and release < _PREALLOCATED_BEFORE
                made[name] = _make(name, shape, shape.extra & ~_NO_PREALLOC if preallocated else shape.extra)
    except errors.KernelError:
        close(made)
        raise
    return made


def load(
    built: bytecode.Bytecode, maps: Mapping[str, int], hooks: Mapping[str, str]
) -> tuple[dict[str, int], dict[str, str]]:
    """Loads the programs of these hooks (hook -> function): descriptors, and the reason for each refused."""
    fds = {shape.placeholder: maps[name] for name, shape in built.maps.items()}
    loaded, refused = {}, {}
    for hook, function in hooks.items():
        code = bytecode.with_maps(function, built.programs[function], fds)
        try:
            loaded[hook] = _load(function, code, _options(built, hook))
        except errors.LoadFailed as error:
            refused[hook] = str(error)
    return loaded, refused


def close(fds: Mapping[str, int]) -> None:
    """Closes descriptors; the kernel frees what nobody else holds."""
    for fd in fds.values():
        os.close(fd)


def _options(built: bytecode.Bytecode, hook: str) -> _LoadOptions:
    options = _LoadOptions(size=ctypes.sizeof(_LoadOptions))
    if built.way == ways.Way.TYPED:
        program = probes.BY_HOOK[hook]
        is_tracepoint = program.attachment is probes.Attachment.TRACEPOINT
        options.expected_attach_type = _ATTACH_TRACEPOINT if is_tracepoint else _ATTACH_ITERATOR
        options.attach_btf_id = built.attach_ids[hook]
    return options


def _load(function: str, code: bytes, options: _LoadOptions) -> int:
    described = _load_types(_function(function), function)
    info = (ctypes.c_uint32 * 2)(0, _FUNCTION_ID)  # struct bpf_func_info: instruction, type
    options.prog_btf_fd, options.func_info = described, ctypes.addressof(info)
    options.func_info_cnt, options.func_info_rec_size = 1, ctypes.sizeof(info)
    try:
        return _load_described(function, code, options)
    finally:
        os.close(described)


def _load_described(function: str, code: bytes, options: _LoadOptions) -> int:
    kind = _TRACING if options.attach_btf_id else _RAW_TRACEPOINT
    count = ctypes.c_size_t(len(code) // 8)
    load_program = libbpf.library().bpf_prog_load
    fd: int = load_program(kind, function.encode(), b"GPL", code, count, ctypes.byref(options))
    if fd >= 0:
        return fd
    number = ctypes.get_errno()
    log = ctypes.create_string_buffer(_LOG_BYTES)
    options.log_level, options.log_size, options.log_buf = 1, _LOG_BYTES, ctypes.addressof(log)
    fd = load_program(kind, function.encode(), b"GPL", code, count, ctypes.byref(options))
    if fd >= 0:
        return fd
    words = " ".join(_verifier_words(log.value.decode(errors="replace")))
    raise errors.LoadFailed(
        words or f"load {function}: {os.strerror(number)} ({libbpf.errno_name(number)})", words
    )


def _verifier_words(log: str) -> Iterator[str]:
    lines = [line for line in log.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("processed ", "verification time", "stack depth"))]
    yield from (line[:300] for line in told[-1:])


def _make(name: str, shape: bytecode.Shape, flags: int) -> int:
    options = libbpf.MapCreateOptions(size=ctypes.sizeof(libbpf.MapCreateOptions), map_flags=flags)
    return _create(name, shape, options)


def _make_socket_storage(name: str, shape: bytecode.Shape) -> int:
    """The kernel finds the lock in the value by the map's own BTF, three types of which are enough."""
    types = _load_types(_value_with_lock(shape.value_bytes, shape.extra), name)
    try:
        options = libbpf.MapCreateOptions(
            size=ctypes.sizeof(libbpf.MapCreateOptions), map_flags=_NO_PREALLOC | _CLONE
        )
        options.btf_fds[0], options.btf_fds[1], options.btf_fds[2] = types, _INT_ID, _VALUE_ID
        return _create(name, shape, options)
    finally:
        os.close(types)


def _create(name: str, shape: bytecode.Shape, options: libbpf.MapCreateOptions) -> int:
    create = libbpf.library().bpf_map_create
    fd = create(
        shape.type, name.encode(), shape.key_bytes, shape.value_bytes, shape.entries, ctypes.byref(options)
    )
    return libbpf.check(fd, f"make map {name}")


# BTF that we write ourselves: the kernel needs it for a lock in a map and shows a program's whole name by it.

_INT_ID, _VALUE_ID, _FUNCTION_ID = 1, 3, 4
_INT, _POINTER, _STRUCT, _FUNCTION, _PROTOTYPE = (kind << 24 for kind in (1, 2, 4, 12, 13))  # BTF_KIND_*
_SIGNED, _GLOBAL = 1 << 24, 1


def _load_types(raw: bytes, label: str) -> int:
    load_types = libbpf.library().bpf_btf_load
    return libbpf.check(load_types(raw, ctypes.c_size_t(len(raw)), None), f"describe {label}")


def _value_with_lock(value_bytes: int, lock_offset: int) -> bytes:
    """`int`, `struct bpf_spin_lock { int val; }` and a value that has such a lock at this offset."""
    names = _Names()
    records = [names("int"), _INT, 4, _SIGNED | 32]
    records += (names("bpf_spin_lock"), _STRUCT | 1, 4, names("val"), 1, 0)
    records += (names("fl_socket"), _STRUCT | 1, value_bytes, names("lock"), 2, lock_offset * 8)
    return _types(records, names)


def _function(name: str) -> bytes:
    """`int name(void *ctx)`."""
    names = _Names()
    records = [names("int"), _INT, 4, _SIGNED | 32]
    records += (0, _POINTER, 0)
    records += (0, _PROTOTYPE | 1, 1, names("ctx"), 2)
    records += (names(name), _FUNCTION | _GLOBAL, 3)
    return _types(records, names)


class _Names:
    """The string section; calling it gives a name's offset."""

    def __init__(self) -> None:
        self.raw = b"\0"

    def __call__(self, name: str) -> int:
        offset = len(self.raw)
        self.raw += name.encode() + b"\0"
        return offset


def _types(records: list[int], names: _Names) -> bytes:
    raw = struct.pack(f"<{len(records)}I", *records)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(raw), len(raw), len(names.raw))
    return header + raw + names.raw

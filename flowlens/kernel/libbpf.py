"""The C library libbpf.so.1 by ctypes: only the calls we use, with errors as exceptions.

PyPI has no binding with batch reads, per-program autoload and iterators; the C library is the
well-kept one. Everything above deals in file descriptors, so that both engines share it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from flowlens.kernel import errors

BPF_TRACE_ITER = 28  # enum bpf_attach_type, include/uapi/linux/bpf.h
MEMBARRIER_CMD_GLOBAL = 1  # membarrier(2)
_SYS_MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}

RingCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_POINTERS = (
    "bpf_object__open_file",
    "bpf_object__find_program_by_name",
    "bpf_object__next_program",
    "bpf_object__next_map",
    "ring_buffer__new",
    "btf__load_vmlinux_btf",
    "btf__parse_elf",
    "btf__type_by_id",
)
_TEXTS = ("bpf_program__name", "bpf_map__name", "btf__name_by_offset", "bpf_program__section_name")


class LinkCreateOptions(ctypes.Structure):
    """struct bpf_link_create_opts of libbpf 1.x, as far as iterators need it."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("iter_info", ctypes.c_void_p),
        ("iter_info_len", ctypes.c_uint32),
        ("target_btf_id", ctypes.c_uint32),
        ("rest", ctypes.c_uint64 * 4),
    )


class MapCreateOptions(ctypes.Structure):
    """struct bpf_map_create_opts of libbpf 1.x."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("btf_fds", ctypes.c_uint32 * 4),
        ("inner_map_fd", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("map_extra", ctypes.c_uint64),
        ("numa_node", ctypes.c_uint32),
        ("map_ifindex", ctypes.c_uint32),
    )


@cache
def library() -> ctypes.CDLL:
    """The loaded library; silent, because messages come from the verifier's log and from errno.

    Raises errors.Unavailable when it is not installed.
    """
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise errors.Unavailable(
            f"libbpf.so.1 cannot be loaded ({error}): install it (Debian, Ubuntu: apt-get install libbpf1; "
            "Fedora: dnf install libbpf)"
        ) from error
    for name in _POINTERS:
        getattr(lib, name).restype = ctypes.c_void_p
    for name in _TEXTS:
        getattr(lib, name).restype = ctypes.c_char_p
    lib.libbpf_set_print(None)
    return lib


def check(result: int, action: str) -> int:
    """`result` if it is not negative, else errors.SystemCallFailed with errno and what was tried."""
    if result >= 0:
        return result
    number = ctypes.get_errno() or -result
    raise errors.SystemCallFailed(number, f"{action}: {os.strerror(number)} ({errno_name(number)})")


def errno_name(number: int) -> str:
    """EPERM for 1."""
    return errno.errorcode.get(number, str(number))


def pointer(result: Any, action: str) -> ctypes.c_void_p:
    """`result` as a pointer, or an error as in `check` when it is NULL."""
    if not result:
        check(-(ctypes.get_errno() or errno.EINVAL), action)
    return ctypes.c_void_p(result)


def attach_tracepoint(program_fd: int, name: str | None, label: str) -> int:
    """Link fd of a program on a tracepoint; `name` None for tp_btf. Closing the fd detaches."""
    encoded = name.encode() if name else None
    return check(library().bpf_raw_tracepoint_open(encoded, program_fd), f"attach {label}")


def attach_iterator(program_fd: int, label: str, map_fd: int | None = None) -> int:
    """Link fd of an iterator program, over a map's elements where `map_fd` is given."""
    info = (ctypes.c_uint32 * 4)(map_fd or 0)
    options = LinkCreateOptions(size=ctypes.sizeof(LinkCreateOptions))
    if map_fd is not None:
        options.iter_info = ctypes.addressof(info)
        options.iter_info_len = ctypes.sizeof(info)
    return check(
        library().bpf_link_create(program_fd, 0, BPF_TRACE_ITER, ctypes.byref(options)), f"attach {label}"
    )


def run_iterator(link_fd: int) -> bytes:
    """Runs the iterator once to its end and returns what it wrote."""
    fd = check(library().bpf_iter_create(link_fd), "create iterator")
    with open(fd, "rb", buffering=0, closefd=True) as file:
        return b"".join(iter(lambda: file.read(65536), b""))


def ring_buffer(map_fd: int, callback: Any) -> ctypes.c_void_p:
    """A consumer of a ring buffer map; the caller keeps `callback` alive."""
    return pointer(library().ring_buffer__new(map_fd, callback, None, None), "open ring buffer")


def grace_period() -> None:
    """Returns when every program that was running has ended (it may have used the old settings).

    membarrier(2) GLOBAL waits for an RCU grace period, and tracing programs run inside a read-side section.
    Kernels with nohz_full refuse it: there an update of a map-in-map does the same wait
    (maybe_wait_bpf_programs() in kernel/bpf/syscall.c), so we ask for one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYS_MEMBARRIER.get(os.uname().machine, -1)
    if libc.syscall(ctypes.c_long(number), MEMBARRIER_CMD_GLOBAL, 0, 0) == 0:
        return
    _grace_by_map_in_map()


@cache
def _nested_maps() -> tuple[int, int]:
    create: Callable[..., int] = library().bpf_map_create
    array, array_of_maps = 2, 12  # enum bpf_map_type
    inner = check(create(array, b"fl_inner", 4, 4, 1, None), "create map")
    options = MapCreateOptions(size=ctypes.sizeof(MapCreateOptions), inner_map_fd=inner)
    outer = check(create(array_of_maps, b"fl_outer", 4, 4, 1, ctypes.byref(options)), "create map of maps")
    return outer, inner


def _grace_by_map_in_map() -> None:
    outer, inner = _nested_maps()
    key, value = ctypes.c_uint32(0), ctypes.c_uint32(inner)
    check(
        library().bpf_map_update_elem(outer, ctypes.byref(key), ctypes.byref(value), 0),
        "wait for running programs",
    )

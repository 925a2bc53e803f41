"""What the running kernel's own type information (BTF) says: which tracepoints and enum values it has.

Numbers of drop and reset reasons differ per kernel release, so they are looked up here and never
written down. Parsing is libbpf's; we only walk single types.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from flowlens.kernel import errors, libbpf

VMLINUX = "/sys/kernel/btf/vmlinux"
_ENUM, _TYPEDEF = 6, 8  # BTF_KIND_*, include/uapi/linux/btf.h
_TYPE_BYTES = 12


def available(path: str | os.PathLike[str] = VMLINUX) -> bool:
    """Does the kernel publish its BTF (CONFIG_DEBUG_INFO_BTF)?"""
    return os.path.exists(path)


def require() -> None:
    """Raises errors.Unavailable where the kernel has no BTF."""
    if not available():
        raise errors.Unavailable(
            f"kernel has no BTF ({VMLINUX} is missing): it needs CONFIG_DEBUG_INFO_BTF=y; "
            "where it cannot be had, install python3-bpfcc and the kernel's headers and use --engine bcc"
        )


def tracepoints(wanted: Iterable[str]) -> frozenset[str]:
    """Those that this kernel has. Raises errors.Unavailable where it has no BTF or this cannot be read."""
    with _open_vmlinux() as btf:
        return frozenset(name for name in wanted if _find(btf, f"btf_trace_{name}", _TYPEDEF) > 0)


@contextmanager
def _open_vmlinux() -> Iterator[ctypes.c_void_p]:
    require()
    lib = libbpf.library()
    btf = libbpf.pointer(lib.btf__load_vmlinux_btf(), "read the kernel's BTF")
    try:
        yield btf
    finally:
        lib.btf__free(btf)


def _find(btf: ctypes.c_void_p, name: str, kind: int) -> int:
    return int(libbpf.library().btf__find_by_name_kind(btf, name.encode(), kind))


def reset_reasons() -> Mapping[int, str]:
    """This kernel's enum sk_rst_reason, names in lower case. Raises errors.Unavailable where it has no BTF."""
    with _open_vmlinux() as btf:
        return {number: reset_reason(name) for name, number in enum_values(btf, "sk_rst_reason").items()}


def reset_reason(name: str) -> str:
    """What users see of a value of enum sk_rst_reason."""
    return name.removeprefix("SK_RST_REASON_").removeprefix("TCP_").lower()


def enum_values(btf: ctypes.c_void_p, name: str) -> dict[str, int]:
    """Values of an enum by name; empty where the kernel has no such enum."""
    lib = libbpf.library()
    number = _find(btf, name, _ENUM)
    if number <= 0:
        return {}
    address = lib.btf__type_by_id(btf, number)
    entries = ctypes.cast(address, ctypes.POINTER(ctypes.c_uint32))[1] & 0xFFFF  # vlen of btf_type.info
    values = ctypes.cast(address + _TYPE_BYTES, ctypes.POINTER(ctypes.c_int32))
    return {
        lib.btf__name_by_offset(btf, values[2 * index]).decode(): values[2 * index + 1]
        for index in range(entries)
    }

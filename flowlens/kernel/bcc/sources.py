"""The C files, and the few headers that stand in for a kernel tree where types come from BTF."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from flowlens.kernel import errors

MAIN = "flowlens.c"
KERN_H, KERN_PADDED_H = "kern.h", "kern_padded.h"

_TYPES = """\
typedef signed char __s8; typedef unsigned char __u8; typedef short __s16; typedef unsigned short __u16;
typedef int __s32; typedef unsigned int __u32; typedef long long __s64; typedef unsigned long long __u64;
#define __aligned_u64 __u64 __attribute__((aligned(8)))
typedef __u16 __be16; typedef __u32 __be32; typedef __u64 __be64; typedef __u32 __wsum; typedef __u16 __sum16;
typedef __u8 u8; typedef __u16 u16; typedef __u32 u32; typedef __u64 u64; typedef __s64 s64;
typedef __s32 s32; typedef _Bool bool; typedef unsigned long size_t; typedef unsigned long uintptr_t;
"""
STAND_IN: Mapping[str, str] = {
    "include/linux/kconfig.h": (
        "#define CONFIG_BPF_SYSCALL 1\n#define __always_inline inline __attribute__((always_inline))\n"
    ),
    "include/linux/types.h": _TYPES,
    "include/linux/version.h": "#define LINUX_VERSION_CODE 0\n#define KERNEL_VERSION(a, b, c) 0\n",
    "include/linux/bpf_common.h": "",
    "include/linux/log2.h": "",
    "include/asm/page.h": "#define PAGE_SIZE 4096\n",
    "include/uapi/linux/bpf.h": "",
    "include/uapi/linux/if_ether.h": "",
    "include/uapi/linux/if_packet.h": "",
    "include/uapi/linux/ptrace.h": "",
}
"""bcc includes these of a kernel tree, whatever it compiles; our programs need none of what is in them."""


def folder() -> Path:
    """Where the C files are: in a checkout beside the package, else inside it. Raises errors.Unavailable."""
    package = Path(str(resources.files("flowlens")))
    for candidate in (package.parent / "bpf", package / "bpf_sources"):
        if (candidate / MAIN).exists():
            return candidate
    raise errors.Unavailable(
        f"the C files of the programs are not installed ({package / 'bpf_sources'} is missing): "
        "install flow-lens from a wheel or a checkout, or use --engine core"
    )


def read(source_folder: Path) -> dict[str, str]:
    """Text of every C file by name."""
    return {path.name: path.read_text() for path in sorted(source_folder.glob("*.[ch]"))}


def digest(files: Mapping[str, str]) -> str:
    """SHA-256 over names and texts."""
    sha = hashlib.sha256()
    for name, text in sorted(files.items()):
        sha.update(f"{name}\0{len(text)}\0{text}".encode())
    return sha.hexdigest()

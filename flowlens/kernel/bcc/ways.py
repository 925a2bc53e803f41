"""Which of the three ways this node allows, and what identifies the kernel build that bytecode fits."""

from __future__ import annotations

import enum
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from flowlens.kernel import btf, errors

MODULES = Path("/lib/modules")
HEADERS_VARIABLE = "FLOWLENS_KERNEL_HEADERS"
KERNEL_ARCHIVE = Path("/sys/kernel/kheaders.tar.xz")
"""Headers that a kernel with CONFIG_IKHEADERS carries; we do not unpack them, and say so where somebody may hope."""
_MADE_BY_BUILD = "include/generated/autoconf.h"
_RELEASE = re.compile(r"(\d+)\.(\d+)")
_COMMON = re.compile(r"^include\s+(\S+)/Makefile", re.MULTILINE)


class Way(enum.StrEnum):
    """`TYPED`: BTF, 5.11 or newer, all that `core` does. `RAW`: BTF, raw tracepoints. `HEADERS`: no BTF, else as raw."""

    TYPED = "typed"
    RAW = "raw"
    HEADERS = "headers"


@dataclass(frozen=True, slots=True)
class Headers:
    """A kernel's headers: `source` has the tree, `build` what its build generated; often they are one."""

    source: Path
    build: Path

    def flags(self, machine: str) -> tuple[str, ...]:
        """What bcc does not add by itself: the build's part where it is a tree of its own (Debian)."""
        if self.source == self.build:
            return ()
        arch = {"x86_64": "x86", "aarch64": "arm64"}.get(machine, machine)
        parts = (f"arch/{arch}/include/generated", f"arch/{arch}/include/generated/uapi", "include")
        return tuple(f"-I{self.build / part}" for part in (*parts, "include/generated/uapi"))


def choose(way: str | None, *, types: Path = Path(btf.VMLINUX)) -> Way:
    """The best way this node allows, or the one asked for. Raises errors.Unavailable where it cannot be had."""
    if way is not None:
        wanted = Way(way)
        if wanted is not Way.HEADERS and not btf.available(types):
            raise errors.Unavailable(
                f"kernel has no BTF ({types} is missing), which way {wanted} of engine bcc needs: use its way headers"
            )
        return wanted
    if not btf.available(types):
        return Way.HEADERS
    return Way.TYPED if release() >= (5, 11) else Way.RAW


def release(text: str | None = None) -> tuple[int, int]:
    """Major and minor number of the running kernel, or of a release's text."""
    match = _RELEASE.match(text or os.uname().release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def kernel_build(way: Way, headers: Headers | None, *, types: Path = Path(btf.VMLINUX)) -> str:
    """Identifies the kernel build: release and version, and the content of its BTF or the state of its headers."""
    uname = os.uname()
    parts = [uname.release, uname.version, uname.machine]
    if way is not Way.HEADERS:
        parts.append(hashlib.sha256(types.read_bytes()).hexdigest())
    elif headers is not None:
        state = (headers.build / _MADE_BY_BUILD).stat()
        parts += [str(headers.build), str(state.st_mtime_ns), str(state.st_size)]
    return "\n".join(parts)


def find_headers() -> Headers:
    """The running kernel's headers, or those in $FLOWLENS_KERNEL_HEADERS. Raises errors.Unavailable."""
    asked = os.environ.get(HEADERS_VARIABLE)
    build = Path(asked) if asked else MODULES / os.uname().release / "build"
    if not (build / _MADE_BY_BUILD).exists():
        raise errors.Unavailable(
            f"the kernel's headers, which way headers of engine bcc needs, are not in {build} (no {_MADE_BY_BUILD}): "
            f"install them (Debian, Ubuntu: apt-get install linux-headers-{os.uname().release}), or say where they "
            f"are in ${HEADERS_VARIABLE}{_archive_remark()}"
        )
    return Headers(_source_of(build), build)


def _archive_remark() -> str:
    return f"; {KERNEL_ARCHIVE} is there, but is not used" if KERNEL_ARCHIVE.exists() else ""


def _source_of(build: Path) -> Path:
    """Debian's build tree has no headers of its own; its Makefile includes the one of the tree that has."""
    if (build / "include/linux/kconfig.h").exists():
        return build
    makefile = build / "Makefile"
    match = _COMMON.search(makefile.read_text()) if makefile.exists() else None
    candidates = [
        build.parent / "source",
        *([Path(match[1]), build.parent / Path(match[1]).name] if match else []),
    ]
    for candidate in candidates:
        if (candidate / "include/linux/kconfig.h").exists():
            return candidate
    raise errors.Unavailable(
        f"{build} is half of the kernel's headers, the common half is missing (looked in "
        f"{', '.join(map(str, candidates))}): install the package that it depends on"
    )

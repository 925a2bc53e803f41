"""Engine `core`: the object that clang built once, loaded by libbpf with CO-RE relocations.

An engine turns sources into file descriptors and a reason for each program that it could not load;
attaching, maps and reading are the tracer's business and the same for every engine.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

from flowlens.kernel import btf, errors, libbpf, probes

NAME = "core"
_LOG_BYTES = 1 << 20
_EPERM, _ENOENT = 1, 2


class Loaded(NamedTuple):
    """What an engine yields; file descriptors are the receiver's to close.

    `failures`: hook -> why its program is not among `programs`. `typed`: attach as tp_btf, without a name.
    `reset_reasons`: asks for them when they are needed, which is after the programs are attached.
    `way`: which of its ways an engine took, where it has several. `links`: attached by the engine for itself.
    `always`: hooks that stay attached whatever the configuration says.
    """

    engine: str
    maps: Mapping[str, int]
    programs: Mapping[str, int]
    failures: Mapping[str, str]
    reset_reasons: Callable[[], Mapping[int, str]]
    typed: bool = True
    way: str = ""
    links: Mapping[str, int] = MappingProxyType({})
    always: frozenset[str] = frozenset()

    def close(self) -> None:
        """For programs that nobody wants after all."""
        for fd in (*self.links.values(), *self.maps.values(), *self.programs.values()):
            os.close(fd)


def object_path() -> str:
    """The compiled object. Raises errors.Unavailable when it was not built."""
    path = os.path.join(os.path.dirname(os.path.dirname(__file__)), "flowlens.bpf.o")
    if not os.path.exists(path):
        raise errors.Unavailable(f"{path} is missing: build it with `make bpf` (needs clang 14 or newer)")
    return path


def load() -> Loaded:
    """Loads every program that this kernel accepts.

    Raises errors.Unavailable without BTF, libbpf or privileges, errors.LoadFailed when nothing loads.
    """
    require_privileges()
    path = object_path()
    btf.require()
    hooks = frozenset(probes.BY_HOOK)
    failures: dict[str, str] = {}
    try:
        maps, programs = _load_set(path, hooks)
    except errors.KernelError:
        # Only now is it worth 12 ms to ask the kernel what it has.
        failures = _without_tracepoint()
        failures |= _failures_one_by_one(path, hooks - failures.keys())
        maps, programs = _load_set(path, hooks - failures.keys())
    return Loaded(NAME, maps, programs, failures, btf.reset_reasons)


def _without_tracepoint() -> dict[str, str]:
    present = btf.tracepoints(probes.TRACEPOINTS.values())
    return {
        hook: "this kernel has no such tracepoint"
        for hook, tracepoint in probes.TRACEPOINTS.items()
        if tracepoint not in present
    }


def require_privileges() -> None:
    """Raises errors.Unavailable unless this process is seen to have CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN)."""
    effective = int(_status_field("CapEff"), 16)
    cap_perfmon, cap_bpf, cap_sys_admin = 1 << 38, 1 << 39, 1 << 21
    if effective & cap_sys_admin or (effective & cap_bpf and effective & cap_perfmon):
        return
    missing = [
        name for name, bit in (("CAP_BPF", cap_bpf), ("CAP_PERFMON", cap_perfmon)) if not effective & bit
    ]
    raise errors.Unavailable(
        f"this process lacks {' and '.join(missing)}: run it as root, or give the container these capabilities"
    )


def _status_field(name: str) -> str:
    path = "/proc/self/status"
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError as error:
        raise errors.Unavailable(
            f"capabilities of this process cannot be read ({path}: {error.strerror}): "
            "mount a proc file system on /proc"
        ) from error
    for line in text.splitlines():
        if line.startswith(name + ":"):
            return line.split()[1]
    return "0"


def _load_set(path: str, hooks: frozenset[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Loads the object with the programs of these hooks only; returns copies of the file descriptors."""
    with _opened(path) as handle:
        lib = libbpf.library()
        handles = {}
        for program in probes.PROGRAMS:
            found = lib.bpf_object__find_program_by_name(handle, program.name.encode())
            handles[program.hook] = libbpf.pointer(found, f"find program {program.name}")
            lib.bpf_program__set_autoload(handles[program.hook], program.hook in hooks)
        libbpf.check(lib.bpf_object__load(handle), f"load {os.path.basename(path)}")
        programs = {hook: os.dup(lib.bpf_program__fd(handles[hook])) for hook in sorted(hooks)}
        return dict(_map_fds(handle)), programs


def _map_fds(handle: ctypes.c_void_p) -> Iterator[tuple[str, int]]:
    lib = libbpf.library()
    current = lib.bpf_object__next_map(handle, None)
    while current:
        name = lib.bpf_map__name(ctypes.c_void_p(current)).decode()
        yield name, os.dup(lib.bpf_map__fd(ctypes.c_void_p(current)))
        current = lib.bpf_object__next_map(handle, ctypes.c_void_p(current))


@contextmanager
def _opened(path: str) -> Iterator[ctypes.c_void_p]:
    lib = libbpf.library()
    handle = libbpf.pointer(lib.bpf_object__open_file(str(path).encode(), None), f"open {path}")
    try:
        yield handle
    finally:
        lib.bpf_object__close(handle)


def _failures_one_by_one(path: str, hooks: frozenset[str]) -> dict[str, str]:
    """The slow way, only when loading all failed: which programs are refused, and in the verifier's words."""
    failures = {}
    for hook in sorted(hooks):
        try:
            maps, programs = _load_set(path, frozenset((hook,)))
        except errors.SystemCallFailed as error:
            failures[hook] = _verifier_words(path, hook) or str(error)
        else:
            for fd in (*maps.values(), *programs.values()):
                os.close(fd)
    if len(failures) == len(hooks):
        first = next(iter(failures.values()), "no program to load")
        raise errors.LoadFailed(f"no BPF program could be loaded: {first}", first)
    return failures


def _verifier_words(path: str, hook: str) -> str:
    lib = libbpf.library()
    log = ctypes.create_string_buffer(_LOG_BYTES)
    with _opened(path) as handle:
        for program in probes.PROGRAMS:
            found = ctypes.c_void_p(lib.bpf_object__find_program_by_name(handle, program.name.encode()))
            if not found:  # an object of another version of ours
                continue
            lib.bpf_program__set_autoload(found, program.hook == hook)
            if program.hook == hook:
                lib.bpf_program__set_log_buf(found, log, ctypes.c_size_t(_LOG_BYTES))
        lib.bpf_object__load(handle)
    lines = [line for line in log.value.decode(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("processed ", "verification time", "stack depth"))]
    return told[-1][:300] if told else ""

"""Puts the engine together: way, bytecode from the cache or from the compiler, maps, programs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import msgspec

from flowlens import metrics
from flowlens.kernel import btf, core, errors, libbpf, probes
from flowlens.kernel.bcc import bytecode, cache, compiler, generator, kernel_types, loader, sources, ways

NAME = "bcc"
FORGET_TRACEPOINT = "tcp_destroy_sock"
FORGET_FUNCTIONS = ("hook_tcp_destroy_sock", "again_tcp_destroy_sock")
"""Drop a socket from the table that stands in for socket storage; attached here, for no metric asks for them."""
KEPT_WITHOUT_ITERATORS = frozenset((metrics.SET_STATE, *probes.TWINS.values(), metrics.RETRANSMIT))
"""Sockets cannot be looked at again when a metric is switched on, so their entries must never be out of date."""
WITHOUT_ITERATORS: Mapping[str, str] = {
    "task_file": "way {way} of engine bcc has no iterators: sockets that were open before the agent have no pid, "
    "and are not among the open connections",
    "sk_storage": "way {way} of engine bcc has no socket storage: open connections cannot be listed by flow",
}
_ITERATORS = {"task_file": "bpf_iter_task_file", "sk_storage": "bpf_iter_bpf_sk_storage_map"}
_BCC_PLACES = (
    "/usr/lib/*/libbcc.so.0",
    "/usr/lib64/libbcc.so.0",
    "/usr/lib/libbcc.so.0",
    "/usr/local/lib*/libbcc.so.0",
)


def load(way: str | None = None, *, store: cache.Cache | None = None) -> core.Loaded:
    """Loads what this kernel accepts, by the best way it allows or the one asked for.

    Raises errors.Unavailable without privileges, bcc or types; compiler.CompilerFailed; errors.LoadFailed when
    a program that must be there is refused.
    """
    core.require_privileges()
    chosen = ways.choose(way)
    try:
        return _load(bytecode_for(chosen, store or cache.Cache()))
    except errors.LoadFailed:
        if way is not None or chosen is not ways.Way.TYPED:
            raise
        return _load(bytecode_for(ways.Way.RAW, store or cache.Cache()))


def bytecode_for(way: ways.Way, store: cache.Cache) -> bytecode.Bytecode:
    """From the cache, else compiled and cached."""
    files = sources.read(sources.folder())
    headers = ways.find_headers() if way is ways.Way.HEADERS else None
    key = _key(way, headers, files)
    cached = store.read(key)
    if cached is not None:
        try:
            return msgspec.json.decode(cached, type=bytecode.Bytecode)
        except msgspec.DecodeError:
            pass  # written by a version of ours that meant something else: make it anew
    built = build(way, files, headers)
    store.write(key, msgspec.json.encode(built))
    return built


def build(way: ways.Way, files: Mapping[str, str], headers: ways.Headers | None = None) -> bytecode.Bytecode:
    """Compiles. Raises as compiler.compile_programs, and bytecode.Malformed."""
    if way is ways.Way.HEADERS and headers is not None:
        return _finish(way, _compile_with_headers(files, headers), {}, {}, {})
    with kernel_types.opened() as types:
        padded = generator.generate(files[sources.KERN_H], types)
        attach_ids, absent = _places(types)
        reasons = {
            number: btf.reset_reason(name) for name, number in types.enum_values("sk_rst_reason").items()
        }
    order = compiler.Order(
        files={**files, sources.KERN_PADDED_H: padded},
        main=sources.MAIN,
        flags=("-DTYPED",) if way is ways.Way.TYPED else (),
        tree=sources.STAND_IN,
    )
    return _finish(
        way, compiler.compile_programs(order), attach_ids if way is ways.Way.TYPED else {}, absent, reasons
    )


def _compile_with_headers(files: Mapping[str, str], headers: ways.Headers) -> compiler.Compiled:
    order = compiler.Order(
        files=files,
        main=sources.MAIN,
        flags=("-DWITH_HEADERS", *headers.flags(os.uname().machine)),
        kernel_tree=headers.source,
    )
    return compiler.compile_programs(order)


def _finish(
    way: ways.Way,
    compiled: compiler.Compiled,
    attach_ids: dict[str, int],
    absent: dict[str, str],
    reset_reasons: dict[int, str],
) -> bytecode.Bytecode:
    programs, maps = bytecode.split(compiled.functions)
    return bytecode.Bytecode(way, compiled.bcc, programs, maps, attach_ids, absent, reset_reasons)


def _places(types: kernel_types.Types) -> tuple[dict[str, int], dict[str, str]]:
    """BTF ids of what hooks attach to, and the hooks for which there is nothing."""
    ids = {
        hook: types.find(f"btf_trace_{tracepoint}", kernel_types.TYPEDEF)
        for hook, tracepoint in probes.TRACEPOINTS.items()
    }
    ids |= {hook: types.find(name, kernel_types.FUNC) for hook, name in _ITERATORS.items()}
    absent = {hook: "this kernel has no such tracepoint" for hook in probes.TRACEPOINTS if not ids[hook]}
    absent |= {hook: "this kernel has no such iterator" for hook in _ITERATORS if not ids[hook]}
    return ids, absent


def _load(built: bytecode.Bytecode) -> core.Loaded:
    typed = built.way == ways.Way.TYPED
    failures = dict(built.absent)
    if not typed:
        failures |= {hook: reason.format(way=built.way) for hook, reason in WITHOUT_ITERATORS.items()}
    hooks = {program.hook: program.name for program in probes.PROGRAMS if program.hook not in failures}
    maps = loader.make_maps(built.maps, typed=typed, release=ways.release())
    programs, refused = loader.load(built, maps, hooks)
    failures |= refused
    try:
        _require_core(programs, refused)
        links = {} if typed else _attach_forget(built, maps)
    except errors.KernelError:
        loader.close(programs)
        loader.close(maps)
        raise
    always = frozenset() if typed else KEPT_WITHOUT_ITERATORS & programs.keys()
    return core.Loaded(
        NAME, maps, programs, failures, lambda: built.reset_reasons, typed, str(built.way), links, always
    )


def _require_core(programs: Mapping[str, int], refused: Mapping[str, str]) -> None:
    if any(probes.BY_HOOK[hook].core for hook in programs):
        return
    first = next(iter(refused.values()), "no program to load")
    raise errors.LoadFailed(f"no BPF program could be loaded: {first}", first)


def _attach_forget(built: bytecode.Bytecode, maps: Mapping[str, int]) -> dict[str, int]:
    """Without them closed sockets would fill the table and lend their entries to new ones, so they must be there."""
    loaded, refused = loader.load(built, maps, {name: name for name in FORGET_FUNCTIONS})
    try:
        for name, reason in refused.items():
            raise errors.LoadFailed(f"{name}: {reason}", reason)
        return {
            name: libbpf.attach_tracepoint(fd, FORGET_TRACEPOINT, FORGET_TRACEPOINT)
            for name, fd in loaded.items()
        }
    finally:
        loader.close(loaded)


def _key(way: ways.Way, headers: ways.Headers | None, files: Mapping[str, str]) -> str:
    """Names all that shapes the result: kernel build, bcc, the C files and the code of this package."""
    package = Path(str(resources.files("flowlens.kernel.bcc")))
    ours = {path.name: path.read_text() for path in sorted(package.glob("*.py"))}
    parts = [
        way,
        ways.kernel_build(way, headers),
        sources.digest(files),
        sources.digest(ours),
        _bcc_identity(),
    ]
    return f"{way}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:40]}"


def _bcc_identity() -> str:
    """Of the installed compiler, found without starting it: its library's name (with version), size, time."""
    for place in _BCC_PLACES:
        for path in sorted(Path("/").glob(place.lstrip("/"))):
            state = path.stat()
            return f"{path.resolve().name} {state.st_size} {state.st_mtime_ns}"
    return "none"

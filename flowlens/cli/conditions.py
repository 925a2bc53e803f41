"""What this machine must have for the agent, each looked at by itself, so that several gaps show at once.

Every function answers with one Finding and never raises for what it looks for.
"""

from __future__ import annotations

import enum
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
import urllib3

from flowlens.host import cgroupfs, procfs
from flowlens.kernel import btf, core, errors, libbpf
from flowlens.server import address

OLDEST_KERNEL = (5, 11)
"""Iterators over socket storage and open files in all network namespaces as `core` uses them."""
_ANSWER_SECONDS = 1.0
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


class State(enum.StrEnum):
    """WARNING: the agent runs, with less than it could."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """`detail` says what is there or what is wrong, `remedy` what to do ("" when nothing is to be done)."""

    name: str
    state: State
    detail: str
    remedy: str = ""


def look(proc: Path, cgroup: Path, listen: str) -> tuple[Finding, ...]:
    """All conditions, in the order in which they would stop the agent."""
    return (
        kernel(),
        privileges(),
        kernel_types(),
        library(),
        programs(),
        processes(proc),
        cgroups(cgroup),
        port(proc, listen),
    )


def kernel() -> Finding:
    """The kernel's release against the oldest that the engine `core` was made for."""
    release, machine = platform.release(), platform.machine()
    found = re.match(r"(\d+)\.(\d+)", release)
    detail = f"Linux {release} on {machine}"
    if found and (int(found[1]), int(found[2])) >= OLDEST_KERNEL:
        return Finding("kernel", State.OK, detail)
    oldest = ".".join(map(str, OLDEST_KERNEL))
    return Finding("kernel", State.WARNING, detail, f"engine core is made for Linux {oldest} and newer")


def privileges() -> Finding:
    """May this process load programs?"""
    try:
        core.require_privileges()
    except errors.KernelError as error:
        return _failed("privileges", error)
    return Finding("privileges", State.OK, f"uid {os.geteuid()} may load BPF programs")


def kernel_types() -> Finding:
    """Does the kernel publish its types (BTF)?"""
    try:
        btf.tracepoints(())
    except errors.KernelError as error:
        return _failed("kernel types", error)
    size = os.stat(btf.VMLINUX).st_size
    return Finding("kernel types", State.OK, f"BTF of {size / 1e6:.1f} MB in {btf.VMLINUX}")


def library() -> Finding:
    """libbpf.so.1 and its version."""
    try:
        lib = libbpf.library()
    except errors.KernelError as error:
        return _failed("libbpf", error)
    return Finding("libbpf", State.OK, f"{lib.libbpf_major_version()}.{lib.libbpf_minor_version()}")


def programs() -> Finding:
    """The compiled programs of this installation."""
    try:
        path = core.object_path()
    except errors.KernelError as error:
        return _failed("programs", error)
    return Finding("programs", State.OK, str(path))


def processes(proc: Path) -> Finding:
    """Processes and their network namespaces, from which names of some sockets are learnt."""
    try:
        found = procfs.netns_pids(proc)
    except OSError as error:
        found, why = None, f"{proc} cannot be read: {error.strerror}"
    else:
        why = f"{proc} shows no process"
    if found is None or not (found.by_netns or found.unreadable):
        remedy = "mount the host's /proc and name it with --host-proc; until then some owners stay unnamed"
        return Finding("processes", State.WARNING, why, remedy)
    seen = sum(map(len, found.by_netns.values()))
    detail = f"{seen} seen, network namespaces: {len(found.by_netns)}"
    if found.unreadable:
        detail += f", processes that may not be read: {found.unreadable}"
    if found.unreadable <= seen:  # single ones are those with more privileges than ours; nobody else can tell
        return Finding("processes", State.OK, detail)
    return Finding(
        "processes",
        State.WARNING,
        detail,
        "run as root, or give CAP_SYS_PTRACE: sockets of these processes may stay unnamed",
    )


def cgroups(root: Path) -> Finding:
    """Where the v2 hierarchy is, which says whose a socket is."""
    mount = cgroupfs.find_mount(root)
    if mount is None:
        return Finding(
            "cgroups",
            State.WARNING,
            f"no cgroup v2 below {root}",
            "boot with systemd.unified_cgroup_hierarchy=1, or mount the host's with --host-cgroup; "
            "until then owners are told by network namespace and process only",
        )
    tree = cgroupfs.scan(mount)
    layout = "v2" if mount.path == root else "hybrid, v2"
    detail = f"{layout} at {mount.path}, groups: {len(tree.paths)}"
    if not mount.is_whole:
        remedy = "share the host's cgroup namespace, or mount the host's /sys/fs/cgroup with --host-cgroup"
        return Finding("cgroups", State.WARNING, f"{detail}, a part of the hierarchy only", remedy)
    if tree.unreadable:
        return Finding(
            "cgroups",
            State.WARNING,
            f"{detail}, {tree.unreadable} unreadable",
            "run as root: names are missing",
        )
    return Finding("cgroups", State.OK, detail)


def port(proc: Path, listen: str) -> Finding:
    """Can the agent listen there, and if not, is it one that runs already?"""
    wanted = address.parse(listen)
    try:
        with address.listen(wanted, proc):
            return Finding("port", State.OK, f"{wanted} is free")
    except address.ServerError as error:
        detail, _, remedy = str(error).partition("; ")
    version = agent_version(wanted)
    if version:
        detail, remedy = f"{detail}, a flow-lens agent {version}", f"one agent per host is enough; {remedy}"
    return Finding("port", State.WARNING, detail, remedy)


class _Status(msgspec.Struct):
    """The part of an agent's /status that tells it from other JSON."""

    version: str
    engine: str


def agent_version(where: address.Address) -> str:
    """Version of the agent that serves there (without TLS), "" when there is none."""
    reachable = where._replace(host="127.0.0.1") if where.host in _ANY_ADDRESS else where
    url = f"http://{reachable}/status"
    try:
        answer = urllib3.request("GET", url, timeout=_ANSWER_SECONDS, retries=False)
        return msgspec.json.decode(answer.data, type=_Status).version
    except (urllib3.exceptions.HTTPError, msgspec.MsgspecError, UnicodeError):
        return ""


def _failed(name: str, error: errors.KernelError) -> Finding:
    detail, remedy = split(str(error))
    return Finding(name, State.FAILED, detail, remedy)


def split(message: str) -> tuple[str, str]:
    """Our errors say `what (facts): what to do`: the two halves, by the first colon outside brackets."""
    depth = 0
    for place, character in enumerate(message):
        depth += (character == "(") - (character == ")")
        if character == ":" and not depth and message[place + 1 : place + 2] == " ":
            return message[:place], message[place + 2 :]
    return message, ""

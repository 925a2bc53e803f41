"""The compiler's own process: gives up every privilege, then lets bcc compile what it is told on stdin.

Run by the system's Python (`python3 -I -c <this text>`), because Debian's bcc belongs to that one; so nothing
of ours can be imported here. The answer is JSON on the first stdout; whatever bcc prints goes to stderr.
"""

import base64
import ctypes
import json
import os
import platform
import resource
import signal
import sys
from typing import Any, NoReturn

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 22, 38, 47
SECCOMP_MODE_FILTER, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
CLONE_NEWIPC, CLONE_NEWNET = 0x08000000, 0x40000000
# include/uapi/linux/audit.h, and the numbers of socket(2), bpf(2), ptrace(2) and io_uring_setup(2).
DENIED = {
    "x86_64": (0xC000003E, (41, 321, 101, 425)),
    "aarch64": (0xC00000B7, (198, 280, 117, 425)),
}
X32 = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def fail(kind: str, message: str) -> NoReturn:
    answer({"error": kind, "message": message})
    os._exit(1)


def answer(document: "dict[str, object]") -> None:
    with os.fdopen(OUT, "w") as out:
        json.dump(document, out)


def checked(result: int, action: str) -> None:
    if result:
        fail("privileges", f"{action}: {os.strerror(ctypes.get_errno())}")


def limit(limits: "dict[str, int]") -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limits["memory"], limits["memory"]))
    resource.setrlimit(resource.RLIMIT_CPU, (limits["seconds"], limits["seconds"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits["file"], limits["file"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when memory is short, rather this process than any other


def leave_network() -> None:
    """A network namespace of its own where that is allowed; `refuse_calls` holds in any case."""
    libc.unshare(CLONE_NEWNET | CLONE_NEWIPC)


def drop_privileges(uid: int) -> None:
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        except OSError as error:
            fail("privileges", f"become uid {uid}: {error.strerror}")
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    checked(libc.capset(header, (ctypes.c_uint32 * 6)()), "drop capabilities")
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "forbid new privileges")
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after the change of uid, which resets it


def refuse_calls() -> None:
    """seccomp: socket, bpf, ptrace and io_uring_setup fail with EPERM; needs no privilege here."""
    if platform.machine() not in DENIED:
        return
    machine, numbers = DENIED[platform.machine()]
    load, equal, at_least, ret = 0x20, 0x15, 0x35, 0x06  # BPF_LD|W|ABS, JMP|JEQ|K, JMP|JGE|K, RET|K
    steps = [
        (load, 0, 0, 4),
        (equal, 0, len(numbers) + 2, machine),
        (load, 0, 0, 0),
        (at_least, len(numbers), 0, X32),
    ]
    steps += [(equal, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    steps += [
        (ret, 0, 0, 0x7FFF0000),
        (ret, 0, 0, 0x00050001),
    ]  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM
    raw = b"".join(
        code.to_bytes(2, "little") + bytes((yes, no)) + value.to_bytes(4, "little")
        for code, yes, no, value in steps
    )
    code = ctypes.create_string_buffer(raw, len(raw))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    program = Program(len(steps), ctypes.addressof(code))
    checked(
        libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0), "install seccomp filter"
    )


def compile_programs(order: "dict[str, Any]") -> "tuple[str, dict[str, str]]":
    try:
        import bcc  # type: ignore[import-not-found] # noqa: PLC0415 - only when nothing can be done with it
    except ImportError as error:
        fail("missing", str(error))
    try:
        module = bcc.BPF(text=order["text"], cflags=order["flags"])
    except Exception as error:  # noqa: BLE001 - bcc raises Exception itself
        fail("compile", str(error))
    names = [
        bcc.lib.bpf_function_name(module.module, i) for i in range(bcc.lib.bpf_num_functions(module.module))
    ]
    return bcc.__version__, {
        name.decode(): base64.b64encode(module.dump_func(name)).decode() for name in names
    }


OUT = os.dup(1)
os.dup2(2, 1)
order = json.load(sys.stdin)
limit(order["limits"])
leave_network()
drop_privileges(order["uid"])
refuse_calls()
if os.getppid() != order["parent"]:
    os._exit(1)
version, functions = compile_programs(order)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
answer({"bcc": version, "functions": functions, "peak_kib": peak})
os._exit(0)

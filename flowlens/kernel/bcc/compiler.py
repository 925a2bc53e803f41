"""Our side of the compiler: starts the child, waits within limits, believes nothing of its answer unchecked.

The child gets its order and gives its answer in memory files, so neither side can block the other and a
child that talks without end meets its own file size limit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import msgspec

from flowlens.kernel import errors

PYTHON = "/usr/bin/python3"
NOBODY = 65534
MEMORY_BYTES, CPU_SECONDS, WALL_SECONDS, FILE_BYTES = 1 << 30, 60, 120.0, 64 << 20
MAX_ANSWER_BYTES, MAX_MESSAGES_BYTES, MAX_INSTRUCTION_BYTES = 4 << 20, 1 << 16, 1 << 20
INSTALL_BCC = (
    "install it (Debian, Ubuntu: apt-get install python3-bpfcc; Fedora: dnf install python3-bcc), "
    "or use --engine core"
)


class CompilerFailed(errors.KernelError):
    """The child did not deliver; `output` is what it said, its last lines."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(f"{message}: {output}" if output else message)
        self.output = output


@dataclass(frozen=True, slots=True)
class Order:
    """What to compile. `files` and `tree` are texts by path; a `kernel_tree` that exists replaces `tree`."""

    files: Mapping[str, str]
    main: str
    flags: Sequence[str] = ()
    tree: Mapping[str, str] = field(default_factory=dict)
    kernel_tree: Path | None = None


class Compiled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Instructions by function name; `peak_kib` is the child's largest resident size."""

    bcc: str
    functions: dict[str, bytes]
    peak_kib: int


class _Refused(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    error: str
    message: str


def compile_programs(
    order: Order,
    *,
    python: str = PYTHON,
    script: str | None = None,
    wall_seconds: float = WALL_SECONDS,
    memory_bytes: int = MEMORY_BYTES,
) -> Compiled:
    """Raises errors.Unavailable without bcc or its Python, CompilerFailed for everything else."""
    if not os.access(python, os.X_OK):
        raise errors.Unavailable(
            f"engine bcc needs {python} with bcc, and there is no such program: {INSTALL_BCC}"
        )
    text = script or (resources.files("flowlens.kernel.bcc") / "child.py").read_text()
    with _workshop(order) as place:
        request = {
            "text": f'#include "{order.main}"\n',
            "flags": ["-DENGINE_BCC", "-Wno-int-conversion", f"-I{place / 'src'}", *order.flags],
            "limits": {"memory": memory_bytes, "seconds": CPU_SECONDS, "file": FILE_BYTES},
            "uid": NOBODY,
            "parent": os.getpid(),
        }
        environment = {
            "BCC_KERNEL_SOURCE": str(order.kernel_tree or place / "tree"),
            "TMPDIR": str(place / "tmp"),
            "HOME": "/nonexistent",
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
        }
        return _run(
            [python, "-I", "-c", text], json.dumps(request).encode(), environment, place / "tmp", wall_seconds
        )


@contextmanager
def _workshop(order: Order) -> Iterator[Path]:
    """A folder that the child can read, with one inside that it can write; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="flowlens-bcc-") as name:
        place = Path(name)
        place.chmod(0o755)
        _write_all(place / "src", order.files)
        _write_all(place / "tree", order.tree)
        (place / "tmp").mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(place / "tmp", NOBODY, NOBODY)
        yield place


def _write_all(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(mode=0o755)
    for name, text in files.items():
        path = folder / name
        for parent in reversed(path.relative_to(folder).parents):
            (folder / parent).mkdir(exist_ok=True)
            (folder / parent).chmod(0o755)  # whatever the umask is
        path.write_text(text)
        path.chmod(0o644)


def _run(
    command: Sequence[str], request: bytes, environment: Mapping[str, str], place: Path, wall_seconds: float
) -> Compiled:
    with _memory_file(request) as order, _memory_file(b"") as out, _memory_file(b"") as messages:
        child = subprocess.Popen(  # noqa: S603 - the interpreter is fixed and the script is ours
            command,
            stdin=order,
            stdout=out,
            stderr=messages,
            env=environment,
            cwd=place,
            start_new_session=True,
        )
        try:
            status = child.wait(wall_seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(
                    child.pid, signal.SIGKILL
                )  # it leads a session of its own: only it and what it started
            child.wait()
        return _judge(status, wall_seconds, _read(out, MAX_ANSWER_BYTES), _tail(messages))


@contextmanager
def _memory_file(content: bytes) -> Iterator[int]:
    fd = os.memfd_create("flowlens-bcc")
    try:
        os.pwrite(fd, content, 0)
        yield fd
    finally:
        os.close(fd)


def _read(fd: int, limit: int) -> bytes:
    return os.pread(fd, limit + 1, 0)


def _tail(fd: int) -> str:
    size = os.fstat(fd).st_size
    raw = os.pread(fd, MAX_MESSAGES_BYTES, max(0, size - MAX_MESSAGES_BYTES))
    lines = [line for line in raw.decode(errors="replace").splitlines() if line.strip()]
    errors_first = [line for line in lines if "error" in line.lower()]
    return "; ".join((errors_first or lines)[-5:])[:1000]


def _judge(status: int | None, wall_seconds: float, answer: bytes, messages: str) -> Compiled:
    if status is None:
        raise CompilerFailed(
            f"the bcc compiler did not finish within {wall_seconds:.0f} s and was stopped", messages
        )
    if status < 0:
        name = signal.Signals(-status).name
        raise CompilerFailed(f"the bcc compiler died of {name}{_cause(-status)}", messages)
    if len(answer) > MAX_ANSWER_BYTES:
        raise CompilerFailed(f"the bcc compiler answered with more than {MAX_ANSWER_BYTES} bytes", messages)
    try:
        decoded = msgspec.json.decode(answer, type=Compiled) if status == 0 else _refusal(answer, messages)
    except msgspec.DecodeError as error:
        raise CompilerFailed(
            f"the bcc compiler (exit status {status}) gave no valid answer ({error})", messages
        ) from error
    _check(decoded)
    return decoded


def _cause(number: int) -> str:
    match number:
        case signal.SIGKILL:
            return " (out of memory?)"
        case signal.SIGXCPU:
            return f" (more than {CPU_SECONDS} s of CPU time)"
        case signal.SIGABRT:
            return f" (more than {MEMORY_BYTES >> 20} MiB of memory?)"
        case _:
            return ""


def _refusal(answer: bytes, messages: str) -> Compiled:
    refused = msgspec.json.decode(answer, type=_Refused)
    match refused.error:
        case "missing":
            raise errors.Unavailable(
                f"engine bcc needs iovisor's bcc for {PYTHON} ({refused.message}): {INSTALL_BCC}"
            )
        case "privileges":
            raise CompilerFailed(
                f"the bcc compiler cannot give up its privileges ({refused.message}): "
                "give the agent CAP_SETUID and CAP_SETGID, or use --engine core"
            )
        case _:
            raise CompilerFailed(f"the bcc compiler refused the programs ({refused.message})", messages)


def _check(compiled: Compiled) -> None:
    if not compiled.functions:
        raise CompilerFailed("the bcc compiler delivered no function")
    for name, code in compiled.functions.items():
        if not name.isidentifier() or not code or len(code) % 8 or len(code) > MAX_INSTRUCTION_BYTES:
            raise CompilerFailed(
                f"the bcc compiler delivered {len(code)} bytes for {name!r}, which are no instructions"
            )

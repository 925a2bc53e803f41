"""The agent's own process: CPU, memory, descriptors, garbage collector, Python version.

Names, types and values are those of prometheus_client's collectors, and a test holds them against these. The
library itself is not imported: with it come ssl, urllib and wsgiref, 5 MiB on every node (measured).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import platform
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

from flowlens import exposition, metrics

_OWN = Path("/proc/self")
_RSS, _VSIZE, _START, _USER, _SYSTEM = 21, 20, 19, 11, 12  # columns of proc_pid_stat(5), after the name


def text() -> bytes:
    """Their text now."""
    families = [*_python()]
    with contextlib.suppress(OSError):  # /proc hidden from us: as the library, without these
        families += _process()
    return b"".join(exposition.render((), families))


def _process() -> Iterator[exposition.Family]:
    fields = (_OWN / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    started = _boot_seconds() + int(fields[_START]) / ticks
    cpu = (int(fields[_USER]) + int(fields[_SYSTEM])) / ticks
    resident = int(fields[_RSS]) * resource.getpagesize()
    gauge, counter = metrics.Kind.GAUGE, metrics.Kind.COUNTER
    yield _plain("virtual_memory_bytes", "Virtual memory size in bytes.", gauge, int(fields[_VSIZE]))
    yield _plain("resident_memory_bytes", "Resident memory size in bytes.", gauge, resident)
    yield _plain(
        "start_time_seconds", "Start time of the process since unix epoch in seconds.", gauge, started
    )
    yield _plain("cpu_seconds_total", "Total user and system CPU time spent in seconds.", counter, cpu)
    yield _plain("open_fds", "Number of open file descriptors.", gauge, len(os.listdir(_OWN / "fd")))
    yield _plain("max_fds", "Maximum number of open file descriptors.", gauge, _max_descriptors())


def _plain(name: str, about: str, kind: metrics.Kind, value: float) -> exposition.Family:
    return exposition.Family(f"process_{name}", about, kind, [({}, value)])


def _max_descriptors() -> float:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else soft


@functools.cache
def _boot_seconds() -> int:
    """Seconds since the epoch when this machine started; 0 where nobody tells."""
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    return 0


def _python() -> Iterator[exposition.Family]:
    yield exposition.Family(
        "python_info", "Python platform information", metrics.Kind.GAUGE, [(_interpreter(), 1)]
    )
    generations = gc.get_stats()
    for name, about, what in (
        ("objects_collected", "Objects collected during gc", "collected"),
        ("objects_uncollectable", "Uncollectable objects found during GC", "uncollectable"),
        ("collections", "Number of times this generation was collected", "collections"),
    ):
        samples = [({"generation": str(number)}, each[what]) for number, each in enumerate(generations)]
        yield exposition.Family(f"python_gc_{name}_total", about, metrics.Kind.COUNTER, samples)


@functools.cache
def _interpreter() -> Mapping[str, str]:
    major, minor, patchlevel = platform.python_version_tuple()
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "major": major,
        "minor": minor,
        "patchlevel": patchlevel,
    }

"""The engines beside each other: start cold and cached, memory, run time of each program, connections per second."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flowlens import metrics
from flowlens.kernel import core, engines, layout, libbpf, tracer
from flowlens.kernel.bcc import cache
from tests.kernel import namespace, traffic

ENGINES = (("core", None), ("bcc", "typed"), ("bcc", "raw"))
ROUNDS, CONNECTIONS = 7, 1500
SETTINGS = layout.Settings(
    enabled=frozenset(metrics.BY_NAME),
    bounds={
        name: tuple(int(bound * 1e9) for bound in metrics.BY_NAME[name].buckets) for name in layout.HISTOGRAMS
    },
)
BPF_STATS_RUN_TIME = 0  # enum bpf_stats_type

_STARTER = """
import json, resource, sys
sys.path.insert(0, sys.argv[3])
from benchmarks import engines
running = engines.start(sys.argv[1], sys.argv[2] or None)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
rss = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS:"))
print(json.dumps({"rss": rss, "child": peak}), flush=True)
sys.stdin.read()
"""


def start(engine: str, way: str | None) -> tracer.Tracer:
    """The kernel side as the agent starts it: loaded, attached, existing sockets looked at."""
    running = tracer.Tracer(engines.load(engine, way), SETTINGS)
    running.start()
    return running


def _name(engine: str, way: str | None) -> str:
    return f"{engine} {way}" if way else engine


def run() -> None:
    """Prints three tables; every figure is a median of interleaved rounds, ratios are against core."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[cache.FOLDER_VARIABLE] = str(Path(folder) / "cache")
        _print_starts(Path(folder) / "cache")
        _print_programs()
        _print_connections()


# start -------------------------------------------------------------------------------------------


def _print_starts(folder: Path) -> None:
    measured: dict[str, list[Mapping[str, float]]] = {}
    for _ in range(ROUNDS):
        for engine, way in ENGINES:
            if way:
                for entry in folder.glob(f"{way}*"):
                    entry.unlink()
                measured.setdefault(f"{_name(engine, way)}, compiled", []).append(_start(engine, way))
            measured.setdefault(f"{_name(engine, way)}{', cached' if way else ''}", []).append(
                _start(engine, way)
            )
    base = statistics.median(one["seconds"] for one in measured["core"])
    print("start: from the process to everything attached (imports of the kernel room included)")
    for name, rounds in measured.items():
        seconds = statistics.median(one["seconds"] for one in rounds)
        rss, child = (statistics.median(one[key] for one in rounds) / 1024 for key in ("rss", "child"))
        compiler = f", compiler's peak {child:.0f} MiB" if child else ""
        print(
            f"  {name:20} {seconds * 1000:6.0f} ms  ({seconds / base:5.2f} x core)  RSS {rss:.1f} MiB{compiler}"
        )


def _start(engine: str, way: str | None) -> Mapping[str, float]:
    root = str(Path(__file__).parent.parent)
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER, engine, way or "", root],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        seconds = time.perf_counter() - began
    return {**told, "seconds": seconds}


# programs ----------------------------------------------------------------------------------------


@contextmanager
def _measured_by_the_kernel() -> Iterator[None]:
    fd = libbpf.check(libbpf.library().bpf_enable_stats(BPF_STATS_RUN_TIME), "measure run time")
    try:
        yield
    finally:
        os.close(fd)


def _run_times(loaded: core.Loaded) -> dict[str, float]:
    """ns per run by hook, of those that ran often enough."""
    found = {}
    for hook, fd in loaded.programs.items():
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
        fields = dict(line.split(":\t") for line in lines if ":\t" in line)
        if int(fields["run_cnt"]) >= 100:
            found[hook] = int(fields["run_time_ns"]) / int(fields["run_cnt"])
    return found


def _print_programs() -> None:
    process = namespace.Process()
    measured: dict[str, dict[str, list[float]]] = {}
    with _measured_by_the_kernel():
        for _ in range(ROUNDS):
            for engine, way in ENGINES:
                loaded = engines.load(engine, way)
                running = tracer.Tracer(loaded, SETTINGS)
                running.start()
                _traffic(process)
                for hook, ns in _run_times(loaded).items():
                    measured.setdefault(hook, {}).setdefault(_name(engine, way), []).append(ns)
                running.close()
    process.close()
    print("programs: ns per run, with connections, refused connects and resets on loopback")
    for hook, by_engine in measured.items():
        base = statistics.median(by_engine["core"]) if "core" in by_engine else 0
        parts = [
            f"{name} {statistics.median(ns):6.0f}{_ratio(statistics.median(ns), base)}"
            for name, ns in by_engine.items()
        ]
        print(f"  {hook:22} {'   '.join(parts)}")


def _ratio(value: float, base: float) -> str:
    return f" ({value / base:.2f} x)" if base else ""


def _traffic(process: namespace.Process) -> None:
    process.run(traffic.exchange, "127.0.0.1", CONNECTIONS // 3)
    process.run(traffic.refused, "127.0.0.1", CONNECTIONS // 3)


# connections -------------------------------------------------------------------------------------


def _print_connections() -> None:
    process = namespace.Process()
    rates: dict[str, list[float]] = {}
    _rate(process)  # the first round finds cold caches
    for _ in range(ROUNDS):
        rates.setdefault("none", []).append(_rate(process))
        for engine, way in ENGINES:
            running = start(engine, way)
            rates.setdefault(_name(engine, way), []).append(_rate(process))
            running.close()
    process.close()
    print("connections per second on loopback, both ends traced")
    for name, measured in rates.items():
        ratio = statistics.median(one / none for one, none in zip(measured, rates["none"], strict=True))
        print(f"  {name:20} {statistics.median(measured):6.0f}/s  ({ratio:.3f} x without)")


def _rate(process: namespace.Process) -> float:
    return float(process.run(_connections_per_second, CONNECTIONS))


def _connections_per_second(count: int) -> float:
    act: Callable[..., None] = traffic.exchange
    began = time.perf_counter()
    act("127.0.0.1", count, 1)
    return count / (time.perf_counter() - began)

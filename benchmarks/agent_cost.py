"""What the agent itself costs: start, memory with many owners and many flows, scrapes, idling."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import agent_process
from tests.kernel import namespace, traffic

FLOWS = """
defaults: {enabled: false}
metrics:
  - {name: accept, labels: [src_ip, src_port, dst_ip, dst_port, pid], maxSeries: 100000}
limits: {maxSeries: 100000, maxFlows: 65536}
"""


def run() -> None:
    """Prints one line per figure."""
    _starts()
    _idle()
    _owners(1000)
    with tempfile.TemporaryDirectory() as folder:
        _flows(Path(folder))


def _starts(rounds: int = 11) -> None:
    starts, bare = [], []
    for _ in range(rounds):
        with agent_process.running() as agent:
            starts.append(agent)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import flowlens.agent.running"], check=True)
        bare.append(time.perf_counter() - began)
    print(f"from process start to ...               ms, median of {rounds} (min)")
    for what, moments in (
        ("the programs' loader imported", bare),
        ("last program attached", [start.attached for start in starts]),
        ("the line that says where to look", [start.started for start in starts]),
        ("first scrape served", [start.served for start in starts]),
    ):
        print(f"  {what:<36} {statistics.median(moments) * 1e3:>6.0f} ({min(moments) * 1e3:.0f})")


def _idle(seconds: float = 60.0) -> None:
    with agent_process.running() as agent:
        before, began = agent.cpu_seconds(), time.perf_counter()
        time.sleep(seconds)
        spent = agent.cpu_seconds() - before
        print(
            f"idle, unscraped              {spent / (time.perf_counter() - began) * 100:>7.2f} % of a core over {seconds:.0f} s"
        )
        print(f"RSS after start              {agent.rss_mib():>7.1f} MiB")


@contextmanager
def _cgroups(count: int) -> Iterator[list[Path]]:
    parent = namespace.CGROUPS / "flowlens-bench"
    parent.mkdir()
    made = [parent / f"owner{index}.service" for index in range(count)]
    try:
        for path in made:
            path.mkdir()
        yield made
    finally:
        for path in (*made, parent):
            path.rmdir()


def _owners(count: int) -> None:
    process = namespace.Process()
    with agent_process.running() as agent, _cgroups(count) as cgroups:
        for path in cgroups:
            process.enter_cgroup(path)
            process.run(traffic.exchange, "127.0.0.1", 2)
        process.enter_cgroup(namespace.CGROUPS)
        cpu = agent.cpu_seconds()
        text = agent.scrape()
        samples = sum(1 for line in text.splitlines() if not line.startswith(b"#"))
        for _ in range(9):
            agent.scrape()
        spent = (agent.cpu_seconds() - cpu) / 10
        print(
            f"RSS with {count:,} owners        {agent.rss_mib():>7.1f} MiB, {samples:,} samples, "
            f"{spent * 1e3:.0f} ms CPU a scrape"
        )
    process.close()


def _flows(folder: Path) -> None:
    process = namespace.Process()
    with agent_process.running(FLOWS, folder=folder) as agent:
        # Each connection is a flow of its own: two clients' worth of ports to several server ports.
        for _ in range(4):
            process.run(_many, 16_500, timeout=300)
        cpu = agent.cpu_seconds()
        samples = sum(1 for line in agent.scrape().splitlines() if line.startswith(b"ebpf_tcp_accept"))
        for _ in range(4):
            agent.scrape()
        spent = (agent.cpu_seconds() - cpu) / 5
        print(
            f"RSS with {samples:,} flow rows   {agent.rss_mib():>7.1f} MiB, {spent * 1e3:.0f} ms CPU a scrape"
        )
    process.close()


def _many(count: int) -> None:
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("1024 65000")
    traffic.exchange("127.0.0.1", count, 1)

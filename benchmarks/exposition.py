"""What a page costs: CPU of a render against prometheus_client on the same samples, interleaved.

    .venv/bin/python -m benchmarks.exposition [--rounds N] [--samples N ...] [--flows N]

Prints ratios side by side, then the time of a reading of many flow rows and the memory they take.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import struct
import time
from collections.abc import Callable, Iterator, Sequence

import prometheus_client
from prometheus_client import core, registry

from flowlens import config, exposition, identity, series
from flowlens.kernel import layout, reading

LABELS = ("namespace", "pod", "container", "workload", "workload_kind", "dst_ip", "dst_port")
SPEC = "{{limits: {{maxSeries: 1000000, maxFlows: 131072}}, metrics: [{{name: connect, labels: [{}]}}]}}"
CONNECT = 0


def identify(owner: identity.Owner) -> identity.Workload:
    """1,000 containers of 100 workloads."""
    number = owner.cgroup
    return identity.Workload(
        namespace=f"namespace-{number % 20}",
        pod=f"checkout-service-6d4cf56db6-{number:05d}",
        container="application",
        workload=f"checkout-service-{number % 100}",
        workload_kind="Deployment",
    )


def new_ledger() -> series.Ledger:
    """A ledger whose `connect` has a series per owner, peer and port."""
    ledger = series.Ledger(identify=identify, alive=lambda _: True)
    spec = config.load(SPEC.format(", ".join(LABELS)), source="benchmark")
    ledger.configure(config.resolve(spec, name="benchmark", generation=1), 1, 0.0)
    return ledger


def flows(count: int, value: int = 1) -> reading.Reading:
    """`count` rows of `flows`, all different."""
    keys, values = bytearray(), struct.pack("<QQ", value, 0) * count
    for number in range(count):
        remote = struct.pack(">I", 0x0A000000 + number).ljust(16, b"\0")
        keys += layout.FLOW.pack(
            1000 + number % 1000, 4026531840, 0, 1, 4, 1, CONNECT, 0, 0, 0, 443, 0, bytes(16), remote
        )
    return reading.Reading((), (reading.Table(memoryview(keys), memoryview(values), count),))


class Library:
    """The same samples as prometheus_client has them."""

    def __init__(self, ledger: series.Ledger) -> None:
        self.registry = registry.CollectorRegistry(auto_describe=False)
        self._counter = prometheus_client.Counter("ebpf_tcp_connect", "Connections.", LABELS, registry=None)
        for text, number in _values(ledger):
            self._counter.labels(*text).inc(number)
        self.registry.register(self)

    def collect(self) -> Iterator[core.Metric]:
        """The family without the `_created` samples, which text format 0.0.4 has no use for."""
        for family in self._counter.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


def _values(ledger: series.Ledger) -> Iterator[tuple[list[str], int]]:
    for view in ledger.views():
        if view.metric.number == CONNECT:
            for text, slot in view.names.items():
                yield [pair.split('"')[1] for pair in text.split('",')], view.counts[slot]


def ours(ledger: series.Ledger) -> int:
    """Renders a page; bytes of text."""
    return sum(map(len, exposition.render(ledger.views())))


def ours_compressed(ledger: series.Ledger) -> int:
    """Renders and compresses a page; bytes of text."""
    return exposition.compress(exposition.render(ledger.views())).text_bytes


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def compare(samples: int, rounds: int) -> None:
    """Prints one row: medians of `rounds` interleaved calls."""
    ledger = new_ledger()
    ledger.update(flows(samples), 1.0)
    library = Library(ledger)
    works: tuple[Callable[[], object], ...] = (
        lambda: ours(ledger),
        lambda: ours_compressed(ledger),
        lambda: prometheus_client.generate_latest(library.registry),
    )
    times = [[cpu_seconds(work) for work in works] for _ in range(rounds)]
    plain, compressed, theirs = (statistics.median(column) * 1000 for column in zip(*times, strict=True))
    print(
        f"{samples:>8,} {ours(ledger) / 1e6:>8.2f} {plain:>10.2f} {compressed:>12.2f} {theirs:>12.1f}"
        f" {theirs / plain:>10.1f}x {theirs / compressed:>10.1f}x"
    )


def resident_mib() -> float:
    """Resident memory of this process."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def measure_flows(count: int) -> None:
    """Prints time and memory of a ledger with this many flow rows, each a series of its own."""
    first, unchanged, changed = flows(count), flows(count), flows(count, 2)
    gc.collect()
    before = resident_mib()
    ledger = new_ledger()
    new = cpu_seconds(lambda: ledger.update(first, 1.0))
    after = resident_mib()
    same = min(cpu_seconds(lambda: ledger.update(unchanged, 2.0)) for _ in range(5))
    moved = cpu_seconds(lambda: ledger.update(changed, 3.0))
    page = exposition.compress(exposition.render(ledger.views()))
    print(f"\n{count:,} flow rows, a series each ({page.text_bytes / count:.0f} bytes of text):")
    print(
        f"  first reading {new * 1e3:.0f} ms, nothing changed {same * 1e3:.1f} ms, all changed {moved * 1e3:.0f} ms"
    )
    print(
        f"  RSS: +{after - before:.1f} MiB for the ledger"
        f" ({(after - before) * 2**20 / count:.0f} bytes per row);"
        f" {resident_mib() - after:+.1f} MiB more after a page"
    )


def run() -> None:
    """Both parts as they are, for `make bench`."""
    main([])


def main(arguments: Sequence[str] | None = None) -> None:
    """Both parts as the command line wants them."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--samples", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    options.add_argument("--flows", type=int, default=65_536)
    chosen = options.parse_args(arguments)
    measure_flows(chosen.flows)
    print("\nCPU ms of a page (median), against prometheus_client.generate_latest:")
    print(
        "{:>8} {:>8} {:>10} {:>12} {:>12} {:>11} {:>11}".format(
            "samples", "MB", "ours", "ours, gzip", "theirs", "ratio", "with gzip"
        )
    )
    for samples in chosen.samples:
        compare(samples, chosen.rounds)


if __name__ == "__main__":
    main()

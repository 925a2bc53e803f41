"""What a controller costs in a large cluster: a sweep of 5,000 agents, a change that all of them follow.

    python -m benchmarks.controller [--agents 5000] [--with-kubernetes]

A real etcd and kube-apiserver in a network namespace, nodes as objects, agents simulated by one
process with an address each. Printed: CPU seconds and memory of the controller, its requests
to the API server by the server's own audit log, and the time until a status is true. Needs root.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.controller import rules, world

TICKS = os.sysconf("SC_CLK_TCK")
LABELS = {
    "beta.kubernetes.io/arch": "amd64",
    "beta.kubernetes.io/os": "linux",
    "kubernetes.io/arch": "amd64",
    "kubernetes.io/os": "linux",
    "node.kubernetes.io/instance-type": "m6i.2xlarge",
    "topology.kubernetes.io/region": "eu-west-1",
    "failure-domain.beta.kubernetes.io/region": "eu-west-1",
    "node-role.kubernetes.io/worker": "",
}
"""What a node of a cloud carries beside its name, zone and pool."""


class Cost:
    """CPU and memory of a process, from its /proc."""

    def __init__(self, pid: int) -> None:
        self.proc = Path(f"/proc/{pid}")
        self.began = self.cpu_seconds()

    def cpu_seconds(self) -> float:
        fields = (self.proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def spent(self) -> float:
        """CPU seconds since the last call."""
        now = self.cpu_seconds()
        spent, self.began = now - self.began, now
        return spent

    def memory_mib(self, what: str) -> float:
        for line in (self.proc / "status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) / 1024
        raise KeyError(what)


def populate(place: world.World, number: int) -> None:
    """Nodes in chunks, by several kubectl side by side; then the EndpointSlices."""
    names = [f"ip-10-{n >> 8}-{n & 255}.eu-west-1.compute.internal" for n in range(number)]
    for name in names:
        place.agents.add(name)
        place.agents[name].series = {f"metric_{n}": 100 + n for n in range(20)}

    def create(chunk: list[str]) -> None:
        items = [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "labels": {**LABELS, "kubernetes.io/hostname": name, "pool": f"pool-{hash(name) % 7}"},
                    "annotations": {"filler": "x" * 2000},
                },
            }
            for name in chunk
        ]
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        place.server.kubectl("create", "-f", "-", stdin=content)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, [names[at : at + 250] for at in range(0, number, 250)]))
    place.publish()


def requests(place: world.World, since: int) -> collections.Counter[str]:
    """The controller's requests after the first `since`, by verb and resource."""
    found = place.server.requests(rules.ACCOUNT)[since:]
    return collections.Counter(
        f"{one['verb']} {one['objectRef'].get('resource', '')}"
        f"{'/' + one['objectRef']['subresource'] if one['objectRef'].get('subresource') else ''}"
        for one in found
        if one.get("objectRef") and one["stage"] == "ResponseComplete"
    )


def say(what: str, value: str) -> None:
    print(f"  {what:<58} {value}", flush=True)


def measure(place: world.World, number: int, *, with_kubernetes: bool) -> None:
    flags = ("--status-seconds=30", "--sweep-seconds=3600", "--timeout-seconds=3")
    with place.controller(*flags, wait=False, with_kubernetes=with_kubernetes) as running:
        began = time.monotonic()
        world.wait_until(lambda: running.answers("/readyz"), "ready", 120)
        cost = Cost(running.process.pid)
        all_seen = 'flow_lens_controller_agents{state="answering"}'
        world.wait_until(lambda: running.number(all_seen) == number, "first sweep", 300)
        say("start until all agents have answered once", f"{time.monotonic() - began:.1f} s")
        say("  CPU of start, lists and that sweep", f"{cost.cpu_seconds():.1f} s")
        say("  memory now / at its highest", _memory(cost))

        before = len(place.server.requests(rules.ACCOUNT))
        cost.spent()
        began = time.monotonic()
        generation = place.apply("everywhere")
        place.agents.follow("everywhere", generation)
        told = place.wait_for("everywhere", "Applied", "True", seconds=120)
        say(f"one change on {number} nodes: apply until Applied=True", f"{time.monotonic() - began:.1f} s")
        say("  CPU of the sweep and the judging", f"{cost.spent():.1f} s")
        say("  memory now / at its highest", _memory(cost))
        say("  writes to the API server", _counted(requests(place, before), ("patch", "create")))
        say("  status", told["message"])

        time.sleep(60)  # idle on purpose: this is the measurement
        say("a minute with nothing to do: CPU", f"{cost.spent():.2f} s")
        say("  all requests of the run", _counted(requests(place, 0), ()))


def _memory(cost: Cost) -> str:
    return f"{cost.memory_mib('VmRSS'):.0f} / {cost.memory_mib('VmHWM'):.0f} MiB"


def _counted(found: collections.Counter[str], verbs: tuple[str, ...]) -> str:
    chosen = {what: n for what, n in found.items() if not verbs or what.startswith(verbs)}
    return ", ".join(f"{n} {what}" for what, n in sorted(chosen.items())) or "none"


def run() -> None:
    """For `make bench`: the sizes that the documentation gives."""
    main(())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.controller", description=__doc__)
    parser.add_argument("--agents", type=int, default=5000)
    parser.add_argument(
        "--with-kubernetes",
        action="store_true",
        help="let kopf import the kubernetes package, which our image does not have",
    )
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-controller-") as folder:
        os.chmod(folder, 0o755)
        with world.running(Path(folder), audit_level="Metadata") as place:
            print(f"{chosen.agents} agents, CPython {sys.version.split()[0]}, kernel {os.uname().release}")
            populate(place, chosen.agents)
            measure(place, chosen.agents, with_kubernetes=chosen.with_kubernetes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

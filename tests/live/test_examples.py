"""Each file of examples/ applied with kubectl as it stands: what it promises shows on an agent's /metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from flowlens import metrics
from tests.agent import page as pages
from tests.agent import process
from tests.agent import traffic as visits
from tests.kernel import traffic
from tests.live import lens, pods
from tests.live import server as servers
from tests.live.conftest import MakePod, StartAgent
from tests.live.server import Server

pytestmark = [pytest.mark.cluster, pytest.mark.kernel]

EXAMPLES = {path.stem: path for path in sorted((servers.ROOT / "examples").glob("*.yaml"))}
CONNECTS, REFUSED = 6, 3


class Scene(NamedTuple):
    """An agent, and two pods: one that the narrower examples are about, and another one."""

    agent: lens.Agent
    meant: pods.Pod
    other: pods.Pod

    def act(self) -> None:
        """In both pods: connections to port 443 of their own, and to a port where nobody listens."""
        for pod in (self.meant, self.other):
            pod.run(visits.exchange_at, "127.0.0.1", 443, CONNECTS)
            pod.run(visits.refused_at, "127.0.0.1", 444, REFUSED)


@pytest.fixture
def scene(
    server: Server, start_agent: StartAgent, make_pod: MakePod, request: pytest.FixtureRequest
) -> Scene:
    project, labels = MEANT.get(request.node.callspec.params["name"], ("live-meant", {}))
    meant = make_pod("meant", project, labels=labels)
    return Scene(start_agent(), meant, make_pod("other", "live-other"))


MEANT: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "one-noisy-namespace": ("checkout", {"app.kubernetes.io/version": "v7"}),
    "per-port-latency": ("payments-eu", {"team": "payments"}),
}
Check = Callable[[Scene, pages.Page], None]


def families(page: pages.Page) -> set[str]:
    """Names, as the configuration calls them, of the metrics that are shown."""
    shown = {row.name for row in page.samples}
    return {
        metric.name for metric in metrics.CATALOGUE if shown & {metric.exposed, metric.exposed + "_count"}
    }


def label_names(page: pages.Page, metric: str, **where: str) -> set[str]:
    known = metrics.BY_NAME[metric]
    suffix = "_count" if known.kind is metrics.Kind.HISTOGRAM else ""
    rows = page.rows(known.exposed + suffix, **where)
    assert rows, f"{metric} {where} is not shown"
    return {label for row in rows for label in row.labels}


def errors_only(scene: Scene, page: pages.Page) -> None:
    assert not families(page) & {
        "accept",
        "connections",
        "connect_duration",
        "connection_duration",
        "retransmit",
    }
    for pod in (scene.meant, scene.other):
        assert page.sum("connect", namespace=pod.project) == CONNECTS + REFUSED
        failures = page.by("connect_failures", "reason", namespace=pod.project)
        assert failures == {("refused",): REFUSED}
    wanted = {"namespace", "workload", "workload_kind"}
    assert label_names(page, "connect", namespace=scene.meant.project) == wanted
    resets = {*wanted, "direction", "reason"}
    assert label_names(page, "reset", namespace=scene.meant.project) == resets


def full_default(scene: Scene, page: pages.Page) -> None:
    assert page.sum("accept", namespace=scene.meant.project, pod="meant", container="main") == CONNECTS
    assert label_names(page, "connect", namespace=scene.meant.project) == set(metrics.IDENTITY_LABELS)


def one_noisy_namespace(scene: Scene, page: pages.Page) -> None:
    assert page.sum("connect") == page.sum("connect", pod="meant", dst_ip="127.0.0.1") == CONNECTS + REFUSED
    assert page.sum("connect", dst_port="443") == CONNECTS
    assert page.sum("accept", src_port="443", label_app_kubernetes_io_version="v7") == CONNECTS
    assert page.sum("accept") == CONNECTS


def per_port_latency(scene: Scene, page: pages.Page) -> None:
    assert families(page) == {"connect_duration"}  # what was refused went to port 444
    ours = {"namespace": "payments-eu", "workload": "meant", "dst_port": "443", "label_team": "payments"}
    assert page.sum("connect_duration") == page.sum("connect_duration", **ours) == CONNECTS
    bounds = {row.labels["le"] for row in page.rows("ebpf_tcp_connect_duration_seconds_bucket")}
    assert bounds == {"0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.1", "1.0", "+Inf"}


def retransmits_only(scene: Scene, page: pages.Page) -> None:
    assert families(page) <= {"retransmit_segments", "synack_retransmit"}
    for row in page.rows("ebpf_tcp_synack_retransmit_total", node=scene.agent.node):
        assert set(row.labels) == {"node", "ip_version", "dst_ip"}
    assert page.sum("synack_retransmit", node=scene.agent.node, dst_ip="192.0.2.0") >= 1


def seed_labels(scene: Scene, page: pages.Page) -> None:
    assert families(page) <= {"connect", "retransmit"}
    seed = {"ip_version", "src_ip", "src_port", "dst_ip", "dst_port", "pid"}
    ours = page.rows("ebpf_tcp_connect_total", pid=str(scene.meant.pid))
    assert {label for row in ours for label in row.labels} == seed
    assert sum(row.value for row in ours) == CONNECTS + REFUSED


CHECKS: Mapping[str, Check] = {
    "errors-only": errors_only,
    "full-default": full_default,
    "one-noisy-namespace": one_noisy_namespace,
    "per-port-latency": per_port_latency,
    "retransmits-only-on-a-node-pool": retransmits_only,
    "seed-labels": seed_labels,
}


def test_every_example_has_its_test() -> None:
    assert CHECKS.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", CHECKS)
def test_an_example_does_what_it_says(server: Server, scene: Scene, name: str) -> None:
    agent = scene.agent
    if name == "retransmits-only-on-a-node-pool":
        server.kubectl("apply", "-f", str(EXAMPLES[name]))
        server.kubectl("label", "node", agent.node, "node-pool=edge", "cpu-count=4")
        agent.wait(name)
        _lose_the_first_synacks(scene.meant)
    else:
        server.kubectl("apply", "-f", str(EXAMPLES[name]))
        agent.wait(name)
        scene.act()
    settled(agent, CHECKS[name], scene)


def settled(agent: lens.Agent, check: Check, scene: Scene) -> None:
    """Numbers may wait some seconds for their names."""
    last = ""

    def passes() -> bool:
        nonlocal last
        try:
            check(scene, agent.scrape())
        except AssertionError as error:
            last = str(error)
            return False
        return True

    try:
        process.until(passes, "what the example promises", 5)
    except AssertionError as late:
        raise AssertionError(f"{late}: {last}\n{agent.scrape().text[:3000]}") from late


def _lose_the_first_synacks(pod: pods.Pod) -> None:
    """A connection to an address of the pod's own whose SYN-ACK has to be sent twice."""
    pod.shell("ip addr add 192.0.2.77/32 dev lo")
    pod.filter_input("tcp flags & (syn|ack) == syn|ack drop")
    port = pod.run(traffic.listen, "192.0.2.77")
    pod.start(traffic.connect_late, "192.0.2.77", port, 10.0)
    servers.until(lambda: pod.snmp()["TCPSynRetrans"] >= 1, "a SYN-ACK was sent again")
    pod.shell("nft flush ruleset")
    pod.finish()

"""Every field of a FlowLensConfig from kubectl to /metrics, on pods whose SNMP counters say what is true."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flowlens import metrics
from tests.agent import page as pages
from tests.agent import process
from tests.agent import traffic as visits
from tests.kernel import namespace, traffic
from tests.live import lens, pods
from tests.live import server as servers
from tests.live.conftest import make_node
from tests.live.server import Server

pytestmark = [pytest.mark.cluster, pytest.mark.kernel]

Spec = dict[str, Any]
RED, BLUE = "fields-red", "fields-blue"


class Stage:
    """One agent for all tests here, and two pods in two namespaces; each test configures it anew."""

    def __init__(self, server: Server, agent: lens.Agent, red: pods.Pod, blue: pods.Pod) -> None:
        self.server, self.agent, self.red, self.blue = server, agent, red, blue

    def apply(self, spec: Spec) -> None:
        self.agent.wait("fields", self.server.configure("fields", spec))

    def gain(self, metric: str, since: pages.Page, **labels: str) -> int:
        return self.agent.scrape().sum(metric, **labels) - since.sum(metric, **labels)

    def expect(self, wanted: Mapping[Any, int], metric: str, *labels: str, **where: str) -> None:
        """Until a metric's values by some labels are exactly these (names may need a moment)."""
        found: Mapping[Any, int] = {}

        def there() -> bool:
            nonlocal found
            found = {key: n for key, n in self.agent.scrape().by(metric, *labels, **where).items() if n}
            return found == wanted

        try:
            process.until(there, "the values", 5)
        except AssertionError as late:
            raise AssertionError(f"{metric} by {labels} is {found}, not {wanted}") from late


@pytest.fixture(scope="module")
def both_pods(
    running: tuple[Server, int], account: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    server, network = running
    root = namespace.CGROUPS / f"flowlens-fields-{time.time_ns():x}"
    with servers.inside(network):
        node = make_node(server)
        red = pods.Pod(
            server, root, name="red", project=RED, node=node, labels={"color": "red", "a/b.c": "x"}
        )
        blue = pods.Pod(server, root, name="blue", project=BLUE, node=node, labels={"color": "blue"})
        flags = ("--cgroup-root", f"/{root.name}")
        agent = lens.Agent(tmp_path_factory.mktemp("fields"), account, node, None, flags)
    yield Stage(server, agent, red, blue)
    agent.stop()
    blue.close()
    _end(red, root)


def _end(pod: pods.Pod, root: Path) -> None:
    """Cgroups are empty a moment after their last process was killed."""
    pod.close()
    servers.until(lambda: "populated 0" in (root / "cgroup.events").read_text(), "pods ended")
    pods.remove(root)


@pytest.fixture
def stage(server: Server, both_pods: Stage) -> Stage:
    return both_pods


def visit(*places: pods.Pod, count: int = 5, port: int = 80) -> None:
    for pod in places:
        pod.run(visits.exchange_at, "127.0.0.1", port, count)


def opened(pod: pods.Pod) -> int:
    """Connections that the pod opened in its life, by its kernel's count."""
    return pod.snmp()["ActiveOpens"]


# whose connections -----------------------------------------------------------------------------------


def test_namespaces_are_included_and_excluded(stage: Stage) -> None:
    visit(stage.red, stage.blue)
    red, blue = (RED,), (BLUE,)
    every = {red: opened(stage.red), blue: opened(stage.blue)}
    for chosen, wanted in (
        ({"include": [RED]}, {red}),
        ({"include": ["fields-*"], "exclude": ["fields-r?d"]}, {blue}),
        ({"exclude": ["fields-*"]}, set()),
        ({"include": ["fields-*"]}, {red, blue}),
    ):
        stage.apply({"namespaces": chosen, "includeHost": False})
        stage.expect({key: every[key] for key in wanted}, "connect", "namespace")


def test_pods_are_selected_by_labels_also_by_labels_that_come_later(stage: Stage) -> None:
    visit(stage.red, stage.blue)
    expression = {"key": "team", "operator": "Exists"}
    stage.apply({"podSelector": {"matchExpressions": [expression]}, "includeHost": False})
    stage.expect({}, "connect", "pod")
    stage.blue.label("team=x")
    stage.expect({("blue",): opened(stage.blue)}, "connect", "pod")
    stage.blue.label("team-")
    stage.apply({"podSelector": {"matchLabels": {"color": "red"}}, "includeHost": False})
    stage.expect({("red",): opened(stage.red)}, "connect", "pod")


def test_host_processes_are_in_or_out(stage: Stage) -> None:
    visit(stage.red)
    traffic.exchange("127.0.0.1", 3)  # this very process
    stage.apply({"defaults": {"labels": ["workload_kind"]}})
    process.until(lambda: stage.agent.scrape().sum("connect", workload_kind="Host") >= 3, "host processes", 5)
    stage.apply({"defaults": {"labels": ["workload_kind"]}, "includeHost": False})
    shown = stage.agent.scrape()
    assert shown.sum("connect", workload_kind="Host") == 0
    assert shown.sum("connect", workload_kind="Pod") == opened(stage.red) + opened(stage.blue)


# which labels ----------------------------------------------------------------------------------------


def test_pod_labels_become_metric_labels_and_follow_the_pod(stage: Stage) -> None:
    visit(stage.red, stage.blue)
    stage.apply(
        {"podLabels": ["color", "a/b.c"], "includeHost": False, "namespaces": {"include": ["fields-*"]}}
    )
    wanted = {("red", "x"): opened(stage.red), ("blue", ""): opened(stage.blue)}
    stage.expect(wanted, "connect", "label_color", "label_a_b_c")
    stage.blue.label("color=navy")

    def called_navy() -> bool:
        """What was counted keeps the old name: counters never go down."""
        visit(stage.blue, count=1)
        return stage.agent.scrape().sum("connect", label_color="navy") > 0

    blue = opened(stage.blue)
    process.until(called_navy, "the pod's new label", 5)
    page, total = stage.agent.scrape(), opened(stage.blue)
    assert page.sum("connect", label_color="blue") >= blue
    assert page.sum("connect", label_color="blue") + page.sum("connect", label_color="navy") == total
    stage.blue.label("color=blue")


def test_default_labels_and_those_of_one_metric(stage: Stage) -> None:
    visit(stage.red, port=8080)
    own = {"name": "connect", "labels": ["pod", "node", "dst_port", "role", "cgroup", "netns"]}
    stage.apply({"includeHost": False, "defaults": {"labels": ["namespace"]}, "metrics": [own]})
    page = stage.agent.scrape()
    assert {frozenset(row.labels) for row in page.rows("ebpf_tcp_accept_total")} == {frozenset({"namespace"})}
    visit(stage.red, port=8080)
    (row,) = stage.agent.scrape().rows("ebpf_tcp_connect_total", pod="red", dst_port="8080")
    assert row.value == 5
    assert row.labels["node"] == stage.agent.node
    assert row.labels["role"] == "client"
    assert row.labels["netns"] == str(stage.red.netns)
    assert row.labels["cgroup"] == "/" + str(stage.red.cgroup.relative_to(namespace.CGROUPS))


# which metrics ---------------------------------------------------------------------------------------


def test_metrics_are_switched_by_default_and_one_by_one(stage: Stage) -> None:
    visit(stage.red)
    stage.apply({"defaults": {"enabled": False}, "metrics": [{"name": "accept"}]})
    shown = {row.name for row in stage.agent.scrape().samples if row.name.startswith(metrics.PREFIX)}
    assert shown == {"ebpf_tcp_accept_total"}
    stage.apply({"metrics": [{"name": "accept", "enabled": False}]})
    page = stage.agent.scrape()
    assert not page.rows("ebpf_tcp_accept_total")
    before = page
    visit(stage.red)
    assert stage.gain("connect", before, pod="red") == 5


def test_buckets_are_those_that_were_asked_for(stage: Stage) -> None:
    stage.apply({"metrics": [{"name": "connect_duration", "buckets": [0.000001, 0.25, 60]}]})
    visit(stage.red)
    rows = stage.agent.scrape().rows("ebpf_tcp_connect_duration_seconds_bucket", pod="red")
    counts = {row.labels["le"]: row.value for row in rows}
    assert counts == {"1e-06": 0, "0.25": 5, "60.0": 5, "+Inf": 5}


# which connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ports", "counted"),
    [({"include": [80, "8000-8100"]}, 2 + 3 + 4 + 5), ({"exclude": [80, "8000-8100"]}, 6)],
    ids=("included", "excluded"),
)
def test_ports_are_included_or_excluded(stage: Stage, ports: Spec, counted: int) -> None:
    stage.apply({"ports": ports})
    before = stage.agent.scrape()
    for port, count in ((80, 2), (8000, 3), (8050, 4), (8100, 5), (7999, 6)):
        visit(stage.red, port=port, count=count)
    assert stage.gain("connect", before, pod="red") == counted
    assert stage.gain("accept", before, pod="red") == counted


@pytest.mark.parametrize(
    ("addresses", "four", "six"),
    [
        ({"mode": "full"}, "127.0.0.1", "::1"),
        ({"mode": "prefix", "v4Prefix": 8, "v6Prefix": 64}, "127.0.0.0", "::"),
        ({"mode": "none"}, "", ""),
    ],
    ids=("full", "prefix", "none"),
)
def test_addresses_are_shown_as_far_as_wanted(stage: Stage, addresses: Spec, four: str, six: str) -> None:
    own = {"name": "connect", "labels": ["pod", "ip_version", "dst_ip"]}
    stage.apply({"addresses": addresses, "metrics": [own]})
    before = stage.agent.scrape()
    visit(stage.red, count=4)
    stage.red.run(visits.exchange_at, "::1", 80, 6)
    assert stage.gain("connect", before, pod="red", ip_version="4", dst_ip=four) == 4
    assert stage.gain("connect", before, pod="red", ip_version="6", dst_ip=six) == 6


# how much --------------------------------------------------------------------------------------------

EACH: Spec = {"name": "connect", "labels": ["pod", "src_port"]}
ONLY_RED: Spec = {"namespaces": {"include": [RED]}, "includeHost": False}


@pytest.mark.parametrize(
    "limits",
    [
        {"metrics": [{**EACH, "maxSeries": 7}]},
        {"metrics": [EACH], "limits": {"maxSeries": 7}, "defaults": {"enabled": False}},
        {"metrics": [EACH], "limits": {"maxFlows": 7}},
    ],
    ids=("maxSeries of the metric", "maxSeries", "maxFlows"),
)
def test_above_a_limit_the_rest_is_summed_and_nothing_is_lost(stage: Stage, limits: Spec) -> None:
    stage.apply({**ONLY_RED, **limits, "ports": {"include": [4711]}})
    before = stage.agent.scrape()
    visit(stage.red, port=4711, count=40)
    assert stage.gain("connect", before) == 40
    rows = stage.agent.scrape().rows("ebpf_tcp_connect_total")
    assert len(rows) <= 9  # seven, the row `other`, and what was before flows were asked for
    assert any(row.labels["src_port"] == metrics.OTHER and row.value >= 33 for row in rows)


@pytest.fixture(scope="module", autouse=True)
def still(
    running: tuple[Server, int], account: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[lens.Agent, pods.Pod]]:
    """An agent and a pod that were busy once, before all other tests of this file; see the last one."""
    server, network = running
    root = namespace.CGROUPS / f"flowlens-still-{time.time_ns():x}"
    with servers.inside(network):
        node = make_node(server)
        pod = pods.Pod(server, root, name="still", project="fields-still", node=node)
        agent = lens.Agent(
            tmp_path_factory.mktemp("still"), account, node, None, ("--cgroup-root", f"/{root.name}")
        )
        selector = {"matchLabels": {"kubernetes.io/hostname": node}}
        spec = {"nodeSelector": selector, "priority": 9, "defaults": {"staleAfter": "10s"}, "metrics": [EACH]}
        server.configure("still", spec)
        server.kubectl("label", "flc", "still", f"{servers.KEEP}=yes")
        agent.wait("still")
        visit(pod, count=20)
        process.until(lambda: len(each_of(agent)) == 20, "a series each", 5)
    yield agent, pod
    with servers.inside(network):
        server.unconfigure("still")
    agent.stop()
    _end(pod, root)


def each_of(agent: lens.Agent) -> list[pages.Sample]:
    return agent.scrape().rows("ebpf_tcp_connect_total", pod="still")


def test_series_that_stand_still_are_dropped_after_stale_after(
    server: Server, still: tuple[lens.Agent, pods.Pod]
) -> None:
    """10 s is the shortest there is; an agent looks every 30 s. By now most of that is over."""
    agent, pod = still
    process.until(lambda: not each_of(agent), "all dropped", 75)
    visit(pod, count=3)
    rows = each_of(agent)
    assert len(rows) == 3
    assert {row.value for row in rows} == {1}
    assert agent.scrape().sum("accept", pod="still") == 23  # no flow in its labels: its owner lives

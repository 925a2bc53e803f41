"""What agents may do and what they ask for: the API server's own audit is the witness."""

from __future__ import annotations

import concurrent.futures
import copy
import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.agent import process
from tests.live import lens
from tests.live import server as servers
from tests.live.conftest import MakePod, StartAgent, make_node
from tests.live.server import Server

pytestmark = [pytest.mark.cluster, pytest.mark.kernel, pytest.mark.timeout(180)]

READS = {"get", "list", "watch"}
ASKED = {"flowlensconfigs", "nodes", "pods"}
"""With --identity-source apiserver; the kubelet's nodes/pods is not the API server's."""


class Grant(NamedTuple):
    resource: str
    verb: str


def grants() -> list[Grant]:
    """What the chart grants and an agent without a kubelet needs, one by one."""
    return [
        Grant(resource, verb)
        for rule in servers.chart_rules()
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if resource != "nodes/pods"
    ]


def without(grant: Grant) -> list[dict[str, Any]]:
    """The chart's rules with one verb less."""
    rules = copy.deepcopy(servers.chart_rules())
    for rule in rules:
        if grant.resource in rule["resources"]:
            rule["verbs"].remove(grant.verb)
    return rules


def test_the_chart_grants_agents_reads_only() -> None:
    assert {verb for rule in servers.chart_rules() for verb in rule["verbs"]} <= READS
    assert not any("*" in rule["resources"] + rule["apiGroups"] for rule in servers.chart_rules())
    assert set(grants()) == {Grant(resource, verb) for resource in ASKED for verb in ("list", "watch")}


@dataclasses.dataclass
class Lesser:
    """An agent that lacks a verb."""

    grant: Grant
    agent: lens.Agent


@pytest.fixture(scope="module")
def lesser(
    running: tuple[Server, int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Grant, Lesser]]:
    """An agent per grant, without it; started together because each takes a second."""
    server, network = running
    with servers.inside(network), concurrent.futures.ThreadPoolExecutor(2) as pool:

        def start(grant: Grant) -> Lesser:
            folder = tmp_path_factory.mktemp("lesser")
            return Lesser(grant, lens.Agent(folder, server.agent_account(without(grant)), make_node(server)))

        made = list(pool.map(start, grants()))
    yield {one.grant: one for one in made}
    for one in made:
        one.agent.stop()


@pytest.mark.parametrize("grant", grants(), ids=" ".join)
def test_without_any_one_verb_something_visibly_fails(
    server: Server, lesser: dict[Grant, Lesser], grant: Grant
) -> None:
    agent = lesser[grant].agent
    refusal = f'cannot {grant.verb} resource "{grant.resource}"'

    def refused() -> bool:
        watch = agent.pods["watch"] if grant.resource == "pods" else agent.watches[_watch(grant)]
        return refusal in ((watch or {}).get("last_error") or "")

    process.until(refused, refusal)
    assert refusal.replace('"', '\\"') in agent.log
    assert agent.get("/metrics")[0] == 200
    others = {"flowlensconfigs", "node"} - {_watch(grant)}
    process.until(lambda: all(agent.watches[name]["connected"] for name in others), "the others go on")


def _watch(grant: Grant) -> str:
    return {"nodes": "node"}.get(grant.resource, grant.resource)


def test_a_busy_life_consists_of_lists_and_watches(
    server: Server, start_agent: StartAgent, make_pod: MakePod, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig = server.agent_account()
    agent = start_agent(kubeconfig=kubeconfig)
    process.until(agent.connected, "all watches")
    at_start = len(server.requests(kubeconfig.stem))
    for number in range(5):
        generation = server.configure("one", {"limits": {"maxSeries": 1000 + number}})
        agent.wait("one", generation)
    server.kubectl("label", "node", agent.node, "zone=z")
    make_pod()
    server.unconfigure("one")
    agent.wait("default")
    asked = server.requests(kubeconfig.stem)
    with capsys.disabled():
        print(f"\n  {len(asked)} requests: {dict(Counter((one.verb, one.resource) for one in asked))}")
    assert len(asked) == at_start  # changes come through watches that are open: nothing is asked for again
    assert Counter((one.verb, one.resource) for one in asked) == {
        (verb, resource): 1 for verb in ("list", "watch") for resource in ASKED
    }
    assert {one.code for one in asked} == {200}
    assert all(agent.node in one.uri for one in asked if one.resource == "nodes")


def test_all_agents_of_all_tests_so_far_asked_for_nothing_but_lists_and_watches(server: Server) -> None:
    asked = server.requests()
    assert len(asked) > 20
    assert {one.verb for one in asked} <= READS - {"get"}
    assert {one.resource for one in asked} == ASKED

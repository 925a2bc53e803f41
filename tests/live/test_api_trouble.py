"""The API server away, silent, cut off, forgetful; tokens replaced; the CRD missing; objects of another version.

Whatever happens there, an agent serves /metrics and keeps what it follows, and what changed meanwhile is in
force soon after all is well again.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.agent import process
from tests.kernel import traffic as visits
from tests.live import lens
from tests.live import server as servers
from tests.live.conftest import MakePod, StartAgent
from tests.live.server import Server

pytestmark = [pytest.mark.cluster, pytest.mark.kernel, pytest.mark.timeout(180)]

BY_NAMESPACE: dict[str, Any] = {"defaults": {"labels": ["namespace"]}}
BY_POD: dict[str, Any] = {"defaults": {"labels": ["namespace", "pod"]}}
LOCAL = ("--server=https://127.0.0.1:6443",)
BACK_SECONDS = 30.0
"""Until an agent has found a server again that was away for some seconds: it waits longer after each failure."""


@contextlib.contextmanager
def away(server: Server) -> Iterator[None]:
    """The API server killed with -9, and started again."""
    server.kill()
    try:
        yield
    finally:
        server.start()


# away ------------------------------------------------------------------------------------------------


def test_without_an_api_server_at_start_the_last_configuration_holds_or_else_the_defaults(
    server: Server, start_agent: StartAgent, make_pod: MakePod, tmp_path: Path
) -> None:
    folder = str(tmp_path / "state")
    before = start_agent(None, "--state-dir", folder)
    generation = server.configure("kept", BY_NAMESPACE)
    before.wait("kept", generation)
    pod = make_pod()
    with away(server):
        assert before.holds == ("kept", generation)
        before.stop()
        after = start_agent(None, "--state-dir", folder)
        after.wait("kept", generation)
        assert "following what was kept on disk: config=kept" in after.log
        empty = start_agent(None, "--state-dir", str(tmp_path / "empty"))
        assert empty.holds == ("default", 0)
        assert "cannot connect" in empty.watches["flowlensconfigs"]["last_error"]
        pod.run(visits.exchange, "127.0.0.1", 3)  # counted, and named once the API server tells
    for agent in (after, empty):
        process.until(agent.connected, "all watches", BACK_SECONDS)
        agent.wait("kept", generation)
        agent.shows(3, pod.project, 15)
    assert "kept on disk" not in empty.log
    generation = server.configure("kept", BY_POD)
    after.wait("kept", generation)
    assert [path.name for path in Path(folder).iterdir()] == ["flowlensconfig.json"]


def test_a_configuration_that_was_deleted_does_not_come_back_from_disk(
    server: Server, start_agent: StartAgent, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    agent = start_agent(None, "--state-dir", str(folder))
    server.configure("gone", BY_NAMESPACE)
    agent.wait("gone")
    assert list(folder.iterdir())
    server.unconfigure("gone")
    agent.wait("default")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "content", ['{"name": "x"', '{"name":"x","generation":1,"spec":{"metrics":[{"name":"no"}]}}']
)
def test_a_kept_file_that_cannot_be_read_is_told_and_left(
    server: Server, start_agent: StartAgent, tmp_path: Path, content: str
) -> None:
    (tmp_path / "flowlensconfig.json").write_text(content)
    agent = start_agent(None, "--state-dir", str(tmp_path))
    assert agent.holds == ("default", 0)
    assert "kept configuration is not usable" in agent.log


def test_a_server_that_was_away_is_found_again_and_nothing_falls_back_meanwhile(
    server: Server, start_agent: StartAgent, make_pod: MakePod
) -> None:
    agent, pod = start_agent(), make_pod()
    generation = server.configure("steady", BY_NAMESPACE)
    agent.wait("steady", generation)
    with away(server):
        process.until(lambda: agent.watches["flowlensconfigs"]["last_error"], "the loss noticed")
        pod.run(visits.exchange, "127.0.0.1", 4)
        assert agent.get("/healthz")[0] == 200
        assert agent.scrape().sum("connect", namespace=pod.project) == 4
    process.until(agent.connected, "all watches", BACK_SECONDS)
    assert agent.log.count("configuration applied") == 1  # not for a moment did another one hold
    generation = server.configure("steady", BY_POD)
    agent.wait("steady", generation)
    assert agent.scrape().sum("connect", namespace=pod.project) == 4


# silent ----------------------------------------------------------------------------------------------


def test_a_paused_server_stops_nobody_and_changes_flow_when_it_goes_on(
    server: Server, start_agent: StartAgent, make_pod: MakePod
) -> None:
    agent, pod = start_agent(), make_pod()
    server.configure("steady", BY_NAMESPACE)
    agent.wait("steady")
    with server.paused():
        pod.run(visits.exchange, "127.0.0.1", 4)
        assert agent.scrape().sum("connect", namespace=pod.project) == 4
        late = start_agent()  # connects to a server whose kernel answers and nobody else
        assert late.holds == ("default", 0)
        assert late.get("/healthz")[0] == 200
        assert agent.holds[0] == "steady"
    late.wait("steady", seconds=BACK_SECONDS)
    generation = server.configure("steady", BY_POD)
    agent.wait("steady", generation)
    late.wait("steady", generation)
    assert agent.watches["flowlensconfigs"]["lists"] == 1  # it was the same watch all the time


def test_what_changed_during_a_partition_is_in_force_soon_after_it(
    server: Server, start_agent: StartAgent, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = start_agent()
    server.configure("steady", BY_NAMESPACE)
    agent.wait("steady")
    with servers.dropping():
        began = time.monotonic()
        server.kubectl(*LOCAL, "patch", "flc", "steady", "--type=merge", "-p", json.dumps({"spec": BY_POD}))
        process.until(lambda: time.monotonic() - began > 4, "some resent segments")
        assert agent.holds == ("steady", 1)
        began = time.monotonic()
    agent.wait("steady", 2, BACK_SECONDS)
    with capsys.disabled():
        print(f"\n  in force {time.monotonic() - began:.1f} s after a partition of 4 s")


# forgetful -------------------------------------------------------------------------------------------


def test_a_watch_whose_version_the_server_has_forgotten_lists_again(
    server: Server, start_agent: StartAgent
) -> None:
    """Meanwhile the object was made anew, with the same name and generation."""
    agent = start_agent()
    server.configure("steady", BY_NAMESPACE)
    agent.wait("steady", 1)
    process.until(agent.connected, "all watches")
    with agent.asleep():
        server.unconfigure("steady")
        with away(server):
            pass
        assert (
            server.configure("steady", {"defaults": {"enabled": False}, "metrics": [{"name": "accept"}]}) == 1
        )
    process.until(lambda: agent.config["metrics"] == ["accept"], "the new object in force", BACK_SECONDS)
    assert agent.holds == ("steady", 1)
    assert agent.watches["flowlensconfigs"]["lists"] == 2
    assert "listing again" in agent.log
    assert "410" in agent.log or "too old resource version" in agent.log


def test_a_token_that_was_replaced_on_disk_is_taken_when_the_old_one_is_refused(
    server: Server, start_agent: StartAgent
) -> None:
    kubeconfig = server.agent_account()
    token, name = kubeconfig.with_suffix(".token"), kubeconfig.stem
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": servers.ACCOUNTS}}
    server.apply(secret)
    bound = ("create", "token", name, "-n", servers.ACCOUNTS, "--bound-object-kind=Secret")
    first = server.kubectl(*bound, f"--bound-object-name={name}")
    second = token.read_text()
    token.write_text(first)
    agent = start_agent(kubeconfig=kubeconfig)
    process.until(agent.connected, "all watches")
    server.kubectl("delete", "secret", "-n", servers.ACCOUNTS, name)  # which makes the first token invalid
    _replace(token, second)
    server.kill()
    server.start()
    process.until(agent.connected, "all watches", BACK_SECONDS)
    server.configure("steady", BY_POD)
    agent.wait("steady")
    assert server.refuses(first), "the first token is still good: nothing was shown"


def _replace(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


# the CRD ---------------------------------------------------------------------------------------------


def test_the_crd_may_come_after_the_agent_and_go_before_it(server: Server, start_agent: StartAgent) -> None:
    chart = {"defaults": {"labels": ["namespace"]}}
    there = start_agent(chart)
    defaults = (there.file.name, 1)
    server.configure("steady", BY_POD)
    there.wait("steady")
    server.kubectl("delete", "crd", servers.CONFIGS)
    try:
        there.wait(defaults[0])
        early = start_agent(chart)
        for agent in (there, early):
            agent.tells("flowlensconfigs", "absent")
            assert agent.holds == defaults
            assert agent.get("/readyz")[0] == 200
            assert agent.scrape().own("config_apply_errors_total") == 0
    finally:
        server.install_crd()
    server.configure("anew", BY_POD)
    for agent in (there, early):
        agent.wait("anew", 1, 35)  # looked for every 30 s
        assert not agent.watches["flowlensconfigs"]["absent"]


@pytest.fixture
def loose(server: Server) -> Iterator[None]:
    """A CRD that lets everything through, as a later version's may."""
    crd = yaml.safe_load(servers.CRD_FILE.read_text())
    for version in crd["spec"]["versions"]:
        version["schema"] = {
            "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        }
    server.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(crd))
    yield
    server.unconfigure()
    server.install_crd()


def test_an_object_that_this_version_cannot_read_is_told_while_others_are_followed(
    server: Server, start_agent: StartAgent, make_pod: MakePod, loose: None
) -> None:
    agent, pod = start_agent(), make_pod()
    pod.run(visits.exchange, "127.0.0.1", 5)
    _configure_once_served(server, "good", BY_NAMESPACE)
    agent.wait("good", seconds=BACK_SECONDS)
    server.configure("future", {"priority": 9, "metrics": [{"name": "quic_connect"}]})
    process.until(lambda: agent.config["state"] == "rejected", "the error told", lens.SECONDS)
    generation = server.configure("good", BY_POD)
    agent.wait("good", generation)
    process.until(lambda: agent.config["state"] == "rejected", "the error told still", lens.SECONDS)
    for words in ("FlowLensConfig future", "metrics[0].name", "quic_connect"):
        assert words in agent.config["error"]
    page = agent.scrape()
    assert page.own("config_info", config="good", state="rejected") == 1
    assert page.own("config_apply_errors_total") == 1
    assert (agent.config["refused"]["name"], agent.config["refused"]["generation"]) == ("future", 1)
    meta = json.loads(server.kubectl("get", "flowlensconfig", "good", "-o", "json"))["metadata"]
    assert agent.config["uid"] == meta["uid"]
    assert page.sum("connect", namespace=pod.project, pod="web") == 5
    server.configure("future", {"priority": -9, "metrics": [{"name": "connect"}]})
    process.until(lambda: agent.config["state"] == "applied", "all well again", lens.SECONDS)
    assert agent.config["error"] == ""
    assert agent.holds == ("good", generation)
    assert agent.scrape().sum("connect", namespace=pod.project, pod="web") == 5


def _configure_once_served(server: Server, name: str, spec: dict[str, Any]) -> None:
    """A CRD whose schema changed is served anew: objects are refused with 404 or 429 for a moment."""

    def accepted() -> bool:
        with contextlib.suppress(AssertionError):
            server.configure(name, spec)
            return True
        return False

    servers.until(accepted, "the changed CRD served")

"""The controller while the API server is paused, restarted or away, and while its own watch is dead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowlens.config import schema
from tests.controller import world

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[world.World]:
    with world.running(tmp_path_factory.mktemp("world")) as running:
        running.add_nodes("node-1", "node-2")
        yield running


def test_a_paused_api_server_costs_nothing_but_time(here: world.World) -> None:
    with here.controller() as running:
        here.agents.follow("paused", here.apply("paused"))
        here.wait_for("paused", "Applied", "True")
        with here.server.paused():
            here.agents["node-2"].mode = "hang"
            world.wait_until(
                lambda: running.number('flow_lens_controller_agents{state="unreachable"}') == 1,
                "the silent agent is noticed meanwhile",
            )
            assert running.get("/healthz")[0] == 200, "a restart would not help"
        here.wait_for("paused", "Applied", "Unknown", "AgentsUnreachable", 60)
        here.agents.reset()
    here.delete("paused")


def test_a_restarted_api_server_is_caught_up_with(here: world.World) -> None:
    with here.controller() as running:
        here.agents.follow("first", here.apply("first"))
        here.wait_for("first", "Applied", "True")
        here.server.kill()
        world.wait_until(
            lambda: running.number('flow_lens_controller_watch_failures_total{resource="nodes"}'),
            "the loss is noticed",
        )
        assert running.get("/healthz")[0] == 200
        here.server.start()
        here.add_nodes("node-late")
        here.agents.follow("second", here.apply("second", priority=9))
        here.wait_for("second", "Applied", "True", seconds=90)
        here.wait_for("first", "Conflict", "True", seconds=60)
        assert here.status("second")["nodes"]["matched"] == 3
        assert running.get("/healthz")[0] == 200
    here.delete("first", "second")
    here.server.kubectl("delete", "node", "node-late")


def test_objects_deleted_while_nobody_watched_are_forgotten(here: world.World) -> None:
    """kopf lists again after a long absence, and tells of what is there, not of what is not."""
    strong = here.apply("strong", priority=9)
    weak = here.apply("weak")
    here.agents.follow("strong", strong)
    with here.controller() as running:
        here.wait_for("weak", "Conflict", "True")
        running.freeze()
        here.delete("strong")
        here.server.forget_events()
        running.thaw()
        here.agents.follow("weak", weak)
        here.wait_for("weak", "Conflict", "False", seconds=120)
    here.delete("weak")


def test_a_controller_that_starts_before_the_api_server_waits_for_it(here: world.World) -> None:
    config = here.kubeconfig()
    here.server.kill()
    with here.controller(wait=False, kubeconfig=config) as running:
        world.wait_until(lambda: running.answers("/healthz"), "it is alive")
        code, text = running.get("/readyz")
        assert code == 503
        assert "not listed yet: nodes" in text
        here.server.start()
        world.wait_until(lambda: running.answers("/readyz"), "it is ready", 60)
        here.agents.follow("late", here.apply("late"))
        here.wait_for("late", "Applied", "True")
    here.delete("late")


CRD = "flowlensconfigs.flowlens.io"


def install_crd(here: world.World) -> None:
    here.server.kubectl("apply", "--server-side", "-f", "-", stdin=schema.files()[schema.CRD_PATHS[0]])
    here.server.kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=30s")


def test_a_dead_watch_fails_the_liveness_page_and_a_restart_mends_it(here: world.World) -> None:
    """Where the CRD is missing at its start, kopf watches nothing, for ever, and its loop runs on."""
    here.server.kubectl("delete", "crd", CRD)
    with here.controller() as running:
        assert running.get("/healthz")[0] == 200
        install_crd(here)
        here.apply("unseen")
        world.wait_until(lambda: running.get("/healthz")[0] == 503, "the page fails", 120)
        assert "the watch of FlowLensConfigs is dead: it owes a change" in running.get("/healthz")[1]
        assert running.number("flow_lens_controller_watch_behind_seconds") > 30
    with here.controller():
        here.agents.follow("unseen", 1)
        here.wait_for("unseen", "Applied", "True")
    here.delete("unseen")


def test_a_deleted_crd_ends_the_controller_with_one_message(here: world.World) -> None:
    with here.controller() as running:
        here.apply("going")
        here.server.kubectl("delete", "crd", CRD)
        world.wait_until(lambda: running.process.poll() is not None, "it ends", 60)
        assert running.process.returncode == 1
        assert running.words().splitlines()[-1].startswith("flowlens controller: kopf ended: ")
    install_crd(here)

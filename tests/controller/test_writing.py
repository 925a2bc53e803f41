"""When a status is written, against a scripted API server's answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from flowlens.config import status
from flowlens.controller import api, judgement, sighting, writing
from flowlens.kube import access, errors
from tests.controller.building import intent, runs
from tests.controller.test_wording import judged


class Recorder(api.Api):
    """Keeps what is sent; raises `trouble` first."""

    def __init__(self, trouble: Sequence[errors.KubeError] = ()) -> None:
        super().__init__(access.Access("http://127.0.0.1:1"))
        self.trouble = list(trouble)
        self.patches: list[tuple[str, dict[str, Any]]] = []
        self.events: list[dict[str, Any]] = []

    async def patch(self, path: str, body: bytes) -> bytes:
        self.patches.append((path, json.loads(body)))
        if self.trouble:
            raise self.trouble.pop(0)
        return b""

    async def create(self, path: str, body: bytes) -> bool:  # noqa: ARG002 - the parent's signature
        self.events.append(json.loads(body))
        return True


class Desk:
    """A writer and the object that it writes about; time passes when the test says so."""

    def __init__(self, trouble: Sequence[errors.KubeError] = ()) -> None:
        self.now = 1000.0
        self.server = Recorder(trouble)
        self.object = intent()
        self.counted: list[tuple[str, str]] = []
        self.writer = writing.Writer(
            self.server,
            every_seconds=30,
            instance="pod",
            written=self._written,
            counted=lambda what, result: self.counted.append((what, result)),
            clock=lambda: self.now,
        )

    def _written(self, one: judgement.Intent, new: status.Status) -> None:
        self.object = replace(one, status=new)

    def offer(self, *, asking: bool = False, **seen: sighting.Sighting) -> float:
        return asyncio.run(self.writer.offer(self.object, judged(seen, one=self.object), asking=asking))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_status_is_one_patch_of_the_status_subresource_of_this_very_object(desk: Desk) -> None:
    desk.offer(n1=runs(), n2=runs())
    ((path, body),) = desk.server.patches
    assert path == "/apis/flowlens.io/v1alpha1/flowlensconfigs/one/status"
    assert set(body) == {"metadata", "status"}
    assert body["metadata"] == {"uid": "uid-one"}
    assert desk.counted == [("status", "written"), ("event", "written")]


def test_what_is_there_already_is_not_written_again(desk: Desk) -> None:
    desk.offer(n1=runs(), n2=runs())
    desk.now += 100
    assert desk.offer(n1=runs(), n2=runs()) == writing.FOREVER
    assert len(desk.server.patches) == 1


def test_a_change_waits_until_the_last_write_is_30_seconds_old(desk: Desk) -> None:
    desk.offer(n1=runs(), n2=runs())
    desk.now += 10
    assert desk.offer(n1=runs(), n2=runs(problem="no answer")) == pytest.approx(20)
    desk.now += 20
    desk.offer(n1=runs(), n2=runs(problem="no answer"))
    assert len(desk.server.patches) == 2


def test_nodes_that_are_changing_over_are_waited_for_so_that_one_write_says_it_all(desk: Desk) -> None:
    assert desk.offer(n1=runs("x"), n2=runs("x")) == writing.HOLD_SECONDS
    desk.now += 3
    desk.offer(n1=runs(), n2=runs())
    assert [body["status"]["nodes"]["applied"] for _, body in desk.server.patches] == [2]


def test_nodes_that_do_not_change_over_are_told_after_a_while(desk: Desk) -> None:
    desk.offer(n1=runs("x"), n2=runs("x"))
    desk.now += writing.HOLD_SECONDS
    desk.offer(n1=runs("x"), n2=runs("x"))
    assert desk.server.patches[0][1]["status"]["nodes"]["pending"] == 2


def test_a_sweep_that_takes_longer_is_waited_for_but_not_for_ever(desk: Desk) -> None:
    start = desk.now
    while not desk.server.patches:
        desk.offer(asking=True, n1=runs("x"), n2=runs("x"))
        desk.now += 1
        assert desk.now - start < 100
    assert desk.now - start == pytest.approx(writing.LONGEST_HOLD_SECONDS, abs=1.5)


def test_a_failed_write_is_tried_again_sooner_and_announces_nothing() -> None:
    desk = Desk([errors.Temporary("away", status=503)])
    assert desk.offer(n1=runs(), n2=runs()) == writing.RETRY_SECONDS
    assert desk.server.events == []
    desk.now += writing.RETRY_SECONDS
    desk.offer(n1=runs(), n2=runs())
    assert desk.counted == [("status", "failed"), ("status", "written"), ("event", "written")]


def test_a_refused_write_is_said_once_however_often_it_is_tried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk([errors.Forbidden("no patch for you")] * 5)
    for _ in range(5):
        desk.offer(n1=runs(), n2=runs())
        desk.now += writing.RETRY_SECONDS
    assert desk.counted == [("status", "refused")] * 5
    assert sum("no patch for you" in line for line in caplog.messages) == 1


def test_an_object_that_is_gone_is_no_failure() -> None:
    desk = Desk([errors.NotFound("gone")])
    desk.offer(n1=runs(), n2=runs())
    assert desk.counted == [("status", "gone")]

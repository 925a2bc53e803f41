"""What a watcher makes of everything an API server may do. The server here is scripted; see
test_on_apiserver for the real one."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import pytest

from flowlens.kube import access, objects, watcher

from . import edge as edges

QUICK = watcher.Pace(absent=0.05, first_wait=0.01, most_wait=0.05, steady=0.5)
RESOURCE = objects.Resource("/apis/flowlens.io/v1alpha1/flowlensconfigs")


class Config(msgspec.Struct, frozen=True):
    """An object whose spec has a type, so that one can be wrong."""

    metadata: objects.Metadata
    spec: dict[str, int] = {}


def thing(name: str, version: int, **spec: object) -> edges.Json:
    meta = {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"kind": "FlowLensConfig", "metadata": meta, "spec": spec}


def bookmark(version: int) -> edges.Json:
    return {
        "kind": "FlowLensConfig",
        "metadata": {"resourceVersion": str(version), "creationTimestamp": None},
    }


def listed(version: int, *items: edges.Json) -> edges.Json:
    return {"kind": "List", "metadata": {"resourceVersion": str(version)}, "items": list(items)}


class Seen:
    """Keeps each snapshot as {name: spec}."""

    def __init__(self) -> None:
        self.snapshots: list[dict[str, dict[str, int]]] = []

    def __call__(self, snapshot: watcher.Snapshot[Config]) -> None:
        self.snapshots.append({one.metadata.name: one.spec for one in snapshot.values()})

    @property
    def last(self) -> dict[str, dict[str, int]] | None:
        return self.snapshots[-1] if self.snapshots else None


@pytest.fixture
def seen() -> Seen:
    return Seen()


Start = Callable[..., watcher.Watcher[Config]]


@pytest.fixture
def start(server: access.Access, seen: Seen) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def begin(
            pace: watcher.Pace = QUICK,
            resource: objects.Resource = RESOURCE,
            on_change: Callable[[watcher.Snapshot[Config]], None] = seen,
        ) -> watcher.Watcher[Config]:
            one = watcher.Watcher(server, resource, Config, on_change, pace=pace)
            stack.callback(one.stop)
            one.start()
            return one

        yield begin


def in_turn(*scripts: edges.Script) -> edges.Script:
    """Each request gets its own script; those after the last get the last."""
    count = iter(range(10**6))
    lock = threading.Lock()

    def script(exchange: edges.Exchange) -> None:
        with lock:
            number = next(count)
        scripts[min(number, len(scripts) - 1)](exchange)

    return script


def lists(version: int, *items: edges.Json) -> edges.Script:
    return lambda exchange: exchange.json(listed(version, *items))


def streams(*events: tuple[str, edges.Json], then: edges.Script = edges.Exchange.hang) -> edges.Script:
    def script(exchange: edges.Exchange) -> None:
        exchange.open_stream()
        for kind, body in events:
            exchange.event(kind, body)
        then(exchange)

    return script


def test_the_first_list_is_announced_and_followed_by_a_watch_from_its_version(
    edge: edges.Edge, start: Start, seen: Seen
) -> None:
    edge.script = in_turn(lists(7, thing("a", 3, x=1)), streams())
    one = start(resource=replace(RESOURCE, field_selector="metadata.name=a"))
    edges.wait_until(lambda: edge.watches, "a watch")
    assert seen.last == {"a": {"x": 1}}
    assert one.state.synced
    first, watch = edge.requests[:2]
    assert first.query == {"fieldSelector": "metadata.name=a", "resourceVersion": "0"}
    assert 240 <= int(watch.query.pop("timeoutSeconds")) <= 300
    assert watch.query == {
        "fieldSelector": "metadata.name=a",
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": "7",
    }


def test_an_empty_list_is_announced_too(edge: edges.Edge, start: Start, seen: Seen) -> None:
    edge.script = in_turn(
        lambda exchange: exchange.body(b'{"metadata":{"resourceVersion":"1"},"items":null}'), streams()
    )
    start()
    edges.wait_until(lambda: seen.snapshots, "a snapshot")
    assert seen.last == {}


def test_added_modified_and_deleted_objects_are_announced(edge: edges.Edge, start: Start, seen: Seen) -> None:
    edge.script = in_turn(
        lists(1, thing("a", 1, x=1)),
        streams(
            ("ADDED", thing("b", 2, x=2)),
            ("MODIFIED", thing("a", 3, x=3)),
            ("DELETED", thing("b", 4)),
            ("ADDED", thing("c", 5)),
        ),
    )
    one = start()
    edges.wait_until(lambda: one.state.resource_version == "5", "all events")
    edges.wait_until(lambda: seen.last == {"a": {"x": 3}, "c": {}}, "the final objects")
    assert one.state.objects == 2
    assert one.state.last_event_seconds > time.time() - 60


def test_events_that_arrive_together_are_one_change(edge: edges.Edge, start: Start, seen: Seen) -> None:
    def burst(exchange: edges.Exchange) -> None:
        exchange.open_stream()
        exchange.send(b"".join(edges.line("ADDED", thing(f"n{number}", number)) for number in range(2, 102)))
        exchange.hang()

    edge.script = in_turn(lists(1), burst)
    start()
    edges.wait_until(lambda: seen.last and len(seen.last) == 100, "the burst")
    assert len(seen.snapshots) == 2


def test_a_snapshot_never_changes_afterwards(edge: edges.Edge, start: Start) -> None:
    kept: list[watcher.Snapshot[Config]] = []
    edge.script = in_turn(lists(1, thing("a", 1)), streams(("ADDED", thing("b", 2))))
    start(on_change=kept.append)
    edges.wait_until(lambda: len(kept) == 2, "two snapshots")
    assert [sorted(snapshot) for snapshot in kept] == [["uid-a"], ["uid-a", "uid-b"]]


def test_a_watch_that_the_server_ends_is_resumed_from_the_last_event(edge: edges.Edge, start: Start) -> None:
    edge.script = in_turn(lists(7), streams(("ADDED", thing("a", 9)), then=edges.Exchange.end), streams())
    one = start()
    edges.wait_until(lambda: len(edge.watches) == 2, "a second watch")
    assert edge.watches[1].query["resourceVersion"] == "9"
    assert len(edge.lists) == 1
    assert one.state.watches == 1


def test_bookmarks_move_the_version_without_a_change(edge: edges.Edge, start: Start, seen: Seen) -> None:
    edge.script = in_turn(
        lists(7, thing("a", 3)), streams(("BOOKMARK", bookmark(50)), then=edges.Exchange.abort), streams()
    )
    start()
    edges.wait_until(lambda: len(edge.watches) == 2, "a second watch")
    assert edge.watches[1].query["resourceVersion"] == "50"
    assert len(seen.snapshots) == 1


@pytest.mark.parametrize(
    "gone",
    [
        lambda exchange: exchange.refuse(410, "too old resource version"),
        streams(("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})),
    ],
    ids=["as a status", "as an event"],
)
def test_a_version_that_is_gone_is_listed_again(
    edge: edges.Edge, start: Start, seen: Seen, gone: edges.Script
) -> None:
    edge.script = in_turn(lists(7, thing("a", 3), thing("b", 4)), gone, lists(90, thing("b", 80)), streams())
    one = start()
    edges.wait_until(lambda: len(edge.watches) == 2, "a second watch")
    assert seen.last == {"b": {}}
    assert edge.watches[1].query["resourceVersion"] == "90"
    assert "resourceVersion" not in edge.lists[1].query, "a list after 410 must not come from a stale cache"
    assert one.state.lists == 2


def test_a_server_that_says_gone_for_ever_is_not_hammered(edge: edges.Edge, start: Start) -> None:
    def script(exchange: edges.Exchange) -> None:
        if exchange.request.is_watch:
            exchange.refuse(410)
        else:
            exchange.json(listed(7))

    edge.script = script
    began = time.monotonic()
    start(replace(QUICK, first_wait=0.02, most_wait=0.2))
    edges.wait_until(lambda: len(edge.watches) == 6, "six tries")
    assert time.monotonic() - began > (0.02 + 0.04 + 0.08 + 0.16 + 0.2) / 2


def test_a_list_version_that_the_server_has_not_reached_is_given_up(edge: edges.Edge, start: Start) -> None:
    """504 Too large resource version: an API server behind the others, or a restored etcd."""
    edge.script = in_turn(
        lambda exchange: exchange.refuse(504, "Too large resource version"), lists(7), streams()
    )
    start()
    edges.wait_until(lambda: edge.watches, "a watch")
    assert "resourceVersion" not in edge.lists[1].query


def test_another_error_event_is_reported_and_the_watch_resumed(
    edge: edges.Edge, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    edge.script = in_turn(
        lists(7),
        streams(("ERROR", {"kind": "Status", "code": 500, "message": "etcd has no leader"})),
        streams(),
    )
    with caplog.at_level(logging.INFO):
        start()
        edges.wait_until(lambda: len(edge.watches) == 2, "a second watch")
    assert "etcd has no leader" in caplog.text
    assert edge.watches[1].query["resourceVersion"] == "7"


def test_a_watch_that_falls_silent_is_taken_for_half_open(edge: edges.Edge, start: Start) -> None:
    edge.script = in_turn(lists(7), streams(("ADDED", thing("a", 8))), streams())
    one = start(replace(QUICK, server=0.1, silence=0.1))
    edges.wait_until(lambda: len(edge.watches) >= 2, "a second watch")
    assert edge.watches[1].query["resourceVersion"] == "8"
    assert one.state.failures >= 1


def test_a_broken_connection_is_resumed_and_nothing_is_lost(
    edge: edges.Edge, start: Start, seen: Seen
) -> None:
    numbers = iter(range(2, 40))

    def one_event_then_break(exchange: edges.Exchange) -> None:
        if (number := next(numbers, None)) is None:
            exchange.open_stream()
            exchange.hang()
            return
        assert exchange.request.query["resourceVersion"] == str(number - 1)
        exchange.open_stream()
        exchange.event("ADDED", thing(f"n{number}", number))
        exchange.hang_until(lambda: seen.last is not None and f"n{number}" in seen.last)
        exchange.abort()

    edge.script = in_turn(lists(1), one_event_then_break)
    start()
    edges.wait_until(lambda: seen.last and len(seen.last) == 38, "all events")


def test_an_absent_crd_is_a_state_and_no_error_loop(
    edge: edges.Edge, start: Start, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    edge.script = lambda exchange: exchange.refuse(404, "the server could not find the requested resource")
    with caplog.at_level(logging.INFO):
        one = start()
        edges.wait_until(lambda: len(edge.requests) >= 4, "some looks")
    assert one.state.absent
    assert one.state.synced
    assert one.state.failures == 0
    assert seen.snapshots == [{}]
    assert caplog.text.count("is the CRD installed") == 1


def test_a_crd_that_is_installed_later_is_watched(edge: edges.Edge, start: Start, seen: Seen) -> None:
    no = lambda exchange: exchange.refuse(404)  # noqa: E731
    edge.script = in_turn(no, no, lists(5, thing("a", 5)), streams())
    one = start()
    edges.wait_until(lambda: seen.last == {"a": {}}, "the object")
    edges.wait_until(lambda: one.state.connected, "a watch")
    assert not one.state.absent


def test_a_crd_that_is_removed_takes_its_objects_along(edge: edges.Edge, start: Start, seen: Seen) -> None:
    edge.script = in_turn(
        lists(5, thing("a", 5)), streams(then=edges.Exchange.end), lambda exchange: exchange.refuse(404)
    )
    start()
    edges.wait_until(lambda: seen.snapshots == [{"a": {}}, {}], "an empty snapshot")


def test_a_single_404_of_a_starting_server_takes_nothing_away(
    edge: edges.Edge, start: Start, seen: Seen
) -> None:
    edge.script = in_turn(
        lists(5, thing("a", 5)),
        streams(then=edges.Exchange.end),
        lambda exchange: exchange.refuse(404),
        lists(5, thing("a", 5)),
        streams(),
    )
    start()
    edges.wait_until(lambda: len(edge.watches) == 3, "a third watch")
    assert seen.snapshots == [{"a": {}}, {"a": {}}]


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_refusal_is_said_once_waited_out_and_recovered_from(
    edge: edges.Edge, start: Start, seen: Seen, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    no: edges.Script = lambda exchange: exchange.refuse(status, "not now")  # noqa: E731
    edge.script = in_turn(*[no] * 5, lists(5, thing("a", 5)), streams())
    with caplog.at_level(logging.INFO):
        one = start()
        edges.wait_until(lambda: one.state.connected, "a watch")
    assert caplog.text.count("not now") == 1
    assert seen.snapshots == [{"a": {}}]
    assert one.state.failures == 5
    assert one.state.last_error == ""


def test_waits_grow_while_the_server_is_away(edge: edges.Edge, start: Start) -> None:
    edge.script = lambda exchange: exchange.refuse(503)
    began = time.monotonic()
    start(replace(QUICK, first_wait=0.02, most_wait=0.1))
    edges.wait_until(lambda: len(edge.requests) == 7, "seven tries")
    # Each wait is at least half of 0.02, 0.04, 0.08, 0.1, 0.1, 0.1.
    assert time.monotonic() - began > 0.22


def test_a_watch_that_ends_at_once_is_not_hammered(edge: edges.Edge, start: Start) -> None:
    edge.script = in_turn(lists(1), streams(then=edges.Exchange.end))
    began = time.monotonic()
    start(replace(QUICK, first_wait=0.02, most_wait=0.1))
    edges.wait_until(lambda: len(edge.watches) == 7, "seven watches")
    assert time.monotonic() - began > 0.22


def test_an_object_that_does_not_fit_is_left_out_and_counted(
    edge: edges.Edge, start: Start, seen: Seen
) -> None:
    edge.script = in_turn(
        lists(5, thing("a", 3, x=1), thing("bad", 4, x="a word")),
        streams(
            ("ADDED", thing("c", 6)),
            ("MODIFIED", thing("a", 7, x="a word")),
            ("ADDED", thing("d", 8)),
        ),
    )
    one = start()
    edges.wait_until(lambda: seen.last == {"c": {}, "d": {}}, "the readable objects")
    assert one.state.undecodable == 2


def test_an_answer_that_is_no_list_is_reported(edge: edges.Edge, start: Start) -> None:
    edge.script = lambda exchange: exchange.body(b"<html>proxy</html>")
    one = start()
    edges.wait_until(lambda: one.state.last_error, "an error")
    assert "sent something else than expected" in one.state.last_error


@pytest.mark.parametrize("failure", [ValueError, OSError])
def test_a_failing_listener_does_not_end_the_watch(
    edge: edges.Edge, start: Start, caplog: pytest.LogCaptureFixture, failure: type[Exception]
) -> None:
    calls: list[int] = []

    def fails_first(snapshot: watcher.Snapshot[Config]) -> None:
        calls.append(len(snapshot))
        if len(calls) == 1:
            raise failure("a bug of ours")

    edge.script = in_turn(lists(5), lists(5), streams())
    one = start(on_change=fails_first)
    edges.wait_until(lambda: one.state.connected, "a watch")
    assert len(calls) == 2
    assert f"{failure.__name__}: a bug of ours" in caplog.text


@pytest.mark.parametrize("failure", [ValueError, OSError])
def test_objects_that_a_listener_failed_to_take_are_announced_again(
    edge: edges.Edge, start: Start, failure: type[Exception]
) -> None:
    taken: list[set[str]] = []

    def fails_once(snapshot: watcher.Snapshot[Config]) -> None:
        taken.append(set(snapshot))
        if len(taken) == 2:
            raise failure("disk full")

    edge.script = in_turn(lists(5), streams(("ADDED", thing("a", 6))), lists(6, thing("a", 6)), streams())
    start(on_change=fails_once)
    edges.wait_until(lambda: taken == [set(), {"uid-a"}, {"uid-a"}], "the object again")


def test_a_rotated_token_is_used_for_the_next_watch(
    edge: edges.Edge, server: access.Access, seen: Seen, tmp_path: object
) -> None:
    class Rotating:
        def __init__(self) -> None:
            self.now, self.distrusted = "old", 0

        def value(self) -> str:
            return self.now

        def distrust(self) -> None:
            self.distrusted += 1
            self.now = "new"

    token = Rotating()

    def script(exchange: edges.Exchange) -> None:
        if exchange.request.token != "new":
            exchange.refuse(401)
        elif exchange.request.is_watch:
            streams()(exchange)
        else:
            exchange.json(listed(3))

    edge.script = script
    one = watcher.Watcher(replace(server, token=token), RESOURCE, Config, seen, pace=QUICK)
    one.start()
    edges.wait_until(lambda: one.state.connected, "a watch")
    one.stop()
    assert token.distrusted == 1


def test_stopping_takes_less_than_a_second_wherever_it_waits(edge: edges.Edge, start: Start) -> None:
    edge.script = in_turn(lists(1), streams())
    one = start()
    edges.wait_until(lambda: one.state.connected, "a watch")
    began = time.monotonic()
    one.stop(wait_seconds=5)
    assert time.monotonic() - began < 1
    assert not one.running


def test_stopping_ends_a_wait_between_tries(edge: edges.Edge, start: Start) -> None:
    edge.script = lambda exchange: exchange.refuse(503)
    one = start(replace(QUICK, first_wait=60.0, most_wait=60.0))
    edges.wait_until(lambda: one.state.failures == 1, "a failure")
    began = time.monotonic()
    one.stop(wait_seconds=5)
    assert time.monotonic() - began < 1
    assert not one.running

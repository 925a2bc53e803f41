"""What an agent makes of snapshots, without a server: orders of events that a real one gives only by chance."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from flowlens import config
from flowlens.agent import cluster, intent
from flowlens.kube import access, objects

BORN = datetime(2026, 1, 1, tzinfo=UTC)


class Judge:
    """A Watched whose watches never start; snapshots are handed over as they would."""

    def __init__(self, folder: Path) -> None:
        base = intent.Fixed("node-1")
        first = base.poll()
        assert first is not None
        assert first.node is not None
        self.woken = 0
        nowhere = access.Access("https://127.0.0.1:1")
        self.watched = cluster.Watched(nowhere, "node-1", base, self._wake, folder, fallback=first.node)

    def _wake(self) -> None:
        self.woken += 1

    def see(self, *items: objects.SpecifiedObject) -> None:
        self.watched._take_configs(MappingProxyType({item.metadata.uid: item for item in items}))

    def see_node(self, **labels: str) -> None:
        meta = objects.Metadata(name="node-1", uid="n", labels=labels)
        self.watched._take_nodes(MappingProxyType({"n": objects.Object(meta)}))

    def wish(self) -> intent.Wish | None:
        return self.watched.poll()

    def node(self) -> config.NodeConfig:
        """What is to be put in force; something must be."""
        wish = self.wish()
        assert wish is not None
        assert wish.node is not None
        return wish.node


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    return Judge(tmp_path)


def made(name: str, spec: dict[str, Any], *, uid: str = "", generation: int = 1) -> objects.SpecifiedObject:
    meta = objects.Metadata(name=name, uid=uid or name, generation=generation, creation_timestamp=BORN)
    return objects.SpecifiedObject(meta, msgspec.Raw(json.dumps(spec).encode()))


GOOD, BETTER = {"limits": {"maxSeries": 100}}, {"limits": {"maxSeries": 200}}
BAD = {"metrics": [{"name": "quic_connect"}]}


def test_an_object_made_anew_between_two_looks_is_followed(judge: Judge) -> None:
    judge.see_node()
    judge.see(made("one", GOOD, uid="a"))
    assert judge.node().max_series == 100
    judge.see(made("one", BETTER, uid="b"))
    assert judge.node().max_series == 200


def test_nothing_holds_before_the_node_s_labels_are_known(judge: Judge) -> None:
    judge.see(made("one", GOOD))
    assert judge.wish() is None
    judge.see_node()
    assert judge.node().name == "one"


def test_what_holds_already_is_not_put_in_force_again(judge: Judge) -> None:
    assert judge.wish() is None
    judge.see_node()
    judge.see()
    assert judge.wish() is None
    judge.see(made("one", GOOD))
    judge.node()
    judge.see(made("one", GOOD))  # its status was written
    judge.see_node(zone="a")
    assert judge.wish() is None


def test_what_is_refused_comes_with_what_holds_and_goes_with_its_object(judge: Judge) -> None:
    judge.see_node()
    judge.see(made("one", GOOD), made("bad", BAD))
    told = judge.wish()
    assert told is not None
    assert told.node is not None
    assert told.node.name == "one"
    assert [(one.name, one.generation, one.uid) for one in told.refused] == [("bad", 1, "bad")]
    assert "FlowLensConfig bad" in told.error
    assert judge.wish() is None
    judge.see(made("one", BETTER, generation=2), made("bad", BAD))
    changed = judge.wish()
    assert changed is not None
    assert changed.node is not None
    assert changed.node.generation == 2
    assert changed.refused == told.refused
    judge.see(made("one", BETTER, generation=2))
    assert judge.wish() == intent.Wish(changed.node)
    assert judge.wish() is None


def test_an_object_made_anew_with_the_same_spec_is_another_one(judge: Judge) -> None:
    judge.see_node()
    judge.see(made("one", GOOD, uid="a"))
    assert judge.node().uid == "a"
    judge.see(made("one", GOOD, uid="b"))
    assert judge.node().uid == "b"


def test_an_unreadable_object_takes_no_part_however_high_its_priority(judge: Judge) -> None:
    judge.see_node()
    judge.see(made("one", GOOD))
    assert judge.node().name == "one"
    judge.see(made("one", {**BAD, "priority": 9}, generation=2), made("two", BETTER))
    assert judge.node().name == "two"


def test_what_held_last_holds_from_disk_until_objects_and_labels_are_known(
    judge: Judge, tmp_path: Path
) -> None:
    judge.see_node()
    judge.see(made("one", GOOD, generation=7))
    judge.node()
    later = Judge(tmp_path)
    held = later.node()
    assert (held.name, held.generation, held.max_series) == ("one", 7, 100)
    later.see(made("two", BETTER))
    assert later.wish() is None
    later.see_node()
    assert later.node().name == "two"
    later.see()
    assert later.node().name == "default"
    assert Judge(tmp_path).wish() is None

"""The table of real paths, and what must hold for every path there can be."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flowlens.host import cgroup_path

TABLE = Path(__file__).parents[1] / "fixtures" / "cgroup_paths.yaml"
IDS = {letter: (letter.lower() + "0123456789abcde") * 4 for letter in "ABCD"}


def _cases() -> list[dict[str, Any]]:
    return list(yaml.safe_load(string.Template(TABLE.read_text()).substitute(IDS)))


CASES = _cases()
CONTAINER_CASES = [case for case in CASES if case["kind"] == "container"]

parts = st.text(st.characters(exclude_characters="/\n", exclude_categories=["Cs"]), min_size=1)
known_parts = st.sampled_from(sorted({part for case in CASES for part in case["path"].split("/") if part}))
paths = st.lists(parts | known_parts, max_size=8).map(lambda found: "/" + "/".join(found))
parents = st.just("") | st.sampled_from([case["path"].rstrip("/") for case in CASES]) | paths


def test_the_table_holds_at_least_fifty_paths() -> None:
    assert len({case["path"] for case in CASES}) >= 50


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["path"].replace("/", "|"))
def test_a_path_belongs_to_whom_the_table_says(case: dict[str, Any]) -> None:
    owner = cgroup_path.parse(case["path"])

    assert (owner.kind, owner.runtime, owner.container_id, owner.pod_uid, owner.unit) == (
        case["kind"],
        case.get("runtime", ""),
        case.get("id", ""),
        case.get("pod", ""),
        case.get("unit", ""),
    )
    assert owner.is_pods_own == case.get("own", False)


@given(st.text())
def test_no_text_makes_the_parser_fail(text: str) -> None:
    assert isinstance(cgroup_path.parse(text), cgroup_path.CgroupOwner)


@given(paths)
def test_no_mixture_of_known_parts_makes_the_parser_fail(path: str) -> None:
    owner = cgroup_path.parse(path)
    assert bool(owner.container_id) == (owner.kind is cgroup_path.Kind.CONTAINER)


@given(parents, st.sampled_from(CONTAINER_CASES))
def test_a_parent_never_changes_the_innermost_container(parent: str, case: dict[str, Any]) -> None:
    alone, below = cgroup_path.parse(case["path"]), cgroup_path.parse(parent + case["path"])

    assert below.container_id == alone.container_id
    if case["path"].count("/") > 1:  # a bare id is named by the folder it is in
        assert below.runtime == alone.runtime
    if alone.pods:
        assert below.pods[-len(alone.pods) :] == alone.pods


@given(
    st.sampled_from(CONTAINER_CASES), st.lists(st.sampled_from(["init.scope", "a", "app.slice", "b.service"]))
)
def test_a_cgroup_below_a_container_belongs_to_it(case: dict[str, Any], below: list[str]) -> None:
    path = "/".join([case["path"], *below])
    assert cgroup_path.parse(path).container_id == cgroup_path.parse(case["path"]).container_id


@given(st.text())
def test_no_text_makes_unescape_fail(text: str) -> None:
    assert isinstance(cgroup_path.unescape(text), str)


def test_systemd_escapes_are_shown_as_what_they_stand_for() -> None:
    assert cgroup_path.unescape(r"system-foo\x2dbar.slice") == "system-foo-bar.slice"
    assert cgroup_path.unescape(r"\xc3\xa9cole.service") == "école.service"


def test_all_pods_on_the_way_are_told_outermost_first() -> None:
    outer, inner = "91f5b561-369f-4103-8015-66391059996a", "1e597579-417e-482f-bf65-5fe170c3aebd"
    path = f"/kubepods/pod{outer}/{IDS['A']}/docker/{IDS['B']}/kubepods/pod{inner}/{IDS['C']}"

    assert cgroup_path.parse(path).pods == ((outer, IDS["A"]), (inner, IDS["C"]))

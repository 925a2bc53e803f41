"""The parts that need no cluster: the store of built programs, progress, generated modules, names."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.testbed import build, images, parts, places, plan, progress, requirements, store, wrapper

PART = dataclasses.replace(parts.KUBECONFORM, version="v0.0.1")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWLENS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "toolchain", lambda: "go1.26.8-amd64")


def test_a_finished_part_is_found_and_put_first_in_path() -> None:
    with store.building(parts.HELM) as folder:
        (folder / "helm").write_text("")
    assert store.has(parts.HELM)
    assert store.search_path().split(":")[0] == str(store.folder(parts.HELM))


def test_a_build_that_fails_is_no_hit() -> None:
    with contextlib.suppress(RuntimeError), store.building(PART) as folder:
        (folder / "kubeconform").write_text("half")
        raise RuntimeError
    assert not store.has(PART)
    assert list(places.programs().iterdir()) == []


def test_a_build_that_is_killed_is_no_hit_and_the_next_one_starts_clean() -> None:
    script = (
        "import os; from tests.testbed import parts, store; store.toolchain = lambda: 'go1.26.8-amd64'\n"
        "with store.building(parts.HELM) as folder: (folder / 'half').write_text(''); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=places.REPOSITORY, check=False)
    assert killed.returncode == -9
    assert not store.has(parts.HELM)
    with store.building(parts.HELM) as folder:
        assert list(folder.iterdir()) == []


def test_a_missing_part_names_the_command_that_makes_it() -> None:
    with pytest.raises(store.MissingPartError, match="testbed build helm"):
        store.folder(parts.HELM)


@pytest.mark.parametrize("change", [{"version": "v2"}, {"tags": "x"}, {"ldflags": "-X a.b=c"}])
def test_another_version_or_recipe_is_another_entry(change: dict[str, str]) -> None:
    assert store.entry(dataclasses.replace(PART, **change)) != store.entry(PART)  # type: ignore[arg-type]


def test_another_go_version_is_another_entry() -> None:
    assert parts.key(PART, "go1.26.8-amd64") != parts.key(PART, "go1.27.0-amd64")


def test_a_failed_build_shows_what_the_compiler_said() -> None:
    places.workshop().mkdir(parents=True)
    shown = progress.Progress(1, out=io.StringIO())
    with pytest.raises(build.BuildError, match=r"ended with 3:\nno such package"):
        build.run(
            ["sh", "-c", "echo no such package >&2; exit 3"], places.workshop(), build.environment(), shown
        )


def test_the_wrapping_module_replaces_what_upstream_both_replaces_and_requires() -> None:
    replaced = [("k8s.io/api", "./staging/src/k8s.io/api"), ("k8s.io/sample", "./staging/src/k8s.io/sample")]
    upstream = {
        "Go": "1.26.0",
        "Require": [{"Path": "k8s.io/api"}, {"Path": "k8s.io/klog"}],
        "Replace": [{"Old": {"Path": old}, "New": {"Path": new}} for old, new in replaced],
    }
    text = wrapper.text(parts.KUBERNETES, upstream)
    assert "k8s.io/api => k8s.io/api v0.37.2" in text
    assert "k8s.io/sample" not in text
    assert "godebug default=go1.26\n" in text


def test_progress_learns_from_the_steps_that_are_done() -> None:
    now = [0.0]
    out = io.StringIO()
    shown = progress.Progress(120, out=out, clock=lambda: now[0])
    with shown.step("first", 60):
        now[0] = 30
        assert shown.remaining_seconds() == 90
        now[0] = 120  # twice as slow as planned
    assert shown.remaining_seconds() == pytest.approx(60 * 1.5)
    assert "[ 120 s] first: done in 120 s" in out.getvalue()


def test_progress_adds_a_line_to_a_log_only_now_and_then() -> None:
    now = [0.0]
    out = io.StringIO()
    shown = progress.Progress(100, out=out, clock=lambda: now[0])
    with shown.step("compiling", 100):
        for second in range(50):
            now[0] = second
            shown.tick()
    assert out.getvalue().count("compiling: ") == 4  # at 0, 20 and 40 seconds, and the end


def test_an_archive_names_its_images(tmp_path: Path) -> None:
    images.write_archive(tmp_path / "a.tar", b"layer", (images.BUSYBOX, images.PAUSE))
    assert images.names(tmp_path / "a.tar") == [images.BUSYBOX, images.PAUSE]
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert len([name for name in tar.getnames() if name.startswith("blobs/sha256/")]) == 3


def test_requirements_install_only_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def there(program: str, path: str) -> str | None:
        return None if program == "nft" and not installed else f"/usr/bin/{program}"

    installed: list[list[str]] = []
    monkeypatch.setattr(shutil, "which", there)
    monkeypatch.setattr(requirements, "go_version", lambda: requirements.GO_VERSION)
    monkeypatch.setattr(subprocess, "run", lambda argv, **_: installed.append(argv))
    requirements.install()
    assert installed[-1][-1] == "nftables"
    assert not {"containerd", "runc"} & set(installed[-1])


def test_every_node_has_addresses_and_a_cgroup_of_its_own() -> None:
    nodes = plan.Plan(plan.MOST_NODES, dual_stack=True).nodes
    facts: tuple[Callable[[plan.Node], str], ...] = (
        lambda node: node.name,
        lambda node: node.ip,
        lambda node: node.ip6,
        lambda node: node.pod_range,
        lambda node: node.pod_range6,
        lambda node: node.cgroup_root,
    )
    for fact in facts:
        assert len({fact(node) for node in nodes}) == len(nodes)


def test_a_plan_refuses_a_cluster_it_cannot_number() -> None:
    with pytest.raises(ValueError, match="10 nodes: choose 1 to 9"):
        plan.Plan(10)

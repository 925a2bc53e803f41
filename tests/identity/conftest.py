"""Hosts to ask: a plain one, and nodes of Kubernetes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flowlens import identity
from tests.host import cgroup_tree, proc_tree
from tests.identity import fakes

Build = Callable[..., fakes.Host]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """build(paths, distribution=, pods=, cgroup_root=, layout=): an Identity that has scanned once."""

    def make(
        *paths: str,
        distribution: str = "ubuntu2204-docker-v2",
        pods: fakes.Pods | None = None,
        cgroup_root: str = "",
        v1_only: bool = False,
    ) -> fakes.Host:
        root = cgroup_tree.v1_only(tmp_path) if v1_only else cgroup_tree.pure(tmp_path, paths)
        proc = proc_tree.build(tmp_path, distribution)
        clock = fakes.Clock()
        asked = identity.Identity(proc=proc, cgroupfs=root, clock=clock, pods=pods, cgroup_root=cgroup_root)
        asked.scan()
        return fakes.Host(asked, clock, root, proc)

    return make

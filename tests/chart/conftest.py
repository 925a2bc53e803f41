"""The chart, rendered by the testbed's helm as a user's helm does it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.testbed import build, parts, store

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "flow-lens"


@dataclass(frozen=True, slots=True)
class Rendered:
    """What helm printed, parsed."""

    documents: list[dict[str, Any]]

    def one(self, kind: str, name: str = "flow-lens") -> dict[str, Any]:
        """The only object of this kind and name."""
        found = [item for item in self.documents if (item["kind"], item["metadata"]["name"]) == (kind, name)]
        assert len(found) == 1, [(item["kind"], item["metadata"]["name"]) for item in self.documents]
        return found[0]

    def kinds(self) -> set[str]:
        return {item["kind"] for item in self.documents}

    def agent(self) -> dict[str, Any]:
        """The agent's pod."""
        return dict(self.one("DaemonSet")["spec"]["template"]["spec"])


Helm = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., Rendered]


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Runs helm with these arguments."""
    build.ensure((parts.HELM,))
    program = str(store.folder(parts.HELM) / "helm")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def render(helm: Helm) -> Render:
    """render("agent.engine=bcc", api_versions=, kube_version=): the chart with these values."""

    def template(*values: str, api_versions: tuple[str, ...] = (), kube_version: str = "1.34.0") -> Rendered:
        command = [
            "template",
            "flow-lens",
            str(CHART),
            "--namespace",
            "watch",
            "--kube-version",
            kube_version,
        ]
        for value in values:
            command += ["--set", value]
        for version in api_versions:
            command += ["--api-versions", version]
        done = helm(*command)
        assert done.returncode == 0, done.stderr
        return Rendered([item for item in yaml.safe_load_all(done.stdout) if item])

    return template

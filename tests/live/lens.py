"""A real agent that follows a cluster: a process like tests/agent's, with a node's name and a kubeconfig."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.agent import page as pages
from tests.agent import process

SECONDS = 5.0
"""As long as a change may take at worst."""


class Agent(process.Agent):
    """Of the node `node`; `spec` is what --config says, `flags` come last."""

    def __init__(
        self,
        folder: Path,
        kubeconfig: Path,
        node: str,
        spec: dict[str, Any] | None = None,
        flags: Sequence[str] = (),
        *,
        source: str = "apiserver",
        before: Sequence[str] = (),
    ) -> None:
        self.node = node
        cluster = (
            "--kube",
            "on",
            "--kubeconfig",
            str(kubeconfig),
            "--node",
            node,
            "--identity-source",
            source,
        )
        super().__init__(folder, spec, flags=(*cluster, *flags), before=before)

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """Stopped by SIGSTOP: what happens meanwhile it sees all at once."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @property
    def config(self) -> dict[str, Any]:
        """What /status says of its configuration."""
        return dict(self.status()["config"])

    @property
    def holds(self) -> tuple[str, int]:
        """Name and generation of the object in force, as the metrics tell."""
        return held(self.scrape())

    def wait(self, name: str, generation: int | None = None, seconds: float = SECONDS) -> None:
        """Until an object is in force."""

        def there() -> bool:
            held_name, held_generation = self.holds
            return held_name == name and generation in (None, held_generation)

        try:
            process.until(there, f"{name} in force", seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}: {self.config}, {self.watches}; {self.log[-2000:]}") from late

    def shows(self, connects: int, project: str, seconds: float = SECONDS) -> None:
        """Until a namespace has so many connects."""

        def there() -> bool:
            return self.scrape().sum("connect", namespace=project) == connects

        process.until(there, f"{connects} connects of {project}", seconds)

    def tells(self, watch: str, field: str, seconds: float = 10.0) -> None:
        """Until a fact about a watch is true."""
        process.until(lambda: self.watches[watch][field], f"watch of {watch}: {field}", seconds)

    @property
    def watches(self) -> dict[str, Any]:
        """State of its watches by name: flowlensconfigs, node."""
        return dict(self.status()["watches"])

    @property
    def pods(self) -> dict[str, Any]:
        """State of its source of pods."""
        return dict(self.status()["pods"])

    def connected(self) -> bool:
        """Whether everything that it wants from the API server flows."""
        pods = self.pods["watch"] or {}
        return bool(pods.get("connected")) and all(one["connected"] for one in self.watches.values())


def held(page: pages.Page) -> tuple[str, int]:
    """Name and generation of the configuration that a page was made under."""
    (row,) = page.rows("flow_lens_config_info")
    return row.labels["config"], int(row.labels["generation"])

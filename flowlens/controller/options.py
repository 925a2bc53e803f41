"""What a person or a chart chooses when starting the controller."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class ControllerError(Exception):
    """Base of what ends a controller; the message says why and what to do."""


class StartError(ControllerError):
    """It cannot start."""


class EndedError(ControllerError):
    """It cannot go on: whoever supervises it should start it again."""


@dataclass(frozen=True, slots=True)
class Options:
    """Flags of `flowlens controller`.

    Agents are the endpoints of a Service: `agents_namespace` ("" for the controller's own) and
    `agents_service`, or EndpointSlices by `agents_selector` instead of the Service's name.
    `agents_port` is a port's name or its number. `agents_tls`: off, verify or insecure;
    `agents_server_name` is the name that their certificates carry, since nobody signs addresses.
    """

    listen: str = "127.0.0.1:2113"
    kubeconfig: Path | None = None
    agents_namespace: str = ""
    agents_service: str = "flow-lens"
    agents_selector: str = ""
    agents_port: str = "metrics"
    agents_tls: str = "off"
    agents_ca: Path | None = None
    agents_server_name: str = ""
    sweep_seconds: float = 60.0
    timeout_seconds: float = 3.0
    concurrency: int = 64
    status_seconds: float = 30.0

    @property
    def endpointslice_selector(self) -> str:
        """Label selector of the agents' EndpointSlices."""
        return self.agents_selector or f"kubernetes.io/service-name={self.agents_service}"

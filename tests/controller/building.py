"""Short ways to say what the pure parts are given."""

from __future__ import annotations

from typing import Any

from flowlens import config
from flowlens.controller import judgement, sighting


def intent(
    name: str = "one", *, generation: int = 1, created: str = "2026-01-01T00:00:00Z", **spec: Any
) -> judgement.Intent:
    """An object with this spec (fields as in YAML)."""
    return judgement.Intent(name, f"uid-{name}", generation, created, config.from_object(spec, source=name))


def unreadable(name: str = "bad") -> judgement.Intent:
    return judgement.Intent(
        name, f"uid-{name}", 1, "2026-01-01T00:00:00Z", None, "spec.nonsense: unknown field"
    )


def runs(name: str = "one", generation: int = 1, **more: Any) -> sighting.Sighting:
    return sighting.Sighting(config=sighting.Version(name, generation), **more)


def zone(letter: str) -> dict[str, dict[str, str]]:
    """A nodeSelector's content."""
    return {"matchLabels": {"zone": letter}}

"""Writes docs/metrics.md from the catalogue: one source for names, labels and help; a test fails on drift."""

from __future__ import annotations

from pathlib import Path

from flowlens import metrics

TARGET = Path(__file__).parents[1] / "docs" / "metrics.md"


def text() -> str:
    """The page."""
    lines = [
        "# Metrics",
        "",
        "<!-- Written by scripts/metric_reference.py from flowlens/metrics.py; `make generate` writes it anew. -->",
        "",
        f"Every metric carries the default labels `{' '.join(metrics.IDENTITY_LABELS)}` and its own, unless a",
        "[FlowLensConfig](flowlensconfig.md) says otherwise. What a limit keeps from having a series of its own is",
        f"counted in series whose labels say `{metrics.OTHER}`, so sums stay exact.",
        "",
        "| metric | type | own labels | meaning |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{metric.exposed}` | {metric.kind} | {_names(metric.labels)} | {metric.help} |"
        for metric in metrics.CATALOGUE
    ]
    lines += ["", "## Values of own labels", "", "| label | values |", "|---|---|"]
    lines += [f"| `{label}` | {values} |" for label, values in _values().items()]
    lines += ["", "## Labels", "", "| label | meaning |", "|---|---|"]
    lines += [f"| `{label}` | {meaning} |" for label, meaning in metrics.LABEL_HELP.items()]
    lines += ["| `label_<name>` | A pod label that the configuration names in `podLabels`. |"]
    lines += _about_itself("The agent about itself", metrics.HEALTH)
    lines += _about_itself("The controller about itself", metrics.CONTROLLER)
    return "\n".join(lines) + "\n"


def _about_itself(title: str, families: tuple[metrics.HealthMetric, ...]) -> list[str]:
    rows = [
        f"| `{metric.exposed}` | {metric.kind} | {_names(metric.labels)} | {metric.help} |"
        for metric in families
    ]
    return ["", f"## {title}", "", "| metric | type | labels | meaning |", "|---|---|---|---|", *rows]


def _names(labels: tuple[str, ...]) -> str:
    return " ".join(f"`{label}`" for label in labels)


def _values() -> dict[str, str]:
    return {
        "reason (connect_failures)": ", ".join(metrics.CONNECT_FAILURE_REASONS),
        "reason (reset)": "`peer` for inbound ones; else the kernel's own reason in lower case "
        "(`enum sk_rst_reason`, 6.10 and newer), `unspecified` before",
        "kind": ", ".join(metrics.RETRANSMIT_KINDS),
        "phase": ", ".join(metrics.RETRANSMIT_PHASES),
        "direction": ", ".join(metrics.DIRECTIONS),
        "state": ", ".join(metrics.TCP_STATES),
        "role": ", ".join(role.name.lower() for role in metrics.Role),
    }


if __name__ == "__main__":
    TARGET.write_text(text())

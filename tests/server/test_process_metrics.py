"""The process' own metrics are those that prometheus_client's collectors would show."""

from __future__ import annotations

from pathlib import Path

import prometheus_client
import pytest
from prometheus_client import Metric, gc_collector, parser, platform_collector, process_collector

from flowlens.server import process_metrics


def _ours() -> dict[str, Metric]:
    return {
        family.name: family
        for family in parser.text_string_to_metric_families(process_metrics.text().decode())
    }


def _theirs() -> dict[str, Metric]:
    registry = prometheus_client.CollectorRegistry()
    process_collector.ProcessCollector(registry=registry)
    platform_collector.PlatformCollector(registry=registry)
    gc_collector.GCCollector(registry=registry)
    text = prometheus_client.generate_latest(registry).decode()
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def test_names_types_and_label_sets_are_those_of_the_library() -> None:
    ours, theirs = _ours(), _theirs()
    for families in (ours, theirs):
        families["python_info"].samples.sort()
    assert {name: (each.type, each.documentation) for name, each in ours.items()} == {
        name: (each.type, each.documentation) for name, each in theirs.items()
    }
    assert {
        (each.name, *sorted(each.labels.items())) for family in ours.values() for each in family.samples
    } == {(each.name, *sorted(each.labels.items())) for family in theirs.values() for each in family.samples}


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("process_start_time_seconds", 0.01),
        ("process_cpu_seconds", 1.0),
        ("process_max_fds", 0),
        ("process_open_fds", 2),
        ("process_resident_memory_bytes", 8 << 20),
        ("process_virtual_memory_bytes", 64 << 20),
        ("python_gc_collections", 5),
    ],
)
def test_values_are_those_of_the_library(name: str, tolerance: float) -> None:
    theirs, ours = (families[name].samples[-1].value for families in (_theirs(), _ours()))
    assert ours == pytest.approx(theirs, abs=tolerance, rel=0)


def test_a_proc_that_cannot_be_read_leaves_the_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process_metrics, "_OWN", tmp_path)
    assert _ours().keys() == {name for name in _theirs() if name.startswith("python_")}

"""The controller's page, read by Prometheus' own parser, against the catalogue."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from flowlens import metrics
from flowlens.controller import numbers


def test_the_page_has_the_catalogues_families_and_no_other() -> None:
    page = numbers.Numbers("1.2.3").text().decode()
    shown = {
        found.name: (found.type, found.documentation)
        for found in text_string_to_metric_families(page)
        if found.name.startswith("flow_lens_")
    }
    assert shown == {
        each.exposed.removesuffix("_total"): (each.kind.value, each.help) for each in metrics.CONTROLLER
    }


def test_samples_carry_the_catalogues_labels() -> None:
    own = numbers.Numbers("1.2.3")
    own.visited("answered", 0.02)
    own.wrote("status", "written")
    page = own.text().decode()
    assert 'flow_lens_controller_build_info{version="1.2.3"} 1.0' in page
    assert 'flow_lens_controller_visits_total{result="answered"} 1.0' in page
    assert 'flow_lens_controller_writes_total{result="written",what="status"} 1.0' in page
    assert 'flow_lens_controller_visit_duration_seconds_bucket{le="0.01"} 0.0' in page
    assert 'flow_lens_controller_visit_duration_seconds_bucket{le="0.025"} 1.0' in page

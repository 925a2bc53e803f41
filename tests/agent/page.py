"""What an agent shows on /metrics, as Prometheus' own parser understands it, and questions to it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import parser

from flowlens import metrics

LabelSet = frozenset[tuple[str, str]]
_GAUGES = frozenset(metric.exposed for metric in metrics.CATALOGUE if metric.kind is metrics.Kind.GAUGE)


class Sample(NamedTuple):
    """One line of the page."""

    name: str
    labels: dict[str, str]
    value: float


class Page:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, str] = {}
        self.samples: list[Sample] = []
        for family in parser.text_string_to_metric_families(text):
            self.families[family.name] = family.type
            self.samples += [Sample(each.name, each.labels, each.value) for each in family.samples]

    def rows(self, name: str, **labels: str) -> list[Sample]:
        """Samples of that exact name whose labels include these."""
        wanted = labels.items()
        return [each for each in self.samples if each.name == name and wanted <= each.labels.items()]

    def sum(self, metric: str, **labels: str) -> int:
        """Sum over a metric, called as the configuration calls it; of a histogram its observations."""
        known = metrics.BY_NAME[metric]
        is_histogram = known.kind is metrics.Kind.HISTOGRAM
        return round(
            math.fsum(row.value for row in self.rows(known.exposed + "_count" * is_histogram, **labels))
        )

    def by(self, metric: str, *labels: str, **where: str) -> Counter[tuple[str, ...]]:
        """A counter's or gauge's values by some labels, "" for those it has not."""
        found: Counter[tuple[str, ...]] = Counter()
        for row in self.rows(metrics.BY_NAME[metric].exposed, **where):
            found[tuple(row.labels.get(label, "") for label in labels)] += round(row.value)
        return found

    def own(self, name: str, **labels: str) -> float:
        """Sum of the agent's own samples `flow_lens_<name>`."""
        return math.fsum(row.value for row in self.rows(f"flow_lens_{name}", **labels))

    def counters(self) -> Iterator[tuple[tuple[str, LabelSet], float]]:
        """Every sample that must never go down while its series exists."""
        for each in self.samples:
            is_counter = each.name.endswith(("_total", "_bucket", "_count", "_sum"))
            if is_counter and each.name not in _GAUGES and not each.name.startswith(("process_", "python_")):
                yield (each.name, frozenset(each.labels.items())), each.value


def gone_down(before: Page, after: Page) -> dict[object, tuple[float, float]]:
    """Counters that both pages show, and that are lower on the second."""
    earlier = dict(before.counters())
    return {
        key: (earlier[key], value) for key, value in after.counters() if value < earlier.get(key, -math.inf)
    }

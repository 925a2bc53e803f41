"""One scrape of an agent, as far as the table needs it: values by series, and what the agent says of itself.

The text is Prometheus' own, so Prometheus' own parser reads it; lines of other families are left out
before, because it is slow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client import parser

from flowlens import metrics

CONNECTS = metrics.BY_NAME["connect"].exposed
ACCEPTS = metrics.BY_NAME["accept"].exposed
FAILURES = metrics.BY_NAME["connect_failures"].exposed
HANDSHAKES = metrics.BY_NAME["connect_duration"].exposed + "_bucket"
OPEN = metrics.BY_NAME["connections"].exposed
SEGMENTS = metrics.BY_NAME["retransmit_segments"].exposed
SYNACKS = metrics.BY_NAME["synack_retransmit"].exposed
RESETS = metrics.BY_NAME["reset"].exposed
SAMPLES = frozenset((CONNECTS, ACCEPTS, FAILURES, HANDSHAKES, OPEN, SEGMENTS, SYNACKS, RESETS))
_BUILD_INFO = "flow_lens_build_info"

Labels = frozenset[tuple[str, str]]


class Scrape(NamedTuple):
    """`series`: sample name -> labels -> value; a name is missing when its metric is switched off.

    `taken_at`: time.monotonic(). `agent`: labels of flow_lens_build_info.
    """

    taken_at: float
    series: Mapping[str, Mapping[Labels, float]]
    agent: Mapping[str, str]


def parse(text: str, taken_at: float) -> Scrape:
    """Raises ValueError where the text is not in Prometheus' format."""
    series: dict[str, dict[Labels, float]] = {}
    agent: dict[str, str] = {}
    for family in parser.text_string_to_metric_families("\n".join(_wanted(text)) + "\n"):
        if family.name == _BUILD_INFO:
            agent = dict(family.samples[0].labels) if family.samples else {}
            continue
        for name in _sample_names(family.name):
            series.setdefault(name, {})
        for sample in family.samples:
            if sample.name in SAMPLES:
                series[sample.name][frozenset(sample.labels.items())] = sample.value
    return Scrape(taken_at, series, agent)


def _sample_names(family: str) -> list[str]:
    """The parser takes `_total` off a counter's family."""
    return [name for name in (family, f"{family}_total", f"{family}_bucket") if name in SAMPLES]


def _wanted(text: str) -> Iterator[str]:
    families = {name.removesuffix("_bucket") for name in SAMPLES} | {_BUILD_INFO}
    names = SAMPLES | {_BUILD_INFO}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            if line.split(" ", 3)[2] in families:
                yield line
        elif line.partition(" ")[0].partition("{")[0] in names:
            yield line

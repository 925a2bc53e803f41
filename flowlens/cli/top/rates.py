"""What happened between two scrapes, per owner: the only place of flow-lens where numbers are subtracted.

Never exported: a person looks at it and forgets it. A series that went down began anew with a
restarted agent, so what it shows is its gain, as in Prometheus' rate().
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from flowlens.cli.top import owners, scrape

_LEAST_SECONDS = 1e-3


@dataclass(frozen=True, slots=True)
class Row:
    """Rates are per second; `p50`, `p99` seconds. None: the metric is off, or no handshake was seen."""

    title: str
    labels: Mapping[str, str]
    connects: float | None
    accepts: float | None
    failures: float | None
    open: float | None
    p50: float | None
    p99: float | None
    retransmits: float | None
    resets: float | None

    @property
    def kind(self) -> str:
        """Kind of the workload, "" where the grouping has none."""
        return self.labels.get("workload_kind", "")


@dataclass(slots=True)
class _Sum:
    """Gains of one owner while they are added up."""

    gains: dict[str, float] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)


def between(before: scrape.Scrape, after: scrape.Scrape, by: owners.Grouping) -> list[Row]:
    """A row for every owner that `after` knows."""
    sums: dict[owners.Owner, _Sum] = {}
    for name, found in after.series.items():
        former = before.series.get(name, {})
        for pairs, value in found.items():
            labels = dict(pairs)
            total = sums.setdefault(by.owner(labels), _Sum())
            gain = value if name == scrape.OPEN else _gain(former.get(pairs, 0.0), value)
            if name == scrape.HANDSHAKES:
                bound = float(labels["le"])
                total.buckets[bound] = total.buckets.get(bound, 0.0) + gain
            else:
                total.gains[name] = total.gains.get(name, 0.0) + gain
    seconds = max(after.taken_at - before.taken_at, _LEAST_SECONDS)
    return [_row(owner, total, after, by, seconds) for owner, total in sums.items()]


def _gain(before: float, after: float) -> float:
    return after - before if after >= before else after


def _row(owner: owners.Owner, total: _Sum, after: scrape.Scrape, by: owners.Grouping, seconds: float) -> Row:
    def rate(*names: str) -> float | None:
        known = [name for name in names if name in after.series]
        return sum(total.gains.get(name, 0.0) for name in known) / seconds if known else None

    labels = by.named(owner)
    return Row(
        title=by.title(labels),
        labels=labels,
        connects=rate(scrape.CONNECTS),
        accepts=rate(scrape.ACCEPTS),
        failures=rate(scrape.FAILURES),
        open=total.gains.get(scrape.OPEN, 0.0) if scrape.OPEN in after.series else None,
        p50=quantile(0.50, total.buckets),
        p99=quantile(0.99, total.buckets),
        # Together they are the kernel's RetransSegs.
        retransmits=rate(scrape.SEGMENTS, scrape.SYNACKS),
        resets=rate(scrape.RESETS),
    )


def quantile(share: float, cumulative: Mapping[float, float]) -> float | None:
    """Prometheus' histogram_quantile(): linear within a bucket that starts at 0 or at the bound before.

    `cumulative`: upper bound -> observations up to it, with math.inf. Beyond the last finite bound the
    answer is that bound; None without observations.
    """
    bounds = sorted(cumulative)
    total = cumulative[bounds[-1]] if bounds else 0.0
    if not total or bounds[-1] != math.inf or len(bounds) < 2:
        return None
    rank = share * total
    for lower, upper in itertools.pairwise((0.0, *bounds)):
        if cumulative[upper] >= rank:
            if upper == math.inf:
                return lower
            below = cumulative.get(lower, 0.0)
            inside = cumulative[upper] - below
            return min(upper, lower + (upper - lower) * (rank - below) / inside) if inside else upper
    return bounds[-2]

"""What a generation of the configuration meant for the rows that carry its number.

A row in the kernel says only in which generation it began. Which flow fields its labels asked for
then, and what the boundaries of its buckets were, is remembered here.
"""

from __future__ import annotations

from typing import NamedTuple

from flowlens import config

ERAS_KEPT = 64
"""Per metric. Rows of an older generation left the kernel long ago: each change drains them."""


class Era(NamedTuple):
    """One metric from one generation on: its flow labels, buckets (seconds), shown address bits."""

    generation: int
    fields: frozenset[str]
    buckets: tuple[float, ...]
    v4_prefix: int
    v6_prefix: int


class Eras:
    """The eras of one metric, oldest first."""

    def __init__(self) -> None:
        self._eras: list[Era] = []

    def begin(self, generation: int, wanted: config.MetricConfig, node: config.NodeConfig) -> None:
        """From this generation on, rows are made as `wanted` and `node` say."""
        fields = frozenset(wanted.flow_labels)
        era = Era(generation, fields, wanted.buckets, node.v4_prefix, node.v6_prefix)
        if not self._eras or self._eras[-1][1:] != era[1:]:
            self._eras = [*self._eras[-ERAS_KEPT + 1 :], era]

    def at(self, generation: int) -> Era | None:
        """The era that a row of this generation belongs to; None when it is not known any more."""
        return next((era for era in reversed(self._eras) if era.generation <= generation), None)

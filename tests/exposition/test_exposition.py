"""The page, read by Prometheus' own parser of its text format."""

from __future__ import annotations

import gzip
import math
from array import array
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser

from flowlens import exposition, metrics, series
from flowlens.series import labels
from tests.series import kernel_rows as kr

CONNECT, CONNECTIONS = metrics.BY_NAME["connect"], metrics.BY_NAME["connections"]
DURATION = metrics.BY_NAME["connect_duration"]

label_names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "le")
label_sets = st.dictionaries(label_names, st.text(), min_size=1, max_size=4)
numbers = st.integers(0, 2**63 - 1)


def parse(chunks: object) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """(sample name, labels) -> number, as Prometheus understands it."""
    text = b"".join(chunks).decode()  # type: ignore[arg-type]
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def view(metric: metrics.Metric, values: Mapping[str, int]) -> series.View:
    names = {text: slot for slot, text in enumerate(values)}
    counts = array("Q", [value % 2**64 for value in values.values()])
    return series.View(metric, (), names, counts, array("Q", [0] * len(counts)))


@given(
    st.lists(
        st.tuples(label_sets, numbers), max_size=5, unique_by=lambda pair: tuple(sorted(pair[0].items()))
    )
)
def test_counters_with_any_label_values_are_read_back(series_of: list[tuple[dict[str, str], int]]) -> None:
    values = {labels.write(pairs.items()): number for pairs, number in series_of}
    assert parse(exposition.render([view(CONNECT, values)])) == {
        (CONNECT.exposed, frozenset(pairs.items())): number for pairs, number in series_of
    }


@given(
    st.lists(
        st.tuples(label_sets, st.floats()), max_size=5, unique_by=lambda pair: tuple(sorted(pair[0].items()))
    )
)
def test_families_given_as_data_are_read_back(samples: list[tuple[dict[str, str], float]]) -> None:
    family = exposition.Family("flow_lens_x", 'A "help" with \\ and\nlines.', metrics.Kind.GAUGE, samples)
    found = parse(exposition.render([], [family]))
    assert found.keys() == {("flow_lens_x", frozenset(pairs.items())) for pairs, _ in samples}
    for pairs, number in samples:
        read = found["flow_lens_x", frozenset(pairs.items())]
        assert read == number or (math.isnan(read) and math.isnan(number))


def test_help_and_type_are_those_of_the_catalogue() -> None:
    text = b"".join(
        exposition.render([view(metric, {}) for metric in metrics.CATALOGUE if not metric.buckets])
    ).decode()
    for family in parser.text_string_to_metric_families(text):
        metric = next(
            each for each in metrics.CATALOGUE if each.exposed.removesuffix("_total") == family.name
        )
        assert (family.type, family.documentation) == (metric.kind, metric.help)


@pytest.mark.parametrize("labels_text", ["", 'pod="p"'])
def test_a_gauge_below_zero_keeps_its_sign(labels_text: str) -> None:
    assert list(parse(exposition.render([view(CONNECTIONS, {labels_text: -3})])).values()) == [-3.0]


@given(
    st.lists(st.integers(0, 2**40), min_size=4, max_size=4),
    st.sampled_from([{}, {"pod": "p"}, {"pod": 'a"b\\c\n', "role": "%s"}]),
)
def test_histograms_are_cumulative_and_end_in_inf(observations: list[int], pairs: dict[str, str]) -> None:
    names = {labels.write(pairs.items()): 0}
    sums = array("Q", [500_000_000, 0, 250_000_000, 0])
    found = parse(
        exposition.render([series.View(DURATION, (0.001, 0.5, 2.0), names, array("Q", observations), sums)])
    )
    buckets = [
        found[f"{DURATION.exposed}_bucket", frozenset({**pairs, "le": bound}.items())]
        for bound in ("0.001", "0.5", "2.0", "+Inf")
    ]
    assert buckets == [float(sum(observations[: index + 1])) for index in range(4)]
    assert buckets == sorted(buckets)
    assert found[f"{DURATION.exposed}_count", frozenset(pairs.items())] == buckets[-1]
    assert found[f"{DURATION.exposed}_sum", frozenset(pairs.items())] == 0.75
    assert len(found) == 6


def test_a_metric_without_labels_is_one_sample() -> None:
    assert b"".join(exposition.render([view(CONNECT, {"": 7})])).endswith(b"\nebpf_tcp_connect_total 7\n")


def test_the_page_of_a_ledger_has_every_metric_that_is_on() -> None:
    ledger = kr.Names().ledger()
    rows = {
        kr.Key(metric.name, generation=kr.GENERATION if metric.buckets else 0): 2
        for metric in metrics.CATALOGUE
    }
    ledger.update(kr.read(rows), 1.0)
    found = parse(exposition.render(ledger.views()))
    names = {name for name, _ in found}
    assert {metric.exposed for metric in metrics.CATALOGUE if not metric.buckets} <= names
    assert {f"{metric.exposed}_count" for metric in metrics.CATALOGUE if metric.buckets} <= names


def test_a_large_page_comes_in_chunks() -> None:
    chunks = list(exposition.render([view(CONNECT, {f'pod="{number}"': number for number in range(10_000)})]))
    assert max(map(len, chunks)) < 150_000
    assert len(parse(chunks)) == 10_000


def test_a_large_histogram_comes_in_chunks() -> None:
    names = {f'pod="{number}"': 4 * number for number in range(3_000)}
    numbers_of = array("Q", [1] * 12_000)
    chunks = list(
        exposition.render([series.View(DURATION, (0.001, 0.5, 2.0), names, numbers_of, numbers_of)])
    )
    assert max(map(len, chunks)) < 300_000
    assert len(parse(chunks)) == 3_000 * 6


def test_a_compressed_page_is_gzip_and_reads_back_in_pieces() -> None:
    chunks = list(exposition.render([view(CONNECT, {f'pod="{number}"': number for number in range(10_000)})]))
    page = exposition.compress(iter(chunks))
    assert gzip.decompress(b"".join(page.compressed)) == b"".join(chunks) == b"".join(page.text())
    assert page.text_bytes == sum(map(len, chunks))
    assert page.compressed_bytes == sum(map(len, page.compressed)) < page.text_bytes / 5


@given(st.floats())
def test_numbers_are_written_so_that_they_are_read_back(number: float) -> None:
    family = exposition.Family("x", "", metrics.Kind.GAUGE, [({}, number)])
    (read,) = parse(exposition.render([], [family])).values()
    assert read == number or (math.isnan(read) and math.isnan(number))


@pytest.mark.parametrize("size", [0, 1, exposition.PIECE_BYTES, 3 * exposition.PIECE_BYTES, 50_000_000])
def test_text_that_compresses_very_well_is_still_unpacked_in_pieces(size: int) -> None:
    page = exposition.compress([b"x" * size])
    lengths = [len(piece) for piece in page.text()]
    assert sum(lengths) == size
    assert max(lengths, default=0) <= exposition.PIECE_BYTES

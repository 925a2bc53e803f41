"""Series as Prometheus text (format 0.0.4), in chunks.

Label text was rendered once, when its series was opened; a page is that text and the numbers, put
together by C loops. A page is never one string: 100,000 samples are 15 MB.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flowlens import metrics, series
from flowlens.series import labels

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CHUNK_SERIES = 300
"""Counters per chunk; about 45 KB of text, so that chunks come from the heap and not from the kernel, each anew."""
PIECE_BYTES = 64 * 1024
_NS = 1e9
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family given as plain data. `samples`: (label -> value, number)."""

    name: str
    help: str
    kind: metrics.Kind
    samples: Sequence[tuple[Mapping[str, str], float]] = field(default=())


@dataclass(frozen=True, slots=True)
class Page:
    """A rendered page, compressed: what is kept of one that many scrapers, fast and slow, may read."""

    compressed: tuple[bytes, ...]
    compressed_bytes: int
    text_bytes: int

    def text(self) -> Iterator[bytes]:
        """The page for a reader that takes no gzip, in pieces of at most PIECE_BYTES."""
        unpack = zlib.decompressobj(_GZIP_WINDOW)
        for chunk in self.compressed:
            rest = chunk
            while rest:
                if piece := unpack.decompress(rest, PIECE_BYTES):
                    yield piece
                rest = unpack.unconsumed_tail
        while piece := unpack.decompress(b"", PIECE_BYTES):
            yield piece


def render(views: Iterable[series.View], families: Iterable[Family] = ()) -> Iterator[bytes]:
    """The text of the series of the ledger and of other families, in chunks."""
    for view in views:
        yield _head(view.metric.exposed, view.metric.help, view.metric.kind).encode()
        yield from _histogram(view) if view.metric.kind is metrics.Kind.HISTOGRAM else _numbers(view)
    for family in families:
        yield _family(family).encode()


def compress(chunks: Iterable[bytes]) -> Page:
    """A page as gzip, level 1: seven times faster than 9, and a tenth larger."""
    pack = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW)
    pieces: list[bytes] = []
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if piece := pack.compress(chunk):
            pieces.append(piece)
    pieces.append(pack.flush())
    return Page(tuple(pieces), sum(map(len, pieces)), size)


def _head(name: str, text: str, kind: metrics.Kind) -> str:
    shown = text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {shown}\n# TYPE {name} {kind}\n"


def _numbers(view: series.View) -> Iterator[bytes]:
    is_gauge = view.metric.kind is metrics.Kind.GAUGE
    numbers: Iterator[int] = map(view.counts.__getitem__, view.names.values())
    if is_gauge:
        numbers = map(_signed, numbers)
    if view.names.keys() == {""}:
        yield f"{view.metric.exposed} {next(numbers)}\n".encode()
        return
    start, middle, end = (itertools.repeat(text) for text in (view.metric.exposed + "{", "} ", "\n"))
    lines = zip(start, view.names, middle, map(str, numbers), end)  # noqa: B905 - some never end
    while chunk := "".join(itertools.chain.from_iterable(itertools.islice(lines, CHUNK_SERIES))):
        yield chunk.encode()


def _signed(number: int) -> int:
    return number - (number >> 63 << 64)


def _histogram(view: series.View) -> Iterator[bytes]:
    width = len(view.buckets) + 1
    template = _histogram_template(view)
    lines: list[str] = []
    for text, base in view.names.items():
        values: list[str | float] = [text] * (2 * width + 4)
        values[1 : 2 * width : 2] = itertools.accumulate(view.counts[base : base + width])
        values[-3] = sum(view.sums[base : base + width]) / _NS
        values[-1] = values[2 * width - 1]
        lines.append(template % tuple(values))
        if len(lines) * (width + 2) >= CHUNK_SERIES:
            yield "".join(lines).encode()
            lines.clear()
    yield "".join(lines).encode()


def _histogram_template(view: series.View) -> str:
    """Lines of one label set, with its text and a number to be filled in on each, cumulative."""
    name = view.metric.exposed
    # No labels: the text is empty, and must leave neither a comma nor a pair of braces.
    comma, left, right = ("", "%s", "") if view.names.keys() == {""} else (",", "{%s", "}")
    bounds = [*map(repr, view.buckets), "+Inf"]
    buckets = "".join(f'{name}_bucket{{%s{comma}le="{bound}"}} %d\n' for bound in bounds)
    return f"{buckets}{name}_sum{left}{right} %r\n{name}_count{left}{right} %d\n"


def _family(family: Family) -> str:
    lines = [_head(family.name, family.help, family.kind)]
    for pairs, value in family.samples:
        text = labels.write(pairs.items())
        lines.append(
            f"{family.name}{{{text}}} {_number(value)}\n" if text else f"{family.name} {_number(value)}\n"
        )
    return "".join(lines)


def _number(value: float) -> str:
    """A number as Prometheus reads it; whole ones without a fraction."""
    if isinstance(value, int):
        return str(value)
    if math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"

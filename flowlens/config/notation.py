"""How people write quantities in a FlowLensConfig: durations, ports, namespace patterns, pod labels.

Each notation has its pattern (which the CRD's schema carries, so that the API server refuses the
same texts) beside the function that reads it. Nothing here knows a field or a metric.
"""

from __future__ import annotations

import functools
import re

from flowlens import metrics

DURATION_PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
"""Go's duration strings as GEP-2257 narrows them for Kubernetes: no sign, no fraction, no `us`."""
PORTS_PATTERN = r"^[0-9]{1,5}(-[0-9]{1,5})?$"
NAMESPACE_PATTERN = r"^[a-z0-9*?-]+$"
"""RFC 1123 labels with the wildcards `*` (any text) and `?` (one character)."""
LABEL_KEY_PATTERN = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
"""Kubernetes label keys: an optional DNS prefix, a slash, a name of at most 63 characters."""
LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
EXPOSED_LABEL_PATTERN = r"^[a-z_][a-zA-Z0-9_]*$"

PORT_MAX = 65535
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION_PART = re.compile(r"([0-9]+)(ms|h|m|s)")
_NOT_IN_LABEL = re.compile(r"[^a-zA-Z0-9_]")


def duration_seconds(text: str) -> float:
    """Seconds in `5m`, `90s`, `1h30m`; ValueError when it is no such text."""
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f"{text!r} is not a duration such as 5m, 90s or 1h30m")
    return sum(int(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def duration_text(seconds: float) -> str:
    """The shortest notation of a duration: 5400.0 is `1h30m`; parts below a millisecond are lost."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def port_range(entry: int | str) -> tuple[int, int]:
    """First and last port of `8080` or `"8000-8100"`; ValueError says what is wrong with it."""
    text = str(entry)
    if not re.fullmatch(PORTS_PATTERN, text):
        raise ValueError('not a port (8080) or a range of ports ("8000-8100")')
    first, _, last = text.partition("-")
    low, high = int(first), int(last or first)
    if not 1 <= low <= PORT_MAX or not 1 <= high <= PORT_MAX:
        raise ValueError(f"ports are 1 to {PORT_MAX}")
    if low > high:
        raise ValueError(f'the range runs backwards: write "{high}-{low}"')
    return low, high


def ports_text(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def pod_label(key: str) -> str:
    """Metric label of a pod label: `label_app_kubernetes_io_name` for `app.kubernetes.io/name`."""
    return metrics.POD_LABEL_PREFIX + _NOT_IN_LABEL.sub("_", key)


@functools.lru_cache(maxsize=1024)
def namespace_regex(pattern: str) -> re.Pattern[str]:
    """A namespace pattern as an expression to be used with `fullmatch`."""
    wildcards = {"*": ".*", "?": "."}
    return re.compile("".join(wildcards.get(char, re.escape(char)) for char in pattern), re.DOTALL)


def covers(wider: str, narrower: str) -> bool:
    """Whether every namespace that the pattern `narrower` matches is matched by `wider` too.

    Read as text, a `*` of the narrower one can stand only where the wider one has a `*`; where the
    wider one has `?`, the narrower one must have one character. Sound, and complete but for
    spellings nobody writes (`a**`).
    """
    wildcards = {"*": ".*", "?": "[^*]"}
    expression = "".join(wildcards.get(char, re.escape(char)) for char in wider)
    return re.fullmatch(expression, narrower) is not None


MEANING = {
    DURATION_PATTERN: "a duration such as 5m, 90s or 1h30m",
    PORTS_PATTERN: 'a port (8080) or a range of ports ("8000-8100")',
    NAMESPACE_PATTERN: "a namespace or a pattern of small letters, digits and -, with * and ? as wildcards",
    LABEL_KEY_PATTERN: "a Kubernetes label's name such as app or app.kubernetes.io/name",
    LABEL_VALUE_PATTERN: "a Kubernetes label's value (letters, digits, - _ . and at most 63 of them)",
    EXPOSED_LABEL_PATTERN: "the name of a metric's label (letters, digits and _)",
}
"""What each pattern asks for, in words for messages."""

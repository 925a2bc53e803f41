"""A configuration in plain words: what it measures, of whom, with which labels, and what that costs.

For `flowlens config explain` and for a review of somebody else's change. Plain text without
colours, at most 100 columns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from flowlens import metrics
from flowlens.config import definitions, notation, resolution, selectors

_WIDTH = 100
_CLIENT_ONLY = frozenset({"connect", "connect_failures", "connect_duration"})
_SERVER_ONLY = frozenset({"accept", "synack_retransmit"})
"""Metrics that see one end only; all others see both, each with its ephemeral port on another side."""


def explain(spec: definitions.Spec) -> str:
    """Several paragraphs, without a newline at the end."""
    config = resolution.resolve(spec, name="", generation=0)
    if not config.metrics:
        return f"{_nodes(spec)}\n\nMeasures nothing: every metric is switched off."
    parts = (
        _nodes(spec),
        _measured(config),
        _not_measured(config),
        _connections(spec, config),
        _cost(spec, config),
    )
    return "\n\n".join(part for part in parts if part)


def _paragraph(text: str, indent: str = "") -> str:
    hanging = indent.replace("-", " ")
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _nodes(spec: definitions.Spec) -> str:
    where = _selector(spec.node_selector)
    nodes = f"Nodes with {where}" if where else "Every node"
    return _paragraph(f"{nodes}, with priority {spec.priority} among the configurations for a node.")


def _selector(selector: selectors.Selector) -> str:
    conditions = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    conditions += [_condition(requirement) for requirement in selector.match_expressions]
    return " and ".join(conditions)


def _condition(requirement: selectors.Requirement) -> str:
    key, values = requirement.key, ", ".join(requirement.values)
    match requirement.operator:
        case "In":
            return f"{key}={values}" if len(requirement.values) == 1 else f"{key} one of {values}"
        case "NotIn":
            return f"{key} other than {values} (or missing)"
        case "Exists":
            return f"a label {key}"
        case "DoesNotExist":
            return f"no label {key}"
        case "Gt":
            return f"{key} above {values}"
        case "Lt":
            return f"{key} below {values}"


def _measured(config: resolution.NodeConfig) -> str:
    total = len(metrics.CATALOGUE)
    count = len(config.metrics)
    lines = [f"Measures {'all' if count == total else f'{count} of'} {total} metrics:"]
    groups: dict[tuple[str, ...], list[resolution.MetricConfig]] = {}
    for metric in config.metrics.values():
        groups.setdefault(metric.labels, []).append(metric)
    for labels, members in groups.items():
        lines.append(
            _paragraph(f"by {', '.join(labels)}" if labels else "in one series, without labels", "  ")
        )
        lines += [f"    {_metric(member, config)}" for member in members]
    return "\n".join(lines)


def _metric(member: resolution.MetricConfig, config: resolution.NodeConfig) -> str:
    notes = []
    if member.buckets:
        first, last = _seconds(member.buckets[0]), _seconds(member.buckets[-1])
        count = len(member.buckets)
        notes.append(f"1 bucket, {first}" if count == 1 else f"{count} buckets, {first} to {last}")
    if member.max_series < config.max_series:
        notes.append(f"at most {member.max_series:,} series")
    return member.metric.exposed + (f" ({'; '.join(notes)})" if notes else "")


def _seconds(seconds: float) -> str:
    if seconds >= 60 and seconds.is_integer():
        return notation.duration_text(seconds)
    if seconds >= 1:
        return f"{seconds:g} s"
    return f"{seconds * 1000:g} ms" if seconds >= 0.001 else f"{seconds * 1_000_000:g} us"


def _not_measured(config: resolution.NodeConfig) -> str:
    off = [metric for metric in metrics.CATALOGUE if metric.name not in config.metrics]
    if not off:
        return ""
    needed = {hook for member in config.metrics.values() for hook in member.metric.hooks}
    idle = dict.fromkeys(hook for metric in off for hook in metric.hooks if hook not in needed)
    text = f"Switched off: {', '.join(metric.exposed for metric in off)}."
    if idle:
        text += f" Detached from the kernel: {', '.join(idle)}."
    return _paragraph(text)


def _connections(spec: definitions.Spec, config: resolution.NodeConfig) -> str:
    lines = ["Connections that are measured:"]
    lines.append(_paragraph(_pods(spec), "  - "))
    host = "host processes too" if config.include_host else "no host processes"
    lines.append(_paragraph(host, "  - "))
    lines.append(_paragraph(_ports(config), "  - "))
    if any(label in metrics.FLOW_LABELS for member in config.metrics.values() for label in member.labels):
        lines.append(_paragraph(_addresses(spec), "  - "))
    return "\n".join(lines)


def _pods(spec: definitions.Spec) -> str:
    include, exclude = spec.namespaces.include, spec.namespaces.exclude
    one = len(include) == 1 and not set("*?") & set(include[0])
    where = f"namespace{'' if one else 's'} {_listed(include)}" if include else "all namespaces"
    if exclude:
        where += f", except {_listed(exclude)}"
    labels = _selector(spec.pod_selector)
    return f"pods of {where}" + (f"; only those with {labels}" if labels else "")


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _ports(config: resolution.NodeConfig) -> str:
    include = _listed([notation.ports_text(*ports) for ports in config.ports_include] or ["all"])
    text = "all ports" if not config.ports_include else f"only ports {include} of the server's end"
    if config.ports_exclude:
        excluded = _listed([notation.ports_text(*ports) for ports in config.ports_exclude])
        text += f", except {excluded}" + ("" if config.ports_include else " of the server's end")
    return text


def _addresses(spec: definitions.Spec) -> str:
    match spec.addresses.mode:
        case "full":
            return "addresses are shown whole"
        case "prefix":
            v4, v6 = spec.addresses.v4_prefix, spec.addresses.v6_prefix
            return f"addresses are cut to /{v4} (IPv4) and /{v6} (IPv6)"
        case "none":
            return "addresses are not shown: src_ip and dst_ip are empty"


def _cost(spec: definitions.Spec, config: resolution.NodeConfig) -> str:
    lines = ["Cost on each node:", *(_paragraph(hint, "  - ") for hint in _hints(spec, config))]
    return "\n".join(lines)


def _hints(spec: definitions.Spec, config: resolution.NodeConfig) -> Iterator[str]:
    with_flows = [member for member in config.metrics.values() if _flow_fields(member, config)]
    if with_flows:
        yield from _flow_hints(with_flows, config)
        yield (
            f"{config.max_flows:,} flows are kept in the kernel; the rest is summed in rows labelled"
            f" {metrics.OTHER}, so that sums stay exact"
        )
    else:
        yield "series grow with the number of containers and services, not with their traffic"
    if any(member.metric.kind is metrics.Kind.HISTOGRAM for member in config.metrics.values()):
        yield "a histogram has three series more than it has buckets, for each of its label sets"
    yield (
        f"at most {config.max_series:,} series over all metrics; what comes later is summed in rows"
        f" labelled {metrics.OTHER}"
    )
    yield (
        f"a series that stood still for {spec.defaults.stale_after} is dropped, after its last value"
        " was scraped"
    )


def _flow_fields(member: resolution.MetricConfig, config: resolution.NodeConfig) -> tuple[str, ...]:
    """Its flow labels that cost rows: hidden addresses do not."""
    hidden = ("src_ip", "dst_ip") if config.v4_prefix == config.v6_prefix == 0 else ()
    return tuple(label for label in member.flow_labels if label not in hidden)


def _flow_hints(members: Sequence[resolution.MetricConfig], config: resolution.NodeConfig) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for member in members:
        groups.setdefault(_growth(member, config), []).append(member.metric.name)
    for growth, names in groups.items():
        yield f"{_listed(names)}: {growth}"


def _growth(member: resolution.MetricConfig, config: resolution.NodeConfig) -> str:
    fields = _flow_fields(member, config)
    name = member.metric.name
    opened = "src_port" in fields and name not in _SERVER_ONLY
    accepted = "dst_port" in fields and name not in _CLIENT_ONLY
    if opened and accepted:
        return "one series per connection: the client's port changes with every connection"
    if opened:
        end = "" if name in _CLIENT_ONLY else " that was opened here"
        return f"one series per connection{end}: src_port changes with every connection"
    if accepted:
        end = "" if name in _SERVER_ONLY else " that was accepted here"
        return f"one series per connection{end}: there dst_port is the client's, which always changes"
    words = {
        "src_ip": "own address",
        "src_port": "own port",
        "dst_ip": "peer address",
        "dst_port": "peer port",
        "pid": "process",
    }
    return f"one series per {_listed([words[label] for label in fields])}"

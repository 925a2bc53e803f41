"""What a spec comes to on a node."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlens import config, metrics
from flowlens.config import notation

FLOW = ("ip_version", "src_ip", "src_port", "dst_ip", "dst_port", "pid")


def resolved(text: str) -> config.NodeConfig:
    return config.resolve(config.load(text, source="-"), name="x", generation=7, node="n1")


def test_without_a_configuration_every_metric_is_on_with_the_default_labels_and_its_own() -> None:
    node = config.default_config("n1")
    assert list(node.metrics) == [metric.name for metric in metrics.CATALOGUE]
    assert node.metrics["connect"].labels == metrics.IDENTITY_LABELS
    assert node.metrics["reset"].labels == (*metrics.IDENTITY_LABELS, "direction", "state", "reason")
    assert (node.name, node.generation, node.node) == ("default", 0, "n1")
    assert (node.max_series, node.max_flows, node.stale_after_seconds) == (20000, 65536, 300.0)


def test_name_generation_and_node_are_kept() -> None:
    node = resolved("{}")
    assert (node.name, node.generation, node.node) == ("x", 7, "n1")


def test_a_metric_that_is_not_named_keeps_the_defaults() -> None:
    node = resolved("metrics: [{name: connect, labels: [pod]}]")
    defaults = dict(config.default_config().metrics)
    assert node.metrics["connect"].labels == ("pod",)
    assert {**node.metrics, "connect": defaults["connect"]} == defaults


def test_a_metric_that_is_switched_off_is_absent() -> None:
    assert "connect" not in resolved("metrics: [{name: connect, enabled: false}]").metrics


def test_with_defaults_off_only_named_metrics_are_on() -> None:
    node = resolved("{defaults: {enabled: false}, metrics: [{name: reset}, {name: connect, enabled: false}]}")
    assert list(node.metrics) == ["reset"]


def test_labels_that_are_given_are_exact_and_keep_their_order() -> None:
    node = resolved("metrics: [{name: retransmit, labels: [kind, dst_port, namespace]}]")
    assert node.metrics["retransmit"].labels == ("kind", "dst_port", "namespace")
    assert node.metrics["retransmit"].flow_labels == ("dst_port",)


def test_an_empty_label_list_leaves_no_labels() -> None:
    assert resolved("metrics: [{name: retransmit, labels: []}]").metrics["retransmit"].labels == ()


def test_default_flow_labels_reach_every_metric() -> None:
    node = resolved("defaults: {labels: [dst_port, role]}")
    for member in node.metrics.values():
        assert member.labels[:2] == ("dst_port", "role")
        assert len(set(member.labels)) == len(member.labels)


def test_pod_labels_are_on_every_metric_that_names_no_labels() -> None:
    node = resolved("{podLabels: [app.kubernetes.io/name], metrics: [{name: accept, labels: [pod]}]}")
    assert node.metrics["connections"].labels == (
        *metrics.IDENTITY_LABELS,
        "label_app_kubernetes_io_name",
        "role",
    )
    assert node.metrics["accept"].labels == ("pod",)
    assert node.pod_labels == ("app.kubernetes.io/name",)


def test_default_labels_that_a_metric_cannot_carry_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class OwnersOnly(metrics.Metric):
        @property
        def allowed_labels(self) -> tuple[str, ...]:
            return metrics.OWNER_LABELS

    listen = OwnersOnly(10, "listen", "ebpf_tcp_listen_total", metrics.Kind.COUNTER, "For this test.", ())
    monkeypatch.setattr(metrics, "CATALOGUE", (listen,))
    assert resolved("defaults: {labels: [namespace, dst_port]}").metrics["listen"].labels == ("namespace",)


def test_buckets_are_the_catalogues_unless_given_and_only_on_histograms() -> None:
    node = resolved("metrics: [{name: connect_duration, buckets: [1, 2.5]}]")
    assert node.metrics["connect_duration"].buckets == (1.0, 2.5)
    assert node.metrics["connection_duration"].buckets == metrics.LIFETIME_BUCKETS
    assert node.metrics["connect"].buckets == ()


def test_a_metrics_limit_is_never_above_the_nodes() -> None:
    node = resolved(
        "limits: {maxSeries: 100}\nmetrics: [{name: connect, maxSeries: 10}, {name: accept, maxSeries: 900}]"
    )
    limits = {name: node.metrics[name].max_series for name in ("connect", "accept", "reset")}
    assert limits == {"connect": 10, "accept": 100, "reset": 100}


@pytest.mark.parametrize(
    ("addresses", "prefixes"),
    [
        ("{}", (32, 128)),
        ("{mode: full}", (32, 128)),
        ("{mode: prefix, v4Prefix: 24, v6Prefix: 56}", (24, 56)),
        ("{mode: prefix, v4Prefix: 0}", (0, 128)),
        ("{mode: none}", (0, 0)),
    ],
)
def test_address_modes_become_prefix_lengths(addresses: str, prefixes: tuple[int, int]) -> None:
    node = resolved(f"addresses: {addresses}")
    assert (node.v4_prefix, node.v6_prefix) == prefixes


def test_port_ranges_are_sorted_and_merged() -> None:
    node = resolved("ports: {include: [443, '8050-8100', 80, '8000-8060', 8101, 81], exclude: ['1-79']}")
    assert node.ports_include == ((80, 81), (443, 443), (8000, 8101))
    assert node.ports_exclude == ((1, 79),)


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 40)), max_size=16))
def test_merged_ranges_hold_the_same_ports_and_lie_apart(pairs: list[tuple[int, int]]) -> None:
    entries = [f"{low}-{low + more}" for low, more in pairs]
    node = config.resolve(
        config.from_object({"ports": {"include": entries}}, source="-"), name="x", generation=1
    )
    wanted = {port for low, more in pairs for port in range(low, low + more + 1)}
    ranges = node.ports_include
    assert {port for low, high in ranges for port in range(low, high + 1)} == wanted
    assert all(left[1] + 1 < right[0] for left, right in itertools.pairwise(ranges))


def test_a_resolved_configuration_cannot_be_changed() -> None:
    node = config.default_config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        node.max_flows = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        node.metrics["connect"] = node.metrics["reset"]  # type: ignore[index]


def test_the_same_spec_resolves_to_equal_configurations() -> None:
    text = "{podLabels: [a], metrics: [{name: connect, labels: [pod, label_a]}], ports: {include: [3]}}"
    assert resolved(text) == resolved(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("90s", 90), ("1h30m", 5400), ("1500ms", 1.5), ("2h2h", 14400), ("1h1m1s1ms", 3661.001)],
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert config.duration_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "m", "-5m", "1.5h", "5 m", "1d", "5m\n", "100000s", "1h1h1h1h1h", "٣s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        config.duration_seconds(text)


@given(st.integers(0, 99_999_999))
def test_a_duration_reads_back_as_it_was_written(milliseconds: int) -> None:
    text = config.duration_text(milliseconds / 1000)
    assert config.duration_seconds(text) == pytest.approx(milliseconds / 1000)


globs = st.text(alphabet="ab*?", min_size=1, max_size=5).filter(lambda text: "**" not in text)


@given(globs, globs, st.lists(st.text(alphabet="abc", max_size=5), max_size=20))
def test_a_pattern_that_covers_another_matches_all_that_it_matches(
    wider: str, narrower: str, names: list[str]
) -> None:
    if notation.covers(wider, narrower):
        for name in names:
            if notation.namespace_regex(narrower).fullmatch(name):
                assert notation.namespace_regex(wider).fullmatch(name)

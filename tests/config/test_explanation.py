"""Words for people: what the sentences must not leave out."""

from __future__ import annotations

import pytest

from flowlens import config


def words(text: str) -> str:
    return " ".join(config.explain(config.load(text, source="-")).split())


def test_a_configuration_that_switches_all_off_says_so_and_no_more() -> None:
    text = config.explain(config.load("defaults: {enabled: false}", source="-"))
    assert text.endswith("\n\nMeasures nothing: every metric is switched off.")


def test_a_selector_is_read_out() -> None:
    text = words(
        "nodeSelector: {matchLabels: {pool: edge}, matchExpressions: ["
        "{key: a, operator: In, values: [x, y]}, {key: b, operator: NotIn, values: [z]},"
        "{key: c, operator: Exists}, {key: d, operator: DoesNotExist},"
        "{key: e, operator: Gt, values: ['3']}, {key: f, operator: Lt, values: ['4']}]}"
    )
    assert text.startswith(
        "Nodes with pool=edge and a one of x, y and b other than z (or missing) and a label c and no label d"
        " and e above 3 and f below 4, with priority 0"
    )


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            "{name: accept, labels: [dst_port]}",
            "accept: one series per connection: there dst_port is the client's",
        ),
        ("{name: accept, labels: [src_port]}", "accept: one series per own port"),
        ("{name: connect, labels: [dst_port, pid]}", "connect: one series per peer port and process"),
        ("{name: reset, labels: [src_port]}", "reset: one series per connection that was opened here"),
        ("{name: reset, labels: [dst_port]}", "reset: one series per connection that was accepted here"),
        ("{name: connect, labels: [dst_ip]}", "connect: one series per peer address"),
    ],
)
def test_the_growth_of_a_metric_follows_from_its_labels(entry: str, sentence: str) -> None:
    assert sentence in words(f"{{defaults: {{enabled: false}}, metrics: [{entry}]}}")


def test_hidden_addresses_cost_no_rows() -> None:
    text = words(
        "{addresses: {mode: none}, defaults: {enabled: false, labels: [dst_ip]}, metrics: [{name: connect}]}"
    )
    assert "addresses are not shown" in text
    assert "not with their traffic" in text


def test_limits_below_the_nodes_are_said() -> None:
    text = words("metrics: [{name: connect, maxSeries: 50}]")
    assert "ebpf_tcp_connect_total (at most 50 series)" in text


def test_filters_are_read_out() -> None:
    text = words(
        "{ports: {include: [443, '8000-8100'], exclude: [22]},"
        " namespaces: {exclude: [a, b]}, includeHost: false}"
    )
    assert "only ports 443 and 8000-8100 of the server's end, except 22" in text
    assert "pods of all namespaces, except a and b" in text
    assert "no host processes" in text

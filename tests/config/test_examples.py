"""The examples that ship: each is valid, means what its first lines say, and reads well."""

from __future__ import annotations

import pathlib

import pytest

from flowlens import config, metrics

EXAMPLES = sorted(pathlib.Path(__file__).parents[2].joinpath("examples").glob("*.yaml"))
FLOW = ("ip_version", "src_ip", "src_port", "dst_ip", "dst_port", "pid")

SEED_WORDS = f"""\
Every node, with priority 0 among the configurations for a node.

Measures 2 of {len(metrics.CATALOGUE)} metrics:
  by ip_version, src_ip, src_port, dst_ip, dst_port, pid
    ebpf_tcp_connect_total
    ebpf_tcp_retransmit_total

Switched off: ...

Connections that are measured:
  - pods of all namespaces
  - host processes too
  - all ports
  - addresses are shown whole

Cost on each node:
  - connect: one series per connection: src_port changes with every connection
  - retransmit: one series per connection: the client's port changes with every connection
  - 65,536 flows are kept in the kernel; the rest is summed in rows labelled other, so that sums
    stay exact
  - at most 20,000 series over all metrics; what comes later is summed in rows labelled other
  - a series that stood still for 5m is dropped, after its last value was scraped"""


def example(name: str) -> config.Spec:
    path = next(path for path in EXAMPLES if path.stem == name)
    return config.load(path.read_text(), source=str(path))


def resolved(name: str) -> config.NodeConfig:
    return config.resolve(example(name), name=name, generation=1)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid_and_explained_in_lines_that_fit(path: pathlib.Path) -> None:
    words = config.explain(config.load(path.read_text(), source=str(path)))
    assert all(len(line) <= 100 for line in words.splitlines())
    assert "\x1b" not in words
    assert words == words.strip()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_named_like_its_file(path: pathlib.Path) -> None:
    assert f"\nmetadata:\n  name: {path.stem}\n" in path.read_text()


def test_the_full_default_is_the_default() -> None:
    assert example("full-default") == config.Spec()


def test_seed_labels_yields_exactly_the_two_metrics_of_the_first_version_with_their_labels() -> None:
    members = resolved("seed-labels").metrics.values()
    assert {member.metric.exposed: member.labels for member in members} == {
        "ebpf_tcp_connect_total": FLOW,
        "ebpf_tcp_retransmit_total": FLOW,
    }


def test_seed_labels_in_words() -> None:
    words = config.explain(example("seed-labels"))
    switched_off = words.split("\n\n")[2]
    assert words == SEED_WORDS.replace("Switched off: ...", switched_off)
    off, _, detached = " ".join(switched_off.split()).partition(" Detached from the kernel: ")
    exposed = [metric.exposed for metric in metrics.CATALOGUE if metric.name not in ("connect", "retransmit")]
    assert off == f"Switched off: {', '.join(exposed)}."
    assert "tcp_send_reset" in detached
    assert "tcp_retransmit_skb" not in detached


def test_errors_only_costs_no_flow_rows() -> None:
    node = resolved("errors-only")
    assert not any(member.flow_labels for member in node.metrics.values())
    assert "connect_failures" in node.metrics
    assert "connections" not in node.metrics
    assert "not with their traffic" in config.explain(example("errors-only"))


def test_one_noisy_namespace_measures_that_namespace_only() -> None:
    node = resolved("one-noisy-namespace")
    assert config.selects(node, namespace="checkout", pod_labels={}, is_host=False)
    assert not config.selects(node, namespace="kube-system", pod_labels={}, is_host=False)
    assert not config.selects(node, namespace="", pod_labels={}, is_host=True)
    assert "pods of namespace checkout" in config.explain(example("one-noisy-namespace"))


def test_per_port_latency_has_the_teams_buckets_and_ports() -> None:
    node = resolved("per-port-latency")
    assert list(node.metrics) == ["connect_failures", "connect_duration"]
    assert 0.005 in node.metrics["connect_duration"].buckets
    assert node.ports_include == ((443, 443), (5432, 5432), (6379, 6379), (8080, 8099))
    assert not config.selects(
        node, namespace="payments-loadtest", pod_labels={"team": "payments"}, is_host=False
    )


def test_retransmits_only_is_for_its_node_pool() -> None:
    candidate = config.Candidate(name="x", created="", spec=example("retransmits-only-on-a-node-pool"))
    assert config.choose([candidate], {"node-pool": "edge", "cpu-count": "4"}) is candidate
    assert config.choose([candidate], {"node-pool": "edge", "cpu-count": "2"}) is None
    assert config.choose([candidate], {"node-pool": "edge", "cpu-count": "4", "virtual": ""}) is None
    assert set(resolved("retransmits-only-on-a-node-pool").metrics) == {
        "retransmit_segments",
        "synack_retransmit",
    }

"""Specs that must be refused: by `config.load`, and by a real API server under our CRD.

One list for both, so that the rules in Python and the rules in CEL cannot drift apart.
"""

from __future__ import annotations

from typing import NamedTuple


class Refused(NamedTuple):
    """`path` and `words` are in our message; `admission` is in the API server's (words if empty)."""

    why: str
    spec: str
    path: str
    words: str
    admission: str = ""


REFUSED = (
    Refused(
        "unknown metric",
        "metrics: [{name: conect}]",
        "spec.metrics[0].name",
        "did you mean connect?",
        'supported values: "connect"',
    ),
    Refused(
        "unknown label",
        "metrics: [{name: connect, labels: [scr_ip]}]",
        "spec.metrics[0].labels[0]",
        "did you mean src_ip?",
        "unknown label: allowed are namespace, ",
    ),
    Refused(
        "unknown default label",
        "defaults: {labels: [namspace]}",
        "spec.defaults.labels[0]",
        "did you mean namespace?",
        "unknown label: allowed are namespace, ",
    ),
    Refused(
        "label of another metric",
        "metrics: [{name: connect, labels: [kind]}]",
        "spec.metrics[0].labels[0]",
        "metric connect cannot carry 'kind'",
        "cannot carry",
    ),
    Refused(
        "own label in the defaults",
        "defaults: {labels: [reason]}",
        "spec.defaults.labels[0]",
        "defaults take no metric's own label 'reason'",
        "unknown label: allowed are namespace, ",
    ),
    Refused(
        "label twice",
        "metrics: [{name: connect, labels: [pod, pod]}]",
        "spec.metrics[0].labels[1]",
        "pod is named twice",
        "named twice",
    ),
    Refused(
        "default label twice",
        "defaults: {labels: [pod, pod]}",
        "spec.defaults.labels[1]",
        "pod is named twice",
        "named twice",
    ),
    Refused(
        "pod label that is not listed",
        "metrics: [{name: connect, labels: [label_app]}]",
        "spec.metrics[0].labels[0]",
        "add the pod label there first",
        "podLabels",
    ),
    Refused(
        "default pod label that is not listed",
        "{podLabels: [team], defaults: {labels: [label_app]}}",
        "spec.defaults.labels[0]",
        "add the pod label there first",
        "podLabels",
    ),
    Refused(
        "metric twice",
        "metrics: [{name: connect}, {name: connect}]",
        "spec.metrics[1].name",
        "connect is named twice",
        "Duplicate value",
    ),
    Refused(
        "metric without a name",
        "metrics: [{enabled: false}]",
        "spec.metrics[0].name",
        "is required",
        "Required value",
    ),
    Refused(
        "buckets that descend",
        "metrics: [{name: connect_duration, buckets: [0.1, 0.01]}]",
        "spec.metrics[0].buckets[1]",
        "buckets must ascend",
        "ascend",
    ),
    Refused(
        "buckets that stand still",
        "metrics: [{name: connect_duration, buckets: [1, 1]}]",
        "spec.metrics[0].buckets[1]",
        "buckets must ascend",
        "ascend",
    ),
    Refused(
        "33 buckets",
        f"metrics: [{{name: connect_duration, buckets: {list(range(1, 34))}}}]",
        "spec.metrics[0].buckets",
        "at most 32",
        "must have at most 32 items",
    ),
    Refused(
        "no bucket",
        "metrics: [{name: connect_duration, buckets: []}]",
        "spec.metrics[0].buckets",
        "at least 1",
        "should have at least 1 items",
    ),
    Refused(
        "bucket of zero",
        "metrics: [{name: connect_duration, buckets: [0]}]",
        "spec.metrics[0].buckets[0]",
        "is 0: allowed are",
        "greater than or equal to",
    ),
    Refused(
        "buckets of a counter",
        "metrics: [{name: connect, buckets: [1]}]",
        "spec.metrics[0].buckets",
        "connect is a counter and has no buckets",
        "only connect_duration, connection_duration have buckets",
    ),
    Refused(
        "namespace on both sides",
        "namespaces: {include: [a], exclude: [a]}",
        "spec.namespaces.include[0]",
        "exclude wins",
        "exclude wins",
    ),
    Refused(
        "included pattern that is all excluded",
        "namespaces: {include: ['team-a-*'], exclude: ['team-*']}",
        "spec.namespaces.include[0]",
        "exclude wins",
        "exclude wins",
    ),
    Refused(
        "namespace that cannot be",
        "namespaces: {include: [Team_A]}",
        "spec.namespaces.include[0]",
        "is not a namespace",
        "must be a namespace or a pattern",
    ),
    Refused(
        "port on both sides",
        "ports: {include: [443], exclude: [443]}",
        "spec.ports.exclude[0]",
        "overlaps include 443",
        "overlap",
    ),
    Refused(
        "ranges that overlap",
        "ports: {include: ['8000-8100'], exclude: [80, '8100-8200']}",
        "spec.ports.exclude[1]",
        "overlaps include 8000-8100 in 8100",
        "overlap",
    ),
    Refused(
        "port above 65535",
        "ports: {include: [65536]}",
        "spec.ports.include[0]",
        "allowed are 1 to 65,535",
        "less than or equal to 65535",
    ),
    Refused(
        "port above 65535 as text",
        "ports: {include: ['80-65536']}",
        "spec.ports.include[0]",
        "ports are 1 to 65535",
        "ports are 1 to 65535",
    ),
    Refused(
        "port 0",
        "ports: {exclude: [0]}",
        "spec.ports.exclude[0]",
        "allowed are 1 to 65,535",
        "greater than or equal to 1",
    ),
    Refused(
        "range that runs backwards",
        "ports: {include: ['20-10']}",
        "spec.ports.include[0]",
        'write "10-20"',
        "first port first",
    ),
    Refused(
        "range that is none",
        "ports: {include: ['a-b']}",
        "spec.ports.include[0]",
        "a range of ports",
        "must be a port (8080) or a range of ports",
    ),
    Refused(
        "17 ranges",
        f"ports: {{include: {list(range(1, 18))}}}",
        "spec.ports.include",
        "at most 16",
        "must have at most 16 items",
    ),
    Refused(
        "negative series",
        "limits: {maxSeries: -1}",
        "spec.limits.maxSeries",
        "is -1: allowed are 1 to 1,000,000",
        "greater than or equal to 1",
    ),
    Refused(
        "negative flows",
        "limits: {maxFlows: -5}",
        "spec.limits.maxFlows",
        "is -5: allowed are 1 to 131,072",
        "greater than or equal to 1",
    ),
    Refused(
        "too many flows",
        "limits: {maxFlows: 131073}",
        "spec.limits.maxFlows",
        "allowed are 1 to 131,072",
        "less than or equal to 131072",
    ),
    Refused(
        "negative series of a metric",
        "metrics: [{name: connect, maxSeries: -1}]",
        "spec.metrics[0].maxSeries",
        "is -1: allowed are",
        "greater than or equal to 1",
    ),
    Refused(
        "half a series",
        "limits: {maxSeries: 1.5}",
        "spec.limits.maxSeries",
        "not a whole number",
        "must be of type integer",
    ),
    Refused(
        "In without values",
        "nodeSelector: {matchExpressions: [{key: a, operator: In}]}",
        "spec.nodeSelector.matchExpressions[0].values",
        "at least one value",
        "In and NotIn need at least one value",
    ),
    Refused(
        "Exists with values",
        "podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
        "spec.podSelector.matchExpressions[0].values",
        "takes no values",
        "Exists and DoesNotExist take no values",
    ),
    Refused(
        "Gt with two values",
        "nodeSelector: {matchExpressions: [{key: a, operator: Gt, values: ['1', '2']}]}",
        "spec.nodeSelector.matchExpressions[0].values",
        "exactly one whole number",
        "Gt and Lt take exactly one whole number",
    ),
    Refused(
        "Lt with a word",
        "nodeSelector: {matchExpressions: [{key: a, operator: Lt, values: [b]}]}",
        "spec.nodeSelector.matchExpressions[0].values[0]",
        "not a whole number",
        "Gt and Lt take exactly one whole number",
    ),
    Refused(
        "unknown operator",
        "nodeSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}",
        "spec.nodeSelector.matchExpressions[0].operator",
        "did you mean In?",
        'supported values: "DoesNotExist"',
    ),
    Refused(
        "selector on no label",
        "nodeSelector: {matchExpressions: [{operator: Exists}]}",
        "spec.nodeSelector.matchExpressions[0].key",
        "is required",
        "Required value",
    ),
    Refused(
        "label value that cannot be",
        "nodeSelector: {matchLabels: {a: 'b c'}}",
        "spec.nodeSelector.matchLabels.a",
        "is not a Kubernetes label's value",
        "must be a Kubernetes label's value",
    ),
    Refused(
        "label key that cannot be",
        "podSelector: {matchLabels: {'a b': c}}",
        'spec.podSelector.matchLabels["a b"]',
        "is not a Kubernetes label's name",
        "label names",
    ),
    Refused(
        "prefix without the mode",
        "addresses: {v4Prefix: 24}",
        "spec.addresses.v4Prefix",
        "prefixes need mode: prefix",
        "v4Prefix and v6Prefix need mode: prefix",
    ),
    Refused(
        "prefix of another mode",
        "addresses: {mode: none, v6Prefix: 64}",
        "spec.addresses.v6Prefix",
        "prefixes need mode: prefix",
        "v4Prefix and v6Prefix need mode: prefix",
    ),
    Refused(
        "IPv4 prefix of 33",
        "addresses: {mode: prefix, v4Prefix: 33}",
        "spec.addresses.v4Prefix",
        "allowed are 0 to 32",
        "less than or equal to 32",
    ),
    Refused(
        "IPv6 prefix of 129",
        "addresses: {mode: prefix, v6Prefix: 129}",
        "spec.addresses.v6Prefix",
        "allowed are 0 to 128",
        "less than or equal to 128",
    ),
    Refused(
        "unknown mode",
        "addresses: {mode: ful}",
        "spec.addresses.mode",
        "did you mean full?",
        'supported values: "full"',
    ),
    Refused(
        "nine pod labels",
        "podLabels: [a, b, c, d, e, f, g, h, i]",
        "spec.podLabels",
        "at most 8",
        "must have at most 8 items",
    ),
    Refused(
        "pod labels that become one",
        "podLabels: [a.b, a/b]",
        "spec.podLabels[1]",
        "would both be the label label_a_b",
        "same metric label",
    ),
    Refused(
        "stale in no time",
        "defaults: {staleAfter: 1s}",
        "spec.defaults.staleAfter",
        "allowed are 10s to 168h",
        "10s to 168h",
    ),
    Refused(
        "stale in a year",
        "defaults: {staleAfter: 8760h}",
        "spec.defaults.staleAfter",
        "allowed are 10s to 168h",
        "10s to 168h",
    ),
    Refused(
        "stale after five what",
        "defaults: {staleAfter: '5'}",
        "spec.defaults.staleAfter",
        "a duration such as 5m",
        "must be a duration such as 5m, 90s or 1h30m",
    ),
    Refused(
        "priority out of bounds",
        "priority: 1000001",
        "spec.priority",
        "allowed are -1,000,000 to 1,000,000",
        "less than or equal to 1000000",
    ),
    Refused(
        "text for a truth",
        "includeHost: maybe",
        "spec.includeHost",
        "not true or false",
        "must be of type boolean",
    ),
    Refused(
        "misspelt field",
        "priorty: 1",
        "spec.priorty",
        "did you mean priority?",
        'unknown field "spec.priorty"',
    ),
    Refused(
        "misspelt inner field",
        "limits: {maxFlow: 1}",
        "spec.limits.maxFlow",
        "did you mean maxFlows?",
        'unknown field "spec.limits.maxFlow"',
    ),
)

ACCEPTED = {
    "nothing": "{}",
    "every metric by name": "metrics: [{name: connect}, {name: reset, enabled: false, maxSeries: 1}]",
    "flow labels on a gauge": "metrics: [{name: connections, labels: [src_ip, dst_ip, dst_port, pid]}]",
    "flow labels in the defaults": "defaults: {labels: [dst_ip, dst_port]}",
    "no labels": "metrics: [{name: connect, labels: []}]",
    "own labels": "metrics: [{name: reset, labels: [reason, direction, state, role]}]",
    "32 buckets": f"metrics: [{{name: connection_duration, buckets: {list(range(1, 33))}}}]",
    "namespaces carved out": "namespaces: {include: ['team-*'], exclude: [team-test, 'team-?-x']}",
    "a wildcard is not a character": "namespaces: {include: ['a*'], exclude: ['a?']}",
    "ports side by side": "ports: {include: [80, '8000-8099', 65535], exclude: ['8100-8200', 1]}",
    "16 ranges": f"ports: {{include: {list(range(1, 17))}, exclude: {list(range(101, 117))}}}",
    "all selectors": """
      nodeSelector:
        matchLabels: {kubernetes.io/os: linux, empty: ''}
        matchExpressions:
          - {key: a, operator: In, values: [b, c]}
          - {key: a, operator: NotIn, values: [d]}
          - {key: example.com/a, operator: Exists}
          - {key: b, operator: DoesNotExist}
          - {key: n, operator: Gt, values: ['10']}
          - {key: n, operator: Lt, values: ['20']}
      """,
    "prefixes": "addresses: {mode: prefix, v4Prefix: 0, v6Prefix: 128}",
    "no addresses": "addresses: {mode: none}",
    "pod labels": """
      podLabels: [team, app.kubernetes.io/name]
      defaults: {labels: [label_team]}
      metrics: [{name: connect, labels: [label_app_kubernetes_io_name, pod]}]
      """,
    "durations": "defaults: {staleAfter: 1h30m}",
    "limits at their bounds": "limits: {maxSeries: 1000000, maxFlows: 131072}",
}

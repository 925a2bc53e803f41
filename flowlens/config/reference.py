"""The reference page of FlowLensConfig, as Markdown, from the same definitions as the CRD."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from flowlens import metrics
from flowlens.config import admission, definitions, status, structure

_INTRO = f"""\
<!-- Generated from flowlens/config by `make generate`: do not edit. -->
# FlowLensConfig

What is measured, on which nodes, of whom, and with which labels. In a cluster it is an object
(`{definitions.API_VERSION}`, cluster scope, short name `flc`); on a plain host the agent reads
the same text from a file (`flowlens agent --config FILE`), as a whole manifest or as the `spec`
alone. `flowlens config explain FILE` checks a file and says in words what it does.

```yaml
apiVersion: {definitions.API_VERSION}
kind: {definitions.KIND}
metadata:
  name: retransmits-by-port
spec:
  metrics:
    - name: retransmit_segments
      labels: [namespace, workload, dst_port, kind]
      maxSeries: 2000
```

[examples/](../examples) has whole configurations; `examples/full-default.yaml` is every field
with its default.

## How it is applied

- **One object rules a node.** Of those whose `nodeSelector` matches, the highest `priority` wins,
  then the oldest, then the first by name. Nothing is merged. A node that no object selects follows
  the chart's `config:`, or the defaults below.
- **Metrics that `metrics` does not name** keep the defaults; with `defaults.enabled: false` they
  are off. Naming a metric turns it on, unless its entry says `enabled: false`.
- **Labels of a metric** are exactly those of its `labels`, in that order, where given. Otherwise
  `defaults.labels`, then the pod labels of `podLabels`, then the metric's own labels. Default
  labels that a metric cannot carry are left out.
- **Flow labels** ({", ".join(f"`{label}`" for label in metrics.FLOW_LABELS)}) cost a row per flow
  in the kernel. Fields that no label asks for are zeroed before the kernel looks the row up, so
  `dst_port` alone costs one row per port and not one per connection.
- **Hidden addresses**: with `addresses.mode: none`, and with a prefix of 0, `src_ip` and `dst_ip`
  have empty values, which Prometheus treats like a missing label.
- **Limits never lose counts**: what `maxSeries` or `maxFlows` keeps from having a row of its own
  is summed in a row whose labels say `{metrics.OTHER}`.
- **Ports** are those of the server's end: the remote port for a client's socket, the local port
  for a server's.
- **Host processes** are ruled by `includeHost` alone. A container that no pod owns has the
  namespace "" and no labels: `namespaces.include` and `podSelector` leave it out.
"""


def page() -> str:
    """The whole page, ending with a newline."""
    sections = (
        _INTRO,
        "## spec\n\n" + _table(structure.public(structure.spec())),
        "## Metrics and the labels they can carry\n\n" + _metrics(),
        "## Labels\n\n" + _labels(),
        "## What is refused\n\nBeside the bounds above, by the API server and by the agent alike:\n\n"
        + _rules(),
        "## status\n\nWritten by the controller, only on change and at most every 30 s.\n\n"
        + _table(structure.without_defaults(structure.of(status.Status)), with_defaults=False),
    )
    return "\n".join(sections)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _table(schema: structure.Schema, *, with_defaults: bool = True) -> str:
    heads = ["field", "type", *(["default"] if with_defaults else []), "meaning"]
    lines = [_row(heads), "|---" * len(heads) + "|"]
    for path, node, required in _fields(schema, ""):
        default = "required" if required else _default(node)
        cells = [f"`{path}`", _type(node), *([default] if with_defaults else []), node.get("description", "")]
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _fields(schema: structure.Schema, prefix: str) -> Iterator[tuple[str, structure.Schema, bool]]:
    for name, node in schema.get("properties", {}).items():
        path = prefix + name
        yield path, node, name in schema.get("required", ())
        if node.get("type") == "array":
            yield from _fields(node["items"], f"{path}[].")
        else:
            yield from _fields(node, f"{path}.")


def _default(node: structure.Schema) -> str:
    if "default" not in node or (node.get("type") == "object" and "properties" in node):
        return ""
    return f"`{json.dumps(node['default'])}`"


_PLURALS = {"mapping": "mappings", "text": "texts", "number or range": "numbers or ranges"}


def _type(node: structure.Schema) -> str:
    if "x-kubernetes-int-or-string" in node:
        return "number or range"
    if "enum" in node:
        return "one of " + ", ".join(f"`{value}`" for value in node["enum"])
    match node["type"]:
        case "array":
            item = _type(node["items"]).replace("number,", "numbers,")
            return f"list of {_PLURALS.get(item, item)}{_size(node, 'Items')}"
        case "object" if "additionalProperties" in node:
            return f"mapping of text to text{_size(node, 'Properties')}"
        case "integer" | "number":
            return _number(node)
        case kind:
            time = "format" in node
            return {"object": "mapping", "boolean": "true or false", "string": "time" if time else "text"}[
                kind
            ]


def _size(node: structure.Schema, what: str) -> str:
    return f" (at most {node[f'max{what}']})" if f"max{what}" in node else ""


def _number(node: structure.Schema) -> str:
    word = "whole number" if node["type"] == "integer" else "number"
    if "maximum" not in node:
        return f"{word} from {_plain(node['minimum'])}"
    return f"{word}, {_plain(node['minimum'])} to {_plain(node['maximum'])}"


def _plain(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:f}".rstrip("0").rstrip(".")


def _metrics() -> str:
    lines = [
        f"All can carry {', '.join(f'`{label}`' for label in _shared())} and the pod labels of `podLabels`.",
        "",
        _row(["name", "metric", "type", "further labels", "meaning"]),
        "|---" * 5 + "|",
    ]
    for metric in metrics.CATALOGUE:
        further = [label for label in metric.allowed_labels if label not in _shared()]
        lines.append(
            _row(
                [
                    f"`{metric.name}`",
                    f"`{metric.exposed}`",
                    str(metric.kind),
                    ", ".join(f"`{label}`" for label in further),
                    metric.help,
                ]
            )
        )
    return "\n".join(lines) + "\n"


def _shared() -> list[str]:
    return [
        label
        for label in definitions.COMMON_LABELS
        if all(label in metric.allowed_labels for metric in metrics.CATALOGUE)
    ]


def _labels() -> str:
    lines = [_row(["label", "value"]), "|---|---|"]
    lines += [_row([f"`{label}`", text]) for label, text in metrics.LABEL_HELP.items()]
    lines.append(
        _row(["`label_<name>`", "Value of a pod label of `podLabels`; empty where the pod has none."])
    )
    return "\n".join(lines) + "\n"


def _rules() -> str:
    messages: dict[str, str] = {}
    for place, rules in admission.by_place().items():
        path = "`" + ".".join(("spec", *place)).replace(".[]", "[]") + "`"
        for rule in rules:
            messages.setdefault(rule["message"], path)
    return "\n".join(f"- {path}: {message}." for message, path in messages.items()) + "\n"

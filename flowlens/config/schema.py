"""Files generated from the definitions: the CRD, its copy for `kubectl apply`, the reference page.

    python -m flowlens.config.schema            writes them (what `make generate` runs)
    python -m flowlens.config.schema --check    names those that differ and exits 1

The only file of this room that touches the disk, and only when it is run by hand or by make.
"""

from __future__ import annotations

import argparse
import copy
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from flowlens.config import admission, definitions, reference, status, structure

CRD_PATHS = ("deploy/helm/flow-lens/crds/flowlensconfigs.yaml", "deploy/manifests/crd.yaml")
REFERENCE_PATH = "docs/flowlensconfig.md"
_HEADER = "# Generated from flowlens/config by `make generate`: do not edit.\n"

_COLUMNS = (
    ("Priority", "integer", ".spec.priority", "Where several objects select a node, the highest wins.", 0),
    ("Matched", "integer", ".status.nodes.matched", "Nodes that this object wins.", 0),
    ("Applied", "integer", ".status.nodes.applied", "Nodes that run this generation.", 0),
    ("Failed", "integer", ".status.nodes.failed", "Nodes that could not apply it.", 0),
    ("Series", "integer", ".status.series", "Series that all nodes together expose.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Time since the object was created.", 0),
    (
        "Unreachable",
        "integer",
        ".status.nodes.unreachable",
        "Nodes whose agent does not answer.",
        1,
    ),
)
"""Printer columns: name, type, JSON path, description, priority (1: only with `-o wide`)."""


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition as plain data."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{definitions.PLURAL}.{definitions.GROUP}",
            "labels": {"app.kubernetes.io/name": "flow-lens"},
        },
        "spec": {
            "group": definitions.GROUP,
            "scope": "Cluster",
            "names": {
                "kind": definitions.KIND,
                "listKind": f"{definitions.KIND}List",
                "plural": definitions.PLURAL,
                "singular": definitions.KIND.lower(),
                "shortNames": ["flc"],
                "categories": ["flow-lens"],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": definitions.VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {
                "name": name,
                "type": kind,
                "jsonPath": path,
                "description": text,
                **({"priority": priority} if priority else {}),
            }
            for name, kind, path, text, priority in _COLUMNS
        ],
        "schema": {"openAPIV3Schema": _root()},
    }


def _root() -> structure.Schema:
    return {
        "description": "What flow-lens measures on the nodes that it selects. Of several objects that"
        " select a node, one applies there: the highest priority, then the oldest, then the first by"
        " name. Nodes that no object selects follow the chart's defaults.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always {definitions.API_VERSION}."},
            "kind": {"type": "string", "description": f"Always {definitions.KIND}."},
            "metadata": {"type": "object"},
            "spec": _spec(),
            "status": _status(),
        },
    }


def _spec() -> structure.Schema:
    spec = copy.deepcopy(structure.public(structure.spec()))
    admission.enforce(spec)
    metrics = spec["properties"]["metrics"]
    metrics |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    _atomic_lists(spec)
    return spec


def _status() -> structure.Schema:
    node = structure.without_defaults(structure.of(status.Status))
    conditions = node["properties"]["conditions"]
    conditions |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    _atomic_lists(node)
    return node


def _atomic_lists(node: structure.Schema) -> None:
    """Lists without keys are replaced as a whole: their order means something."""
    if node.get("type") == "array":
        node.setdefault("x-kubernetes-list-type", "atomic")
    for child in (*node.get("properties", {}).values(), node.get("items"), node.get("additionalProperties")):
        if child:
            _atomic_lists(child)


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: lists indented below their key, no anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def files() -> Mapping[str, str]:
    """Every generated file: path below the repository's root -> text."""
    text = _HEADER + yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, width=100)
    return {**dict.fromkeys(CRD_PATHS, text), REFERENCE_PATH: reference.page()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m flowlens.config.schema", description=__doc__)
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=pathlib.Path())
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a file differs")
    options = parser.parse_args(arguments)
    stale = [
        (options.root / path, text)
        for path, text in files().items()
        if not (options.root / path).is_file() or (options.root / path).read_text() != text
    ]
    for path, text in stale:
        print(f"{path} {'differs: run make generate' if options.check else 'written'}")
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())

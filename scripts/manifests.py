"""Writes what is rendered from the chart: plain manifests for `kubectl apply`, and the schema of its `config:`.

    python scripts/manifests.py            writes them (part of `make generate`)
    python scripts/manifests.py --check    names those that differ and exits 1

The chart is the one source of the manifests, flowlens.config that of the configuration's schema.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowlens.config import schema

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "flow-lens"
VALUES_SCHEMA = CHART / "values.schema.json"
MANIFESTS = ROOT / "deploy" / "manifests"
NAMESPACE = "flow-lens"

HEAD = """\
# Generated from deploy/helm/flow-lens by `make generate`: do not edit.
"""
SPACE = f"""\
apiVersion: v1
kind: Namespace
metadata:
  name: {NAMESPACE}
"""
MONITORING = ("serviceMonitor.enabled=true", "prometheusRule.enabled=true")
# What only makes sense to helm.
NOT_PLAIN = ("helm.sh/chart:", "app.kubernetes.io/managed-by:", "# Source:")


def files() -> dict[Path, str]:
    """Every generated file with its content."""
    bare = render()
    monitored = render(*MONITORING)
    monitoring = [document for document in monitored if document not in bare]
    return {
        MANIFESTS / "flow-lens.yaml": _joined(SPACE, *bare),
        MANIFESTS / "monitoring.yaml": _joined(*monitoring),
        VALUES_SCHEMA: values_schema(),
    }


def render(*values: str) -> list[str]:
    """The chart's documents as helm prints them, without what belongs to helm."""
    command = [helm(), "template", "flow-lens", str(CHART), "--namespace", NAMESPACE]
    # Not the version of the helm that renders: the newest that the chart makes a difference for.
    command += ["--kube-version", "1.31.0", "--set", ",".join(("controller.enabled=true", *values))]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own words
    documents = (_plain(document) for document in text.split("\n---\n"))
    return [document for document in documents if document]


def _plain(document: str) -> str:
    lines = document.removeprefix("---\n").splitlines()
    kept = [line.rstrip() for line in lines if not line.strip().startswith(NOT_PLAIN)]
    return "\n".join(kept).strip("\n") + "\n" if any(kept) else ""


def _joined(*documents: str) -> str:
    return HEAD + "---\n" + "---\n".join(documents)


def helm() -> str:
    """The helm of the testbed, so that everybody renders with the same; built or fetched when missing."""
    command = [sys.executable, "-m", "tests.testbed", "build", "helm"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - as above
    return f"{done.stdout.strip()}/helm"


def values_schema() -> str:
    """values.schema.json with the CRD's `spec` as the schema of `config`; the rest of it is written by hand."""
    values = json.loads(VALUES_SCHEMA.read_text())
    definition = schema.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    values["definitions"]["FlowLensConfigSpec"] = draft7(definition["properties"]["spec"])
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def draft7(node: Mapping[str, Any]) -> dict[str, Any]:
    """A structural schema as helm understands it: no extensions, no defaults, unknown fields refused."""
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key.startswith("x-kubernetes-") or key == "default":
            continue
        if key == "properties":
            out[key] = {name: draft7(child) for name, child in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, Mapping):
            out[key] = draft7(value)
        else:
            out[key] = value
    if node.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in out:
        out["additionalProperties"] = False
    return out


def main() -> int:
    """Write or compare; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, name what differs")
    check = parser.parse_args().check
    differing = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    for path in differing:
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files()[path])
        sys.stdout.write(f"{path.relative_to(ROOT)} {'differs' if check else 'written'}\n")
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())

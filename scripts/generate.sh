#!/usr/bin/env bash
# Writes every generated file anew; tests fail when one differs from its source.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python -m flowlens.config.schema
[ ! -f scripts/manifests.py ] || .venv/bin/python scripts/manifests.py
[ ! -f scripts/metric_reference.py ] || .venv/bin/python scripts/metric_reference.py

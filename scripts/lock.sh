#!/usr/bin/env bash
# Writes the pinned requirements anew from pyproject.toml: what runs (requirements.txt), and all that development needs.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/pip install -q --disable-pip-version-check uv
lock=(.venv/bin/uv pip compile -q --upgrade --generate-hashes --no-header --no-annotate --python-version 3.11 --universal pyproject.toml)
"${lock[@]}" --extra build -o requirements.txt
"${lock[@]}" --all-extras -o requirements-dev.txt
"${lock[@]}" --extra controller -c requirements.txt -o requirements-controller.txt # for the controller's image

#!/usr/bin/env bash
# Makes .venv with the pinned libraries of `run`, or of `test` too, and the project itself in editable form.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements="requirements.txt"
[ "${1:-run}" = test ] && requirements="requirements-dev.txt"
if [ ! -x .venv/bin/python ]; then
	python=$(command -v python3)
	"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
		echo "flow-lens needs Python 3.11 or newer, $python is $("$python" -V)" >&2
		exit 1
	}
	echo "Making .venv with $("$python" -V)"
	"$python" -m venv .venv
fi
echo "Installing the libraries of $requirements into .venv"
.venv/bin/pip install -q --disable-pip-version-check --require-hashes -r "$requirements"
.venv/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .

#!/usr/bin/env bash
# Every check and every test, as CI runs them. PYTEST_ARGS narrows the tests down.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/check.sh
# shellcheck disable=SC2086 # several arguments on purpose
exec .venv/bin/python -m pytest ${PYTEST_ARGS:-}

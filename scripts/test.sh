#!/usr/bin/env bash
# Every check and every test, as CI runs them. PYTEST_ARGS narrows the tests down (then only what they need is built).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/check.sh
if [ -z "${PYTEST_ARGS:-}" ]; then
	# Built once (20 minutes on two cores) and kept outside the tree; shown here, because pytest would hide the progress.
	.venv/bin/python -m tests.testbed build
fi
# shellcheck disable=SC2086 # several arguments on purpose
exec .venv/bin/python -m pytest ${PYTEST_ARGS:-}

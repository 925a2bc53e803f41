#!/usr/bin/env bash
# Everything that can be said about the code without running it.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

step() {
	printf -- '-- %s\n' "$*"
	"$@"
}
step ruff check flowlens tests benchmarks scripts
step ruff format --check flowlens tests benchmarks scripts
step mypy
step lint-imports
step codespell flowlens bpf tests docs README.md CHANGELOG.md deploy
mapfile -t shell < <(git ls-files '*.sh' .ci/run)
step shellcheck "${shell[@]}"
step clang-format --dry-run --Werror bpf/*.h bpf/*.c
mapfile -t yaml < <(git ls-files '*.yaml' '*.yml' ':!deploy/helm/*/templates/*')
step yamllint -s "${yaml[@]}"

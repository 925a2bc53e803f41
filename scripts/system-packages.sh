#!/usr/bin/env bash
# Installs the system packages that are missing: `run` what the agent and its build need, `test` what the tests need as well.
# Says first what and why. Debian and Ubuntu by apt; elsewhere it names what to install and stops.
set -euo pipefail

declare -A why=(
	[clang]="compiles the BPF object"
	[libbpf-dev]="headers of the BPF programs"
	[linux-libc-dev]="kernel headers of the BPF programs"
	[libbpf1]="loads the BPF object"
	[python3]="runs the agent"
	[python3-venv]="keeps its libraries apart"
	[bpftool]="tests look at loaded programs with it"
	[iproute2]="tests join network namespaces"
	[nftables]="tests lose packets on purpose"
	[util-linux]="tests enter network namespaces"
	[python3-bpfcc]="the second engine's compiler"
	[tmux]="tests drive flowlens top in a terminal"
)
run=(clang libbpf-dev linux-libc-dev libbpf1 python3 python3-venv)
test=("${run[@]}" bpftool iproute2 nftables util-linux python3-bpfcc tmux)

wanted=("${run[@]}")
[ "${1:-run}" = test ] && wanted=("${test[@]}")

if ! command -v dpkg-query >/dev/null; then
	echo "This is neither Debian nor Ubuntu: please install by hand what these packages hold: ${wanted[*]}" >&2
	exit 1
fi

missing=()
for package in "${wanted[@]}"; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "Installing with apt-get:"
for package in "${missing[@]}"; do
	printf '  %-16s %s\n' "$package" "${why[$package]}"
done
if [ "$(id -u)" -ne 0 ]; then
	echo "Run this as root (the agent needs it too), or install them yourself: apt-get install ${missing[*]}" >&2
	exit 1
fi
log=$(mktemp)
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
	cat "$log" >&2
	echo "apt-get failed, see above" >&2
	exit 1
fi
rm -f "$log"

#!/usr/bin/env bash
# Builds both images of the Dockerfile with buildah and writes them into one OCI archive, build/flow-lens.oci.tar:
# localhost/flow-lens:dev first. BASE names the base image; without it one is made here, once, from this machine's
# own Debian sources, because a registry may not be reachable. Needs root and no daemon.
set -euo pipefail
cd "$(dirname "$0")/.."

archive=build/flow-lens.oci.tar
cache=${FLOWLENS_CACHE:-$HOME/.cache/flow-lens}/images
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' flowlens/__init__.py)
certificates=/etc/ssl/certs/ca-certificates.crt

say() { printf -- '-- %s\n' "$*" >&2; }

need() {
	command -v "$1" >/dev/null || missing+=("$1")
}
missing=()
need buildah
[ -n "${BASE:-}" ] || need mmdebstrap
if [ ${#missing[@]} -gt 0 ]; then
	say "installing ${missing[*]}: buildah builds the images, mmdebstrap their base"
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# The file system of debian:bookworm-slim, nearly. Kept as a tar: containers' storage may be emptied at any time.
base_archive() {
	local tar sources=() unwanted
	tar=$cache/bookworm-$(dpkg --print-architecture).tar
	if [ ! -f "$tar" ]; then
		say "making a Debian base image, once (a minute): $tar"
		mkdir -p "$cache"
		for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
			[ -s "$file" ] && sources=("$file") && break
		done
		local options=()
		for unwanted in man doc locale info lintian; do
			options+=(--dpkgopt="path-exclude=/usr/share/$unwanted/*")
		done
		mmdebstrap --quiet --variant=essential --include=apt,ca-certificates "${options[@]}" \
			bookworm "$cache/draft.tar" "${sources[@]}"
		mv "$cache/draft.tar" "$tar"
	fi
	echo "$tar"
}

# Raise the number when this recipe changes. Without the apt settings each layer keeps 83 MB of package caches
# and every package file that was downloaded for it.
local_base() {
	local name=localhost/flow-lens-base:2 container tar
	if ! buildah inspect --type image "$name" >/dev/null 2>&1; then
		tar=$(base_archive)
		container=$(buildah from scratch)
		buildah add --quiet "$container" "$tar" / >/dev/null
		# shellcheck disable=SC2016 # quoted for the shell inside
		buildah run --isolation chroot "$container" -- sh -c 'cat >/etc/apt/apt.conf.d/99slim <<-END
			Dir::Cache::pkgcache "";
			Dir::Cache::srcpkgcache "";
			APT::Keep-Downloaded-Packages "false";
		END'
		buildah commit --quiet --rm "$container" "$name" >/dev/null
	fi
	echo "$name"
}

base=${BASE:-$(local_base)}
build=(buildah bud --isolation chroot --format oci --layers --quiet
	--build-arg "BASE=$base" --build-arg "WITH_BCC=${WITH_BCC:-1}")
# A network that re-signs TLS: its authority is trusted while building, and no image contains it.
[ -f "$certificates" ] && build+=(--volume "$certificates:$certificates:ro")

layout=build/images
rm -rf "$layout"
mkdir -p build
for target in agent controller; do
	name=flow-lens
	[ "$target" = agent ] || name=flow-lens-$target
	say "building $name from $base"
	"${build[@]}" --target "$target" --tag "localhost/$name:dev" . >/dev/null
	# The second tag is the one that the chart's default asks for.
	for tag in dev "$version"; do
		buildah push --quiet "localhost/$name:dev" "oci:$layout:localhost/$name:$tag"
	done
done
tar -C "$layout" -cf "$archive.draft" oci-layout index.json blobs
mv "$archive.draft" "$archive"
rm -rf "$layout"
say "$archive: $(stat -c %s "$archive" | numfmt --to=si) in all"

"""Makes the one image that every pod of a test needs, without a builder and without a registry.

One layer holds a static busybox; the archive offers it under two names, as a test image and
as the pause image of a pod's sandbox. Pods must say `imagePullPolicy: Never`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.testbed import deadline, plan, processes, requirements

BUSYBOX = "localhost/busybox:1"
PAUSE = "localhost/pause:1"

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class ImageError(Exception):
    """An archive or a node refused an image."""


def write_busybox(path: Path) -> None:
    """Write the OCI archive that holds the busybox and pause images."""
    write_archive(path, busybox_layer(), (BUSYBOX, PAUSE))


def busybox_layer() -> bytes:
    """The uncompressed layer with this machine's static busybox."""
    busybox = shutil.which("busybox", path=requirements.search_path())
    if busybox is None:
        raise ImageError("no busybox in PATH: python -m tests.testbed requirements")
    listing = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    return _layer(Path(busybox).read_bytes(), listing.stdout.split())


def _layer(program: bytes, applets: list[str]) -> bytes:
    """An uncompressed layer: busybox, a link for each applet, and the folders they expect."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("www", 0o755)):
            _add_other(tar, folder, tarfile.DIRTYPE, mode)
        _add_file(tar, "bin/busybox", program, 0o755)
        _add_file(tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")
        _add_file(tar, "www/index.html", b"hello from the testbed\n")
        for applet in applets:
            if applet != "busybox":
                _add_other(tar, f"bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox")
    return out.getvalue()


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = mode, len(content)
    tar.addfile(entry, io.BytesIO(content))


def _add_other(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, link: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, link
    tar.addfile(entry)


def write_archive(path: Path, layer: bytes, names: tuple[str, ...]) -> None:
    """Write an OCI archive of one layer that containerd imports under each of the names."""
    packed = gzip.compress(layer, compresslevel=1, mtime=0)
    config = json.dumps(_image_config(hashlib.sha256(layer).hexdigest())).encode()
    content = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, config),
        "layers": [_descriptor(_LAYER, packed)],
    }
    manifest = json.dumps(content).encode()
    entries = [
        {**_descriptor(_MANIFEST, manifest), "annotations": {"io.containerd.image.name": name}}
        for name in names
    ]
    with tarfile.open(path, "w") as tar:
        _add_file(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        _add_file(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
        for blob in (packed, config, manifest):
            _add_file(tar, f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob)


def _image_config(layer_digest: str) -> dict[str, object]:
    # A `sleep` as PID 1 ignores SIGTERM: without the stop signal each deletion waits 30 s.
    return {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Cmd": ["/bin/sleep", "2147483647"],
            "Env": ["PATH=/bin"],
            "StopSignal": "SIGKILL",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
        "history": [{"created_by": "flow-lens testbed"}],
    }


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {
        "mediaType": media_type,
        "digest": f"sha256:{hashlib.sha256(blob).hexdigest()}",
        "size": len(blob),
    }


def import_archive(node: plan.Node, path: Path) -> None:
    """Import an archive into a node's containerd. It is piped, so that any host path will do."""
    ctr = [*processes.visit(node), "ctr", "--namespace", "k8s.io", "images", "import", "-"]
    with path.open("rb") as archive:
        done = subprocess.run(ctr, stdin=archive, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"importing {path} on {node.name} failed: {done.stderr.strip()}")


def wait_for_containerd(node: plan.Node) -> None:
    """Wait until the node's containerd answers."""
    ctr = [*processes.visit(node), "ctr", "version"]

    def answers() -> bool:
        return subprocess.run(ctr, capture_output=True, check=False).returncode == 0

    deadline.until(answers, f"containerd of {node.name}", 30)


def names(path: Path) -> list[str]:
    """The image names that an OCI archive carries, fully qualified ones only."""
    with tarfile.open(path) as tar:
        member = tar.extractfile("index.json")
        if member is None:
            raise ImageError(f"{path} holds no index.json: it is no OCI archive")
        index = json.load(member)
    keys = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
    marks = (entry.get("annotations", {}).get(key, "") for entry in index["manifests"] for key in keys)
    return [mark for mark in dict.fromkeys(marks) if "/" in mark]

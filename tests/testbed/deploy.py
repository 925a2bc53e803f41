"""Puts flow-lens into the running cluster the way a user does: its image and its helm chart."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.testbed import cluster, images, lifecycle, places, progress, requirements

ARCHIVE = places.REPOSITORY / "build" / "flow-lens.oci.tar"
CHART = places.REPOSITORY / "deploy" / "helm" / "flow-lens"
RELEASE = "flow-lens"

# What this cluster needs and a user's does not; see the file.
VALUES = Path(__file__).with_name("values.yaml")


class DeployError(Exception):
    """There is no cluster, image or chart to deploy with."""


def present() -> cluster.Cluster:
    """The cluster that is up; DeployError when there is none."""
    requirements.check_root()
    recorded = lifecycle.running()
    if recorded is None:
        raise DeployError("no cluster is up: python -m tests.testbed up")
    return cluster.Cluster(recorded)


def deploy(
    target: cluster.Cluster, archive: Path, extra: Sequence[str] = (), *, build_first: bool = True
) -> None:
    """Build the image, import it on every node and install or upgrade the chart."""
    if build_first:
        subprocess.run(["make", "image"], cwd=places.REPOSITORY, check=True)
    name = image_name(archive)
    progress.say(f"importing {name} on {len(target.nodes)} nodes")
    target.import_image(archive)
    progress.say(f"installing {CHART}")
    progress.say(install(target, name, extra).strip())


def image_name(archive: Path) -> str:
    """The name under which the archive's image will be known on the nodes."""
    if not archive.exists():
        raise DeployError(f"there is no {archive}: `make image` writes it, or name another with --archive")
    found = images.names(archive)
    if not found:
        raise DeployError(f"{archive} names no image: push it as oci-archive:FILE:localhost/flow-lens:TAG")
    return found[0]


def install(target: cluster.Cluster, image: str, extra: Sequence[str] = ()) -> str:
    """`helm upgrade --install --wait` with the image that was imported."""
    repository, _, tag = image.rpartition(":")
    chosen = ["--set-string", f"image.repository={repository},image.tag={tag}"]
    place = ["--namespace", RELEASE, "--create-namespace", "--values", str(VALUES)]
    return target.helm(
        "upgrade", "--install", RELEASE, str(CHART), *place, *chosen, "--wait", "--timeout", "180s", *extra
    )

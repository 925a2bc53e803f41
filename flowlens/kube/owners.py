"""From a pod to the workload that users know it by.

A pod names only its direct owner. What stands above it is read from names and labels that the
controllers of Kubernetes build in a fixed way, so that no agent has to watch ReplicaSets and Jobs
of the whole cluster. Where the pattern does not fit, the direct owner itself is the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

TEMPLATE_HASHES = (
    # The Deployment controller: ReplicaSet = <deployment>-<hash>, and the label carries the hash.
    ("pod-template-hash", "Deployment"),
    # Argo Rollouts does the same under a label of its own (argo-rollouts, DefaultRolloutUniqueLabelKey).
    ("rollouts-pod-template-hash", "Rollout"),
)
MIRROR = "kubernetes.io/config.mirror"
SOURCE = "kubernetes.io/config.source"
STATIC_SOURCES = {"file", "http"}


class Owner(msgspec.Struct, frozen=True, gc=False):
    """One of metadata.ownerReferences."""

    kind: str
    name: str
    controller: bool | None = None


class Workload(NamedTuple):
    """Name and kind of what a pod belongs to."""

    name: str
    kind: str


def workload(  # noqa: PLR0917 - the five facts of a pod that decide
    pod: str,
    node: str,
    owners: Sequence[Owner],
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    created: datetime | None,
) -> Workload:
    """The workload of a pod, from its metadata alone."""
    if is_static(annotations):
        # The kubelet appends the node's name; without it, the same manifest on all nodes is one workload.
        return Workload(pod.removesuffix(f"-{node}") if node else pod, "StaticPod")
    owner = _owner(owners)
    if owner is None:
        return Workload(pod, "Pod")
    match owner.kind:
        case "ReplicaSet":
            return _of_replica_set(owner.name, labels)
        case "Job":
            return _of_job(owner.name, created)
        case _:
            return Workload(owner.name, owner.kind)


def is_static(annotations: Mapping[str, str]) -> bool:
    """Whether a kubelet made the pod from a file, in the kubelet's words or as the API server's mirror."""
    return MIRROR in annotations or annotations.get(SOURCE) in STATIC_SOURCES


def _owner(owners: Sequence[Owner]) -> Owner | None:
    """The managing controller. A single owner that does not call itself one is taken too: some
    operators forget the flag, and their users still know the pod by that object."""
    for owner in owners:
        if owner.controller:
            return owner
    return owners[0] if len(owners) == 1 else None


def _of_replica_set(name: str, labels: Mapping[str, str]) -> Workload:
    for label, kind in TEMPLATE_HASHES:
        above, dash, suffix = name.rpartition("-")
        if dash and above and suffix == labels.get(label):
            return Workload(above, kind)
    return Workload(name, "ReplicaSet")


def _of_job(name: str, created: datetime | None) -> Workload:
    """The CronJob controller names Jobs <cronjob>-<scheduled time in minutes of the Unix epoch>
    (in seconds before Kubernetes 1.21). A date such as import-20261125 has as many digits, but is
    far from the pod's age when read as a time.
    """
    above, dash, suffix = name.rpartition("-")
    if (
        dash
        and above
        and suffix.isascii()
        and suffix.isdigit()
        and _is_schedule(int(suffix), len(suffix), created)
    ):
        return Workload(above, "CronJob")
    return Workload(name, "Job")


_EARLIER_SECONDS = 366 * 86400
_LATER_SECONDS = 86400


def _is_schedule(number: int, digits: int, created: datetime | None) -> bool:
    """Whether a number of 8 or more digits is a time up to a year before (late starts, retries) or a day
    after (clocks) the pod's creation."""
    if digits not in {8, 9, 10}:
        return False
    seconds = number if digits == 10 else number * 60
    age = (created or datetime.now(UTC)).timestamp() - seconds
    return -_LATER_SECONDS <= age <= _EARLIER_SECONDS

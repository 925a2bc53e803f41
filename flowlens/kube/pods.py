"""Pods as the kubelet or the API server describe them, reduced to what names a number.

Both answer with the same v1 types, so one partial definition decodes both. A list of 2 MB costs
about a millisecond to decode, because the decoder skips what is not written down here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from flowlens.kube import client, objects, owners


@dataclass(frozen=True, slots=True)
class PodInfo:
    """What we keep of a pod.

    `uid` is the one in cgroup paths and volumes: for a static pod the hash of its manifest, also
    when it was read at the API server, whose mirror pod has another. `containers` maps container
    ids (no `containerd://`) to names: init, sidecar and ephemeral containers too, and the former
    ids of restarted ones that the pod still mentions. `labels` are sorted by name.
    """

    uid: str
    namespace: str
    name: str
    node_name: str
    host_network: bool
    workload: str
    workload_kind: str
    labels: tuple[tuple[str, str], ...]
    containers: Mapping[str, str]
    pod_ips: tuple[str, ...]


class Metadata(objects.Metadata, frozen=True, rename="camel", gc=False):
    """metadata of a pod."""

    namespace: str = ""
    owner_references: list[owners.Owner] | None = None


class Spec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    node_name: str = ""
    host_network: bool = False


class Terminated(msgspec.Struct, frozen=True, gc=False):
    container_id: str = msgspec.field(default="", name="containerID")


class ContainerState(msgspec.Struct, frozen=True, gc=False):
    terminated: Terminated | None = None


class ContainerStatus(msgspec.Struct, frozen=True, rename="camel", gc=False):
    name: str
    container_id: str = msgspec.field(default="", name="containerID")
    state: ContainerState | None = None
    last_state: ContainerState | None = None


class PodIp(msgspec.Struct, frozen=True, gc=False):
    ip: str = ""


class Status(msgspec.Struct, frozen=True, rename="camel", gc=False):
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: list[PodIp] | None = msgspec.field(default=None, name="podIPs")
    init_container_statuses: list[ContainerStatus] | None = None
    container_statuses: list[ContainerStatus] | None = None
    ephemeral_container_statuses: list[ContainerStatus] | None = None


class Pod(msgspec.Struct, frozen=True, gc=False):
    """A v1 Pod."""

    metadata: Metadata
    spec: Spec = Spec()
    status: Status = Status()


class PodList(msgspec.Struct, frozen=True, gc=False):
    """A v1 PodList. The kubelet writes `"items": null` when it runs nothing."""

    items: list[Pod] | None = None


class _RawPodList(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw] | None = None


_list = msgspec.json.Decoder(PodList)
_raw_list = msgspec.json.Decoder(_RawPodList)
_pod = msgspec.json.Decoder(Pod)


def decode(body: bytes, where: str = "the kubelet") -> tuple[list[PodInfo], int]:
    """The pods of a PodList, and how many could not be read. Raises Unexpected if it is no list at all."""
    try:
        return [info(pod) for pod in _list.decode(body).items or ()], 0
    except msgspec.DecodeError:
        return _decode_one_by_one(body, where)


def _decode_one_by_one(body: bytes, where: str) -> tuple[list[PodInfo], int]:
    found, unreadable = [], 0
    for item in client.decode_into(_raw_list, body, where).items or ():
        try:
            found.append(info(_pod.decode(item)))
        except msgspec.DecodeError:
            unreadable += 1
    return found, unreadable


def info(pod: Pod) -> PodInfo:
    """What we keep of a decoded pod."""
    meta = pod.metadata
    labels, annotations = meta.labels or {}, meta.annotations or {}
    workload = owners.workload(
        meta.name,
        pod.spec.node_name,
        meta.owner_references or (),
        labels,
        annotations,
        meta.creation_timestamp,
    )
    return PodInfo(
        uid=annotations.get(owners.MIRROR) or meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        node_name=pod.spec.node_name,
        host_network=pod.spec.host_network,
        workload=workload.name,
        workload_kind=workload.kind,
        labels=tuple(sorted(labels.items())),
        containers=MappingProxyType(_containers(pod.status)),
        pod_ips=_addresses(pod.status),
    )


def _containers(status: Status) -> dict[str, str]:
    found: dict[str, str] = {}
    for statuses in (
        status.init_container_statuses,
        status.container_statuses,
        status.ephemeral_container_statuses,
    ):
        for one in statuses or ():
            found.update((_bare(identity), one.name) for identity in _ids(one) if identity)
    return found


def _ids(status: ContainerStatus) -> Iterable[str]:
    """The container's id, and those of its finished lives, which may still have numbers to name."""
    yield status.container_id
    for state in (status.state, status.last_state):
        if state is not None and state.terminated is not None:
            yield state.terminated.container_id


def _bare(identity: str) -> str:
    """containerd://<id>, cri-o://<id>, docker://<id> -> <id>."""
    return identity.rpartition("://")[2]


def _addresses(status: Status) -> tuple[str, ...]:
    if status.pod_ips:
        return tuple(one.ip for one in status.pod_ips if one.ip)
    return (status.pod_ip,) if status.pod_ip else ()

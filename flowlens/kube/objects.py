"""The few fields of Kubernetes objects that everything here needs, and how lists and events wrap them.

Types are partial on purpose: unknown fields are skipped by the decoder without being built, which
is what makes a pod list cheap. Kubernetes writes `null` for empty lists and maps in some places.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

import msgspec

Decoded = TypeVar("Decoded")


class Metadata(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """metadata of any object. `uid` and `resource_version` are "" in bookmarks and static pods."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Object(msgspec.Struct, frozen=True):
    """An object of which only the metadata is read: a node and its labels, for example."""

    metadata: Metadata


class SpecifiedObject(msgspec.Struct, frozen=True):
    """An object whose `spec` is kept as JSON text, for a decoder that knows what it means."""

    metadata: Metadata
    spec: msgspec.Raw = msgspec.Raw(b"{}")


class HasMetadata(Protocol):
    """What a watcher must be able to read of an object. (A msgspec Struct with `metadata`.)"""

    @property
    def metadata(self) -> Identified: ...


class Identified(Protocol):
    """The identity within `metadata`."""

    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...


class ListMeta(msgspec.Struct, frozen=True, rename="camel"):
    """metadata of a list. We never set a limit, so there are no pages."""

    resource_version: str = ""


class RawList(msgspec.Struct, frozen=True):
    """A list whose items are not decoded yet, so that one bad item does not spoil the others."""

    metadata: ListMeta = ListMeta()
    items: list[msgspec.Raw] | None = None


class Event(msgspec.Struct, frozen=True):
    """A line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK, or ERROR with a Status as object."""

    type: str
    object: msgspec.Raw


class Status(msgspec.Struct, frozen=True):
    """What the API server says when it cannot do what was asked."""

    code: int = 0
    message: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Resource:
    """What to list and watch: a collection's path, narrowed by selectors."""

    path: str
    field_selector: str = ""
    label_selector: str = ""

    @property
    def parameters(self) -> dict[str, str]:
        """The selectors as query parameters."""
        chosen = {"fieldSelector": self.field_selector, "labelSelector": self.label_selector}
        return {name: value for name, value in chosen.items() if value}


FLOW_LENS_CONFIGS = Resource("/apis/flowlens.io/v1alpha1/flowlensconfigs")


def node(name: str) -> Resource:
    """One node, as a collection of one: RBAC needs list and watch on nodes."""
    return Resource("/api/v1/nodes", field_selector=f"metadata.name={name}")


def pods_of_node(name: str) -> Resource:
    """The pods that are bound to a node."""
    return Resource("/api/v1/pods", field_selector=f"spec.nodeName={name}")


_status = msgspec.json.Decoder(Status)


def status_message(body: bytes) -> str:
    """The message of a Status object, or the start of the plain text that a kubelet answers with."""
    try:
        return _status.decode(body).message
    except msgspec.DecodeError:
        return body[:200].decode(errors="replace").strip()


def status(body: msgspec.Raw) -> Status:
    """The Status in an ERROR event; an empty one if it is none."""
    try:
        return _status.decode(body)
    except msgspec.DecodeError:
        return Status(message=status_message(bytes(body)))

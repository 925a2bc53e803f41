"""The agent's threads to Kubernetes: who names pods, and which FlowLensConfig this node follows.

Watchers hand over snapshots by one assignment and wake the worker, which alone decides. The API server
may be away at any time: the configuration in force stays, at start the one kept on disk is taken.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from flowlens import config
from flowlens.agent import errors, intent, options
from flowlens.kube import access, kubeconfig, objects, pod_source, watcher
from flowlens.kube import errors as kube_errors

logger = logging.getLogger(__name__)


def _api_access(chosen: options.Options) -> access.Access:
    """Raises StartError when neither a service account nor a kubeconfig can be used."""
    try:
        return kubeconfig.load(chosen.kubeconfig) if chosen.kubeconfig else access.in_cluster()
    except kube_errors.KubeError as error:
        raise errors.StartError(f"{error} (use --kube off on a host without Kubernetes)") from error


def _pods_of(chosen: options.Options, api: access.Access, node: str) -> pod_source.PodSource:
    """The source of pod names, not started yet."""
    return pod_source.PodSource(
        api,
        pod_source.Settings(
            node_name=node,
            node_ip=chosen.node_ip or os.environ.get("NODE_IP", "") or socket.gethostname(),
            source=pod_source.Source(chosen.identity_source),
            kubelet_ca=chosen.kubelet_ca,
            kubelet_verify=chosen.kubelet_verify,
        ),
    )


class Cluster:
    """The threads that speak to Kubernetes."""

    def __init__(self, pods: pod_source.PodSource, wishes: Watched) -> None:
        self.pods, self.wishes = pods, wishes

    def start(self) -> None:
        """Begins to ask and to watch."""
        self.pods.start()
        self.wishes.start()

    def stop(self) -> None:
        """Ends all threads within a second."""
        self.wishes.stop()
        self.pods.stop()

    def status(self) -> dict[str, Any]:
        """How they are doing, for /status."""
        return {"pods": asdict(self.pods.state), "watches": self.wishes.status()}


def connect(
    chosen: options.Options,
    node: str,
    base: intent.Intent,
    first: config.NodeConfig,
    wake: Callable[[], None],
) -> Cluster:
    """Everything for a node in a cluster, not started yet. Raises StartError without access."""
    api = _api_access(chosen)
    return Cluster(
        _pods_of(chosen, api, node), Watched(api, node, base, wake, chosen.state_dir, fallback=first)
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """The file in state_dir: the object that was applied last."""

    name: str
    generation: int
    spec: Any


@dataclass(frozen=True, slots=True)
class _Judged:
    """What the snapshots mean: the configuration to follow, and the objects that cannot be understood."""

    chosen: config.Candidate | None
    raw: bytes = b"{}"
    invalid: Mapping[str, str] = field(default_factory=dict)


class Watched:
    """The intent of a node in a cluster: the FlowLensConfig that wins here, else `base`."""

    def __init__(
        self,
        api: access.Access,
        node: str,
        base: intent.Intent,
        wake: Callable[[], None],
        state_dir: Path | None,
        *,
        fallback: config.NodeConfig,
    ) -> None:
        """`fallback`: what `base` wished last, and holds now."""
        self._node, self._base, self._wake = node, base, wake
        self._kept = state_dir / "flowlensconfig.json" if state_dir else None
        self._objects: watcher.Snapshot[objects.SpecifiedObject] | None = None
        self._nodes: watcher.Snapshot[objects.Object] | None = None
        self._seen: tuple[object, object] = (None, None)
        self._fallback = fallback
        self._current: tuple[str, int] | None = None
        self._said: Mapping[str, str] = {}
        self._asked_disk = False
        self.configs = watcher.Watcher(
            api, objects.FLOW_LENS_CONFIGS, objects.SpecifiedObject, self._take_configs
        )
        self.own_node = watcher.Watcher(api, objects.node(node), objects.Object, self._take_nodes)

    def start(self) -> None:
        """Begins to watch."""
        self.configs.start()
        self.own_node.start()

    def stop(self) -> None:
        """Ends both watches within a second."""
        self.configs.stop()
        self.own_node.stop()

    def _take_configs(self, snapshot: watcher.Snapshot[objects.SpecifiedObject]) -> None:
        self._objects = snapshot
        self._wake()

    def _take_nodes(self, snapshot: watcher.Snapshot[objects.Object]) -> None:
        self._nodes = snapshot
        self._wake()

    # the worker's side -----------------------------------------------------------------------------

    def poll(self) -> intent.Wish | None:
        """The winner when it changed; a problem with an object once per distinct text."""
        base = self._base.poll()
        if base is not None and base.node is not None:
            self._fallback = base.node
            if self._current is None or self._current == ("", 0):
                self._current = None
        elif base is not None:
            return base
        seen = (self._objects, self._nodes)
        absent = self.configs.state.absent
        if self._objects is None and not absent:
            return self._before_first_list()
        if self._nodes is None and not absent:
            return self._follow(None, b"") if self._current is None else None
        if seen == self._seen and self._current is not None:
            return None
        self._seen = seen
        judged = self._judge()
        problem = self._problem(judged)
        return problem or self._follow(judged.chosen, judged.raw)

    def _before_first_list(self) -> intent.Wish | None:
        if self._current is not None:
            return None
        kept = self._read_kept() if not self._asked_disk else None
        self._asked_disk = True
        if kept is None:
            return self._follow(None, b"")
        candidate, raw = kept
        logger.info(
            "API server not reached yet: following the configuration kept on disk: config=%s", candidate.name
        )
        return self._follow(candidate, raw)

    def _judge(self) -> _Judged:
        labels: dict[str, str] = {}
        for node in (self._nodes or {}).values():
            labels = node.metadata.labels or {}
        candidates, raws, invalid = [], {}, {}
        for item in (self._objects or {}).values():
            try:
                candidates.append(_candidate(item))
                raws[item.metadata.name] = bytes(item.spec)
            except (config.ConfigError, msgspec.DecodeError) as error:
                invalid[item.metadata.name] = str(error)
        chosen = config.choose(candidates, labels)
        return _Judged(chosen, raws[chosen.name] if chosen else b"{}", invalid)

    def _problem(self, judged: _Judged) -> intent.Wish | None:
        """Objects that this version cannot read: told once. The winner among the rest is followed all the same."""
        if judged.invalid == self._said:
            return None
        self._said = judged.invalid
        if not judged.invalid:
            return None
        self._seen = (None, None)  # the winner comes with the next poll
        return intent.Wish(
            None, "; ".join(f"FlowLensConfig {name}: {text}" for name, text in judged.invalid.items())
        )

    def _follow(self, candidate: config.Candidate | None, raw: bytes) -> intent.Wish | None:
        identity = (candidate.name, candidate.generation) if candidate else ("", 0)
        if identity == self._current:
            return None
        self._current = identity
        if candidate is None:
            return intent.Wish(self._fallback)
        self._keep(candidate, raw)
        return intent.Wish(
            config.resolve(
                candidate.spec, name=candidate.name, generation=candidate.generation, node=self._node
            )
        )

    def _keep(self, candidate: config.Candidate, raw: bytes) -> None:
        if self._kept is None:
            return
        text = msgspec.json.encode(
            {"name": candidate.name, "generation": candidate.generation, "spec": msgspec.Raw(raw)}
        )
        new = self._kept.with_suffix(".new")
        try:
            new.write_bytes(text)
            new.replace(self._kept)
        except OSError as error:
            logger.warning(
                "configuration cannot be kept for the next start: file=%s error=%s", self._kept, error
            )

    def _read_kept(self) -> tuple[config.Candidate, bytes] | None:
        if self._kept is None or not self._kept.exists():
            return None
        try:
            kept = msgspec.json.decode(self._kept.read_bytes(), type=Kept)
            spec = config.from_object(kept.spec, source=str(self._kept))
        except (OSError, msgspec.DecodeError, config.ConfigError) as error:
            logger.warning("kept configuration is not usable: file=%s error=%s", self._kept, error)
            return None
        raw = msgspec.json.encode(kept.spec)
        return config.Candidate(kept.name, "", spec, kept.generation), raw

    def status(self) -> dict[str, Any]:
        """How both watches are doing."""
        return {"flowlensconfigs": asdict(self.configs.state), "node": asdict(self.own_node.state)}


def _candidate(item: objects.SpecifiedObject) -> config.Candidate:
    spec = config.from_object(msgspec.json.decode(item.spec), source=f"FlowLensConfig {item.metadata.name}")
    created = item.metadata.creation_timestamp
    return config.Candidate(
        name=item.metadata.name,
        created=created.strftime("%Y-%m-%dT%H:%M:%SZ") if created else "",
        spec=spec,
        generation=item.metadata.generation,
    )

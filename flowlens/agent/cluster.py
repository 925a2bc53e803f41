"""The agent's threads to Kubernetes: who names pods, and which FlowLensConfig this node follows.

Watchers hand over snapshots by one assignment and wake the worker, which alone decides. The API server
may be away at any time: the configuration in force stays, at start the one kept on disk is taken.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from flowlens import config
from flowlens.agent import errors, intent, kept, options
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


class _Known(NamedTuple):
    """All that decides; None: not known yet. Snapshots are never changed, so looking at identity is enough."""

    objects: watcher.Snapshot[objects.SpecifiedObject] | None
    nodes: watcher.Snapshot[objects.Object] | None
    fallback: config.NodeConfig


class _Judgement(NamedTuple):
    """What should hold, and which objects cannot be read."""

    node: config.NodeConfig
    refused: tuple[intent.Refusal, ...] = ()


class Watched:
    """The intent of a node in a cluster: the FlowLensConfig that wins here, else what `base` wishes.

    What holds follows from the objects as the API server has them, never from the order in which they
    changed: an agent that starts now comes to the same answer as one that was there all the time.
    """

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
        self._shelf = kept.Shelf(state_dir)
        self._last = self._shelf.read()
        self._objects: watcher.Snapshot[objects.SpecifiedObject] | None = None
        self._nodes: watcher.Snapshot[objects.Object] | None = None
        self._fallback = fallback
        self._base_refused: tuple[intent.Refusal, ...] = ()
        self._told = intent.Wish(fallback)
        self._judged: tuple[_Known, _Judgement] | None = None
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

    def status(self) -> dict[str, Any]:
        """How both watches are doing."""
        return {"flowlensconfigs": asdict(self.configs.state), "node": asdict(self.own_node.state)}

    def _take_configs(self, snapshot: watcher.Snapshot[objects.SpecifiedObject]) -> None:
        self._objects = snapshot
        self._wake()

    def _take_nodes(self, snapshot: watcher.Snapshot[objects.Object]) -> None:
        self._nodes = snapshot
        self._wake()

    # the worker's side -----------------------------------------------------------------------------

    def poll(self) -> intent.Wish | None:
        """What should hold and what is refused, together, when either changed."""
        base = self._base.poll()
        if base is not None:
            self._fallback = base.node or self._fallback
            self._base_refused = base.refused
        judgement = self._judge()
        wish = intent.Wish(judgement.node, (*self._base_refused, *judgement.refused))
        if wish == self._told:
            return None
        self._told = wish
        return wish

    def _judge(self) -> _Judgement:
        """What should hold, worked out only when something that it rests on changed."""
        known = _Known(self._objects, self._nodes, self._fallback)
        if self._judged is None or any(a is not b for a, b in zip(known, self._judged[0], strict=True)):
            complete = known.objects is not None and (known.nodes is not None or not known.objects)
            self._judged = known, self._from_objects(known) if complete else self._from_disk()
        return self._judged[1]

    def _from_disk(self) -> _Judgement:
        """Objects or this node's labels are not known yet: what held last, or the defaults."""
        if self._last is None:
            return _Judgement(self._fallback)
        if self._judged is None:
            logger.info(
                "API server not reached yet: following what was kept on disk: config=%s", self._last.name
            )
        return _Judgement(self._resolved(self._last))

    def _from_objects(self, known: _Known) -> _Judgement:
        """The winner among the objects that this version can read; the others take no part."""
        candidates, refused, specs = [], [], {}
        for item in (known.objects or {}).values():
            name, text = item.metadata.name, bytes(item.spec)
            found = _read(item.metadata.uid, name, _created(item), item.metadata.generation, text)
            if isinstance(found, intent.Refusal):
                refused.append(found)
            else:
                candidates.append(found)
                specs[name] = text
        winner = config.choose(candidates, _labels(known.nodes or {}))
        if winner is None:
            self._shelf.clear()
        else:
            self._shelf.put(winner, specs[winner.name])
        node = self._resolved(winner) if winner else self._fallback
        return _Judgement(node, tuple(sorted(refused, key=lambda one: one.name)))

    def _resolved(self, winner: config.Candidate) -> config.NodeConfig:
        return config.resolve(
            winner.spec, name=winner.name, generation=winner.generation, uid=winner.uid, node=self._node
        )


def _labels(nodes: watcher.Snapshot[objects.Object]) -> Mapping[str, str]:
    """Those of the one node that is watched; none while it does not exist."""
    return next((node.metadata.labels or {} for node in nodes.values()), {})


def _created(item: objects.SpecifiedObject) -> str:
    created = item.metadata.creation_timestamp
    return created.strftime("%Y-%m-%dT%H:%M:%SZ") if created else ""


@functools.lru_cache(maxsize=1024)
def _read(
    uid: str, name: str, created: str, generation: int, spec: bytes
) -> config.Candidate | intent.Refusal:
    """An object as selection sees it, or why this version cannot read it.

    Remembered, because every write of any object's status makes all objects be looked at again.
    """
    source = f"FlowLensConfig {name}"
    try:
        return config.Candidate(
            name, created, config.from_object(msgspec.json.decode(spec), source=source), generation, uid
        )
    except config.ConfigError as error:
        return intent.Refusal(name, generation, str(error), uid)
    except msgspec.DecodeError as error:
        return intent.Refusal(name, generation, f"{source}: {error}", uid)

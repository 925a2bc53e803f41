"""Up and down: the order in which a cluster comes to life, and how every trace of it goes.

`up` is interruptible anywhere, because `down` asks the kernel (cgroups) what belongs to the
cluster and needs no file that `up` wrote. `up` over leftovers begins with a `down`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.testbed import (
    build,
    cgroups,
    cluster,
    daemons,
    deadline,
    images,
    nodes,
    parts,
    pki,
    places,
    plan,
    processes,
    progress,
    requirements,
    store,
)


def running() -> plan.Plan | None:
    """The plan of the cluster that is up with all its daemons, or None."""
    recorded = plan.load()
    if recorded is None or not cgroups.left():
        return None
    for node in recorded.nodes:
        if any(processes.pid(node, name) is None for name in (processes.HOLDER, *daemons.of(node))):
            return None
    return recorded


def up(wanted: plan.Plan) -> cluster.Cluster:
    """Bring up the wanted cluster, or take the one that runs if it is the same."""
    requirements.check()
    build.ensure(parts.CLUSTER)
    with store.sole_use(places.lock()):
        if (found := running()) is not None:
            return _keep(found, wanted)
        if leftovers():
            progress.say("clearing what an earlier cluster left")
            _clear()
        return _create(wanted)


def _keep(found: plan.Plan, wanted: plan.Plan) -> cluster.Cluster:
    if (found.node_count, found.dual_stack) != (wanted.node_count, wanted.dual_stack):
        kind = f"{found.node_count} nodes, dual stack: {found.dual_stack}"
        raise cluster.ClusterError(f"another cluster is up ({kind}): take it down first")
    progress.say(f"the cluster of {found.node_count} nodes is up already")
    return cluster.Cluster(found)


def _create(wanted: plan.Plan) -> cluster.Cluster:
    began = time.monotonic()
    try:
        with _stage("namespaces, keys, configuration"):
            _prepare(wanted)
        _boot(wanted)
        made = cluster.Cluster(wanted)
        with _stage("nodes ready"):
            made.wait_for_nodes()
        with _stage("service account for pods"):
            made.wait_for_service_account()
        plan.save(wanted)
    except BaseException:
        _keep_logs()
        _clear()
        raise
    progress.say(f"{wanted.node_count} nodes up in {time.monotonic() - began:.1f} s")
    return made


@contextmanager
def _stage(name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    progress.say(f"{name}: {time.monotonic() - began:.1f} s")


def _prepare(wanted: plan.Plan) -> None:
    places.STATE.mkdir(mode=0o700)
    for node in wanted.nodes:
        cgroups.make_everywhere(node.cgroup_root)
    for node in wanted.nodes:
        nodes.create(wanted, node)
    pki.write(wanted)
    daemons.write_configuration(wanted)
    images.write_busybox(places.STATE / "busybox.tar")


def _boot(wanted: plan.Plan) -> None:
    """Images are imported while the API server, the slowest of all, starts."""
    first = plan.Node(1)
    for name in ("etcd", "kube-apiserver"):
        daemons.start(wanted, first, name)
    for node in wanted.nodes:
        daemons.start(wanted, node, "containerd")
    with _stage("images"):
        for node in wanted.nodes:
            images.wait_for_containerd(node)
            images.import_archive(node, places.STATE / "busybox.tar")
    with _stage("API server"):
        cluster.Cluster(wanted).wait_for_api_server()
    for name in ("kube-controller-manager", "kube-scheduler"):
        daemons.start(wanted, first, name)
    for node in wanted.nodes:
        for name in ("kubelet", "kube-proxy"):
            daemons.start(wanted, node, name)


def _keep_logs() -> None:
    """The logs of a failed start outlive it, in one place that the next failure overwrites."""
    shutil.rmtree(places.failed_logs(), ignore_errors=True)
    source = places.STATE / "logs"
    if source.is_dir():
        shutil.copytree(source, places.failed_logs())
        progress.say(f"the daemons' logs are kept in {places.failed_logs()}")


def down() -> None:
    """Remove the cluster, or whatever is left of one."""
    with store.sole_use(places.lock()):
        began = time.monotonic()
        if not leftovers():
            progress.say("there is no cluster")
            return
        _clear()
        progress.say(f"down in {time.monotonic() - began:.1f} s")


def _clear() -> None:
    """Processes first: namespaces, mounts, links and addresses go with the last of them."""
    cgroups.remove()
    if left := nodes.mounts_left():
        raise cluster.ClusterError(f"refusing to delete through mounts: unmount {left} by hand")
    deadline.until(_state_removed, f"{places.STATE} to be removable", 20)


def _state_removed() -> bool:
    shutil.rmtree(places.STATE, ignore_errors=True)
    return not places.STATE.exists()


def leftovers() -> list[str]:
    """Every trace of a cluster on this host, in words; empty when there is none.

    Each process of a cluster is in its cgroups, and links and addresses live in its network
    namespaces, which end with the processes: nothing else is left to look for.
    """
    found = [f"folder {places.STATE}"] if places.STATE.exists() else []
    found += [f"cgroup {path}" for path in cgroups.left()]
    return found + [f"mount {point}" for point in nodes.mounts_left()]

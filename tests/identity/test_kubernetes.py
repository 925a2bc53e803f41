"""Names on a node of Kubernetes: pods as the source knows them, with patience and memory."""

from __future__ import annotations

import dataclasses

import pytest

from flowlens import identity
from tests.identity import conftest, fakes

SYSTEMD_UID = fakes.WEB_UID.replace("-", "_")
STATIC_UID = "8696a5e3ba8a4e9fb2ee9ee9d8b9d5a3"
NAMED = identity.Workload(
    namespace="shop",
    pod="web-7d9f-x2x",
    container="app",
    workload="web",
    workload_kind="Deployment",
    cgroup_path=fakes.WEB_PATH,
    pod_labels=(("app", "web"),),
)
POD_ALONE = dataclasses.replace(NAMED, container="", cgroup_path="")


def test_a_container_is_named_by_its_pod(build: conftest.Build) -> None:
    host = build(fakes.WEB_PATH, pods=fakes.Pods(fakes.Pod()))
    assert host.identity.workload(host.owner(fakes.WEB_PATH)) == NAMED


def test_a_cgroup_below_a_container_is_named_like_it(build: conftest.Build) -> None:
    path = fakes.WEB_PATH + "/init.scope"
    host = build(path, pods=fakes.Pods(fakes.Pod()))
    assert host.identity.workload(host.owner(path)) == dataclasses.replace(NAMED, cgroup_path=path)


def test_docker_inside_a_pods_container_counts_for_that_container(build: conftest.Build) -> None:
    path = f"{fakes.WEB_PATH}/docker/{'d' * 64}"
    host = build(path, pods=fakes.Pods(fakes.Pod()))
    assert host.identity.workload(host.owner(path)) == dataclasses.replace(NAMED, cgroup_path=path)


def test_a_cluster_inside_a_pod_counts_for_the_pod_that_our_kubelet_knows(build: conftest.Build) -> None:
    path = f"{fakes.WEB_PATH}/kubelet/kubepods/pod{STATIC_UID}/{'d' * 64}"
    host = build(path, pods=fakes.Pods(fakes.Pod()))
    assert host.identity.workload(host.owner(path)) == dataclasses.replace(NAMED, cgroup_path=path)


def test_a_static_pod_is_found_by_its_hash(build: conftest.Build) -> None:
    path = f"/kubepods/burstable/pod{STATIC_UID}/{fakes.WEB_ID}"
    host = build(path, pods=fakes.Pods(fakes.Pod(uid=STATIC_UID, name="etcd-node1")))
    found = host.identity.workload(host.owner(path))
    assert found is not None
    assert found.pod == "etcd-node1"


def test_a_host_network_pod_is_named_by_its_cgroup(build: conftest.Build) -> None:
    host = build(fakes.WEB_PATH, pods=fakes.Pods(fakes.Pod()))
    assert host.identity.workload(host.owner(fakes.WEB_PATH, netns=4026531840)) == NAMED


@pytest.mark.parametrize("path", ["/system.slice/kubelet.service", f"/docker/{'d' * 64}", "/"])
def test_what_is_outside_of_pods_is_the_host(build: conftest.Build, path: str) -> None:
    host = build(*[path] * (path != "/"), pods=fakes.Pods())
    found = host.identity.workload(host.owner(path))
    assert found is not None
    assert (found.workload_kind, found.is_host, found.namespace, found.pod) == ("Host", True, "", "")


def test_a_host_process_keeps_its_unit_as_workload(build: conftest.Build) -> None:
    host = build("/system.slice/kubelet.service", pods=fakes.Pods())
    found = host.identity.workload(host.owner("/system.slice/kubelet.service"))
    assert found is not None
    assert found.workload == "kubelet.service"


def test_a_pod_that_is_not_known_yet_is_held_back_and_asked_for(build: conftest.Build) -> None:
    pods = fakes.Pods()
    host = build(fakes.WEB_PATH, pods=pods)
    owner = host.owner(fakes.WEB_PATH)
    assert host.identity.workload(owner) is None
    assert pods.refreshes

    host.clock.advance(9)
    assert host.identity.workload(owner) is None
    pods.known[fakes.WEB_UID] = fakes.Pod()

    assert host.identity.workload(owner) == NAMED
    assert host.identity.changed() == {owner}


def test_a_pod_that_stays_unknown_for_ten_seconds_gets_a_cause(build: conftest.Build) -> None:
    host = build(fakes.WEB_PATH, pods=fakes.Pods())
    owner = host.owner(fakes.WEB_PATH)
    host.identity.workload(owner)
    host.clock.advance(10)
    assert host.identity.workload(owner) == identity.Workload(cgroup_path=fakes.WEB_PATH, cause="pod_unknown")


def test_a_source_that_has_not_answered_yet_is_another_cause(build: conftest.Build) -> None:
    host = build(fakes.WEB_PATH, pods=fakes.Pods(ready=False))
    owner = host.owner(fakes.WEB_PATH)
    host.identity.workload(owner)
    host.clock.advance(10)
    found = host.identity.workload(owner)
    assert found is not None
    assert found.cause == identity.Cause.PODS_UNAVAILABLE


def test_a_pod_that_shows_up_late_is_named_then(build: conftest.Build) -> None:
    pods = fakes.Pods()
    host = build(fakes.WEB_PATH, pods=pods)
    owner = host.owner(fakes.WEB_PATH)
    host.identity.workload(owner)
    host.clock.advance(60)
    host.identity.workload(owner)
    host.identity.changed()
    pods.known[fakes.WEB_UID] = fakes.Pod()

    assert host.identity.changed() == {owner}
    assert host.identity.workload(owner) == NAMED
    assert host.identity.changed() == frozenset()


def test_a_new_pods_cgroup_asks_for_a_refresh_at_its_creation(build: conftest.Build) -> None:
    pods = fakes.Pods()
    host = build(pods=pods)
    host.identity.cgroup_created(4711, f"/kubepods/besteffort/pod{fakes.WEB_UID}")
    assert pods.refreshes == 1


def test_a_known_pods_cgroup_asks_for_nothing(build: conftest.Build) -> None:
    pods = fakes.Pods(fakes.Pod())
    host = build(pods=pods)
    host.identity.cgroup_created(4711, fakes.WEB_PATH)
    assert pods.refreshes == 0


def test_a_pod_that_is_gone_before_its_numbers_are_read_is_still_named(build: conftest.Build) -> None:
    pods = fakes.Pods()
    host = build(pods=pods)
    host.identity.cgroup_created(4711, fakes.WEB_PATH)
    pods.known[fakes.WEB_UID] = fakes.Pod()
    host.identity.changed()  # a tick
    pods.known.clear()
    host.clock.advance(300)
    host.identity.retire(set())

    assert host.identity.workload(identity.Owner(4711, 4026532600, 0)) == NAMED


def test_a_name_outlives_the_pod_in_use(build: conftest.Build) -> None:
    pods = fakes.Pods(fakes.Pod())
    host = build(fakes.WEB_PATH, pods=pods)
    owner = host.owner(fakes.WEB_PATH)
    host.identity.workload(owner)
    pods.known.clear()
    host.remove(fakes.WEB_PATH)
    for _ in range(10):
        host.clock.advance(600)
        host.identity.retire({owner})
        assert host.identity.changed() == frozenset()

    assert host.identity.workload(owner) == NAMED
    assert host.identity.workload(owner._replace(pid=77)) == NAMED


def test_a_changed_pod_label_is_reported_for_each_of_its_owners(build: conftest.Build) -> None:
    pods = fakes.Pods(fakes.Pod())
    host = build(fakes.WEB_PATH, pods=pods)
    owners = {host.owner(fakes.WEB_PATH, pid=pid) for pid in (0, 5)}
    for owner in owners:
        host.identity.workload(owner)
    assert host.identity.changed() == frozenset()
    pods.known[fakes.WEB_UID] = fakes.Pod(labels=(("app", "web"), ("tier", "front")))

    assert host.identity.changed() == owners
    for owner in owners:
        found = host.identity.workload(owner)
        assert found is not None
        assert found.pod_labels == (("app", "web"), ("tier", "front"))


# --- containers


def test_the_sandbox_is_its_pod_without_container_once_waiting_is_over(build: conftest.Build) -> None:
    path = f"/kubepods/besteffort/pod{fakes.WEB_UID}/{fakes.PAUSE_ID}"
    host = build(path, pods=fakes.Pods(fakes.Pod()))
    owner = host.owner(path)
    assert host.identity.workload(owner) is None
    host.clock.advance(10)
    assert host.identity.workload(owner) == dataclasses.replace(NAMED, container="", cgroup_path=path)


def test_a_restarted_container_waits_for_the_list_that_names_it(build: conftest.Build) -> None:
    path = f"/kubepods/besteffort/pod{fakes.WEB_UID}/{fakes.SIDE_ID}"
    pods = fakes.Pods(fakes.Pod())
    host = build(path, pods=pods)
    owner = host.owner(path)
    assert host.identity.workload(owner) is None
    pods.known[fakes.WEB_UID] = fakes.Pod(containers={fakes.SIDE_ID: "app"})

    assert host.identity.workload(owner) == dataclasses.replace(NAMED, cgroup_path=path)


def test_a_former_container_is_named_by_what_the_source_remembers(build: conftest.Build) -> None:
    path = f"/kubepods/besteffort/pod{fakes.WEB_UID}/{fakes.SIDE_ID}"
    pods = fakes.Pods(fakes.Pod())
    pods.former_containers[fakes.SIDE_ID] = "app"
    host = build(path, pods=pods)
    assert host.identity.workload(host.owner(path)) == dataclasses.replace(NAMED, cgroup_path=path)


def test_the_pods_own_cgroup_has_no_container(build: conftest.Build) -> None:
    path = f"/kubepods/besteffort/pod{fakes.WEB_UID}"
    host = build(path, pods=fakes.Pods(fakes.Pod()))
    assert host.identity.workload(host.owner(path)) == dataclasses.replace(
        NAMED, container="", cgroup_path=path
    )


# --- several nodes on one kernel


@pytest.mark.parametrize(
    ("cgroup_root", "path", "is_ours"),
    [
        ("/", f"/kubepods/pod{fakes.WEB_UID}/{fakes.WEB_ID}", True),
        (
            "/",
            f"/kubepods.slice/kubepods-pod{SYSTEMD_UID}.slice/cri-containerd-{fakes.WEB_ID}.scope",
            True,
        ),
        ("/", f"/flowlens-testbed/node2/kubepods/pod{fakes.WEB_UID}/{fakes.WEB_ID}", False),
        (
            "/flowlens-testbed/node1",
            f"/flowlens-testbed/node1/kubepods/pod{fakes.WEB_UID}/{fakes.WEB_ID}",
            True,
        ),
        (
            "/flowlens-testbed/node1/",
            f"/flowlens-testbed/node1/kubepods/pod{fakes.WEB_UID}/{fakes.WEB_ID}",
            True,
        ),
        (
            "/flowlens-testbed/node1",
            f"/flowlens-testbed/node2/kubepods/pod{fakes.WEB_UID}/{fakes.WEB_ID}",
            False,
        ),
        (
            "/flowlens-testbed/node1",
            f"/flowlens-testbed/node11/kubepods/pod{fakes.WEB_UID}/{fakes.WEB_ID}",
            False,
        ),
        ("/flowlens-testbed/node1", f"/kubepods/pod{fakes.WEB_UID}/{fakes.WEB_ID}", False),
        (
            "/flowlens-testbed/node1",
            "/flowlens_testbed.slice/flowlens_testbed-node1.slice/flowlens_testbed-node1-kubepods.slice"
            f"/flowlens_testbed-node1-kubepods-pod{SYSTEMD_UID}.slice"
            f"/cri-containerd-{fakes.WEB_ID}.scope",
            True,
        ),
    ],
)
def test_pods_outside_of_the_nodes_cgroup_root_are_another_nodes(
    build: conftest.Build, cgroup_root: str, path: str, is_ours: bool
) -> None:
    pods = fakes.Pods(fakes.Pod())
    host = build(path, pods=pods, cgroup_root=cgroup_root)

    found = host.identity.workload(host.owner(path))

    assert found is not None
    assert (found.cause == identity.Cause.OTHER_NODE) != is_ours
    assert (found.pod == "web-7d9f-x2x") == is_ours


def test_another_nodes_new_pods_are_not_asked_for(build: conftest.Build) -> None:
    pods = fakes.Pods()
    host = build(pods=pods, cgroup_root="/node1")
    host.identity.cgroup_created(4711, f"/node2/kubepods/pod{fakes.WEB_UID}/{fakes.WEB_ID}")
    assert pods.refreshes == 0


def test_a_segment_without_socket_of_another_nodes_pod_is_that_nodes(build: conftest.Build) -> None:
    path = f"/node2/kubepods/pod{fakes.WEB_UID}/{fakes.WEB_ID}"
    host = build(path, pods=fakes.Pods(), cgroup_root="/node1")
    host.identity.workload(host.owner(path, netns=4026539999))
    found = host.identity.workload(identity.Owner(0, 4026539999, 0))
    assert found is not None
    assert found.cause == identity.Cause.OTHER_NODE


# --- without a cgroup


def _two_containers(build: conftest.Build) -> fakes.Host:
    paths = [f"/kubepods/besteffort/pod{fakes.WEB_UID}/{one}" for one in (fakes.WEB_ID, fakes.SIDE_ID)]
    pods = fakes.Pods(fakes.Pod(containers={fakes.WEB_ID: "app", fakes.SIDE_ID: "proxy"}))
    host = build(*paths, pods=pods)
    for path in paths:
        host.identity.workload(host.owner(path, netns=4026539999))
    return host


def test_a_segment_without_socket_belongs_to_the_pod_of_its_namespace(build: conftest.Build) -> None:
    host = _two_containers(build)
    assert host.identity.workload(identity.Owner(0, 4026539999, 0)) == POD_ALONE


def test_a_segment_without_socket_belongs_to_the_only_container_of_the_pod(build: conftest.Build) -> None:
    host = build(fakes.WEB_PATH, pods=fakes.Pods(fakes.Pod()))
    host.identity.workload(host.owner(fakes.WEB_PATH, netns=4026539999))
    found = host.identity.workload(identity.Owner(0, 4026539999, 0))
    assert found == dataclasses.replace(NAMED, cgroup_path="")


def test_one_container_seen_of_two_is_not_the_only_one(build: conftest.Build) -> None:
    pods = fakes.Pods(fakes.Pod(containers={fakes.WEB_ID: "app", fakes.SIDE_ID: "proxy"}))
    host = build(fakes.WEB_PATH, pods=pods)
    host.identity.workload(host.owner(fakes.WEB_PATH, netns=4026539999))
    assert host.identity.workload(identity.Owner(0, 4026539999, 0)) == POD_ALONE


def test_two_pods_that_used_one_namespace_number_own_no_segment(build: conftest.Build) -> None:
    other = f"/kubepods/besteffort/pod{STATIC_UID}/{fakes.SIDE_ID}"
    pods = fakes.Pods(fakes.Pod(), fakes.Pod(uid=STATIC_UID, name="other", containers={fakes.SIDE_ID: "x"}))
    host = build(fakes.WEB_PATH, other, pods=pods)
    for path in (fakes.WEB_PATH, other):
        host.identity.workload(host.owner(path, netns=4026539999))
    found = host.identity.workload(identity.Owner(0, 4026539999, 0))
    assert found is not None
    assert found.cause == "no_socket"


def test_a_number_that_was_used_again_belongs_to_the_living_pod(build: conftest.Build) -> None:
    other = f"/kubepods/besteffort/pod{STATIC_UID}/{fakes.SIDE_ID}"
    pods = fakes.Pods(fakes.Pod(), fakes.Pod(uid=STATIC_UID, name="other", containers={fakes.SIDE_ID: "x"}))
    host = build(fakes.WEB_PATH, other, pods=pods)
    for path in (fakes.WEB_PATH, other):
        host.identity.workload(host.owner(path, netns=4026539999))
    host.remove(other)
    host.identity.scan()
    found = host.identity.workload(identity.Owner(0, 4026539999, 0))
    assert found == dataclasses.replace(NAMED, cgroup_path="")


def test_on_a_v1_only_node_a_pod_is_named_by_its_namespace(build: conftest.Build) -> None:
    pods = fakes.Pods(fakes.Pod(containers={"bbbbbbbbbbbb" + 51 * "0" + "b": "app"}))
    host = build(pods=pods, v1_only=True, distribution="rhel7-kubernetes-v1")
    owner = identity.Owner(1, 4026532500, 0)
    assert host.identity.workload(owner) is None  # the sandbox might be a container yet to be named

    host.clock.advance(10)
    assert host.identity.workload(owner) == dataclasses.replace(NAMED, cgroup_path="")


def test_on_a_v1_only_node_a_host_network_pod_is_named_by_its_pid(build: conftest.Build) -> None:
    pod = fakes.Pod(uid=STATIC_UID, name="proxy-1", containers={"cccccccccccc" + 51 * "0" + "c": "proxy"})
    host = build(pods=fakes.Pods(pod), v1_only=True, distribution="rhel7-kubernetes-v1")
    found = host.identity.workload(identity.Owner(1, 4026531956, 2100))
    assert found is not None
    assert (found.pod, found.container) == ("proxy-1", "proxy")


def test_on_a_v1_only_node_a_host_process_is_the_host(build: conftest.Build) -> None:
    host = build(pods=fakes.Pods(), v1_only=True, distribution="rhel7-kubernetes-v1")
    found = host.identity.workload(identity.Owner(1, 4026531956, 700))
    assert found is not None
    assert (found.workload, found.workload_kind) == ("kubelet.service", "Host")


def test_a_new_containers_name_is_asked_for_until_the_list_has_it(build: conftest.Build) -> None:
    pods = fakes.Pods(fakes.Pod(containers={}))
    host = build(fakes.WEB_PATH, pods=pods)
    host.identity.cgroup_created(host.owner(fakes.WEB_PATH).cgroup, fakes.WEB_PATH)
    asked = []
    for _ in range(3):
        host.clock.advance(1)
        host.identity.nudge()
        asked.append(pods.refreshes)
    assert asked[0] < asked[1] < asked[2]

    pods.known[fakes.WEB_UID] = fakes.Pod()
    host.identity.nudge()
    assert pods.refreshes == asked[2]


def test_a_container_that_never_gets_a_name_is_not_asked_for_for_ever(build: conftest.Build) -> None:
    pods = fakes.Pods(fakes.Pod(containers={}))
    host = build(fakes.WEB_PATH, pods=pods)
    host.identity.cgroup_created(host.owner(fakes.WEB_PATH).cgroup, fakes.WEB_PATH)
    host.clock.advance(60)
    before = pods.refreshes
    host.identity.nudge()
    assert pods.refreshes == before

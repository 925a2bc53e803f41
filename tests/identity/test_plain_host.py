"""Names on a machine without Kubernetes: from the path, at once."""

from __future__ import annotations

import os

import pytest

from flowlens import identity
from tests.host import cgroup_tree, proc_tree
from tests.identity import conftest

HOST_NETNS, REDIS_NETNS, SHARED_NETNS = 4026531840, 4026532301, 4026532402
REDIS_ID = "aaaaaaaaaaaa" + 51 * "0" + "a"
REDIS = f"/system.slice/docker-{REDIS_ID}.scope"
POD_UID = "48b1a4c8-7b0e-4e36-9c39-0d2a5c2a9f11"


@pytest.mark.parametrize(
    ("path", "container", "workload", "kind"),
    [
        (REDIS, "aaaaaaaaaaaa", "aaaaaaaaaaaa", "Docker"),
        (f"/machine.slice/libpod-{REDIS_ID}.scope/container", "aaaaaaaaaaaa", "aaaaaaaaaaaa", "Podman"),
        (f"/default/{REDIS_ID}", "aaaaaaaaaaaa", "aaaaaaaaaaaa", "Containerd"),
        ("/default/redis-with-a-name", "redis-with-a-name", "redis-with-a-name", "Containerd"),
        (f"/system.slice/crio-{REDIS_ID}.scope", "aaaaaaaaaaaa", "aaaaaaaaaaaa", "CRIO"),
        ("/lxc.payload.a-long-container-name", "a-long-container-name", "a-long-container-name", "LXC"),
        (r"/machine.slice/machine-web\x2dfront.scope/payload", "web-front", "web-front", "Nspawn"),
        (f"/kubepods/pod{POD_UID}/{REDIS_ID}", "aaaaaaaaaaaa", POD_UID, "Pod"),
        (f"/kubepods/pod{POD_UID}", "", POD_UID, "Pod"),
        (f"/kubepods/pod{POD_UID}/{'b' * 64}/docker/{REDIS_ID}", "aaaaaaaaaaaa", "aaaaaaaaaaaa", "Docker"),
        ("/system.slice/nginx.service", "", "nginx.service", "SystemdService"),
        (r"/system.slice/system-foo\x2dbar.slice", "", "system-foo-bar.slice", "SystemdSlice"),
        ("/user.slice/user-1000.slice/session-2.scope", "", "session-2.scope", "SystemdScope"),
        ("/machinery/handmade", "", "handmade", "Cgroup"),
        ("/", "", "", "Host"),
    ],
)
def test_a_cgroup_is_named_by_its_path_at_once(
    build: conftest.Build, path: str, container: str, workload: str, kind: str
) -> None:
    host = build(path) if path != "/" else build()

    found = host.identity.workload(host.owner(path))

    assert found == identity.Workload(
        container=container,
        workload=workload,
        workload_kind=kind,
        cgroup_path=path,
        is_host=kind in ("SystemdService", "SystemdSlice", "SystemdScope", "Cgroup", "Host"),
    )


def test_a_cgroup_made_after_the_scan_is_known_from_the_kernels_event(build: conftest.Build) -> None:
    host = build()
    host.identity.cgroup_created(4711, REDIS)

    found = host.identity.workload(identity.Owner(4711, REDIS_NETNS, 0))

    assert found is not None
    assert found.container == "aaaaaaaaaaaa"
    assert host.identity.counters.rescans == 1


def test_an_event_that_was_lost_costs_a_rescan(build: conftest.Build) -> None:
    host = build()
    host.make(REDIS)
    host.clock.advance(60)

    found = host.identity.workload(host.owner(REDIS))

    assert found is not None
    assert found.container == "aaaaaaaaaaaa"
    assert host.identity.counters.rescans == 2


def test_rescans_are_rate_limited_and_the_rows_held_back_meanwhile(build: conftest.Build) -> None:
    host = build()
    for number in range(1000):
        assert host.identity.workload(identity.Owner(10_000_000 + number, REDIS_NETNS, 0)) is None
    assert host.identity.counters.rescans == 1

    host.clock.advance(60)
    answers = [host.identity.workload(identity.Owner(10_000_000 + n, REDIS_NETNS, 0)) for n in range(1000)]

    assert host.identity.counters.rescans == 2
    assert {answer.cause for answer in answers if answer} == {"cgroup_gone"}
    assert None not in answers


def test_an_event_that_comes_after_the_question_revises_the_answer(build: conftest.Build) -> None:
    host = build()
    owner = identity.Owner(10_000_000, REDIS_NETNS, 0)
    host.clock.advance(60)
    gone = host.identity.workload(owner)
    assert gone is not None
    assert gone.cause == identity.Cause.CGROUP_GONE

    host.identity.cgroup_created(10_000_000, REDIS)

    assert host.identity.changed() == {owner}
    found = host.identity.workload(owner)
    assert found is not None
    assert found.container == "aaaaaaaaaaaa"
    assert host.identity.changed() == frozenset()


def test_an_id_in_a_tree_that_shows_a_part_only_is_unknown_not_gone(build: conftest.Build) -> None:
    host = build()
    (host.mount / "cgroup.type").touch()
    host.clock.advance(60)

    found = host.identity.workload(identity.Owner(10_000_000, REDIS_NETNS, 0))

    assert found is not None
    assert found.cause == identity.Cause.UNKNOWN_CGROUP
    assert "--host-cgroup" in host.identity.problem


def test_a_whole_tree_is_no_problem(build: conftest.Build) -> None:
    assert build().identity.problem == ""


def test_a_name_outlives_its_cgroup(build: conftest.Build) -> None:
    host = build(REDIS)
    owner = host.owner(REDIS)
    host.remove(REDIS)
    host.identity.scan()

    found = host.identity.workload(owner)

    assert found is not None
    assert found.container == "aaaaaaaaaaaa"
    assert not host.identity.alive(owner)


def test_a_cgroup_is_alive_until_it_is_removed(build: conftest.Build) -> None:
    host = build(REDIS)
    owner = host.owner(REDIS)
    assert host.identity.alive(owner)
    host.remove(REDIS)
    assert not host.identity.alive(owner)


def test_a_namesake_does_not_keep_a_cgroup_alive(build: conftest.Build) -> None:
    host = build(REDIS)
    host.identity.cgroup_created(10_000_000, REDIS)
    assert not host.identity.alive(identity.Owner(10_000_000, REDIS_NETNS, 0))


def test_bytes_that_are_no_text_are_shown_as_replacement_characters(build: conftest.Build) -> None:
    host = build()
    host.identity.cgroup_created(9, "/system.slice/" + os.fsdecode(b"\xe9cole.service"))

    found = host.identity.workload(identity.Owner(9, REDIS_NETNS, 0))

    assert found is not None
    assert found.workload == "\ufffdcole.service"
    assert found.cgroup_path.encode()


# --- the root cgroup, and rows without a socket


def test_a_process_in_the_root_cgroup_is_named_by_its_pid_where_that_is_known(build: conftest.Build) -> None:
    host = build()
    found = host.identity.workload(host.owner("/", pid=812))
    assert found is not None
    assert (found.workload, found.workload_kind) == ("nginx.service", "SystemdService")


def test_a_host_process_in_a_containers_namespace_is_not_the_container(build: conftest.Build) -> None:
    host = build(REDIS)
    assert host.identity.workload(host.owner(REDIS)) is not None

    found = host.identity.workload(host.owner("/", netns=REDIS_NETNS))

    assert found is not None
    assert (found.workload_kind, found.container) == ("Host", "")


def test_a_segment_without_socket_belongs_to_the_only_container_of_its_namespace(
    build: conftest.Build,
) -> None:
    host = build()

    found = host.identity.workload(identity.Owner(0, REDIS_NETNS, 0))

    assert found == identity.Workload(
        container="aaaaaaaaaaaa", workload="aaaaaaaaaaaa", workload_kind="Docker"
    )


def test_a_segment_without_socket_in_a_shared_namespace_has_no_name(build: conftest.Build) -> None:
    found = build().identity.workload(identity.Owner(0, SHARED_NETNS, 0))
    assert found == identity.Workload(cause="no_socket")


def test_a_segment_without_socket_on_the_host_has_no_name_but_is_the_hosts(build: conftest.Build) -> None:
    found = build().identity.workload(identity.Owner(0, HOST_NETNS, 0))
    assert found == identity.Workload(cause="no_socket", is_host=True)


def test_a_container_in_the_hosts_namespace_does_not_own_its_segments(build: conftest.Build) -> None:
    host = build(REDIS)
    assert host.identity.workload(host.owner(REDIS, netns=HOST_NETNS)) is not None

    found = host.identity.workload(identity.Owner(0, HOST_NETNS, 0))

    assert found is not None
    assert found.cause == "no_socket"


def test_a_host_process_beside_the_container_leaves_its_segments_without_name(build: conftest.Build) -> None:
    host = build()
    proc_tree.add(host.proc, 5000, {"netns": REDIS_NETNS, "cgroup": ["0::/system.slice/sshd.service"]})

    found = host.identity.workload(identity.Owner(0, REDIS_NETNS, 0))

    assert found is not None
    assert found.cause == "no_socket"


def test_a_namespace_whose_processes_are_gone_is_known_by_the_sockets_seen_in_it(
    build: conftest.Build,
) -> None:
    host = build("/docker/" + REDIS_ID)
    vanished = 4026539999
    assert host.identity.workload(host.owner("/docker/" + REDIS_ID, netns=vanished)) is not None
    host.remove("/docker/" + REDIS_ID)
    host.identity.scan()

    found = host.identity.workload(identity.Owner(0, vanished, 0))

    assert found is not None
    assert found.container == "aaaaaaaaaaaa"


def test_one_reading_of_proc_answers_for_all_namespaces_that_were_asked_before(build: conftest.Build) -> None:
    host = build()
    assert host.identity.workload(identity.Owner(0, REDIS_NETNS, 0)) is not None
    host.clock.advance(0.1)
    proc_tree.add(host.proc, 6000, {"netns": 4026533333, "cgroup": [f"0::{REDIS}"]})
    late = [identity.Owner(0, 4026533333, 0), identity.Owner(0, 4026533334, 0)]
    assert [host.identity.workload(owner) for owner in late] == [None, None]

    host.clock.advance(60)
    found = [host.identity.workload(owner) for owner in late]

    assert found[0] is not None
    assert found[0].container == "aaaaaaaaaaaa"
    assert found[1] == identity.Workload(cause="no_socket")
    assert host.identity.counters.process_scans == 2


def test_unreadable_processes_are_counted(build: conftest.Build) -> None:
    host = build()
    host.identity.workload(identity.Owner(0, REDIS_NETNS, 0))
    assert host.identity.counters.unreadable == 1


# --- cgroup v1 only


def test_on_a_v1_only_host_the_pid_names_the_owner(build: conftest.Build) -> None:
    host = build(v1_only=True, distribution="rhel7-kubernetes-v1")
    found = host.identity.workload(identity.Owner(1, HOST_NETNS, 700))
    assert found is not None
    assert (found.workload, found.workload_kind) == ("kubelet.service", "SystemdService")


def test_on_a_v1_only_host_the_namespace_names_whose_process_has_ended(build: conftest.Build) -> None:
    host = build(v1_only=True, distribution="rhel7-kubernetes-v1")
    found = host.identity.workload(identity.Owner(1, 4026532500, 999_999))
    assert found == identity.Workload(workload=POD_UID, workload_kind="Pod")


def test_on_a_v1_only_host_an_ended_process_of_the_hosts_namespace_is_told_as_such(
    build: conftest.Build,
) -> None:
    host = build(v1_only=True, distribution="rhel7-kubernetes-v1")
    found = host.identity.workload(identity.Owner(1, 4026531956, 999_999))
    assert found is not None
    assert found.cause == identity.Cause.PROCESS_GONE


def test_on_a_v1_only_host_a_row_without_pid_in_the_hosts_namespace_is_the_host(
    build: conftest.Build,
) -> None:
    host = build(v1_only=True, distribution="rhel7-kubernetes-v1")
    found = host.identity.workload(identity.Owner(1, 4026531956, 0))
    assert found is not None
    assert found.workload_kind == "Host"


def test_a_process_is_alive_while_its_folder_is_there(build: conftest.Build) -> None:
    host = build(v1_only=True, distribution="rhel7-kubernetes-v1")
    assert host.identity.alive(identity.Owner(1, HOST_NETNS, 700))
    assert not host.identity.alive(identity.Owner(1, HOST_NETNS, 999_999))


# --- from inside a cgroup namespace


def test_paths_that_cannot_be_told_from_our_namespace_are_refused_and_explained(
    build: conftest.Build,
) -> None:
    host = build(distribution="kubernetes-from-a-pod")

    found = host.identity.workload(identity.Owner(0, 4026532600, 0))

    assert found is not None
    assert found.cause == "no_socket"
    assert host.identity.counters.refused_paths == 1
    assert "cgroup namespace" in host.identity.problem


def test_a_hybrid_host_is_read_like_a_pure_one(build: conftest.Build) -> None:
    host = build(distribution="debian12-hybrid")
    mount = cgroup_tree.hybrid(host.root.parent / "second", ["/docker/" + REDIS_ID])
    asked = identity.Identity(proc=host.proc, cgroupfs=mount, clock=host.clock)
    asked.scan()

    found = asked.workload(
        identity.Owner(cgroup_tree.inode(mount / "unified", "/docker/" + REDIS_ID), REDIS_NETNS, 0)
    )

    assert found is not None
    assert found.workload_kind == "Docker"

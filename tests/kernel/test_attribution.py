"""Whose number it is: the cgroup that the socket was made in, at both ends, whoever runs at that moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowlens.kernel import layout
from flowlens.metrics import Role
from tests.kernel import conftest, traffic
from tests.kernel.counts import Counts, until
from tests.kernel.namespace import CGROUPS, Process

pytestmark = pytest.mark.kernel
MakeCgroup = Callable[[str], Path]


@pytest.fixture
def neighbour(ns: Process) -> Iterator[Process]:
    """A second process in the same network namespace."""
    process = Process(share=ns)
    yield process
    process.close()


def test_each_end_of_a_local_connection_belongs_to_its_own_cgroup(
    counts: Counts, ns: Process, neighbour: Process, cgroup: MakeCgroup
) -> None:
    server, client = cgroup("server"), cgroup("client")
    ns.enter_cgroup(server)
    neighbour.enter_cgroup(client)
    port = ns.run(traffic.listen, "127.0.0.1")
    neighbour.run(traffic.hold, "127.0.0.1", port, 100)
    connects, accepts = counts.rows(ns.netns, "connect"), counts.rows(ns.netns, "accept")
    assert {(row.cgroup, row.count) for row in connects} == {(client.stat().st_ino, 100)}
    assert {(row.cgroup, row.count) for row in accepts} == {(server.stat().st_ino, 100)}
    open_now = {(row.role, row.cgroup): row.count for row in counts.rows(ns.netns, "connections")}
    assert open_now == {(Role.CLIENT, client.stat().st_ino): 100, (Role.SERVER, server.stat().st_ino): 100}


def test_a_socket_stays_with_the_cgroup_it_was_made_in(
    counts: Counts, ns: Process, cgroup: MakeCgroup
) -> None:
    first, second = cgroup("first"), cgroup("second")
    ns.enter_cgroup(first)
    port = ns.run(traffic.listen, "127.0.0.1")
    ns.enter_cgroup(second)
    ns.run(traffic.hold, "127.0.0.1", port, 10)
    ns.enter_cgroup(CGROUPS)
    ns.run(traffic.release)
    until(lambda: counts.total(ns, "connections") == 0, "all closed")
    assert {row.cgroup for row in counts.rows(ns.netns, "accept")} == {first.stat().st_ino}
    lifetimes = counts.rows(ns.netns, "connection_duration")
    assert {(row.role, row.cgroup) for row in lifetimes} == {
        (Role.SERVER, first.stat().st_ino),
        (Role.CLIENT, second.stat().st_ino),
    }


def test_pid_is_the_connecting_process_and_the_listening_one(
    counts: Counts, ns: Process, neighbour: Process
) -> None:
    fields = layout.FIELDS["pid"] | layout.FIELDS["dst_port"]
    counts.apply(_with_masks(dict.fromkeys(conftest.ALL, fields)))
    port = ns.run(traffic.listen, "127.0.0.1")
    neighbour.run(traffic.hold, "127.0.0.1", port, 20)
    assert {(row.pid, row.count) for row in counts.rows(ns.netns, "accept") if row.pid} == {(ns.pid, 1)}
    assert {(row.pid, row.remote_port) for row in counts.rows(ns.netns, "connect")} == {(neighbour.pid, port)}
    assert counts.total(ns, "accept") == counts.total(ns, "connect") == 20


def _with_masks(masks: dict[str, int]) -> layout.Settings:
    return layout.Settings(enabled=conftest.ALL, bounds=conftest.BOUNDS, masks=masks)


@pytest.mark.parametrize(("family", "packed"), [(4, b"\x7f\0\0\1"), (6, bytes(15) + b"\1")])
def test_flow_fields_are_the_sockets_own_end_and_its_peer(
    counts: Counts, ns: Process, family: int, packed: bytes
) -> None:
    counts.apply(_with_masks(dict.fromkeys(conftest.ALL, 31)))
    port = ns.run(traffic.listen, traffic.LOOPBACK[family])
    ns.run(traffic.hold, traffic.LOOPBACK[family], port, 5)
    until(lambda: counts.total(ns, "connect_duration") == 5, "handshakes seen")
    connects, accepts = counts.rows(ns.netns, "connect"), counts.rows(ns.netns, "accept")
    assert {row.remote_port for row in connects} == {row.local_port for row in accepts} == {port}
    sources = {row.local_port for row in connects}
    assert sources == {row.remote_port for row in accepts}
    assert len(sources) == 5  # also at SYN_SENT, where the kernel has not chosen a port yet
    assert 0 not in sources
    assert {row.local[: len(packed)] for row in connects} == {packed}
    assert {row.remote[: len(packed)] for row in connects} == {packed}


def test_failed_connects_keep_their_source_port(counts: Counts, ns: Process) -> None:
    counts.apply(_with_masks(dict.fromkeys(conftest.ALL, 31)))
    ns.run(traffic.refused, "127.0.0.1", 5)
    for name in ("connect", "connect_failures"):
        ports = {row.local_port for row in counts.rows(ns.netns, name)}
        assert len(ports) == 5, name
        assert 0 not in ports, name


def test_address_prefixes_are_cut_in_the_kernel(counts: Counts, ns: Process) -> None:
    fields = layout.FIELDS["src_ip"] | layout.FIELDS["dst_ip"]
    counts.apply(
        layout.Settings(
            enabled=conftest.ALL,
            bounds=conftest.BOUNDS,
            masks=dict.fromkeys(conftest.ALL, fields),
            v4_prefix=9,
            v6_prefix=0,
        )
    )
    ns.shell("ip addr add 10.234.5.6/32 dev lo")
    ns.run(traffic.exchange, "10.234.5.6", 3)
    ns.run(traffic.exchange, "::1", 3)
    rows = counts.rows(ns.netns, "accept")
    assert {(row.family, row.local[:4], row.count) for row in rows} == {
        (4, b"\x0a\x80\0\0", 3),
        (6, bytes(4), 3),
    }


def test_port_filters_look_at_the_servers_end(counts: Counts, ns: Process) -> None:
    wanted, unwanted = ns.run(traffic.listen, "127.0.0.1"), ns.run(traffic.listen, "127.0.0.1")
    counts.apply(
        layout.Settings(enabled=conftest.ALL, bounds=conftest.BOUNDS, include_ports=((wanted, wanted),))
    )
    ns.run(traffic.hold, "127.0.0.1", wanted, 4)
    ns.run(traffic.hold, "127.0.0.1", unwanted, 9)
    assert counts.total(ns, "connect") == counts.total(ns, "accept") == 4
    counts.apply(
        layout.Settings(enabled=conftest.ALL, bounds=conftest.BOUNDS, exclude_ports=((wanted, wanted),))
    )
    ns.run(traffic.hold, "127.0.0.1", wanted, 4)
    ns.run(traffic.hold, "127.0.0.1", unwanted, 2)
    assert counts.total(ns, "connect") == counts.total(ns, "accept") == 6


def test_without_cgroups_the_pid_tells_owners_apart(counts: Counts, ns: Process, neighbour: Process) -> None:
    counts.apply(layout.Settings(enabled=conftest.ALL, bounds=conftest.BOUNDS, owner_pid=True))
    port = ns.run(traffic.listen, "127.0.0.1")
    neighbour.run(traffic.hold, "127.0.0.1", port, 6)
    assert {(row.pid, row.count) for row in counts.rows(ns.netns, "accept")} == {(ns.pid, 6)}
    assert {(row.pid, row.count) for row in counts.rows(ns.netns, "connect")} == {(neighbour.pid, 6)}


def test_a_new_cgroup_is_told_with_its_path(counts: Counts, cgroup: MakeCgroup) -> None:
    made = cgroup("short-lived")
    seen: dict[int, str] = {}

    def told() -> bool:
        seen.update(counts.tracer.cgroups.drain())
        return made.stat().st_ino in seen

    until(told, "the new cgroup's event")
    assert seen[made.stat().st_ino] == "/" + str(made.relative_to(CGROUPS))

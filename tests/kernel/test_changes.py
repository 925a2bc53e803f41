"""Settings change while traffic runs: nothing is lost, nothing counted twice, whatever is off costs nothing."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowlens.kernel import errors, layout, maps, tracer
from flowlens.metrics import BY_NAME, Role
from tests.kernel import conftest, traffic
from tests.kernel.conftest import Engine
from tests.kernel.counts import Counts, until
from tests.kernel.hidden import Hidden
from tests.kernel.namespace import Process

pytestmark = pytest.mark.kernel
CPUS = os.cpu_count() or 1
"""The limit is checked without a lock: each CPU may be one too many."""


def test_sums_stay_exact_while_masks_change_every_100_ms(counts: Counts, ns: Process) -> None:
    changes = 0
    masks = (0, 31, layout.FIELDS["dst_port"], layout.FIELDS["pid"] | layout.FIELDS["src_port"])
    with Hidden() as hidden:
        ns.start(traffic.exchange, "127.0.0.1", 10_000)
        while not ns._connection.poll(0.1):
            mask = masks[changes % len(masks)]
            counts.apply(
                layout.Settings(
                    enabled=conftest.ALL,
                    bounds=conftest.BOUNDS,
                    masks=dict.fromkeys(conftest.ALL - {"connections"}, mask),
                )
            )
            changes += 1
        ns.finish()
        unseen = hidden.events()
    snmp = ns.snmp()
    assert changes >= 3
    assert counts.total(ns, "connect") == snmp["ActiveOpens"] == snmp["PassiveOpens"] == 10_000
    opened = counts.total(ns, "accept") + counts.total(ns, "connect_duration")
    assert 20_000 - unseen["ESTABLISHED"] <= opened <= 20_000
    until(lambda: counts.total(ns, "connections") <= unseen["CLOSE"], "all closed")
    # Every close is counted once, in the gauge and in the histogram.
    assert opened <= counts.total(ns, "connection_duration") + counts.total(ns, "connections") <= 20_000
    assert counts.tracer.losses()["totals", "UNCOUNTED"] == 0


def test_flows_beyond_the_limit_go_to_the_owners_row_and_sums_stay_exact(counts: Counts, ns: Process) -> None:
    masks = dict.fromkeys(conftest.ALL - {"connections"}, 31)
    lost_before = counts.tracer.losses()["flows", "E2BIG"]
    counts.apply(layout.Settings(enabled=conftest.ALL, bounds=conftest.BOUNDS, masks=masks, max_flows=50))
    ns.run(traffic.exchange, "127.0.0.1", 500)
    rows = counts.rows(ns.netns, "accept")
    assert sum(row.count for row in rows) == ns.snmp()["PassiveOpens"] == 500
    assert (
        sum(row.count for row in rows if not row.remote_port) >= 450
    )  # the owner's own row: shown as `other`
    assert sum(table.count for table in counts.tracer.read().flows) <= 50 + CPUS
    assert counts.tracer.losses()["flows", "E2BIG"] > lost_before


def test_a_new_generation_has_room_again(counts: Counts, ns: Process) -> None:
    port = ns.run(traffic.listen, "127.0.0.1")
    settings = layout.Settings(
        enabled=conftest.ALL,
        bounds=conftest.BOUNDS,
        masks={"accept": 31},
        max_flows=20,
        include_ports=((port, port),),  # nobody else on this machine takes of the room
    )
    counts.apply(settings)
    ns.run(traffic.hold, "127.0.0.1", port, 30)
    first = sum(row.count for row in counts.rows(ns.netns, "accept") if row.remote_port)
    counts.apply(settings)
    ns.run(traffic.hold, "127.0.0.1", port, 10)
    both = sum(row.count for row in counts.rows(ns.netns, "accept") if row.remote_port)
    assert 20 <= first <= 20 + CPUS
    assert both == first + 10
    assert counts.total(ns, "accept") == ns.snmp()["PassiveOpens"] == 40


def test_new_boundaries_start_their_histogram_anew_and_touch_no_other(counts: Counts, ns: Process) -> None:
    ns.run(traffic.exchange, "127.0.0.1", 20)
    until(lambda: counts.total(ns, "connection_duration") == 40, "all closed")
    counts.apply(
        layout.Settings(enabled=conftest.ALL, bounds=conftest.BOUNDS | {"connect_duration": (1, 10**12)})
    )
    assert counts.total(ns, "connect_duration") == 0
    assert counts.total(ns, "connection_duration") == 40
    ns.run(traffic.exchange, "127.0.0.1", 5)
    assert {row.detail: row.count for row in counts.rows(ns.netns, "connect_duration")} == {1: 5}
    assert counts.total(ns, "connect") == 25


def test_a_metric_that_is_off_has_its_program_detached(counts: Counts, ns: Process) -> None:
    resets_off = conftest.ALL - {"reset"}
    counts.apply(layout.Settings(enabled=resets_off, bounds=conftest.BOUNDS))
    assert "tcp_send_reset" not in _attached()
    assert "inet_sock_set_state" in _attached()
    ns.run(traffic.refused, "127.0.0.1", 3)
    assert counts.total(ns, "reset") == 0
    assert counts.total(ns, "connect_failures") == 3
    counts.apply(conftest.EVERYTHING)
    assert "tcp_send_reset" in _attached()
    ns.run(traffic.refused, "127.0.0.1", 3)
    assert counts.total(ns, "reset", cgroup=0) == 3


def _attached() -> set[str]:
    """Tracepoints that programs of this process are attached to, as bpftool sees them."""
    links = _bpftool("link")
    names = {program["id"]: str(program.get("name", "")) for program in _bpftool("prog")}
    held = _ids_held("link_id")
    return {names[link["prog_id"]].removeprefix("hook_") for link in links if link["id"] in held}


def _bpftool(what: str) -> list[dict[str, Any]]:
    output = subprocess.run(["bpftool", "-j", what], capture_output=True, check=True, timeout=30).stdout
    return list(json.loads(output))


def _ids_held(kind: str) -> set[int]:
    """Ids of the BPF objects (`link_id`, `prog_id`) that this process has descriptors of."""
    found = set()
    for fd in Path("/proc/self/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            for line in fd.read_text().splitlines():
                name, _, value = line.partition(":")
                if name == kind:
                    found.add(int(value))
    return found


def test_retransmissions_while_the_metric_was_off_are_not_counted_later(
    counts: Counts, pair: tuple[Process, Process]
) -> None:
    client, server = pair
    port = server.run(traffic.serve_bulk)
    off = conftest.ALL - {"retransmit", "retransmit_segments"}
    counts.apply(layout.Settings(enabled=off, bounds=conftest.BOUNDS))
    client.run(traffic.hold, "192.0.2.2", port, 1)
    server.filter_input("tcp flags & (fin | syn) == 0x0 drop")
    client.run(traffic.say, b"lost")
    until(lambda: client.snmp()["RetransSegs"] >= 2, "retransmissions nobody counts")
    before = client.snmp()["RetransSegs"]
    counts.apply(conftest.EVERYTHING)
    until(lambda: client.snmp()["RetransSegs"] > before, "one more")
    server.shell("nft flush ruleset")
    client.run(traffic.release)
    assert 1 <= counts.total(client, "retransmit_segments") <= client.snmp()["RetransSegs"] - 2


def test_connections_older_than_the_tracer_are_adopted_with_pid_and_role(engine: Engine, ns: Process) -> None:
    port = ns.run(traffic.listen, "127.0.0.1")
    ns.run(traffic.hold, "127.0.0.1", port, 40)
    masks = {"connections": layout.FIELDS["pid"]}
    late = tracer.Tracer(
        engine.load(), layout.Settings(enabled=conftest.ALL, bounds=conftest.BOUNDS, masks=masks)
    )
    try:
        late.start()
        counts = Counts(late)
        counts._before = {}
        # Accepted connections that no process has taken from the queue yet belong to nobody's file table.
        expected = 40 if engine.storage else 0
        assert counts.total(ns, "connections", role=Role.CLIENT) == expected
        assert counts.total(ns, "connections", role=Role.SERVER) == 0
        live = [layout.FLOW.unpack(key) for key, _, _ in late.read().live.rows(layout.FLOW.size)]
        pids = {fields[2] for fields in live if fields[1] == ns.netns}
        assert pids == ({ns.pid} if engine.storage else set())
        _says_why(late, "task_file", engine)
        ns.run(traffic.release)
        until(lambda: counts.total(ns, "connections") == 0, "gauge back at 0")
    finally:
        late.close()


def test_connections_accepted_while_all_was_off_leave_the_gauge_when_they_close(
    engine: Engine, counts: Counts, ns: Process
) -> None:
    ns.run(traffic.listen, "127.0.0.1")
    counts.apply(layout.Settings(enabled=frozenset({"reset"}), bounds=conftest.BOUNDS))
    ns.run(traffic.hold_both_ends, 3)
    counts.apply(conftest.EVERYTHING)
    expected = 3 if engine.storage else 0  # only iterators look at sockets again
    assert counts.total(ns, "connections", role=Role.CLIENT) == expected
    assert counts.total(ns, "connections", role=Role.SERVER) == expected
    ns.run(traffic.release)
    until(lambda: counts.total(ns, "connections") == 0, "gauge back at 0")
    assert counts.total(ns, "accept") == 0


def _says_why(running: tracer.Tracer, hook: str, engine: Engine) -> None:
    """What an engine cannot do is absent with a reason, not zero in silence."""
    state = next(probe for probe in running.probe_states() if probe.hook == hook)
    assert state.up == engine.storage
    assert bool(state.reason) == (not engine.storage)


def test_open_connections_by_flow_are_listed_from_the_sockets(
    engine: Engine, counts: Counts, ns: Process
) -> None:
    port = ns.run(traffic.listen, "127.0.0.1")
    ns.run(traffic.hold, "127.0.0.1", port, 7)
    counts.apply(
        layout.Settings(
            enabled=conftest.ALL,
            bounds=conftest.BOUNDS,
            masks={"connections": layout.FIELDS["dst_port"] | layout.FIELDS["dst_ip"]},
        )
    )
    clients = [
        layout.FLOW.unpack(key)
        for key, _, _ in counts.tracer.read().live.rows(layout.FLOW.size)
        if layout.FLOW.unpack(key)[1] == ns.netns and layout.FLOW.unpack(key)[5] == Role.CLIENT
    ]
    _says_why(counts.tracer, "sk_storage", engine)
    if not engine.storage:
        assert counts.total(ns, "connections", role=Role.CLIENT) == 7  # the owner's row: shown as `other`
        return
    assert len(clients) == 7
    assert {(fields[9], fields[10]) for fields in clients} == {(0, port)}
    number = BY_NAME["connections"].number
    assert {fields[6] for fields in clients} == {number}


def test_two_tracers_count_independently(engine: Engine, counts: Counts, ns: Process) -> None:
    second = tracer.Tracer(engine.load(), conftest.EVERYTHING)
    try:
        second.start()
        other = Counts(second)
        ns.run(traffic.exchange, "127.0.0.1", 25)
        assert other.total(ns, "accept") == counts.total(ns, "accept") == ns.snmp()["PassiveOpens"] == 25
    finally:
        second.close()


def test_nothing_is_left_in_the_kernel_after_close(engine: Engine) -> None:
    before = _ids_held("prog_id")
    running = tracer.Tracer(engine.load(), conftest.EVERYTHING)
    running.start()
    ours = _ids_held("prog_id") - before
    assert len(ours) >= len([probe for probe in running.probe_states() if probe.up])
    running.close()
    until(lambda: not (ours & {program["id"] for program in _bpftool("prog")}), "programs gone")


def test_a_full_totals_map_keeps_sums_exact_in_rows_made_in_advance(
    counts: Counts, ns: Process, cgroup: Callable[[str], Path]
) -> None:
    ns.enter_cgroup(cgroup("no-room"))  # an owner that has no row yet
    fd = counts.tracer._maps["totals"]
    filler = []
    room = layout.MAX_ENTRIES - sum(table.count for table in counts.tracer.read().totals)
    for index in range(room + 1):
        key = layout.KEY.pack(1 << 60 | index, 1, 0, 0, 4, 0, BY_NAME["reset"].number, 0, 0, 0, 0, 0)
        try:
            maps.update(fd, key, bytes(16))
        except errors.SystemCallFailed:
            break
        filler.append(key)
    try:
        ns.run(traffic.exchange, "::1", 40)
        until(lambda: _other(counts, "connections") + counts.total(ns, "connections") == 0, "all closed")
        snmp = ns.snmp()
        assert _other(counts, "connect") + counts.total(ns, "connect") == snmp["ActiveOpens"] == 40
        assert _other(counts, "accept") + counts.total(ns, "accept") == snmp["PassiveOpens"] == 40
        assert _other(counts, "connect_duration") + counts.total(ns, "connect_duration") == 40
        assert _other(counts, "connect") > 0
        assert counts.tracer.losses()["totals", "E2BIG"] > 0
        assert counts.tracer.losses()["totals", "UNCOUNTED"] == 0
    finally:
        maps.delete(fd, filler)


def _other(counts: Counts, name: str) -> int:
    """What the rows made in advance have taken. They know no namespace, so this test alone uses IPv6 while the map is full."""
    return sum(row.count for row in counts.rows(0, name) if row.cgroup == 0 and row.family == 6)

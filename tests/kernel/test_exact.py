"""Every counter equals the kernel's own SNMP counter of the same namespace: equal, not close."""

from __future__ import annotations

import pytest

from flowlens.metrics import Role
from tests.kernel import traffic
from tests.kernel.counts import Counts, until
from tests.kernel.namespace import Process

pytestmark = pytest.mark.kernel

Pair = tuple[Process, Process]


@pytest.mark.parametrize("family", [4, 6])
def test_connects_and_accepts_equal_active_and_passive_opens(
    counts: Counts, ns: Process, family: int
) -> None:
    ns.run(traffic.exchange, traffic.LOOPBACK[family], 50)
    snmp = ns.snmp()
    assert counts.total(ns, "connect", family=family) == snmp["ActiveOpens"] == 50
    assert counts.total(ns, "accept", family=family) == snmp["PassiveOpens"] == 50


def test_connections_in_parallel_are_all_counted(counts: Counts, ns: Process) -> None:
    ns.run(traffic.exchange_in_parallel, "127.0.0.1", 200)
    snmp = ns.snmp()
    assert counts.total(ns, "connect") == snmp["ActiveOpens"] == 200
    assert counts.total(ns, "accept") == snmp["PassiveOpens"] == 200
    until(lambda: counts.total(ns, "connections") == 0, "no connection open")


def test_a_v4_mapped_connection_is_ipv4_at_both_ends(counts: Counts, ns: Process) -> None:
    port = ns.run(traffic.listen, "dual")
    ns.run(traffic.hold, "::ffff:127.0.0.1", port, 3)
    assert counts.total(ns, "connect", family=4) == 3
    assert counts.total(ns, "accept", family=4) == 3
    assert counts.total(ns, "connect", family=6) == counts.total(ns, "accept", family=6) == 0


@pytest.mark.parametrize("family", [4, 6])
def test_refused_connects_equal_attempt_fails(counts: Counts, ns: Process, family: int) -> None:
    ns.run(traffic.refused, traffic.LOOPBACK[family], 20)
    snmp = ns.snmp()
    assert counts.details(ns, "connect_failures", family=family) == {("refused",): 20}
    assert snmp["AttemptFails"] == snmp["ActiveOpens"] == counts.total(ns, "connect") == 20


def test_timed_out_connect_is_a_timeout_with_its_syn_retransmits(counts: Counts, pair: Pair) -> None:
    client, server = pair
    server.filter_input("tcp dport 9 drop")
    client.run(traffic.times_out, "192.0.2.2", 9, 2500)
    snmp = client.snmp()
    assert counts.details(client, "connect_failures") == {("timeout",): 1}
    assert snmp["AttemptFails"] == 1
    assert counts.details(client, "retransmit_segments") == {("syn", "connect"): snmp["RetransSegs"]}
    assert snmp["RetransSegs"] >= 1


def test_ends_that_connect_to_each_other_and_fail_are_failed_connects(
    counts: Counts, pair: tuple[Process, Process]
) -> None:
    ends = (("192.0.2.1", 7001), ("192.0.2.2", 7002))
    for process in pair:
        # So that both stay in SYN_RECV, and the one that comes first is not refused.
        process.filter_input("tcp flags & (syn | ack) == syn | ack drop", "tcp flags & rst == rst drop")
    for process, mine, theirs in zip(pair, ends, reversed(ends), strict=True):
        process.start(traffic.meets_half_way, *mine, *theirs, 2500)
    for process in pair:
        process.finish()
    for process in pair:
        assert process.snmp()["AttemptFails"] == 1
        assert counts.details(process, "connect_failures") == {("timeout",): 1}
        assert counts.total(process, "connection_duration") == counts.total(process, "accept") == 0


def test_unreachable_connect_says_so(counts: Counts, pair: Pair) -> None:
    client, server = pair
    server.filter_input("tcp dport 9 reject with icmp type host-unreachable")
    client.run(traffic.unreachable, "192.0.2.2", 9)
    assert counts.details(client, "connect_failures") == {("unreachable",): 1}
    # Until 6.8 the ICMP message ended the attempt, which is an AttemptFail; since then (commit 0a8de364ff7a)
    # the application is told and closes the socket, which the kernel does not count.
    assert client.snmp()["AttemptFails"] in (0, 1)


def test_an_application_that_gives_up_is_aborted_which_the_kernel_does_not_count(
    counts: Counts, pair: Pair
) -> None:
    client, server = pair
    server.filter_input("tcp dport 9 drop")
    client.run(traffic.gives_up, "192.0.2.2", 9)
    assert counts.details(client, "connect_failures") == {("aborted",): 1}
    assert client.snmp()["AttemptFails"] == 0  # tcp_disconnect() goes to CLOSE without tcp_done()


@pytest.mark.parametrize("by_server", [True, False])
@pytest.mark.parametrize("family", [4, 6])
def test_resets_by_either_end_equal_the_kernels(
    counts: Counts, ns: Process, family: int, by_server: bool
) -> None:
    ns.run(_resets, traffic.LOOPBACK[family], 10, by_server)
    snmp = ns.snmp()
    details = counts.details(ns, "reset", family=family)
    outbound = sum(n for (direction, _, _), n in details.items() if direction == "outbound")
    inbound = sum(n for (direction, _, _), n in details.items() if direction == "inbound")
    assert outbound == snmp["OutRsts"] == 10
    assert inbound == 10
    assert snmp["EstabResets"] == 20  # each end goes ESTABLISHED -> CLOSE


def _resets(address: str, count: int, by_server: bool) -> None:
    traffic.resets(address, count, by_server=by_server)


def test_reset_reasons_are_the_kernels_own(counts: Counts, ns: Process) -> None:
    ns.run(_resets, "127.0.0.1", 5, True)
    ns.run(traffic.closes_with_unread_data, "127.0.0.1", 5)
    ns.run(traffic.refused, "127.0.0.1", 5)
    details = counts.details(ns, "reset")
    assert details["outbound", "none", "no_socket"] == 5
    # Which state a closing socket has in when it resets is the kernel's business; that all are there is ours.
    outbound = sum(n for (direction, _, _), n in details.items() if direction == "outbound")
    assert outbound == ns.snmp()["OutRsts"] == 15


@pytest.mark.parametrize("family", [4, 6])
def test_a_refusal_is_a_reset_without_a_socket(counts: Counts, ns: Process, family: int) -> None:
    ns.run(traffic.refused, traffic.LOOPBACK[family], 7)
    rows = counts.rows(ns.netns, "reset")
    assert sum(row.count for row in rows if row.cgroup == 0) == ns.snmp()["OutRsts"] == 7
    assert {row.family for row in rows} == {family}


@pytest.mark.parametrize("family", [4, 6])
def test_retransmitted_segments_equal_the_kernels_under_loss(counts: Counts, pair: Pair, family: int) -> None:
    client, server = pair
    address = {4: "192.0.2.2", 6: "2001:db8::2"}[family]
    port = server.run(traffic.serve_bulk)
    for end in pair:
        end.filter_input("meta l4proto tcp numgen random mod 100 < 3 drop")
    client.run(traffic.send_bulk, address, port, 3_000_000, 5, timeout=110)
    for end in pair:
        synacks = counts.total(end, "synack_retransmit")
        segments = counts.total(end, "retransmit_segments")
        assert segments + synacks == end.snmp()["RetransSegs"]
    assert client.snmp()["RetransSegs"] > 0
    assert counts.total(client, "retransmit_segments", role=Role.CLIENT) == client.snmp()["RetransSegs"]
    kinds = {kind for kind, _ in counts.details(client, "retransmit_segments")}
    assert kinds <= {"syn", "rto", "fast", "tlp", "reorder", "other"}
    assert kinds & {"fast", "rto"}


def test_one_retransmission_call_may_carry_many_segments(counts: Counts, pair: Pair) -> None:
    client, server = pair
    port = server.run(traffic.serve_bulk)
    server.filter_input("meta l4proto tcp numgen random mod 100 < 10 drop")
    client.run(traffic.send_bulk, "192.0.2.2", port, 8_000_000, 2, timeout=110)
    snmp = client.snmp()
    assert counts.total(client, "retransmit_segments") == snmp["RetransSegs"]
    assert counts.total(client, "retransmit") < snmp["RetransSegs"]


def test_lost_syn_acks_are_counted_for_the_listener(counts: Counts, pair: Pair) -> None:
    client, server = pair
    port = server.run(traffic.listen, "192.0.2.2")
    client.filter_input("tcp flags & (syn | ack) == (syn | ack) drop")
    client.start(traffic.connect_late, "192.0.2.2", port, 30.0)
    until(
        lambda: server.snmp()["RetransSegs"] >= 1 and client.snmp()["RetransSegs"] >= 1,
        "a retransmitted SYN-ACK",
        20,
    )
    client.shell("nft flush ruleset")
    assert client.finish() == "connected"
    assert counts.total(server, "synack_retransmit") == server.snmp()["RetransSegs"]
    assert counts.total(server, "retransmit_segments") == 0
    assert counts.total(client, "retransmit_segments") == client.snmp()["RetransSegs"]


def test_handshake_and_lifetime_are_observed_once_per_connection(counts: Counts, ns: Process) -> None:
    ns.run(traffic.exchange, "127.0.0.1", 30)
    assert counts.total(ns, "connect_duration") == 30
    until(lambda: counts.total(ns, "connection_duration") == 60, "both ends closed")
    assert counts.total(ns, "connection_duration", role=Role.SERVER) == 30
    assert sum(row.sum for row in counts.rows(ns.netns, "connect_duration")) > 0


def test_open_connections_are_those_that_are_open(counts: Counts, ns: Process) -> None:
    port = ns.run(traffic.listen, "127.0.0.1")
    ns.run(traffic.hold, "127.0.0.1", port, 25)
    assert ns.snmp()["CurrEstab"] == 50
    assert counts.total(ns, "connections", role=Role.CLIENT) == 25
    assert counts.total(ns, "connections", role=Role.SERVER) == 25
    ns.run(traffic.release)
    until(lambda: counts.total(ns, "connections") == 0, "gauge back at 0")

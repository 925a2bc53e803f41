"""What traffic costs with the agent: connections, bulk and request/response, each with and without, interleaved."""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
from collections.abc import Callable

from benchmarks import agent_process, empty_program
from tests.kernel import namespace, traffic

ROUNDS = 7


def connections(count: int) -> float:
    """Connections per second on loopback, one after the other, server and client in one process."""
    began = time.perf_counter()
    traffic.exchange("127.0.0.1", count, 1)
    return count / (time.perf_counter() - began)


def bulk(megabytes: int) -> float:
    """MB/s through one connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        reader = threading.Thread(target=_read_all, args=(server,))
        reader.start()
        block = bytes(1 << 20)
        began = time.perf_counter()
        with socket.create_connection(server.getsockname()) as client:
            for _ in range(megabytes):
                client.sendall(block)
        reader.join()
        return megabytes / (time.perf_counter() - began)


def _read_all(server: socket.socket) -> None:
    connection, _ = server.accept()
    buffer = bytearray(1 << 20)
    with connection:
        while connection.recv_into(buffer):
            pass


def requests(count: int) -> float:
    """Requests and responses of one byte per second on one connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        echo = threading.Thread(target=_echo, args=(server,))
        echo.start()
        with socket.create_connection(server.getsockname()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = time.perf_counter()
            for _ in range(count):
                client.send(b"x")
                client.recv(1)
            rate = count / (time.perf_counter() - began)
        echo.join()
        return rate


def _echo(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := connection.recv(1):
            connection.send(data)


WORKLOADS: dict[str, tuple[Callable[[int], float], int, str]] = {
    "connections": (connections, 4000, "connections/s"),
    "bulk": (bulk, 400, "MB/s"),
    "request/response": (requests, 15000, "round trips/s"),
}


def run() -> None:
    """Prints a row per workload: median of the ratios with/without, and their spread."""
    process = namespace.Process()
    print(
        f"{'workload':<18} {'without':>12} {'with':>12} {'ratio':>7}  of {ROUNDS} interleaved rounds (min..max)"
    )
    for name, (workload, amount, unit) in WORKLOADS.items():
        process.run(workload, amount // 4)
        without, with_agent, ratios = [], [], []
        for _ in range(ROUNDS):
            without.append(process.run(workload, amount))
            with agent_process.running():
                with_agent.append(process.run(workload, amount))
            ratios.append(with_agent[-1] / without[-1])
        print(
            f"{name:<18} {statistics.median(without):>12,.0f} {statistics.median(with_agent):>12,.0f} "
            f"{statistics.median(ratios):>7.3f}  {unit} ({min(ratios):.3f}..{max(ratios):.3f})"
        )
    _program_time(process)
    process.close()


def _program_time(process: namespace.Process) -> None:
    print(f"\n{'program':<28} {'runs':>9} {'ns/run':>7}   per 10,000 connections (both ends on this machine)")
    with agent_process.program_statistics(), agent_process.running() as agent:
        before = agent_process.program_runs(agent.pid)
        process.run(connections, 10_000, timeout=120)
        after = agent_process.program_runs(agent.pid)
        total, runs = _print_programs(before, after)
        floor = _statistics_themselves(process)
        print(f"{'sum':<28} {'':>9} {total / 1e6:>7.1f} ms")
        print(
            f"an empty program is shown with {floor:.0f} ns a run, which is the measuring; "
            f"without it the sum is {(total - floor * runs) / 1e6:.1f} ms"
        )
        before = agent_process.program_runs(agent.pid)
        process.run(bulk, 400)
        _print_runs("400 MB of bulk data", before, agent_process.program_runs(agent.pid))
        before = agent_process.program_runs(agent.pid)
        process.run(requests, 15000)
        _print_runs("15,000 round trips", before, agent_process.program_runs(agent.pid))


def _statistics_themselves(process: namespace.Process) -> float:
    """ns that an empty program is shown with."""
    with empty_program.attached("inet_sock_set_state"):
        process.run(connections, 10_000, timeout=120)
        runs, ns = agent_process.program_runs(os.getpid())["empty"]
    return ns / runs


Runs = dict[str, tuple[int, int]]


def _print_programs(before: Runs, after: Runs) -> tuple[int, int]:
    total = all_runs = 0
    for name, (runs, ns) in sorted(after.items()):
        gained, spent = runs - before.get(name, (0, 0))[0], ns - before.get(name, (0, 0))[1]
        total += spent
        all_runs += gained
        if gained:
            print(f"{name:<28} {gained:>9,} {spent / gained:>7.0f}")
    return total, all_runs


def _print_runs(what: str, before: Runs, after: Runs) -> None:
    gained = sum(runs for runs, _ in after.values()) - sum(runs for runs, _ in before.values())
    print(f"program runs during {what}: {gained} (a connection's begin and end only)")

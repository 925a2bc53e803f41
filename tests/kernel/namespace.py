"""Network namespaces for tests: a forked child lives in each and runs functions that a test sends it.

The child is the namespace: it ends with the test, and the namespace with it. Nothing is mounted or named
(`ip netns exec` would remount /sys and hide the cgroups). Counters come from the child's own /proc/self/net.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import subprocess
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000
CGROUPS = Path("/sys/fs/cgroup/unified" if Path("/sys/fs/cgroup/unified").is_dir() else "/sys/fs/cgroup")


def unshare_network() -> None:
    """Moves the calling process into a network namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET): run the tests as root")


def _serve(connection: Any, share_with: int | None) -> None:
    # What the test's process holds (links of a tracer above all) must not live on in this child.
    os.closerange(3, connection.fileno())
    os.closerange(connection.fileno() + 1, 65536)
    if share_with is None:
        unshare_network()
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    else:
        fd = os.open(f"/proc/{share_with}/ns/net", os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(fd)
    connection.send(("ready", None))
    while True:
        try:
            function, arguments = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            connection.send(("ok", function(*arguments)))
        except BaseException:  # noqa: BLE001 - the test's process raises it again
            connection.send(("error", traceback.format_exc()))


class Process:
    """A child in a network namespace of its own, or in that of `share`. `run` executes module-level functions there."""

    def __init__(self, share: Process | None = None) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, share.pid if share else None), daemon=True
        )
        self._process.start()
        theirs.close()
        self._receive(30)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def netns(self) -> int:
        """Inode number of its network namespace."""
        return os.stat(f"/proc/{self.pid}/ns/net").st_ino

    def run(self, function: Callable[..., Any], *arguments: Any, timeout: float = 60) -> Any:
        self._connection.send((function, arguments))
        return self._receive(timeout)

    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Like run, but returns at once; `finish` gives the result."""
        self._connection.send((function, arguments))

    def finish(self, timeout: float = 60) -> Any:
        return self._receive(timeout)

    def _receive(self, timeout: float) -> Any:
        if not self._connection.poll(timeout):
            raise TimeoutError(f"process {self.pid} in its namespace did not answer within {timeout} s")
        what, value = self._connection.recv()
        if what == "error":
            raise AssertionError(f"in the namespace:\n{value}")
        return value

    def shell(self, command: str) -> str:
        """Runs a shell command in the namespace (nsenter --net, so that /sys stays as it is)."""
        done = subprocess.run(
            ["nsenter", "--net", f"--target={self.pid}", "sh", "-ec", command],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def filter_input(self, *rules: str) -> None:
        """Rules of nftables for arriving packets, this is how tests lose them: "tcp dport 9 drop"."""
        chain = "\n".join(
            ("table inet t {", "chain i {", "type filter hook input priority 0;", *rules, "}", "}", "")
        )
        subprocess.run(
            ["nsenter", "--net", f"--target={self.pid}", "nft", "-f", "-"],
            input=chain,
            text=True,
            check=True,
            timeout=60,
        )

    def spread_packets(self) -> None:
        """Packets of loopback are handled on the CPU that their flow's hash says (RPS), as those of a network card are.

        Else the sender's CPU handles them, and never interrupts a system call with them.
        """
        everywhere = f"{(1 << (os.cpu_count() or 1)) - 1:x}"
        command = f"mount -t sysfs sysfs /sys && echo {everywhere} > /sys/class/net/lo/queues/rx-0/rps_cpus"
        subprocess.run(
            ["nsenter", "--net", f"--target={self.pid}", "unshare", "--mount", "sh", "-ec", command],
            check=True,
            timeout=60,
        )

    def snmp(self) -> Mapping[str, int]:
        """The kernel's own TCP counters of this namespace: Tcp of snmp, TcpExt of netstat."""
        return {
            **_table(Path(f"/proc/{self.pid}/net/snmp"), "Tcp:"),
            **_table(Path(f"/proc/{self.pid}/net/netstat"), "TcpExt:"),
        }

    def enter_cgroup(self, path: Path) -> None:
        (path / "cgroup.procs").write_text(str(self.pid))

    def close(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.join(10)


def _table(path: Path, prefix: str) -> dict[str, int]:
    lines = [line.split()[1:] for line in path.read_text().splitlines() if line.startswith(prefix)]
    return {name: int(value) for name, value in zip(lines[0], lines[1], strict=True)}


def join(first: Process, second: Process) -> None:
    """A veth pair between two namespaces: 192.0.2.1 and .2, 2001:db8::1 and ::2 (documentation ranges)."""
    first.shell(f"ip link add eth0 type veth peer name eth0 netns {second.pid}")
    for number, process in ((1, first), (2, second)):
        process.shell(
            f"ip addr add 192.0.2.{number}/24 dev eth0;"
            f"ip addr add 2001:db8::{number}/64 dev eth0 nodad; ip link set eth0 up"
        )

"""A node is a set of namespaces: net, mount and uts, kept alive by one sleeping holder process.

In its mount namespace /run, /var/lib and /var/log are the node's own, so kubelet, containerd
and CNI use their standard paths; all of it vanishes with the node's last process. The cables
run between the nodes' network namespaces and never through the host's.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.testbed import cgroups, deadline, places, plan, processes

# The kubelet sets these for the whole machine unless it reads the wanted value already. It
# gets to read it from a file that covers the real one in the node's mount namespace only.
KUBELET_SYSCTLS = {"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}

# $1 is the node's folder, $2 the state folder that must stay visible below the new /var/lib.
# The bind mounts are made before `make-rshared`, so that none is propagated into another.
_MOUNTS = """
set -e
mkdir -p "$1/run" "$1/var-lib/${2##*/}" "$1/var-log" "$1/sysctl"
mount -t tmpfs tmpfs "$1/run"
mkdir -m 1777 "$1/run/lock"
mount --bind "$2" "$1/var-lib/${2##*/}"
mount --rbind "$1/run" /run
mount --bind "$1/var-log" /var/log
for file in "$1"/sysctl/*; do
    name=${file##*/}
    mount --bind "$file" "/proc/sys/$(echo "$name" | tr + /)"
done
mount --bind "$1/hosts" /etc/hosts
[ -L /etc/resolv.conf ] || mount --bind "$1/resolv.conf" /etc/resolv.conf
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
mount --rbind "$1/var-lib" /var/lib
mount --make-rshared /
"""


def create(cluster: plan.Plan, node: plan.Node) -> None:
    """Make the node's namespaces, mounts and addresses. Nodes must be created in order."""
    hold(node)
    mount(cluster, node)
    connect(cluster, node)


def hold(node: plan.Node) -> None:
    """Start the process that keeps the node's namespaces."""
    inner = f"hostname {node.name} && exec sleep 2147483647"
    cgroups.folder(processes.cgroup(node, processes.VISITORS)).mkdir(parents=True, exist_ok=True)
    unshare = ["unshare", "--net", "--mount", "--uts", "--propagation", "slave"]
    processes.spawn(node, processes.HOLDER, [*unshare, "sh", "-c", inner])
    deadline.until(lambda: processes.pid(node, processes.HOLDER), f"the holder of {node.name}", 10)


def mount(cluster: plan.Plan, node: plan.Node) -> None:
    """Give the node its own folders, kernel settings and names."""
    covers = node.folder / "sysctl"
    covers.mkdir(parents=True, exist_ok=True)
    for name, value in KUBELET_SYSCTLS.items():
        (covers / name.replace("/", "+")).write_text(value + "\n")
    # Without these, whoever looks up its own name waits 10 s for a name server that is out of reach.
    (node.folder / "hosts").write_text(hosts(cluster))
    (node.folder / "resolv.conf").write_text("# no name server\n")
    _inside(node, "mount", ["sh", "-c", _MOUNTS, "mounts", str(node.folder), str(places.STATE)])


def hosts(cluster: plan.Plan) -> str:
    """The node's /etc/hosts: itself and the others."""
    return "127.0.0.1 localhost\n" + "".join(f"{node.ip} {node.name}\n" for node in cluster.nodes)


def connect(cluster: plan.Plan, node: plan.Node) -> None:
    """Node 1 has the bridge; every other node has a cable to it."""
    first = plan.Node(1)
    if node == first:
        _ip(node, ["link add br0 type bridge", "link set br0 up"])
        device = "br0"
    else:
        device = "eth0"
        peer = processes.running(node, processes.HOLDER)
        cable = f"link add {node.name} type veth peer name {device} netns {peer}"
        _ip(first, [cable, f"link set {node.name} master br0 up"])
    _ip(node, addresses(cluster, node, device))
    _inside(node, "net", ["sh", "-c", _sysctls(cluster)])


def addresses(cluster: plan.Plan, node: plan.Node, device: str) -> list[str]:
    """The ip commands that make a node reachable, and the pods of the others reachable from it.

    The default route leads nowhere, but without one no local process reaches a Service.
    """
    lines = ["link set lo up", f"link set {device} up", f"addr add {node.ip}/24 dev {device}"]
    lines.append(f"route add default via 192.0.2.1 dev {device}")
    others = [other for other in cluster.nodes if other != node]
    lines += [f"route add {other.pod_range} via {other.ip}" for other in others]
    if cluster.dual_stack:
        lines.append(f"addr add {node.ip6}/64 dev {device} nodad")
        lines.append(f"route add ::/0 via 2001:db8::1 dev {device}")
        lines += [f"route add {other.pod_range6} via {other.ip6}" for other in others]
    return lines


def _sysctls(cluster: plan.Plan) -> str:
    forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    forward6 = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
    return f"{forward} && {forward6}" if cluster.dual_stack else forward


def _ip(node: plan.Node, lines: list[str]) -> None:
    _inside(node, "net", ["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")


def _inside(node: plan.Node, space: str, argv: list[str], stdin: str = "") -> None:
    done = subprocess.run(
        [*processes.enter(node, space), *argv],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
    )
    if done.returncode != 0:
        raise processes.DaemonError(
            f"preparing {node.name} failed: {done.stderr.strip() or done.stdout.strip()}"
        )


def mounts_left() -> list[Path]:
    """Mount points below the state folder that the host sees; there should be none, ever."""
    points = (Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if point.is_relative_to(places.STATE)]

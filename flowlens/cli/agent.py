"""`flowlens agent`: turns flags and FLOWLENS_* variables into agent.Options, and sets up the log."""

from __future__ import annotations

import argparse
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from flowlens import agent
from flowlens.cli import arguments, failure, logs, machine

ABOUT = (
    "Counts TCP connections, failures, retransmissions and resets in the kernel, per container and\n"
    "service, and serves them in Prometheus' format until it gets SIGINT or SIGTERM.\n\n"
    "Every flag can also be given by the environment variable in brackets; the flag wins."
)
EXAMPLES = (
    ("sudo flowlens agent", "serve http://127.0.0.1:2112/metrics with the default metrics and labels"),
    ("sudo flowlens agent --config limits.yaml", "follow this file; changes apply within 2 seconds"),
    (
        "sudo flowlens agent --listen '[::]:2112' --log-format json",
        "reachable from outside, log for machines",
    ),
    ("FLOWLENS_LISTEN=0.0.0.0:2112 flowlens agent --host-proc /host/proc", "as in a container"),
)
KUBE = ("auto", "on", "off")
IDENTITY_SOURCES = ("auto", "kubelet", "apiserver")
KUBELET_TLS = ("verify", "insecure")


def main(argv: Sequence[str]) -> int:
    """Runs until a signal ends it; raises failure.CommandFailedError when it cannot start."""
    commands = parser()
    options = commands.read(argv)
    if (options.tls_cert is None) != (options.tls_key is None):
        commands.error("--tls-cert and --tls-key belong together: give both or none")
    logs.configure(options.log_format, options.log_level)
    try:
        return agent.run(_options(options), announce=_announcer(options.log_format))
    except (agent.StartError, OSError) as error:
        logging.getLogger(__name__).debug("agent did not start", exc_info=True)
        raise failure.CommandFailedError(f"flowlens agent: {error}") from error


def parser() -> arguments.Parser:
    """The command line of `flowlens agent`."""
    made = arguments.Parser("flowlens agent", ABOUT, EXAMPLES)
    made.flag(
        "--config",
        default=None,
        type=Path,
        metavar="FILE",
        help="FlowLensConfig to follow, a spec or a whole manifest; default: all metrics, default labels",
    )
    machine.add_flags(made)
    made.flag(
        "--tls-cert", default=None, type=Path, metavar="FILE", help="certificate (chain) to serve TLS with"
    )
    made.flag("--tls-key", default=None, type=Path, metavar="FILE", help="its private key")
    made.flag(
        "--log-format",
        default="text",
        type=arguments.one_of(logs.FORMATS),
        metavar="|".join(logs.FORMATS),
        help="lines on stderr as key=value or as JSON (default: text)",
    )
    made.flag(
        "--log-level",
        default="info",
        type=arguments.one_of(logs.LEVELS),
        metavar="|".join(logs.LEVELS),
        help="least important lines to show (default: info)",
    )
    add_cluster_flags(made)
    return made


def add_cluster_flags(made: arguments.Parser) -> None:
    """What only matters where Kubernetes is."""
    made.section("in a Kubernetes cluster")
    made.flag(
        "--kube",
        default="auto",
        type=arguments.one_of(KUBE),
        metavar="|".join(KUBE),
        help="names from Kubernetes; auto: when running in a pod (default: auto)",
    )
    made.flag(
        "--node", default="", type=str, metavar="NAME", help="this node's name (default: the host's name)"
    )
    made.flag(
        "--node-ip",
        default="",
        type=str,
        metavar="ADDRESS",
        help="where this node's kubelet answers (default: NODE_IP, else the host's name)",
    )
    made.flag(
        "--identity-source",
        default="auto",
        type=arguments.one_of(IDENTITY_SOURCES),
        metavar="|".join(IDENTITY_SOURCES),
        help="who names the pods; auto: the kubelet, and the API server where it refuses (default: auto)",
    )
    made.flag(
        "--kubelet-ca",
        default=None,
        type=Path,
        metavar="FILE",
        help="certificates that vouch for the kubelet's (default: the cluster's own)",
    )
    made.flag(
        "--kubelet-tls",
        default="verify",
        type=arguments.one_of(KUBELET_TLS),
        metavar="|".join(KUBELET_TLS),
        help="whether the kubelet's certificate is verified (default: verify)",
    )
    made.flag(
        "--kubeconfig",
        default=None,
        type=Path,
        metavar="FILE",
        help="access to the API server from outside of a pod (default: the pod's service account)",
    )
    made.flag(
        "--cgroup-root",
        default="",
        type=str,
        metavar="PATH",
        help="this kubelet's cgroupRoot, where several kubelets share a kernel (default: any)",
    )
    made.flag(
        "--state-dir",
        default=None,
        type=Path,
        metavar="DIR",
        help="keeps the last applied configuration for a start without API server (default: nowhere)",
    )


def _options(options: argparse.Namespace) -> agent.Options:
    same_name = {field.name for field in fields(agent.Options)} - {"kubelet_verify"}
    return agent.Options(
        **{name: getattr(options, name) for name in same_name},
        kubelet_verify=options.kubelet_tls == "verify",
    )


def _announcer(log_format: str) -> Callable[[str], None]:
    """Where to look and the probes' states are for people; a log of JSON lines gets them as JSON."""
    if log_format == "json":
        return logging.getLogger("flowlens").info
    return functools.partial(print, flush=True)

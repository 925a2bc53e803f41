"""Where the testbed keeps things on the host, and the one name under which it does.

`down` removes exactly what this file names, so nothing else may invent a path of its own.
"""

from __future__ import annotations

import os
from pathlib import Path

# Another name is another cluster beside the first: the tests of up and down use that.
NAME = os.environ.get("FLOWLENS_TESTBED", "flowlens-testbed")

# On disk, not in /run: image layers and etcd would fill a memory-backed folder.
STATE = Path("/var/lib") / NAME

REPOSITORY = Path(__file__).resolve().parents[2]


def cache() -> Path:
    """The folder that outlives every cluster: built programs, build leftovers, locks."""
    chosen = os.environ.get("FLOWLENS_CACHE")
    return Path(chosen).resolve() if chosen else Path.home() / ".cache" / "flow-lens"


def programs() -> Path:
    """One folder per built part, named by what was asked for."""
    return cache() / "programs"


def workshop() -> Path:
    """Where builds happen; safe to delete when no build runs."""
    return cache() / "workshop"


def lock() -> Path:
    """Held by whoever brings the cluster up or down. Kept: removing a lock file races."""
    return cache() / f"{NAME}.lock"


def failed_logs() -> Path:
    """The daemons' logs of the last `up` that failed."""
    return cache() / "failed-logs"


def pki() -> Path:
    return STATE / "pki"


def kubeconfig(user: str = "admin") -> Path:
    return STATE / "kubeconfig" / f"{user}.json"


def config(node: str) -> Path:
    return STATE / "config" / node


def logs(node: str) -> Path:
    return STATE / "logs" / node


def record() -> Path:
    """Written last by a successful `up`: its presence says that the cluster is complete."""
    return STATE / "cluster.json"

"""What a person or a chart chooses when starting an agent. Everything else is configuration, and live."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """Flags of `flowlens agent`; `node` empty means the host's name.

    In a cluster: `cgroup_root` is this node's kubelet's cgroupRoot ("" for any), `state_dir` keeps the last
    applied configuration for a start without API server, `kubeconfig` replaces the in-cluster account.
    """

    listen: str = "127.0.0.1:2112"
    config: Path | None = None
    engine: str = "auto"
    host_proc: Path = Path("/proc")
    host_cgroup: Path = Path("/sys/fs/cgroup")
    kube: str = "auto"
    node: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    kubeconfig: Path | None = None
    node_ip: str = ""
    identity_source: str = "auto"
    kubelet_ca: Path | None = None
    kubelet_verify: bool = True
    cgroup_root: str = ""
    state_dir: Path | None = None

    @property
    def in_cluster(self) -> bool:
        """Is there a cluster to ask? `auto`: inside a pod, or where a kubeconfig is named."""
        in_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
        return self.kube == "on" or (self.kube == "auto" and (in_pod or self.kubeconfig is not None))

"""Flags and configuration files of every daemon: what Kubernetes is told on this machine.

Each setting that is not a path says why it is there. The daemons of a node are a function of
the plan, so any process can stop one and start it again exactly as it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.testbed import parts, pki, places, plan, processes, store

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
EVERY_NODE = ("containerd", "kubelet", "kube-proxy")

# Read by containerd 1.6 and later alike. `opt` would make /opt/containerd on the host. Lowering
# an OOM score needs CAP_SYS_RESOURCE, without which every sandbox fails in a container or CI.
_CONTAINERD = """\
version = 2
disabled_plugins = ["io.containerd.internal.v1.opt"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{bin}"
    conf_dir = "{conf}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def environment() -> Mapping[str, str]:
    """containerd finds its shim and runc through PATH; helm and kubectl their cluster."""
    own = {
        "PATH": store.search_path(),
        "KUBECONFIG": str(places.kubeconfig()),
        "HELM_CACHE_HOME": str(places.STATE / "helm" / "cache"),
        "HELM_CONFIG_HOME": str(places.STATE / "helm" / "config"),
        "HELM_DATA_HOME": str(places.STATE / "helm" / "data"),
        "KUBECACHEDIR": str(places.STATE / "kubectl-cache"),
    }
    return {**os.environ, **own}


def of(node: plan.Node) -> tuple[str, ...]:
    """The names of the daemons on a node, in the order in which they can start."""
    return (*CONTROL_PLANE, *EVERY_NODE) if node.number == 1 else EVERY_NODE


def start(cluster: plan.Plan, node: plan.Node, name: str) -> None:
    """Start one daemon on a node, with the settings below."""
    processes.start(node, name, command(cluster, node, name), environment())


def command(cluster: plan.Plan, node: plan.Node, name: str) -> list[str]:
    """The daemon's full argument vector."""
    flags: dict[str, Callable[[], list[str]]] = {
        "etcd": _etcd,
        "kube-apiserver": lambda: _kube_apiserver(cluster),
        "kube-controller-manager": _kube_controller_manager,
        "kube-scheduler": lambda: [_kubeconfig("kube-scheduler"), *_LOCAL],
        "containerd": lambda: ["--config", str(places.config(node.name) / "containerd.toml")],
        "kubelet": lambda: _kubelet(cluster, node),
        "kube-proxy": lambda: [f"--config={places.config(node.name) / 'kube-proxy.json'}"],
    }
    return [_program(name), *flags[name]()]


def _program(name: str) -> str:
    """Built programs by full path; containerd, the system's own, by its name."""
    return name if name == "containerd" else str(store.folder(parts.KUBERNETES) / name)


_LOCAL = ["--bind-address=127.0.0.1", "--leader-elect=false"]


def _kubeconfig(user: str) -> str:
    return f"--kubeconfig={places.kubeconfig(user)}"


def _etcd() -> list[str]:
    data = f"--data-dir={places.STATE / 'etcd'}"
    urls = [f"--{kind}-client-urls=http://127.0.0.1:2379" for kind in ("listen", "advertise")]
    return [data, *urls, "--unsafe-no-fsync", "--log-level=warn"]


def _kube_apiserver(cluster: plan.Plan) -> list[str]:
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={plan.Node(1).ip}",
        "--secure-port=6443",
        f"--tls-cert-file={pki.certificate('kube-apiserver')}",
        f"--tls-private-key-file={pki.key('kube-apiserver')}",
        f"--client-ca-file={pki.certificate('ca')}",
        f"--kubelet-client-certificate={pki.certificate('kube-apiserver-kubelet-client')}",
        f"--kubelet-client-key={pki.key('kube-apiserver-kubelet-client')}",
        f"--kubelet-certificate-authority={pki.certificate('ca')}",
        "--kubelet-preferred-address-types=InternalIP",  # node names resolve nowhere
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={pki.key('service-accounts')}",
        f"--service-account-key-file={places.pki() / 'service-accounts.pub'}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--service-cluster-ip-range={cluster.service_range}",
    ]


def _kube_controller_manager() -> list[str]:
    return [
        _kubeconfig("kube-controller-manager"),
        *_LOCAL,
        "--use-service-account-credentials",
        # Its controllers fetch their credentials one after the other: at the default rate of 20
        # requests a second that alone makes the first pod wait 4 seconds.
        "--kube-api-qps=1000",
        "--kube-api-burst=1000",
        f"--service-account-private-key-file={pki.key('service-accounts')}",
        f"--root-ca-file={pki.certificate('ca')}",
        "--flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins",  # its default is in the host's /usr
    ]


def _kubelet(cluster: plan.Plan, node: plan.Node) -> list[str]:
    config = f"--config={places.config(node.name) / 'kubelet.json'}"
    return [config, _kubeconfig(node.name), f"--node-ip={cluster.node_ips(node)}"]


def write_configuration(cluster: plan.Plan) -> None:
    """Write the configuration files that the commands above name."""
    for node in cluster.nodes:
        folder = places.config(node.name)
        (folder / "cni").mkdir(parents=True)
        _write_json(folder / "kubelet.json", kubelet_configuration(node))
        _write_json(folder / "kube-proxy.json", kube_proxy_configuration())
        _write_json(folder / "cni" / "pods.conflist", pod_network(cluster, node))
        toml = _CONTAINERD.format(bin=store.folder(parts.CNI), conf=folder / "cni")
        (folder / "containerd.toml").write_text(toml)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1))


def kubelet_configuration(node: plan.Node) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.ip,
        "authentication": {
            "anonymous": {"enabled": False},
            # The short times to live let a test change RBAC and see it: the default waits 5 minutes.
            "webhook": {"enabled": True, "cacheTTL": "1s"},
            "x509": {"clientCAFile": str(pki.certificate("ca"))},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {"cacheAuthorizedTTL": "1s", "cacheUnauthorizedTTL": "1s"},
        },
        "tlsCertFile": str(pki.certificate(f"kubelet-{node.name}")),
        "tlsPrivateKeyFile": str(pki.key(f"kubelet-{node.name}")),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupRoot": node.cgroup_root,  # several kubelets share one kernel
        "cgroupDriver": "cgroupfs",  # containerd 1.6 cannot tell the kubelet its own
        "failCgroupV1": False,
        "failSwapOn": False,
        "resolvConf": "",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "imageGCHighThresholdPercent": 100,
        # A nearly full disk of a shared machine must not evict the pods under test.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
    }


def kube_proxy_configuration() -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(places.kubeconfig("kube-proxy"))},
        "conntrack": {"maxPerCore": 0, "min": 0},  # these limits are the whole machine's
    }


def pod_network(cluster: plan.Plan, node: plan.Node) -> dict[str, object]:
    """Routed pods without masquerade: everyone sees everyone's real address."""
    default = [{"dst": "0.0.0.0/0"}, *([{"dst": "::/0"}] if cluster.dual_stack else [])]
    ranges = [[{"subnet": subnet}] for subnet in cluster.pod_ranges(node)]
    ipam = {"type": "host-local", "dataDir": "/run/cni-ipam", "routes": default, "ranges": ranges}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": ipam}, ports]}

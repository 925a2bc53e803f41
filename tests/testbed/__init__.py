"""A real Kubernetes on one machine, for people and for tests.

Everything here runs genuine parts (etcd, kube-apiserver, kubelet, containerd, runc, kube-proxy,
Prometheus) in namespaces of this machine. Nothing of flow-lens itself may be imported: the
testbed must stay an oracle that knows the agent only by its image and its chart.
"""

from tests.testbed import requirements

requirements.use_own_programs()

"""Pod lists, as kubelets and API servers answer them, become names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from flowlens.kube import errors, pods

FIXTURES = Path(__file__).parent / "fixtures"


def _id(name: str) -> str:
    """The fixtures' container ids."""
    return hashlib.sha256(name.encode()).hexdigest()


@pytest.fixture(scope="module")
def by_name() -> dict[str, pods.PodInfo]:
    found, unreadable = pods.decode((FIXTURES / "kubelet_pods.json").read_bytes())
    assert unreadable == 0
    return {pod.name: pod for pod in found}


def test_every_pod_has_its_workload(by_name: dict[str, pods.PodInfo]) -> None:
    assert {name: (pod.namespace, pod.workload, pod.workload_kind) for name, pod in by_name.items()} == {
        "checkout-6d5f8c9b7d-x2x9p": ("shop", "checkout", "Deployment"),
        "kube-proxy-4jq7k": ("kube-system", "kube-proxy", "DaemonSet"),
        "etcd-worker-1": ("kube-system", "etcd", "StaticPod"),
        "report-29660000-t9c4z": ("batch", "report", "CronJob"),
        "import-20261124-abcde": ("batch", "import-20261124", "Job"),
        "shell": ("default", "shell", "Pod"),
        "db-0": ("shop", "db", "StatefulSet"),
        "canary-7f9d8c6b5-kk2lp": ("shop", "canary", "Rollout"),
        "warehouse-broker-0": ("kafka", "warehouse-broker", "StrimziPodSet"),
        "legacy-6d5f8c9b7d-9xk2v": ("shop", "legacy-6d5f8c9b7d", "ReplicaSet"),
    }


def test_all_kinds_of_containers_have_names_and_the_restarted_ones_former_life_too(
    by_name: dict[str, pods.PodInfo],
) -> None:
    assert dict(by_name["checkout-6d5f8c9b7d-x2x9p"].containers) == {
        _id("checkout-server-1"): "server",
        _id("checkout-server-2"): "server",
        _id("checkout-migrate"): "migrate",
        _id("checkout-proxy"): "proxy",
        _id("checkout-debugger"): "debugger-7xk2p",
    }


def test_a_container_that_has_not_started_has_no_id(by_name: dict[str, pods.PodInfo]) -> None:
    assert dict(by_name["shell"].containers) == {}


def test_any_runtimes_scheme_is_cut_off(by_name: dict[str, pods.PodInfo]) -> None:
    assert dict(by_name["legacy-6d5f8c9b7d-9xk2v"].containers) == {_id("legacy-web"): "web"}


def test_addresses_labels_and_host_network_are_kept(by_name: dict[str, pods.PodInfo]) -> None:
    pod = by_name["checkout-6d5f8c9b7d-x2x9p"]
    assert pod.pod_ips == ("10.244.1.7", "fd00:10:244:1::7")
    assert pod.labels == (("app", "checkout"), ("pod-template-hash", "6d5f8c9b7d"), ("tier", "front"))
    assert pod.node_name == "worker-1"
    assert not pod.host_network
    assert by_name["kube-proxy-4jq7k"].host_network
    assert by_name["shell"].labels == ()


def test_a_static_pod_has_one_uid_whoever_is_asked(by_name: dict[str, pods.PodInfo]) -> None:
    """The kubelet's, which is in the cgroup's path; the mirror pod at the API server has another."""
    mirror, _ = pods.decode((FIXTURES / "apiserver_mirror_pod.json").read_bytes())
    assert mirror[0].uid == by_name["etcd-worker-1"].uid == hashlib.md5(b"etcd manifest").hexdigest()
    assert mirror[0] == by_name["etcd-worker-1"]


def test_an_unchanged_pod_is_equal_to_itself(by_name: dict[str, pods.PodInfo]) -> None:
    again, _ = pods.decode((FIXTURES / "kubelet_pods.json").read_bytes())
    assert again == list(by_name.values())


@pytest.mark.parametrize("body", [b'{"kind":"PodList","items":null}', b'{"kind":"PodList"}', b'{"items":[]}'])
def test_a_kubelet_that_runs_nothing_has_no_pods(body: bytes) -> None:
    assert pods.decode(body) == ([], 0)


def test_one_pod_that_does_not_fit_is_counted_and_the_others_are_read() -> None:
    content = json.loads((FIXTURES / "kubelet_pods.json").read_text())
    content["items"][0]["status"]["containerStatuses"] = "something new"
    found, unreadable = pods.decode(json.dumps(content).encode())
    assert (len(found), unreadable) == (9, 1)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"items": 5}', b"[]"])
def test_what_is_no_list_is_refused(body: bytes) -> None:
    with pytest.raises(errors.Unexpected, match="the kubelet sent something else than expected"):
        pods.decode(body)


def test_unknown_fields_and_nulls_are_no_problem() -> None:
    pod: dict[str, Any] = {
        "metadata": {"name": "p", "labels": None, "annotations": None, "ownerReferences": None, "future": {}},
        "spec": {"nodeName": "n", "containers": []},
        "status": {"podIP": "10.0.0.1", "podIPs": None, "containerStatuses": None},
    }
    found, unreadable = pods.decode(json.dumps({"items": [pod]}).encode())
    assert unreadable == 0
    assert found[0].pod_ips == ("10.0.0.1",)

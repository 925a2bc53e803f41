"""Pods that come and go faster than anybody looks: their numbers keep their names."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import pytest

from tests.cluster.conftest import Run, await_service, fetch
from tests.cluster.lens import Lens, agrees_with_the_kernel, snmp
from tests.testbed import images, pods
from tests.testbed.cluster import Cluster

pytestmark = pytest.mark.cluster

CROWD = 100
EACH = 2


def container(command: list[str]) -> dict[str, Any]:
    return {"name": "main", "image": images.BUSYBOX, "imagePullPolicy": "Never", "command": command}


def template(command: list[str], app: str, **spec: object) -> dict[str, Any]:
    """A pod template of one busybox container."""
    content = {"containers": [container(command)], "terminationGracePeriodSeconds": 1, **spec}
    return {"metadata": {"labels": {"app": app}}, "spec": content}


def manifest(kind: str, version: str, namespace: str, name: str, spec: dict[str, Any]) -> str:
    meta = {"name": name, "namespace": namespace}
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}) + "\n---\n"


def serve(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """The pod `server`, serving."""
    cluster.apply(pods.pod("server", pods.serving(), node=cluster.nodes[0], namespace=namespace))
    return cluster.wait_for_pod("server", namespace)


def test_a_job_of_two_seconds_is_named_after_it_is_gone(cluster: Cluster, lens: Lens, namespace: str) -> None:
    url = f"http://{serve(cluster, namespace)['status']['podIP']}/"
    job = {"template": template(["sh", "-c", fetch(url, 10) + "; sleep 2"], "brief", restartPolicy="Never")}
    cluster.apply(manifest("Job", "batch/v1", namespace, "brief", {**job, "ttlSecondsAfterFinished": 0}))
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/brief"
    cluster.wait(lambda: cluster.api(path).status == 404, "the Job to be done and deleted", 60)
    lens.expect(10, "connect_total", namespace=namespace, workload="brief", workload_kind="Job")


def test_the_container_of_a_brief_job_is_named_although_nobody_scraped_meanwhile(
    cluster: Cluster, lens: Lens, namespace: str
) -> None:
    """The kubelet tells a container's id a second after its start, and forgets the pod soon after its end."""
    url = f"http://{serve(cluster, namespace)['status']['podIP']}/"
    brief = {"template": template(["sh", "-c", fetch(url, 5) + "; sleep 2"], "brief", restartPolicy="Never")}
    spec = {**brief, "parallelism": 4, "completions": 4, "ttlSecondsAfterFinished": 0}
    cluster.apply(manifest("Job", "batch/v1", namespace, "brief", spec))
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/brief"
    cluster.wait(lambda: cluster.api(path).status == 404, "the Job to be done and deleted", 60)
    lens.expect(20, "connect_total", namespace=namespace, workload="brief", container="main")


def test_a_cronjobs_run_belongs_to_the_cronjob(cluster: Cluster, lens: Lens, namespace: str) -> None:
    url = f"http://{serve(cluster, namespace)['status']['podIP']}/"
    run = {"template": template(["sh", "-c", fetch(url, 4)], "nightly", restartPolicy="Never")}
    spec = {"schedule": "0 3 1 1 *", "jobTemplate": {"spec": run}}
    cluster.apply(manifest("CronJob", "batch/v1", namespace, "nightly", spec))
    # What the CronJob controller would call the run of this minute.
    name = f"nightly-{int(time.time() // 60)}"
    cluster.kubectl("create", "job", name, "--from=cronjob/nightly", "-n", namespace)
    lens.expect(4, "connect_total", namespace=namespace, workload="nightly", workload_kind="CronJob")


def test_each_kind_of_workload_is_called_by_what_its_user_made(
    cluster: Cluster, lens: Lens, namespace: str
) -> None:
    url = f"http://{serve(cluster, namespace)['status']['podIP']}/"
    command = ["sh", "-c", fetch(url, 2) + "; exec sleep 1000000"]

    def spec(app: str, **more: object) -> dict[str, Any]:
        return {"selector": {"matchLabels": {"app": app}}, "template": template(command, app), **more}

    cluster.apply(
        manifest("Deployment", "apps/v1", namespace, "shop-front", spec("shop"))
        + manifest("StatefulSet", "apps/v1", namespace, "store", spec("store", serviceName="store"))
        + manifest("DaemonSet", "apps/v1", namespace, "watch", spec("watch"))
        + manifest("ReplicaSet", "apps/v1", namespace, "bare-set", spec("bare"))
    )
    for kind, name, count in (
        ("Deployment", "shop-front", 2),
        ("StatefulSet", "store", 2),
        ("DaemonSet", "watch", 2 * len(cluster.nodes)),
        ("ReplicaSet", "bare-set", 2),
    ):
        lens.expect(count, "connect_total", namespace=namespace, workload=name, workload_kind=kind)


def test_a_rolling_update_never_gives_a_count_to_the_wrong_pod(
    cluster: Cluster, lens: Lens, namespace: str, run: Run
) -> None:
    serving = ["sh", "-c", "hostname >/www/index.html; exec httpd -f -h /www"]
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template(serving, "web")}
    cluster.apply(
        manifest("Deployment", "apps/v1", namespace, "web", spec)
        + pods.service("web", 80, namespace=namespace)
        + pods.pod("client", namespace=namespace)
    )
    client = cluster.wait_for_pod("client", namespace)
    address = cluster.kubectl_json("get", "service", "web", "-n", namespace)["spec"]["clusterIP"]
    await_service(cluster, run, address)
    visit = f"timeout 5 wget -qO- http://{address}/ >>/tmp/seen 2>/dev/null"
    run("client", f"(while [ ! -e /tmp/stop ]; do {visit}; done; touch /tmp/over) >/dev/null 2>&1 &")

    def answered() -> Counter[str]:
        return Counter(run("client", "cat /tmp/seen").split())

    def all_six() -> bool:
        return len(answered()) == 6

    cluster.wait(lambda: len(answered()) == 3, "all three pods to answer", 30)
    cluster.kubectl("rollout", "restart", "deployment/web", "-n", namespace)
    cluster.wait(all_six, "the three pods of the update to answer", 60)
    run("client", "touch /tmp/stop; until [ -e /tmp/over ]; do usleep 50000; done")
    counts, kernel = answered(), snmp(cluster, client)
    lens.expect(kernel["ActiveOpens"], "connect_total", namespace=namespace, pod="client")
    # Not equal: a pod on its way out accepts what it no longer answers, and the Service was tried before.
    cluster.wait(lambda: covers(lens, namespace, counts), "every answer to be an accept of its own pod", 20)
    accepted = lens.by("pod", "accept_total", namespace=namespace, workload="web", workload_kind="Deployment")
    assert sum(accepted.values()) <= kernel["ActiveOpens"] - kernel["AttemptFails"]
    assert set(lens.by("workload", "accept_total", namespace=namespace)) == {"web"}


def covers(lens: Lens, namespace: str, answered: Counter[str]) -> bool:
    """Whether every pod has at least the accepts that its answers prove."""
    accepted = lens.by("pod", "accept_total", namespace=namespace)
    return all(accepted.get(pod, 0) >= count for pod, count in answered.items())


def test_a_hundred_pods_within_a_minute_are_all_named(cluster: Cluster, lens: Lens, namespace: str) -> None:
    server = serve(cluster, namespace)
    url = f"http://{server['status']['podIP']}/"
    names = [f"crowd-{number}" for number in range(CROWD)]
    crowd = [
        pods.pod(
            name,
            ("sh", "-c", fetch(url, EACH)),
            node=cluster.nodes[number % len(cluster.nodes)],
            namespace=namespace,
            labels={"app": "crowd"},
        )
        for number, name in enumerate(names)
    ]
    cluster.apply("".join(crowd))
    selector = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app%3Dcrowd"

    def over() -> bool:
        phases = Counter(pod["status"].get("phase") for pod in cluster.api(selector).json()["items"])
        assert not phases["Failed"], phases
        return phases["Succeeded"] == CROWD

    cluster.wait(over, f"{CROWD} pods to have run", 240)
    cluster.kubectl("delete", "pods", "-l", "app=crowd", "-n", namespace, "--wait=false")
    cluster.wait(lambda: not cluster.api(selector).json()["items"], "the crowd to be gone", 60)
    named = {name: float(EACH) for name in names}
    cluster.wait(
        lambda: lens.by("pod", "connect_total", namespace=namespace) == named, "every pod's connects", 30
    )
    agrees_with_the_kernel(lens, server)
    assert snmp(cluster, server)["PassiveOpens"] == CROWD * EACH

"""Which workload a pod belongs to, by the naming rules of the controllers that make pods."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlens.kube import owners

NOW = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
MINUTES = int(NOW.timestamp()) // 60


def _of(
    *above: owners.Owner,
    pod: str = "web-6d5f8c9b7d-x2x9p",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    created: datetime | None = NOW,
) -> tuple[str, str]:
    return owners.workload(pod, "node-1", above, labels or {}, annotations or {}, created)


def _controller(kind: str, name: str) -> owners.Owner:
    return owners.Owner(kind, name, True)


def test_a_replica_set_with_its_template_hash_stands_for_its_deployment() -> None:
    owner = _controller("ReplicaSet", "web-api-6d5f8c9b7d")
    assert _of(owner, labels={"pod-template-hash": "6d5f8c9b7d"}) == ("web-api", "Deployment")


def test_a_replica_set_whose_name_merely_looks_hashed_is_itself() -> None:
    assert _of(_controller("ReplicaSet", "web-6d5f8c9b7d")) == ("web-6d5f8c9b7d", "ReplicaSet")
    labels = {"pod-template-hash": "another"}
    assert _of(_controller("ReplicaSet", "web-6d5f8c9b7d"), labels=labels) == ("web-6d5f8c9b7d", "ReplicaSet")


def test_a_replica_set_of_argo_stands_for_its_rollout() -> None:
    owner = _controller("ReplicaSet", "web-7f9d8c6b5")
    assert _of(owner, labels={"rollouts-pod-template-hash": "7f9d8c6b5"}) == ("web", "Rollout")


def test_a_job_with_a_scheduled_time_stands_for_its_cron_job() -> None:
    assert _of(_controller("Job", f"nightly-report-{MINUTES}")) == ("nightly-report", "CronJob")


def test_the_older_form_in_seconds_is_understood() -> None:
    assert _of(_controller("Job", f"report-{MINUTES * 60}")) == ("report", "CronJob")


def test_a_job_that_starts_days_after_its_schedule_still_stands_for_its_cron_job() -> None:
    late = NOW + timedelta(days=9)
    assert _of(_controller("Job", f"report-{MINUTES}"), created=late) == ("report", "CronJob")


@pytest.mark.parametrize(
    "name", ["import", "import-7", "import-20261125", "import-1234567", "29666580", "-29666580"]
)
def test_other_jobs_are_themselves(name: str) -> None:
    assert _of(_controller("Job", name)) == (name, "Job")


@given(st.integers(0, 10**12))
def test_a_number_far_from_the_pods_age_is_no_schedule(number: int) -> None:
    workload = _of(_controller("Job", f"j-{number}"))
    near = any(abs(number * unit - NOW.timestamp()) <= 367 * 86400 for unit in (1, 60))
    assert near or workload == (f"j-{number}", "Job")


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "StrimziPodSet", "Workflow"])
def test_any_other_controller_is_the_workload(kind: str) -> None:
    assert _of(_controller(kind, "db")) == ("db", kind)


def test_a_pod_without_an_owner_is_its_own_workload() -> None:
    assert _of(pod="shell") == ("shell", "Pod")


def test_the_controller_wins_over_other_owners() -> None:
    other = owners.Owner("ConfigMap", "settings")
    assert _of(other, _controller("StatefulSet", "db")) == ("db", "StatefulSet")


def test_a_single_owner_is_taken_without_the_controller_flag() -> None:
    assert _of(owners.Owner("SparkApplication", "etl", None)) == ("etl", "SparkApplication")


def test_several_owners_without_a_controller_say_nothing() -> None:
    assert _of(owners.Owner("A", "a"), owners.Owner("B", "b"), pod="p") == ("p", "Pod")


@pytest.mark.parametrize(
    "annotations",
    [{owners.SOURCE: "file"}, {owners.SOURCE: "http"}, {owners.SOURCE: "file", owners.MIRROR: "hash"}],
)
def test_a_static_pod_is_known_by_its_manifests_name(annotations: dict[str, str]) -> None:
    node = _controller("Node", "node-1")
    assert _of(node, pod="etcd-node-1", annotations=annotations) == ("etcd", "StaticPod")


def test_pods_of_the_api_server_are_not_static() -> None:
    assert _of(pod="shell-node-1", annotations={owners.SOURCE: "api"}) == ("shell-node-1", "Pod")

"""What the chart renders, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.chart.conftest import CHART, Helm, Render

ROOT = Path(__file__).parents[2]
OPERATOR = tuple(
    f"monitoring.coreos.com/v1/{kind}" for kind in ("ServiceMonitor", "PodMonitor", "PrometheusRule")
)


def test_helm_lints_the_chart_without_a_warning(helm: Helm) -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


def test_manifests_and_the_schema_of_config_are_those_of_their_sources() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/manifests.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"make generate: {done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("agent.enginee=core", "additional properties 'enginee' not allowed"),
        ("agent.engine=fast", "value must be one of 'auto', 'core', 'bcc'"),
        ("config.prioritty=1", "additional properties 'prioritty' not allowed"),
        ("config.metrics[0].name=no_such_metric", "value must be one of"),
        ("config.limits.maxSeries=0", "minimum"),
        ("serviceMonitor.interval=15", "pattern|want string"),
        ("agent.hostPaths.proc=proc", "pattern"),
        ("image.digest=latest", "pattern"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, value: str, complaint: str) -> None:
    done = helm("template", "flow-lens", str(CHART), "--set", value)
    assert done.returncode != 0
    assert any(part in done.stderr for part in complaint.split("|")), done.stderr


def test_every_value_that_the_templates_read_has_a_default() -> None:
    """Otherwise it is a value that values.yaml does not tell of."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    for name, part in schema["properties"].items():
        if name in {"global", "config"}:
            continue
        assert name in values
        for inner in part.get("properties", {}):
            assert inner in values[name], f"{name}.{inner}"


def test_agents_have_three_capabilities_and_no_more_of_the_host_than_two_read_only_folders(
    render: Render,
) -> None:
    pod = render().agent()
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsUser": 0,
        "runAsGroup": 0,
        "capabilities": {"drop": ["ALL"], "add": ["BPF", "PERFMON", "SYS_PTRACE"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert [pod[name] for name in ("hostPID", "hostNetwork", "hostIPC")] == [False, False, False]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    host = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    assert host == {"proc": "/proc", "cgroup": "/sys/fs/cgroup"}
    for name in host:
        assert mounts[name]["readOnly"] is True
        assert mounts[name]["recursiveReadOnly"] == "IfPossible"
        assert mounts[name]["mountPath"].startswith("/host/")


@pytest.mark.parametrize(
    ("value", "more"),
    [
        ("agent.capabilities.sysResource=true", ["SYS_RESOURCE"]),
        ("agent.capabilities.compiler=true", ["SETUID", "SETGID", "CHOWN", "DAC_OVERRIDE"]),
        ("agent.engine=bcc", ["SETUID", "SETGID", "CHOWN", "DAC_OVERRIDE"]),
        ("agent.engine=core", []),
    ],
)
def test_further_capabilities_are_asked_for_one_by_one(render: Render, value: str, more: list[str]) -> None:
    added = render(value).agent()["containers"][0]["securityContext"]["capabilities"]["add"]
    assert added == ["BPF", "PERFMON", "SYS_PTRACE", *more]


def test_older_api_servers_get_no_field_that_they_do_not_know(render: Render) -> None:
    mounts = render(kube_version="1.29.0").agent()["containers"][0]["volumeMounts"]
    assert not any("recursiveReadOnly" in mount for mount in mounts)


def test_agents_run_on_every_node_whatever_its_taints(render: Render) -> None:
    pod = render().agent()
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["priorityClassName"] == "system-node-critical"


def test_no_agent_may_write_anything_anywhere(render: Render) -> None:
    verbs = {
        verb
        for rule in render("rbac.nodesProxy=true").one("ClusterRole", "watch-flow-lens")["rules"]
        for verb in rule["verbs"]
    }
    assert verbs == {"get", "list", "watch"}


def test_the_right_to_the_kubelets_proxy_is_given_only_when_asked_for(render: Render) -> None:
    def resources(*values: str) -> list[str]:
        rules = render(*values).one("ClusterRole", "watch-flow-lens")["rules"]
        return [name for rule in rules for name in rule["resources"]]

    assert "nodes/proxy" not in resources()
    assert "nodes/proxy" in resources("rbac.nodesProxy=true")
    assert "nodes/pods" not in resources("agent.identitySource=apiserver")
    assert "pods" not in resources("agent.identitySource=kubelet")


def test_the_controller_satisfies_the_restricted_pod_security_standard(render: Render) -> None:
    pod = render().one("Deployment", "flow-lens-controller")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "volumes" not in pod


def test_the_controller_writes_nothing_but_status_and_events(render: Render) -> None:
    rendered = render()
    rules = rendered.one("ClusterRole", "watch-flow-lens-controller")["rules"]
    rules += rendered.one("Role", "flow-lens-controller")["rules"]
    rules += rendered.one("Role", "watch-flow-lens-controller-events")["rules"]
    writing = {
        name for rule in rules for name in rule["resources"] if set(rule["verbs"]) - {"get", "list", "watch"}
    }
    assert writing == {"flowlensconfigs/status", "events"}


def test_without_the_controller_nothing_of_it_is_left(render: Render) -> None:
    rendered = render("controller.enabled=false")
    assert not [item for item in rendered.documents if "controller" in item["metadata"]["name"]]


def test_monitors_come_by_themselves_where_the_operator_is(render: Render) -> None:
    assert "ServiceMonitor" not in render().kinds()
    assert render(api_versions=OPERATOR).kinds() & {"ServiceMonitor", "PodMonitor", "PrometheusRule"} == {
        "ServiceMonitor"
    }
    wanted = render("podMonitor.enabled=true", "prometheusRule.enabled=true", "serviceMonitor.enabled=false")
    assert wanted.kinds() & {"ServiceMonitor", "PodMonitor", "PrometheusRule"} == {
        "PodMonitor",
        "PrometheusRule",
    }


def test_scraped_labels_are_those_of_the_workload(render: Render) -> None:
    (endpoint,) = render("serviceMonitor.enabled=true").one("ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["honorLabels"] is True
    dropped = [rule["regex"] for rule in endpoint["relabelings"] if rule.get("action") == "labeldrop"]
    assert dropped == ["namespace|pod|container|service|endpoint"]


def test_the_configuration_is_handed_over_as_it_was_written(render: Render) -> None:
    rendered = render("config.namespaces.exclude={kube-system}", "config.limits.maxSeries=500")
    text = rendered.one("ConfigMap")["data"]["config.yaml"]
    assert yaml.safe_load(text) == {"namespaces": {"exclude": ["kube-system"]}, "limits": {"maxSeries": 500}}


def test_names_follow_the_release_and_two_releases_share_nothing_cluster_wide(helm: Helm) -> None:
    def names(release: str, namespace: str) -> set[tuple[str, str]]:
        text = helm("template", release, str(CHART), "--namespace", namespace).stdout
        return {
            (item["kind"], item["metadata"]["name"])
            for item in yaml.safe_load_all(text)
            if item and item["kind"].startswith("Cluster")
        }

    assert not names("flow-lens", "one") & names("flow-lens", "two")
    assert not names("first", "one") & names("second", "one")

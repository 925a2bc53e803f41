"""Deploying is what a user does: import the image everywhere, install the chart, wait for it.

With a small chart in place of flow-lens' own, so that a fault here is a fault of the testbed.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.testbed import deploy, images
from tests.testbed.cluster import Cluster

DAEMON_SET = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      containers:
        - name: agent
          image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
          imagePullPolicy: {{ .Values.image.pullPolicy }}
"""


def write_chart(folder: Path) -> None:
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("{apiVersion: v2, name: flow-lens, version: 0.1.0}\n")
    (folder / "templates" / "agent.yaml").write_text(DAEMON_SET)


@pytest.mark.cluster
def test_the_chart_runs_the_imported_image_on_every_node(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"localhost/deployed:{secrets.token_hex(3)}"
    images.write_archive(tmp_path / "image.tar", images.busybox_layer(), (name,))
    write_chart(tmp_path / "chart")
    monkeypatch.setattr(deploy, "CHART", tmp_path / "chart")
    monkeypatch.setattr(deploy, "RELEASE", f"deployed-{secrets.token_hex(3)}")
    deploy.deploy(cluster, tmp_path / "image.tar", build_first=False)
    found = cluster.kubectl_json("get", "pods", "-n", deploy.RELEASE)["items"]
    assert [pod["spec"]["containers"][0]["image"] for pod in found] == [name] * len(cluster.nodes)
    assert {pod["spec"]["nodeName"] for pod in found} == {node.name for node in cluster.nodes}
    cluster.helm("uninstall", deploy.RELEASE, "-n", deploy.RELEASE, "--wait")
    cluster.kubectl("delete", "namespace", deploy.RELEASE, "--wait=false")


def test_a_missing_archive_is_named_together_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(deploy.DeployError, match="make image"):
        deploy.image_name(tmp_path / "absent.tar")


def test_an_archive_without_a_name_is_refused(tmp_path: Path) -> None:
    images.write_archive(tmp_path / "image.tar", b"layer", ("",))
    with pytest.raises(deploy.DeployError, match="names no image"):
        deploy.image_name(tmp_path / "image.tar")

"""Each alert fires when it should and is silent when not: judged by promtool on invented series."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowlens import metrics
from flowlens.kernel import probes
from tests.chart.conftest import CHART, Render
from tests.testbed import build, parts, store

ALERTS: dict[str, dict[str, str]] = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())

# What makes each alert fire, and the nearest thing that must not.
LOUD = {
    "FlowLensAgentDown": 'up{job="flow-lens", node="n1"} 0x60',
    "FlowLensProbeDown": 'flow_lens_probe_up{node="n1", probe="tcp_send_reset", reason="no BTF"} 0x60',
    "FlowLensConfigRefused": 'flow_lens_config_info{node="n1", config="c", generation="2", state="rejected"} 1x60',
    "FlowLensSeriesCollapsed": 'flow_lens_series_collapsed_total{node="n1", metric="connect"} 0+2x60',
    "FlowLensUnattributed": 'flow_lens_unattributed_total{node="n1", metric="connect", cause="cgroup_gone"} 0+20x60',
    "FlowLensMapErrors": 'flow_lens_map_errors_total{node="n1", map="flows", errno="E2BIG"} 0+2x60',
}
QUIET = {
    "FlowLensAgentDown": 'up{job="flow-lens", node="n1"} 1x60',
    "FlowLensProbeDown": 'flow_lens_probe_up{node="n1", probe="tcp_send_reset", reason="off"} 0x60',
    "FlowLensConfigRefused": 'flow_lens_config_info{node="n1", config="c", generation="2", state="applied"} 1x60',
    "FlowLensSeriesCollapsed": 'flow_lens_series_collapsed_total{node="n1", metric="connect"} 70x60',
    "FlowLensUnattributed": 'flow_lens_unattributed_total{node="n1", metric="reset", cause="no_socket"} 0+20x60',
    "FlowLensMapErrors": 'flow_lens_map_errors_total{node="n1", map="flows", errno="E2BIG"} 7x60',
}


@pytest.fixture
def promtool(tmp_path: Path, render: Render) -> Any:
    """Runs `promtool` with arguments beside a file rules.yaml, which holds the chart's rules."""
    build.ensure((parts.PROMETHEUS,))
    program = str(store.folder(parts.PROMETHEUS) / "promtool")
    spec = render("prometheusRule.enabled=true").one("PrometheusRule")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    return run


def judged(promtool: Any, folder: Path, alert: str, series: str, *, firing: bool) -> None:
    """promtool confirms that after 50 minutes of this series the alert fires, or does not."""
    name, _, values = series.rpartition("} ")
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name + "}", "values": values}],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}})',
                        "eval_time": "50m",
                        "exp_samples": [{"labels": "{}", "value": 1}] if firing else [],
                    }
                ],
            }
        ],
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", "test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_has_no_complaint(promtool: Any) -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_two_cases() -> None:
    assert set(ALERTS) == set(LOUD) == set(QUIET)


def test_alerts_ask_for_families_and_states_that_agents_have() -> None:
    asked = {name for rule in ALERTS.values() for name in re.findall(r"flow_lens_\w+", rule["expr"])}
    assert asked <= {family.exposed for family in metrics.HEALTH}
    assert f'reason!="{probes.OFF}"' in ALERTS["FlowLensProbeDown"]["expr"]


@pytest.mark.parametrize("alert", sorted(LOUD))
def test_the_alert_fires(promtool: Any, tmp_path: Path, alert: str) -> None:
    judged(promtool, tmp_path, alert, LOUD[alert], firing=True)


@pytest.mark.parametrize("alert", sorted(QUIET))
def test_the_alert_is_silent(promtool: Any, tmp_path: Path, alert: str) -> None:
    judged(promtool, tmp_path, alert, QUIET[alert], firing=False)

"""Generated files are what their sources say; whoever changes a source runs `make generate`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flowlens import metrics

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("script", ["scripts/metric_reference.py"])
def test_generated_page_is_what_its_script_writes(script: str, tmp_path: Path) -> None:
    target = ROOT / "docs" / "metrics.md"
    before = target.read_text()
    program = (
        "import pathlib, runpy; "
        f"names = runpy.run_path({str(ROOT / script)!r}); "
        f"pathlib.Path({str(tmp_path / 'page')!r}).write_text(names['text']())"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert (tmp_path / "page").read_text() == before


def test_readme_names_every_metric() -> None:
    text = (ROOT / "README.md").read_text()
    missing = [metric.name for metric in metrics.CATALOGUE if metric.exposed not in text]
    assert not missing

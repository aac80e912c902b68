"""The rows: a name that is not one of theirs is refused before anything runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from folders import ROOT

from report.rows.rows import LATENCIES, Metric

RIGHT = """\
from report.findings.finding import Finding, Scope
from report.rows.rows import Metric, SpeedRow

def told(row: SpeedRow) -> object:
    return row.metrics[Metric.TPOT_MEAN].value, row.request_rate_rps, row.sustained == "yes"

finding = Finding("fastest", 1, Scope("measured", "h", "H"), "shown", "", "", ())
"""
MISSPELT = {
    "a metric": ("Metric.TPOT_MEAN", "Metric.TPOT_MAEN", "attr-defined"),
    "the name of a metric": ("Metric.TPOT_MEAN", '"tpot_maen_ms"', "index"),
    "a column": ("row.request_rate_rps", "row.request_rate_rsp", "attr-defined"),
    "an answer": ('"yes"', '"yse"', "comparison-overlap"),
    "a kind": ('"fastest"', '"fastset"', "arg-type"),
    "a source": ('"measured"', '"mesured"', "arg-type"),
}


@pytest.mark.lint
def test_a_misspelt_metric_column_or_kind_is_refused_by_the_type_checker(tmp_path: Path) -> None:
    for number, (right, wrong, _) in enumerate(MISSPELT.values()):
        assert right in RIGHT
        (tmp_path / f"wrong_{number}.py").write_text(RIGHT.replace(right, wrong))
    (tmp_path / "right.py").write_text(RIGHT)
    files = sorted(str(path) for path in tmp_path.glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *files],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = re.findall(r"(\w+)\.py:\d+: error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    wanted = [(f"wrong_{number}", code) for number, (*_, code) in enumerate(MISSPELT.values())]
    assert sorted(told) == wanted, done.stdout


def test_a_metric_knows_its_words() -> None:
    assert (Metric.TTFT_P90.label, Metric.TTFT_P90.unit) == ("TTFT p90", "ms")
    assert (Metric.OUTPUT.label, Metric.OUTPUT.unit) == ("Output", "tokens/s")
    assert all(metric.label and metric.unit for metric in Metric)
    assert [f"{event}_{statistic}_ms" for event, statistic in LATENCIES.values()] == list(LATENCIES)

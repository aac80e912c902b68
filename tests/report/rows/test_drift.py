"""Drift: what the same thing measured twice says about every ratio on that machine."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import BF16, FP8, L40, LAPTOP, START

from bench.records import store
from report import pull_request
from report.differences import compare
from report.differences.families import Verdicts, differences
from report.findings import takeaways
from report.findings.finding import Finding
from report.rows import drift
from report.rows.results import Results, load
from report.rows.rows import Metric, SpeedRow

HOUR = timedelta(hours=1)


def measure(root: Path, variant: Any, hours: int, tpot_ms: float, **options: Any) -> None:
    """The same variant, in a session of its own that is as fast as `tpot_ms` says."""
    made = synthetic.speed_record(
        replace(variant, tpot_ms=tpot_ms, ttft_ms=tpot_ms * 2),
        finished=START + hours * HOUR,
        seed=hours,
        noise=0.002,
        prompts=200,
        **options,
    )
    store.write(root, *made)


def rows(results: Results, rate: float) -> dict[str, SpeedRow]:
    return {row.variant: row for row in results.speed if row.request_rate_rps == rate}


def findings(results: Results) -> list[Finding]:
    return takeaways.findings(Verdicts(results))


def test_the_floor_is_the_widest_ratio_of_consecutive_records_of_one_thing(tmp_path: Path) -> None:
    for hours, tpot_ms in enumerate((50.0, 60.0, 50.0)):
        measure(tmp_path, BF16, hours, tpot_ms, rates=(10.0,))
    measure(tmp_path, BF16, 3, 200.0, rates=(10.0,))
    measure(tmp_path, FP8, 0, 33.0, rates=(10.0, 20.0))
    results = load(tmp_path, None)
    assert len({(a.old.record, a.new.record) for a in results.drift.repeated}) == 3
    here = rows(results, 10.0)
    a, b = here["qwen3-8b-fp8"], here["qwen3-8b-bf16"]
    assert results.drift.floor(a, b, Metric.TPOT_MEAN) == pytest.approx(4.0, rel=0.02)
    widest = max(results.drift.floors["l40", "1 × NVIDIA L40", "10"].values())
    assert results.drift.floor(a, b, Metric.ITL_P99) == widest
    assert results.drift.floor(b, b, Metric.TPOT_MEAN) is None
    assert results.drift.floor(a, replace(b, machine="another"), Metric.TPOT_MEAN) is None
    alone = rows(results, 20.0)["qwen3-8b-fp8"]
    assert results.drift.floor(alone, replace(alone, variant="x"), Metric.TPOT_MEAN) is None


def test_another_machine_or_workload_is_not_the_same_thing(tmp_path: Path) -> None:
    measure(tmp_path, BF16, 0, 50.0)
    measure(tmp_path, BF16, 1, 90.0, machine=replace(L40, gpu_name="NVIDIA L40S"))
    made = synthetic.speed_record(BF16, finished=START + 2 * HOUR, prompts=50)
    store.write(tmp_path, *made)
    assert load(tmp_path, None).drift.repeated == ()


@settings(deadline=None, max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, random: Any
) -> None:
    root = tmp_path_factory.mktemp("order")
    for hours, tpot_ms in enumerate((50.0, 60.0)):
        measure(root, BF16, hours, tpot_ms)
    history = list(load(root, None).history)
    straight = drift.of(history)
    random.shuffle(history)
    assert drift.of(history) == straight


def test_a_ratio_inside_the_drift_is_no_finding_anywhere(tmp_path: Path) -> None:
    """8 % faster with p far below 0.05, on a machine that was 20 % apart with itself."""
    for hours, tpot_ms in enumerate((60.0, 50.0)):
        measure(tmp_path, BF16, hours, tpot_ms)
    measure(tmp_path, FP8, 2, 46.0)
    results = load(tmp_path, None)
    [told] = [
        each
        for each in differences(results)
        if (each.series, each.metric) == ("10", Metric.TPOT_MEAN)
    ]
    assert told.verdict.p is not None and told.verdict.p < 0.001
    assert (told.verdict.outcome, told.verdict.drifts) == ("noise", True)
    assert told.word == "cannot be told from drift"
    [caveat] = told.caveats
    assert caveat.startswith("within this machine's own drift: the same variant measured twice")
    assert told in compare.compare(results, "qwen3-8b-fp8", "qwen3-8b-bf16")
    document = pull_request.describe("0" * 40, tmp_path, tmp_path)
    lines = [row for table in document.tables for row in table.rows]
    assert any("cannot be told from drift" in row for row in lines)
    found = {finding.kind: finding for finding in findings(results)}
    assert found["saving"].certainty == found["fastest"].certainty == "noise"
    assert found["fastest"].pick is not None
    assert found["fastest"].pick.names == ("Qwen3-8B FP8", "Qwen3-8B BF16")
    assert "(cannot be told from the machine's drift)" in found["saving"].headline
    assert "measured twice differed by 19" in found["saving"].detail


def test_a_ratio_beyond_the_drift_is_told(tmp_path: Path) -> None:
    for hours, tpot_ms in enumerate((60.0, 50.0)):
        measure(tmp_path, BF16, hours, tpot_ms)
    measure(tmp_path, FP8, 2, 33.0)
    found = {each.kind: each for each in findings(load(tmp_path, None))}
    assert found["saving"].certainty == "shown"


def test_two_records_of_one_thing_are_the_check_itself(tmp_path: Path) -> None:
    for hours, tpot_ms in enumerate((60.0, 50.0)):
        measure(tmp_path, BF16, hours, tpot_ms)
    old, new = sorted(path.relative_to(tmp_path).as_posix() for path in store.paths(tmp_path))
    found = compare.compare(load(tmp_path, None), new, old)
    assert "faster" in {each.word for each in found}


def test_a_machine_that_differs_from_itself_is_called_unstable(tmp_path: Path) -> None:
    for hours, tpot_ms in enumerate((60.0, 50.0)):
        measure(tmp_path, BF16, hours, tpot_ms)
    measure(tmp_path, FP8, 0, 33.0, machine=LAPTOP)
    found = findings(load(tmp_path, None))
    assert (found[0].kind, found[0].certainty) == ("unstable", "shown")
    assert "NVIDIA L40 is not stable: the same variant measured twice, 60 minutes apart" in (
        found[0].headline
    )
    [unknown] = [each for each in found if each.kind == "unrepeated"]
    assert unknown.scope.hardware == "laptop"
    assert "bench run --force --stages speed --variants qwen3-8b-fp8 --hardware laptop" in (
        unknown.detail
    )

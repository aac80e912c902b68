"""Sessions of a machine: pooled from records, described by their spread, judged as one family."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import synthetic
from synthetic import BF16, FP8, START

from bench.records import store
from bench.records.pace import Pace
from report.rows import sessions
from report.rows.results import load
from report.rows.rows import Metric, SpeedRow
from report.stats import Estimate

JUDGED = (Metric.TTFT_MEAN, Metric.TPOT_MEAN, Metric.OUTPUT)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> SpeedRow:
    """A row of one load at once the usual and the highest."""
    root = tmp_path_factory.mktemp("template")
    store.write(root, *synthetic.speed_record(BF16, rates=(math.inf,), repeats=3, prompts=5))
    [row] = load(root, None).speed
    return row


def session(template: SpeedRow, variant: str, number: int, factor: float) -> SpeedRow:
    """One session that is slower than the template by a factor, in all three metrics."""
    metrics = {
        metric: Estimate(100 / factor if metric is Metric.OUTPUT else 10 * factor, None, None, 1)
        for metric in JUDGED
    }
    return replace(
        template,
        variant=variant,
        is_baseline=variant == "v0",
        records=(f"{variant}-{number}.json",),
        metrics=metrics,
    )


def machine(template: SpeedRow, factors: dict[str, list[float]]) -> sessions.Machine:
    """By variant, how slow each of its sessions was."""
    return sessions.Machine(
        [
            sessions.pool([session(template, name, i, f) for i, f in enumerate(own)])
            for name, own in factors.items()
        ]
    )


def test_a_row_of_sessions_is_described_by_the_spread_of_all_variants(template: SpeedRow) -> None:
    made = machine(template, {"v0": [1.0, 1.1, 0.9], "v1": [1.0, 1.0, 1.0]})
    [_, steady] = [made.describe(row) for row in made.rows]
    tpot = steady.metrics[Metric.TPOT_MEAN]
    assert tpot.value == pytest.approx(10.0)
    assert (tpot.n, steady.sessions, steady.repeats) == (3, 3, 9)
    assert tpot.interval is not None
    assert tpot.interval.low < 10.0 < tpot.interval.high


def test_only_three_metrics_are_judged_and_the_others_described(tmp_path: Path) -> None:
    for variant in (BF16, FP8):
        for number in range(2):
            time = START + timedelta(hours=number)
            store.write(tmp_path, *synthetic.speed_record(variant, finished=time, seed=number))
    results = load(tmp_path, None)
    [found] = results.machines.values()
    judged = found.comparisons(BF16.family)
    assert {(measure[0], measure[1][0]) for _, _, measure in judged} == {
        (Metric.TTFT_MEAN, Pace(10.0)),
        (Metric.TPOT_MEAN, Pace(10.0)),
        (Metric.OUTPUT, Pace()),
    }
    assert len(found.pools) > 2 * len(judged)


def test_sessions_that_lack_a_load_are_left_out_of_it(tmp_path: Path) -> None:
    for number, rates in enumerate([(10.0, math.inf), (10.0,), (10.0, math.inf)]):
        time = START + timedelta(hours=number)
        made = synthetic.speed_record(BF16, finished=time, seed=number, rates=rates)
        store.write(tmp_path, *made)
    counts = {row.request_rate_rps: row.sessions for row in load(tmp_path, None).speed}
    assert counts == {10.0: 3, math.inf: 2}


@pytest.mark.parametrize("apart", [0.01, 0.05])
def test_where_nothing_differs_hardly_a_report_has_a_verdict(
    template: SpeedRow, apart: float
) -> None:
    """Four equal variants, three sessions each: the promise is 5 %; 9 % is 3.7 errors above."""
    random = np.random.default_rng(20261126)
    experiments, false, covered = 300, 0, 0
    for _ in range(experiments):
        drawn = np.exp(apart * random.standard_normal((4, 3)))
        made = machine(template, {f"v{i}": [float(f) for f in own] for i, own in enumerate(drawn)})
        told = made.comparisons(template.family).values()
        assert len(told) == 3 * 6
        false += any(each.outcome != "no difference found" for each in told)
        covered += all(each.interval is not None and 1.0 in each.interval for each in told)
    assert false / experiments <= 0.09
    assert covered / experiments >= 0.91


def test_a_difference_well_beyond_the_spread_is_shown(template: SpeedRow) -> None:
    random = np.random.default_rng(7)
    shown = 0
    for _ in range(100):
        drawn = np.exp(0.01 * random.standard_normal((4, 3)))
        drawn[1] *= 0.95
        made = machine(template, {f"v{i}": [float(f) for f in own] for i, own in enumerate(drawn)})
        told = made.compare(made.rows[1], made.rows[0], Metric.TPOT_MEAN)
        assert told is not None
        shown += told.outcome == "lower"
        assert told.outcome != "higher"
    assert shown >= 80

"""Closed loops in the report: told as "8 at a time", beside rates, judged only where alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import synthetic
from synthetic import BF16, FP8, START

from bench.config import slug
from bench.records import store
from bench.records.pace import Pace
from report.differences.families import Verdicts
from report.pages import speed
from report.pages.all_pages import make
from report.rows import loads
from report.rows.results import Results, load
from report.rows.rows import Metric
from report.stats import Estimate


def measured(root: Path, rates: tuple[float, ...], loops: tuple[int, ...]) -> Results:
    """Two sessions of two variants under these loads."""
    for variant in (BF16, FP8):
        for number in range(2):
            time = START + timedelta(hours=number)
            made = synthetic.speed_record(
                variant, finished=time, seed=number, rates=rates, loops=loops, repeats=1
            )
            store.write(root, *made)
    return load(root, None)


def test_each_loop_is_a_row_of_its_own_between_rates_and_no_limit(tmp_path: Path) -> None:
    results = measured(tmp_path, (10.0, math.inf), (64, 1, 8))
    rows = [row for row in results.speed if row.variant == slug(FP8.name)]
    assert [row.pace for row in rows] == [
        Pace(10.0), *(Pace(concurrency=count) for count in (1, 8, 64)), Pace(),
    ]  # fmt: skip
    assert {row.sessions for row in rows} == {2}
    assert len({row.anchor for row in rows}) == 5
    assert [row.series for row in rows] == ["10", "c1", "c8", "c64", "inf"]
    assert loads.usual_pace(rows) == Pace(10.0)
    assert loads.at_most(rows)[0].pace == Pace()


def test_a_loop_is_no_rate_that_is_kept(tmp_path: Path) -> None:
    results = measured(tmp_path, (10.0,), (1,))
    judged = {row.pace: row.sustained for row in results.speed if row.variant == slug(FP8.name)}
    assert set(judged) == {Pace(10.0), Pace(concurrency=1)}
    assert "unknown" not in judged.values()
    assert {kept.highest for kept in loads.kept(results.speed).values()} <= {10.0, None}


def test_loops_alone_are_judged_at_the_gentlest_and_the_hardest(tmp_path: Path) -> None:
    results = measured(tmp_path, (), (1, 8, 64))
    [machine] = results.machines.values()
    judged = machine.comparisons(FP8.family)
    assert {(metric, asked[0]) for _, _, (metric, asked) in judged} == {
        (Metric.TTFT_MEAN, Pace(concurrency=1)),
        (Metric.TPOT_MEAN, Pace(concurrency=1)),
        (Metric.OUTPUT, Pace(concurrency=64)),
    }


def test_the_pages_tell_a_loop_in_words_and_what_the_engine_counted(tmp_path: Path) -> None:
    results = measured(tmp_path, (10.0, math.inf), (8,))
    [section] = speed.sections(results.speed, Verdicts(results))
    assert section.server is not None
    assert [row.group for row in section.server.rows] == ["c8", "c8"]
    rows = [row for row in results.speed if row.concurrency]
    assert [row.front_end_share for row in rows] == [pytest.approx(0.2, rel=0.01)] * 2
    for row in rows:  # the share is that of the two beside it
        assert row.server_tpot_ms and row.client_tpot_ms
        assert row.server_tpot_ms / row.client_tpot_ms == pytest.approx(0.8, rel=0.01)
    assert section.workload == (
        "512 tokens in, 128 out, 3 prompts for each that is under way at once; "
        "512 tokens in, 128 out, 24 prompts"
    )
    pages = {page.path: page.source for page in make(results)[0]}
    assert "8 at a time" in pages["speed"]
    assert "limits the server" in pages["speed"]
    assert "8 at a time" in pages[f"variants/{slug(FP8.name)}"]


def test_where_no_server_was_asked_there_is_no_such_table(tmp_path: Path) -> None:
    results = measured(tmp_path, (10.0, math.inf), ())
    [section] = speed.sections(results.speed, Verdicts(results))
    assert section.server is None


def test_a_table_that_would_hold_names_alone_is_left_out(tmp_path: Path) -> None:
    results = measured(tmp_path, (10.0, math.inf), ())
    means = [replace(row, metrics=only_means(row.metrics)) for row in results.speed]
    [section] = speed.sections(means, Verdicts(results))
    assert section.percentiles == []
    assert len(speed.sections(results.speed, Verdicts(results))[0].percentiles) == 3


def only_means(metrics: Mapping[Metric, Estimate]) -> dict[Metric, Estimate]:
    return {metric: value for metric, value in metrics.items() if metric.endswith("mean_ms")}

"""The published tables: what they say, what they cannot say, and that they stay apart from ours."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic
from folders import PUBLISHED_MODELS, REFERENCE
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from bench.config import Experiment, slug
from bench.errors import ConfigError
from bench.records import store
from report.rows import published
from report.rows.results import load
from report.rows.rows import LATENCIES, Metric

L40 = published.read(REFERENCE / "l40-2025.json")


def altered(tmp_path: Path, change: dict[str, Any]) -> Path:
    raw = json.loads((REFERENCE / "l40-2025.json").read_text())
    (tmp_path / "l40-2025.json").write_text(json.dumps({**raw, **change}))
    return tmp_path / "l40-2025.json"


def test_the_published_figures_fit_together() -> None:
    """End to end is about the first token and 127 further ones; nobody exceeds the load."""
    for row in L40.rows:
        if row.speed is None:
            continue
        whole = row.speed.ttft_mean_ms + (L40.speed.output_tokens - 1) * row.speed.tpot_mean_ms
        assert row.speed.e2e_mean_ms == pytest.approx(whole, rel=0.1)
        offered = L40.speed.request_rate_rps * L40.speed.output_tokens
        assert row.speed.output_throughput_tps < offered
    for row in L40.rows:
        if row.quality is not None:
            right = row.quality.value * L40.quality.documents
            assert right == pytest.approx(round(right))


def test_weights_and_cache_share_one_card() -> None:
    """On the same card the weights and the KV cache of the 8B rows add up to the same memory."""
    sums = [
        row.quality.weights_gib + row.quality.kv_cache_gib
        for row in L40.rows
        if row.family == "Qwen3-8B"
        and row.quality
        and row.quality.weights_gib
        and row.quality.kv_cache_gib
    ]
    assert len(sums) == 3
    assert max(sums) - min(sums) < 0.02


def test_models_toml_reproduces_exactly_the_published_rows() -> None:
    experiment = Experiment.model_validate_json(
        json.dumps(tomllib.loads(PUBLISHED_MODELS.read_text()))
    )
    named = {v.reproduces: v for v in experiment.variant if v.reproduces is not None}
    assert sorted(named) == sorted(row.id for row in L40.rows)
    baselines = {family.baseline for family in experiment.family}
    for row in L40.rows:
        variant = named[row.id]
        assert (variant.family, variant.repo, variant.file) == (row.family, row.repo, row.file)
        assert (variant.name in baselines) == row.baseline


def test_ids_are_unique_slugs() -> None:
    ids = [row.id for row in L40.rows]
    assert len(set(ids)) == len(ids)
    assert all(each == slug(each) and each.startswith(L40.id) for each in ids)


def test_speed_was_one_run_without_interval() -> None:
    rows = load(Path("nowhere"), REFERENCE).speed
    assert len(rows) == 4
    for row in rows:
        assert row.source == "published"
        assert row.repeats == 1
        assert len([metric for metric in LATENCIES if metric in row.metrics]) == 6
        assert Metric.OUTPUT in row.metrics
        assert all(each.interval is None for each in row.metrics.values())
        assert row.energy_per_output_token_j is None


def test_published_rows_are_judged_by_the_level_that_ours_share(tmp_path: Path) -> None:
    def limits() -> set[tuple[float | None, float | None]]:
        rows = load(tmp_path, REFERENCE).speed
        theirs = [row for row in rows if row.source == "published"]
        return {(row.limit_ttft_p90_ms, row.limit_tpot_p90_ms) for row in theirs}

    def measure(name: str, level: dict[str, float]) -> None:
        record, sidecars = synthetic.speed_record(replace(synthetic.BF16, name=name))
        store.write(tmp_path, record.model_copy(update={"service_level": level}), sidecars)

    assert limits() == {(500.0, 50.0)}
    measure("one", {"ttft_p90_ms": 200.0, "tpot_p90_ms": 30.0})
    assert limits() == {(200.0, 30.0)}
    kept = {row.variant for row in load(tmp_path, REFERENCE).speed if row.sustained == "yes"}
    assert kept & {row.id for row in L40.rows} == {"l40-2025-qwen3-8b-awq-marlin"}
    measure("two", {"ttft_p90_ms": 300.0, "tpot_p90_ms": 30.0})
    assert limits() == {(500.0, 50.0)}


def test_quality_has_the_interval_its_documents_give() -> None:
    rows = load(Path("nowhere"), REFERENCE).quality
    assert len(rows) == 6
    for row in rows:
        ends = proportion_confint(round(row.value.value * 400), 400, method="wilson")
        assert row.value.interval is not None
        assert (row.value.interval.low, row.value.interval.high) == pytest.approx(ends)
        assert row.documents_sha256 is None


def test_published_rows_stand_beside_measured_ones_and_change_none(tmp_path: Path) -> None:
    synthetic.write(tmp_path)
    alone, beside = load(tmp_path, None), load(tmp_path, REFERENCE)
    for name in ("speed", "quality"):
        both, own = getattr(beside, name), getattr(alone, name)
        assert [row for row in both if row.source == "measured"] == own
        assert len([row for row in both if row.source == "published"]) == len(both) - len(own) > 0
    assert beside.runs == alone.runs
    assert beside.history == alone.history
    assert [each.id for each in beside.references] == ["l40-2025"]
    assert alone.references == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version: Input should be 1"),
        ({"rows": []}, "rows: "),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"engine_version": 0.9}, "engine_version: "),
        ({"hardware": "L40!"}, "hardware: "),
    ],
)
def test_a_wrong_file_is_refused_by_key(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = altered(tmp_path, change)
    with pytest.raises(ConfigError) as error:
        published.read_all(tmp_path)
    assert str(error.value).startswith(f"{path}: {message}")


@given(st.binary(max_size=40))
def test_whatever_is_no_reference_is_refused(tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.mktemp("reference") / "x.json"
    path.write_bytes(data)
    with pytest.raises(ConfigError):
        published.read(path)

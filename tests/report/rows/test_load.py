"""Frames from records: what is current, what each number is, and that nothing else matters."""

import gzip
import json
import math
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import BF16, FP8, L40, LAPTOP, SMALL, START

from bench.errors import ConfigError
from bench.records import store
from bench.records.record import Record, canonical_json
from report import stats
from report.places import REFERENCE
from report.rows import load
from report.rows.columns import HISTORY, QUALITY, REPEATS, RUNS, SPEED
from report.rows.rows import estimate, spread
from report.rows.speed_rows import sustained

FRAMES = {"runs": RUNS, "speed": SPEED, "quality": QUALITY, "repeats": REPEATS, "history": HISTORY}
LATER = START + timedelta(days=1)


def put(root: Path, made: tuple[Record, list[bytes]]) -> Path:
    return store.write(root, *made)


def assert_equal(one: load.Results, other: load.Results) -> None:
    for name in FRAMES:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_without_records_every_frame_has_its_columns(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    results = load.load(tmp_path / folder, None)
    for name, columns in FRAMES.items():
        frame = getattr(results, name)
        assert list(frame.columns) == list(columns)
        assert frame.empty
        assert frame.dtypes.astype(str).to_dict() == columns


def test_numbers_are_those_of_the_record_and_its_sidecar(tmp_path: Path) -> None:
    record, sidecars = synthetic.speed_record(BF16, rates=(10.0,), prompts=50)
    put(tmp_path, (record, sidecars))
    [row] = load.rows_of(load.load(tmp_path, None).speed)
    assert record.speed is not None
    repeats = record.speed.loads[0].repeats
    requests = json.loads(gzip.decompress(sidecars[0]))

    tpot = stats.mean_of_positive([repeat.tpot_ms.mean for repeat in repeats])
    assert estimate(row, "tpot_mean_ms") == tpot
    pooled = np.concatenate([sample["ttft_ms"] for sample in requests])
    assert row["ttft_p90_ms"] == pytest.approx(np.percentile(pooled, 90))
    assert row["ttft_p90_ms_low"] < row["ttft_p90_ms"] < row["ttft_p90_ms_high"]
    good = [
        sum(t <= 500 and p <= 50 for t, p in zip(s["ttft_ms"], s["tpot_ms"], strict=True))
        for s in requests
    ]
    rates = [count / repeat.duration_s for count, repeat in zip(good, repeats, strict=True)]
    assert row["goodput_rps"] == pytest.approx(np.mean(rates))
    tokens_per_hour = row["output_throughput_tps"] * 3600
    assert row["usd_per_million_output_tokens"] == pytest.approx(0.8 / tokens_per_hour * 1e6)
    assert row["record"] == f"l40/qwen3-8b-bf16/{store.file_name(record)}"
    assert (row["source"], row["repeats"], row["finished_at"]) == (
        "measured",
        3,
        "2026-03-01T12:00:00Z",
    )


def test_the_newest_usable_record_is_current_and_all_stay_in_the_history(tmp_path: Path) -> None:
    put(tmp_path, synthetic.speed_record(BF16, seed=1))
    newest = put(tmp_path, synthetic.speed_record(BF16, finished=LATER, seed=2))
    put(tmp_path, (synthetic.failed_record(BF16, finished=LATER + timedelta(days=1)), []))
    results = load.load(tmp_path, None)
    where = newest.relative_to(tmp_path).as_posix()
    assert set(results.speed["record"]) == {where}
    assert set(results.repeats["record"]) == {where}
    assert list(results.runs["status"]) == ["ok", "ok", "failed"]
    assert list(results.runs["current"]) == [False, True, False]
    assert list(results.runs["error"])[-1] == "the server died: out of memory"
    assert len(results.history["record"].unique()) == 2
    assert set(results.history[results.history["current"]]["record"]) == {where}
    assert results.read(where).provenance.finished_at == LATER


def test_newest_is_decided_by_time_not_by_key_or_file_name(tmp_path: Path) -> None:
    """An older record of another spec may have the later file name where times are equal."""
    put(tmp_path, synthetic.speed_record(BF16, finished=LATER, prompts=24))
    newer = put(
        tmp_path, synthetic.speed_record(BF16, finished=LATER + timedelta(seconds=1), prompts=30)
    )
    [*rows] = load.rows_of(load.load(tmp_path, None).speed)
    assert {row["record"] for row in rows} == {newer.relative_to(tmp_path).as_posix()}
    assert {row["prompts"] for row in rows} == {30}


def test_a_partial_record_counts_and_is_marked(tmp_path: Path) -> None:
    record, sidecars = synthetic.speed_record(BF16)
    put(tmp_path, (record.model_copy(update={"status": "partial"}), sidecars))
    assert set(load.load(tmp_path, None).speed["status"]) == {"partial"}


def test_a_newer_partial_record_hides_no_complete_one_of_the_same_key(tmp_path: Path) -> None:
    """What `store.current` takes for done is what is shown; a new key's partial stands in."""

    def partial(day: int, prompts: int) -> None:
        record, sidecars = synthetic.speed_record(
            BF16, finished=START + timedelta(days=day), prompts=prompts
        )
        put(tmp_path, (record.model_copy(update={"status": "partial"}), sidecars))

    def shown() -> tuple[set[str], set[int]]:
        speed = load.load(tmp_path, None).speed
        return set(speed["status"]), set(speed["prompts"])

    complete = put(tmp_path, synthetic.speed_record(BF16, prompts=24))
    partial(1, prompts=24)
    assert shown() == ({"ok"}, {24})
    key = json.loads(complete.read_text())["key"]
    assert store.current(tmp_path, "l40", "qwen3-8b-bf16", "speed", key) == complete
    partial(2, prompts=30)
    assert shown() == ({"partial"}, {30})
    put(tmp_path, synthetic.speed_record(BF16, prompts=30, finished=START + timedelta(days=3)))
    partial(4, prompts=30)
    assert shown() == ({"ok"}, {30})


def test_superseded_sidecars_are_not_needed_current_ones_are(tmp_path: Path) -> None:
    old = put(tmp_path, synthetic.speed_record(BF16, seed=1))
    (sidecar,) = old.parent.glob("*.json.gz")
    new = put(tmp_path, synthetic.speed_record(BF16, finished=LATER, seed=2))
    sidecar.unlink()
    assert len(load.load(tmp_path, None).speed) == 2
    for left in new.parent.glob("*.json.gz"):
        left.unlink()
    with pytest.raises(ConfigError, match=r"\.json\.gz: No such file"):
        load.load(tmp_path, None)


def test_order_place_and_time_of_files_do_not_matter(tmp_path: Path) -> None:
    paths = synthetic.write_demo(tmp_path / "one")
    for path in reversed(paths):
        copy = tmp_path / "other" / path.relative_to(tmp_path / "one")
        copy.parent.mkdir(parents=True, exist_ok=True)
        for file in (path, *path.parent.glob("*.json.gz")):
            shutil.copyfile(file, copy.parent / file.name)
    one, other = load.load(tmp_path / "one", None), load.load(tmp_path / "other", None)
    assert_equal(one, other)
    text = "".join(getattr(one, name).to_csv() for name in FRAMES)
    assert str(tmp_path) not in text


def test_random_weights_have_speed_and_no_quality(tmp_path: Path) -> None:
    drawn = replace(BF16, random_weights=True)
    put(tmp_path, synthetic.speed_record(drawn))
    put(tmp_path, synthetic.quality_record(drawn))
    results = load.load(tmp_path, None)
    assert results.speed["random_weights"].all()
    assert results.runs["random_weights"].all()
    assert results.quality.empty
    assert set(results.history["stage"]) == {"speed"}


def test_an_accuracy_has_wilsons_interval_and_its_chance(tmp_path: Path) -> None:
    record, sidecars = synthetic.quality_record(BF16, documents=150)
    put(tmp_path, (record, sidecars))
    results = load.load(tmp_path, None)
    rows = json.loads(gzip.decompress(sidecars[0]))
    for row in load.rows_of(results.quality):
        correct = sum(each[row["metric"]] for each in rows)
        assert estimate(row, "value", "n") == stats.proportion(correct, 150)
        assert row["chance"] == 0.25
        assert row["stderr"] == pytest.approx(row["value_se"])


def test_a_metric_that_is_no_share_keeps_its_own_error_and_no_interval(tmp_path: Path) -> None:
    record, sidecars = synthetic.quality_record(BF16)
    raw = record.model_dump(mode="json")
    raw["quality"]["tasks"][0]["metrics"] = [
        {"name": "word_perplexity", "value": 12.5, "stderr": 0.25}
    ]
    put(tmp_path, (Record.model_validate_json(canonical_json(raw)), sidecars))
    [row] = load.rows_of(load.load(tmp_path, None).quality)
    assert (row["value"], row["value_se"], row["value_low"]) == (12.5, 0.25, None)


def test_a_newer_schema_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = put(tmp_path, synthetic.speed_record(BF16))
    raw = json.loads(path.read_text())
    path.write_text(canonical_json({**raw, "schema_version": 2}))
    with pytest.raises(ConfigError, match="schema 2, this program knows 1") as error:
        load.load(tmp_path, None)
    assert error.value.fix == "update this program (git pull)"


def test_a_record_in_another_variants_folder_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, synthetic.speed_record(BF16))
    elsewhere = tmp_path / "l40" / "other"
    elsewhere.mkdir()
    path.rename(elsewhere / path.name)
    with pytest.raises(ConfigError, match="is a record of l40/qwen3-8b-bf16"):
        load.load(tmp_path, None)


def test_a_sidecar_of_other_repeats_is_refused(tmp_path: Path) -> None:
    record, sidecars = synthetic.speed_record(BF16)
    rows = json.loads(gzip.decompress(sidecars[0]))
    sidecar, data = store.pack_sidecar(rows[::-1])
    raw = record.model_dump(mode="json")
    raw["speed"]["requests"] = sidecar.model_dump(mode="json")
    put(tmp_path, (Record.model_validate_json(canonical_json(raw)), [data]))
    with pytest.raises(ConfigError, match="does not hold its repeats in their order"):
        load.load(tmp_path, None)


def test_anchors_are_unique_and_safe_in_a_url(tmp_path: Path) -> None:
    synthetic.write_demo(tmp_path)
    put(
        tmp_path,
        synthetic.speed_record(
            BF16, rates=(2.5, 25.0, math.inf), finished=START + timedelta(weeks=9)
        ),
    )
    results = load.load(tmp_path, REFERENCE)
    anchors = [*results.speed["anchor"], *results.quality["anchor"]]
    assert len(set(anchors)) == len(anchors)
    assert all(anchor.replace("_", "").replace("-", "").isalnum() for anchor in anchors)


def test_a_machine_is_its_processor(tmp_path: Path) -> None:
    synthetic.write(tmp_path, (SMALL,), LAPTOP)
    synthetic.write(tmp_path, (SMALL,), L40)
    runs = load.load(tmp_path, None).runs
    assert dict(zip(runs["hardware"], runs["machine"], strict=True)) == {
        "laptop": "Intel Core i7-1365U (16 CPUs)",
        "l40": "1 × NVIDIA L40",
    }


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(6)))
def test_a_frame_does_not_depend_on_the_order_of_its_rows(order: list[int]) -> None:
    rows: list[dict[str, Any]] = [
        {"source": "measured", "hardware": f"h{i % 2}", "family": "f", "variant": f"v{i}"}
        for i in range(6)
    ]
    keys = ["source", "hardware", "family", "variant"]
    columns = {key: SPEED[key] for key in (*keys, "parameters", "tpot_mean_ms")}
    straight = load.frame(rows, columns, keys)
    pd.testing.assert_frame_equal(load.frame([rows[i] for i in order], columns, keys), straight)


finite = st.floats(-1e9, 1e9)


@given(finite, st.none() | st.tuples(finite, finite), st.none() | finite, st.integers(1, 9))
def test_an_estimate_survives_its_row(
    value: float, ends: tuple[float, float] | None, error: float | None, n: int
) -> None:
    interval = stats.Interval(*ends, 0.95) if ends else None
    made = stats.Estimate(value, interval, error, n)
    assert estimate({**spread("x", made), "repeats": n}, "x") == made


@given(st.floats(1, 1000), st.floats(1, 1000), st.floats(0, 50), st.floats(1, 1000), st.booleans())
def test_within_the_service_level_only_where_the_interval_says_so(
    ttft: float, limit: float, half: float, tpot: float, known: bool
) -> None:
    row: dict[str, Any] = {"limit_ttft_p90_ms": limit, "limit_tpot_p90_ms": 50.0}
    for name, value in (("ttft_p90_ms", ttft), ("tpot_p90_ms", tpot)):
        ends = (value - half, value + half) if known else (None, None)
        row |= {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}
    answer, reach = sustained(row), half if known else 0.0
    assert (answer == "yes") == (ttft + reach <= limit and tpot + reach <= 50)
    assert (answer == "no") == (ttft - reach > limit or tpot - reach > 50)
    assert sustained({**row, "limit_ttft_p90_ms": None}) == "unknown"


def test_synthetic_records_are_the_same_every_time(tmp_path: Path) -> None:
    one, other = synthetic.write_demo(tmp_path / "a"), synthetic.write_demo(tmp_path / "b")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    synthetic.write_many(tmp_path / "many", 160, prompts=5)
    assert len(load.load(tmp_path / "many", None).runs) == 160
    assert synthetic.speed_record(FP8)[1] != synthetic.speed_record(FP8, seed=1)[1]


def test_several_processes_load_what_one_loads_and_say_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.write_demo(tmp_path)
    alone = load.load(tmp_path, None)
    monkeypatch.setattr(load, "_MANY", 1)
    together = load.load(tmp_path, None)
    for name in ("runs", "speed", "quality", "repeats", "history"):
        pd.testing.assert_frame_equal(getattr(alone, name), getattr(together, name))
    path = store.paths(tmp_path)[0]
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"schema_version is missing\n  fix: this is not") as told:
        load.load(tmp_path, None)
    assert str(path) in str(told.value)

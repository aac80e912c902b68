"""Rows from records: what is current, what each number is, and that nothing else matters."""

import gzip
import json
import math
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import nonsense
import numpy as np
import pytest
import synthetic
from folders import REFERENCE
from hypothesis import given
from hypothesis import strategies as st
from synthetic import BF16, FP8, L40, LAPTOP, SMALL, START

from bench.errors import ConfigError
from bench.records import store
from bench.records.record import Record, canonical_json
from report import stats
from report.rows.measured import sustained
from report.rows.results import Results, load
from report.rows.rows import Metric

ROWS = ("runs", "speed", "quality", "repeats", "history")
LATER = START + timedelta(days=1)


def put(root: Path, made: tuple[Record, list[bytes]]) -> Path:
    return store.write(root, *made)


def assert_equal(one: Results, other: Results) -> None:
    for name in ROWS:
        assert getattr(one, name) == getattr(other, name)


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_without_records_there_are_no_rows(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    results = load(tmp_path / folder, None)
    assert not any(getattr(results, name) for name in ROWS)


def test_numbers_are_those_of_the_record_and_its_sidecar(tmp_path: Path) -> None:
    record, sidecars = synthetic.speed_record(BF16, rates=(10.0,), prompts=50)
    put(tmp_path, (record, sidecars))
    [row] = load(tmp_path, None).speed
    assert record.speed is not None
    repeats = record.speed.loads[0].repeats
    requests = json.loads(gzip.decompress(sidecars[0]))

    tpot = row.metrics[Metric.TPOT_MEAN]
    assert tpot.value == pytest.approx(np.mean([repeat.tpot_ms.mean for repeat in repeats]))
    assert (tpot.interval, tpot.n, row.sessions) == (None, 1, 1)
    pooled = np.concatenate([sample["ttft_ms"] for sample in requests])
    ttft = row.metrics[Metric.TTFT_P90]
    assert ttft.value == pytest.approx(np.percentile(pooled, 90))
    good = [
        sum(t <= 500 and p <= 50 for t, p in zip(s["ttft_ms"], s["tpot_ms"], strict=True))
        for s in requests
    ]
    rates = [count / repeat.duration_s for count, repeat in zip(good, repeats, strict=True)]
    assert row.metrics[Metric.GOODPUT].value == pytest.approx(np.mean(rates))
    tokens_per_hour = row.metrics[Metric.OUTPUT].value * 3600
    assert row.usd_per_million_output_tokens == pytest.approx(0.8 / tokens_per_hour * 1e6)
    assert row.record == f"l40/qwen3-8b-bf16/{store.file_name(record)}"
    assert (row.source, row.repeats, row.finished_at) == (
        "measured",
        3,
        "2026-03-01T12:00:00Z",
    )


def test_sessions_add_up_and_a_failure_takes_nothing_away(tmp_path: Path) -> None:
    paths = [
        put(tmp_path, synthetic.speed_record(BF16, finished=time, seed=seed))
        for seed, time in enumerate((START, LATER))
    ]
    put(tmp_path, (synthetic.failed_record(BF16, finished=LATER + timedelta(days=1)), []))
    results = load(tmp_path, None)
    where = tuple(path.relative_to(tmp_path).as_posix() for path in paths)
    assert {row.records for row in results.speed} == {where}
    assert {(row.sessions, row.repeats) for row in results.speed} == {(2, 6)}
    assert {row.record for row in results.repeats} == set(where)
    assert [run.status for run in results.runs] == ["ok", "ok", "failed"]
    assert [run.current for run in results.runs] == [True, True, False]
    assert results.runs[-1].error == "the server died: out of memory"
    assert results.record(where[1]).provenance.finished_at == LATER
    assert results.record(where[1]) is results.record(where[1])
    for row in results.speed:
        values = [value for value in row.by_session[Metric.TPOT_MEAN] if value is not None]
        tpot = row.metrics[Metric.TPOT_MEAN]
        assert tpot.value == pytest.approx(np.exp(np.mean(np.log(values))))
        assert tpot.interval is not None
        assert tpot.interval.low < min(values) < max(values) < tpot.interval.high


def test_another_machine_or_workload_is_no_session_of_the_same(tmp_path: Path) -> None:
    put(tmp_path, synthetic.speed_record(BF16))
    other = replace(L40, gpu_name="NVIDIA L40S")
    put(tmp_path, synthetic.speed_record(BF16, other, finished=LATER))
    assert {(row.sessions, row.machine) for row in load(tmp_path, None).speed} == {
        (1, "1 × NVIDIA L40S")
    }


def test_batches_of_documents_add_up_and_the_last_answer_counts(tmp_path: Path) -> None:
    first = put(tmp_path, synthetic.quality_record(BF16, documents=100))
    later = replace(BF16, accuracy=0.3)
    second = put(tmp_path, synthetic.quality_record(later, documents=60, finished=LATER))
    results = load(tmp_path, None)
    where = tuple(path.relative_to(tmp_path).as_posix() for path in (first, second))
    [acc] = [row for row in results.quality if row.metric == "acc"]
    assert (acc.records, acc.n) == (where, 100)
    kept: dict[int, float] = {}
    for path in (first, second):
        record = store.read(path)
        assert record.quality
        for row in store.read_sidecar(path, record.quality.tasks[0].samples):
            kept[row["doc"]] = row["acc"]
    assert acc.value.value == pytest.approx(np.mean(list(kept.values())))


def test_newest_is_decided_by_time_not_by_key_or_file_name(tmp_path: Path) -> None:
    """An older record of another spec may have the later file name where times are equal."""
    put(tmp_path, synthetic.speed_record(BF16, finished=LATER, prompts=24))
    newer = put(
        tmp_path, synthetic.speed_record(BF16, finished=LATER + timedelta(seconds=1), prompts=30)
    )
    rows = load(tmp_path, None).speed
    assert {row.record for row in rows} == {newer.relative_to(tmp_path).as_posix()}
    assert {row.prompts for row in rows} == {30}


def test_a_partial_record_counts_and_is_marked(tmp_path: Path) -> None:
    record, sidecars = synthetic.speed_record(BF16)
    put(tmp_path, (record.model_copy(update={"status": "partial"}), sidecars))
    assert {row.status for row in load(tmp_path, None).speed} == {"partial"}


def test_a_newer_partial_record_hides_no_complete_one_of_the_same_key(tmp_path: Path) -> None:
    """The newest that is complete is what is shown; a new key's partial stands in."""

    def partial(day: int, prompts: int) -> None:
        record, sidecars = synthetic.speed_record(
            BF16, finished=START + timedelta(days=day), prompts=prompts
        )
        put(tmp_path, (record.model_copy(update={"status": "partial"}), sidecars))

    def shown() -> tuple[set[str], set[int]]:
        speed = load(tmp_path, None).speed
        return {row.status for row in speed}, {row.prompts for row in speed}

    put(tmp_path, synthetic.speed_record(BF16, prompts=24))
    partial(1, prompts=24)
    assert shown() == ({"ok"}, {24})
    partial(2, prompts=30)
    assert shown() == ({"partial"}, {30})
    put(tmp_path, synthetic.speed_record(BF16, prompts=30, finished=START + timedelta(days=3)))
    partial(4, prompts=30)
    assert shown() == ({"ok"}, {30})


def test_superseded_sidecars_are_not_needed_current_ones_are(tmp_path: Path) -> None:
    old = put(tmp_path, synthetic.speed_record(BF16, seed=1))
    (sidecar,) = old.parent.glob("*.json.gz")
    new = put(tmp_path, synthetic.speed_record(BF16, finished=LATER, seed=2, prompts=30))
    sidecar.unlink()
    assert len(load(tmp_path, None).speed) == 2
    for needed in new.parent.glob("*.json.gz"):
        needed.unlink()
    results = load(tmp_path, None)
    left = {each.record: each.reason for each in results.left_out}
    assert set(left) == {path.relative_to(tmp_path).as_posix() for path in (old, new)}
    for reason in left.values():
        assert reason.endswith(".json.gz: No such file or directory")
        assert str(tmp_path) not in reason


def test_order_place_and_time_of_files_do_not_matter(tmp_path: Path) -> None:
    paths = synthetic.write_demo(tmp_path / "one")
    for path in reversed(paths):
        copy = tmp_path / "other" / path.relative_to(tmp_path / "one")
        copy.parent.mkdir(parents=True, exist_ok=True)
        for file in (path, *path.parent.glob("*.json.gz")):
            shutil.copyfile(file, copy.parent / file.name)
    one, other = load(tmp_path / "one", None), load(tmp_path / "other", None)
    assert_equal(one, other)
    assert str(tmp_path) not in "".join(str(getattr(one, name)) for name in ROWS)


def test_random_weights_have_speed_and_no_quality(tmp_path: Path) -> None:
    drawn = replace(BF16, random_weights=True)
    put(tmp_path, synthetic.speed_record(drawn))
    put(tmp_path, synthetic.quality_record(drawn))
    results = load(tmp_path, None)
    assert results.speed and all(row.served.random_weights for row in results.speed)
    assert all(run.random_weights for run in results.runs)
    assert not results.quality
    assert {row.stage for row in results.history} == {"speed"}


def test_an_accuracy_has_wilsons_interval_and_its_chance(tmp_path: Path) -> None:
    record, sidecars = synthetic.quality_record(BF16, documents=150)
    put(tmp_path, (record, sidecars))
    results = load(tmp_path, None)
    rows = json.loads(gzip.decompress(sidecars[0]))
    for row in results.quality:
        correct = sum(each[row.metric] for each in rows)
        assert row.value == stats.proportion(correct, 150)
        assert row.chance == 0.25
        assert row.stderr == pytest.approx(row.value.standard_error)


def test_a_metric_that_is_no_share_keeps_its_own_error_and_no_interval(tmp_path: Path) -> None:
    record, sidecars = synthetic.quality_record(BF16)
    raw = record.model_dump(mode="json")
    raw["quality"]["tasks"][0]["metrics"] = [
        {"name": "word_perplexity", "value": 12.5, "stderr": 0.25}
    ]
    put(tmp_path, (Record.model_validate_json(canonical_json(raw)), sidecars))
    [row] = load(tmp_path, None).quality
    assert row.value == stats.Estimate(12.5, None, 0.25, row.n)


def test_a_newer_schema_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = put(tmp_path, synthetic.speed_record(BF16))
    raw = json.loads(path.read_text())
    path.write_text(canonical_json({**raw, "schema_version": 2}))
    with pytest.raises(ConfigError, match="schema 2, this program knows 1") as error:
        load(tmp_path, None)
    assert error.value.fix == "update this program (git pull)"


def test_a_record_in_another_variants_folder_is_left_out(tmp_path: Path) -> None:
    path = put(tmp_path, synthetic.speed_record(BF16))
    elsewhere = tmp_path / "l40" / "other"
    elsewhere.mkdir()
    path.rename(elsewhere / path.name)
    results = load(tmp_path, None)
    (left,) = results.left_out
    assert left.record == f"l40/other/{path.name}"
    assert left.reason.endswith("is a record of l40/qwen3-8b-bf16")
    assert not results.runs


def test_a_record_with_a_sidecar_of_other_repeats_is_left_out(tmp_path: Path) -> None:
    record, sidecars = synthetic.speed_record(BF16)
    rows = json.loads(gzip.decompress(sidecars[0]))
    sidecar, data = store.pack_sidecar(rows[::-1])
    raw = record.model_dump(mode="json")
    raw["speed"]["requests"] = sidecar.model_dump(mode="json")
    put(tmp_path, (Record.model_validate_json(canonical_json(raw)), [data]))
    (left,) = load(tmp_path, None).left_out
    assert "does not hold its repeats in their order" in left.reason


def test_a_document_without_choices_leaves_its_record_out(tmp_path: Path) -> None:
    """Ragged rows that no check foresees: the newest record that can be shown stands."""
    sound = put(tmp_path, synthetic.quality_record(BF16))
    record, sidecars = synthetic.quality_record(BF16, finished=LATER)
    rows = json.loads(gzip.decompress(sidecars[0]))
    rows[3]["bytes"] = rows[3]["loglikelihoods"] = []
    sidecar, data = store.pack_sidecar(rows)
    raw = record.model_dump(mode="json")
    raw["quality"]["tasks"][0]["samples"] = sidecar.model_dump(mode="json")
    broken = put(tmp_path, (Record.model_validate_json(canonical_json(raw)), [data]))
    results = load(tmp_path, None)
    (left,) = results.left_out
    assert left.record == broken.relative_to(tmp_path).as_posix()
    assert left.reason.startswith("ValueError: min()")
    assert {row.record for row in results.quality} == {sound.relative_to(tmp_path).as_posix()}
    assert [run.record for run in results.runs] == [sound.relative_to(tmp_path).as_posix()]


@pytest.mark.parametrize("kind", nonsense.RECORDS)
def test_a_record_that_makes_no_sense_spoils_no_other(kind: str, tmp_path: Path) -> None:
    sound = put(tmp_path, synthetic.speed_record(FP8))
    raw, sidecars = nonsense.make(kind)
    path = put(tmp_path, (Record.model_validate_json(canonical_json(raw)), sidecars))
    results = load(tmp_path, None)
    assert [left.record for left in results.left_out] == [path.relative_to(tmp_path).as_posix()]
    assert [run.record for run in results.runs] == [sound.relative_to(tmp_path).as_posix()]


def test_anchors_are_unique_and_safe_in_a_url(tmp_path: Path) -> None:
    synthetic.write_demo(tmp_path)
    put(
        tmp_path,
        synthetic.speed_record(
            BF16, rates=(2.5, 25.0, math.inf), finished=START + timedelta(weeks=9)
        ),
    )
    results = load(tmp_path, REFERENCE)
    anchors = [row.anchor for row in (*results.speed, *results.quality)]
    assert len(set(anchors)) == len(anchors)
    assert all(anchor.replace("_", "").replace("-", "").isalnum() for anchor in anchors)


def test_a_machine_is_its_processor(tmp_path: Path) -> None:
    synthetic.write(tmp_path, (SMALL,), LAPTOP)
    synthetic.write(tmp_path, (SMALL,), L40)
    runs = load(tmp_path, None).runs
    assert {run.hardware: run.machine for run in runs} == {
        "laptop": "Intel Core i7-1365U (16 CPUs)",
        "l40": "1 × NVIDIA L40",
    }


@given(st.floats(1, 1000), st.floats(1, 1000), st.floats(0, 50), st.floats(1, 1000), st.booleans())
def test_within_the_service_level_only_where_the_interval_says_so(
    ttft: float, limit: float, half: float, tpot: float, known: bool
) -> None:
    def estimate(value: float) -> stats.Estimate:
        interval = stats.Interval(value - half, value + half, 0.95) if known else None
        return stats.Estimate(value, interval, None, 3)

    metrics = {Metric.TTFT_P90: estimate(ttft), Metric.TPOT_P90: estimate(tpot)}
    answer, reach = sustained(metrics, limit, 50.0), half if known else 0.0
    assert (answer == "yes") == (ttft + reach <= limit and tpot + reach <= 50)
    assert (answer == "no") == (ttft - reach > limit or tpot - reach > 50)
    assert sustained(metrics, None, 50.0) == "unknown"


def test_synthetic_records_are_the_same_every_time(tmp_path: Path) -> None:
    one, other = synthetic.write_demo(tmp_path / "a"), synthetic.write_demo(tmp_path / "b")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    synthetic.write_many(tmp_path / "many", 160, prompts=5)
    assert len(load(tmp_path / "many", None).runs) == 160
    assert synthetic.speed_record(FP8)[1] != synthetic.speed_record(FP8, seed=1)[1]


@pytest.mark.process
def test_several_processes_load_what_one_loads_and_say_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.write_demo(tmp_path)
    alone = load(tmp_path, None)
    monkeypatch.setattr("report.rows.results._MANY", 1)
    assert_equal(load(tmp_path, None), alone)
    path = store.paths(tmp_path)[0]
    path.write_text("{}")
    (left,) = load(tmp_path, None).left_out
    assert left.record == path.relative_to(tmp_path).as_posix()
    assert left.reason == f"{left.record}: schema_version is missing"

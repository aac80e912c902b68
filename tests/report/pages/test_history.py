"""The history: what is one series, and which change a test shows."""

import gzip
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import synthetic
from synthetic import BF16, L40, START

from bench.records import store
from bench.records.record import Record, canonical_json
from report.pages import history
from report.rows.results import load

WEEK = timedelta(weeks=1)


def words(root: Path) -> dict[str, str]:
    """The verdict on each series of the first machine, by its name."""
    sections = history.sections(load(root, None))
    rows = sections[0].table.rows if sections else ()
    return {row.cells[0].text: row.cells[5].text for row in rows}


def answered(week: int, wrong: int, *, engine: str = "0.32.0") -> tuple[Record, list[bytes]]:
    """The same hundred documents, the first of them wrong: an accuracy without any chance."""
    record, [data] = synthetic.quality_record(
        BF16, finished=START + week * WEEK, documents=100, engine=engine
    )
    rows = json.loads(gzip.decompress(data))
    for row in rows:
        row["acc"] = row["acc_norm"] = int(row["doc"] >= wrong)
    sidecar, packed = store.pack_sidecar(rows)
    raw = record.model_dump(mode="json")
    [task] = raw["quality"]["tasks"]
    task["samples"] = sidecar.model_dump(mode="json")
    for metric in task["metrics"]:
        metric["value"] = 1 - wrong / 100
    return Record.model_validate_json(canonical_json(raw)), [packed]


def test_a_fall_after_equal_accuracies_is_a_change(tmp_path: Path) -> None:
    for week, wrong in enumerate((40, 40, 40)):
        store.write(tmp_path, *answered(week, wrong))
    assert set(words(tmp_path).values()) == {"always the same"}
    store.write(tmp_path, *answered(3, 78, engine="0.33.0"))
    assert set(words(tmp_path).values()) == {"changed on 2026-03-22"}
    row = history.sections(load(tmp_path, None))[0].table.rows[0]
    assert (row.cells[4].text, row.cells[6].text) == ("−38.00 pp", "0.32.0 → 0.33.0")


def test_a_few_flips_are_no_change(tmp_path: Path) -> None:
    for week, wrong in enumerate((40, 42)):
        store.write(tmp_path, *answered(week, wrong))
    assert set(words(tmp_path).values()) == {"no change"}


def test_accuracies_of_other_documents_are_tested_by_their_counts(tmp_path: Path) -> None:
    store.write(tmp_path, *answered(0, 40))
    record, sidecars = answered(1, 80)
    raw = record.model_dump(mode="json")
    raw["quality"]["tasks"][0]["documents_sha256"] = "1" * 64
    store.write(tmp_path, Record.model_validate_json(canonical_json(raw)), sidecars)
    assert set(words(tmp_path).values()) == {"changed on 2026-03-08"}


def test_another_machine_or_workload_is_another_series(tmp_path: Path) -> None:
    """Three alike, then one that is twice as slow because it is not the same thing."""
    slow: dict[str, Any] = {"finished": START + 3 * WEEK, "rates": (10.0,)}
    for week in range(3):
        made = synthetic.speed_record(
            BF16, finished=START + week * WEEK, seed=week, rates=(10.0,), prompts=60
        )
        store.write(tmp_path, *made)
    slower = replace(BF16, tpot_ms=150, ttft_ms=400)
    store.write(tmp_path, *synthetic.speed_record(slower, prompts=30, **slow))
    other = replace(L40, gpu_name="NVIDIA L40S")
    store.write(tmp_path, *synthetic.speed_record(slower, other, prompts=60, seed=9, **slow))
    assert len(words(tmp_path)) == 4
    assert set(words(tmp_path).values()) == {"no change"}


def test_another_engine_is_the_same_series_and_its_change_is_flagged(tmp_path: Path) -> None:
    for week, tpot_ms in enumerate((50, 50, 50, 50, 150)):
        variant = replace(BF16, tpot_ms=tpot_ms)
        finished, engine = START + week * WEEK, "0.33.0" if week == 4 else "0.32.0"
        made = synthetic.speed_record(
            variant, finished=finished, seed=week, rates=(10.0,), prompts=60, engine=engine
        )
        record, sidecars = made
        spec = {**record.spec, "engine": {"version": engine}}
        store.write(tmp_path, record.model_copy(update={"spec": spec}), sidecars)
    told = words(tmp_path)
    assert told["TPOT mean, ms at 10/s"] == "changed on 2026-03-29"

"""The history: what is one series, and which change a test shows."""

import gzip
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import synthetic
from synthetic import BF16, L40, START

from bench.records import store
from bench.records.record import Record, canonical_json
from report.pages import all_pages, history
from report.rows.results import load
from report.stats import Estimate

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


def test_a_few_flips_are_no_change_that_a_test_finds(tmp_path: Path) -> None:
    for week, wrong in enumerate((40, 42)):
        store.write(tmp_path, *answered(week, wrong))
    assert set(words(tmp_path).values()) == {"no change found"}


def test_what_could_not_be_tested_is_not_among_what_did_not_change(tmp_path: Path) -> None:
    for week in range(2):
        made = synthetic.speed_record(
            BF16, finished=START + week * WEEK, seed=week, rates=(10.0,), prompts=60
        )
        store.write(tmp_path, *made)
    [section] = history.sections(load(tmp_path, None))
    speeds = section.count
    assert section.told == f"No series was tested; {speeds} have too few results"
    for week in range(2):
        store.write(tmp_path, *answered(week, 40))
    [section] = history.sections(load(tmp_path, None))
    assert section.told == f"0 of 2 tested series changed; {speeds} have too few results"


@pytest.mark.parametrize(
    ("value", "word"),
    [(None, "zero or unknown"), (0.0, "zero or unknown"), (5.0, "not tested: all equal before")],
)
def test_why_a_series_was_not_tested_is_said(
    tmp_path: Path, value: float | None, word: str
) -> None:
    for week in range(3):
        made = synthetic.speed_record(
            BF16, finished=START + week * WEEK, seed=week, rates=(10.0,), prompts=60
        )
        store.write(tmp_path, *made)
    results = load(tmp_path, None)
    told = None if value is None else Estimate(value, None, None, 1)
    rows = [replace(row, value=told) if "tpot" in row.metric else row for row in results.history]
    [section] = history.sections(replace(results, history=rows))
    verdicts = {row.cells[0].text: row.cells[5].text for row in section.table.rows}
    assert verdicts["TPOT mean, ms at 10/s"].endswith(word)
    assert section.told.startswith(f"0 of {section.count - 1} tested series changed; 1 have")


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
    assert set(words(tmp_path).values()) == {"no change found"}


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


def test_a_page_has_room_for_what_changed_then_for_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says what it leaves out."""
    for week, wrong in enumerate((40, 40, 78)):
        store.write(tmp_path, *answered(week, wrong))
    for week in range(5):
        made = synthetic.speed_record(BF16, finished=START + week * WEEK, seed=week, prompts=60)
        store.write(tmp_path, *made)
    [whole] = history.sections(load(tmp_path, None))
    assert whole.left_out == 0 and whole.count == len(whole.table.rows) > 6
    assert whole.told == f"2 of {whole.count} tested series changed"
    monkeypatch.setattr(history, "_MOST", 3)
    [some] = history.sections(load(tmp_path, None))
    assert (some.count, some.told, some.left_out) == (whole.count, whole.told, whole.count - 3)
    assert [row in whole.table.rows for row in some.table.rows] == [True] * 3
    assert [row.cells[5].text for row in some.table.rows][:2] == ["changed on 2026-03-15"] * 2
    assert some.left_out_flagged == 0
    assert some.table.caption == f"3 of {whole.count} series with two or more results, NVIDIA L40"
    monkeypatch.setattr(history, "_MOST", 1)
    [one] = history.sections(load(tmp_path, None))
    assert (one.left_out, one.left_out_flagged) == (whole.count - 1, 1)
    text = next(
        page.source for page in all_pages.make(load(tmp_path, None))[0] if page.path == "history"
    )
    assert f"leaves out {whole.count - 1} series, 1 of which changed" in text

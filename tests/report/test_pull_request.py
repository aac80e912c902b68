"""The numbers of a pull request in its comment: against baselines old and new, and inert."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import hostile
import synthetic

from bench.github import comment
from bench.records import store
from report.decisions import compare
from report.pull_request import describe
from report.rows.results import load

SHA = "a" * 40


def test_new_rows_stand_against_a_committed_baseline(tmp_path: Path) -> None:
    results, measured = tmp_path / "results", tmp_path / "measured"
    for number in range(2):
        later = synthetic.START + timedelta(hours=number)
        for root, variant in ((results, synthetic.BF16), (measured, synthetic.FP8)):
            store.write(root, *synthetic.speed_record(variant, finished=later, seed=number))
    for root, variant in ((results, synthetic.BF16), (measured, synthetic.FP8)):
        store.write(root, *synthetic.quality_record(variant))
    document = describe(SHA, measured, results)
    (table,) = document.tables
    assert table.title == "l40/qwen3-8b-fp8 against l40/qwen3-8b-bf16"
    verdicts = {row[:2]: row[-1] for row in table.rows}
    assert verdicts["10 requests/s", "TPOT mean, ms"] == "faster"
    assert document.headline == "3 records of 1 variant measured."
    (sentence,) = document.sentences
    assert sentence.startswith("Qwen3-8B FP8: 32 % less time per token (")
    assert any(note.startswith("Qwen3-8B FP8 is ") and " at " in note for note in document.notes)
    text = comment.render(document, comment.links("https://github.com", "me/mine", 12))
    assert text.index("32 % less time") < text.index("<details>") < text.index("| load or task")
    assert "[run](https://github.com/me/mine/actions/runs/12)" in text
    assert "(https://me.github.io/mine/)" in text
    assert len(comment.render(document)) < comment.MAX_BODY
    assert sorted(path.name for path in tmp_path.iterdir()) == ["measured", "results"]


def test_throttling_and_every_other_caveat_of_the_terminal_is_told(tmp_path: Path) -> None:
    for variant, throttled in ((synthetic.BF16, False), (synthetic.FP8, True)):
        made = synthetic.speed_record(variant, throttled=throttled, shared=throttled)
        store.write(tmp_path / "measured", *made)
    notes = describe(SHA, tmp_path / "measured", tmp_path / "none").notes
    results = load(tmp_path / "measured", None)
    found = compare.compare(results, "qwen3-8b-bf16", ["qwen3-8b-fp8"])
    caveats = {text for each in found for text in each.caveats}
    assert any("throttled" in text for text in caveats)
    assert caveats <= set(notes)


def test_a_new_family_shows_its_own_values(tmp_path: Path) -> None:
    measured = tmp_path / "measured"
    synthetic.write(measured, [synthetic.BF16])
    (table,) = describe(SHA, measured, tmp_path / "none").tables
    assert table.title == "l40/qwen3-8b-bf16"
    assert {row[0] for row in table.rows} == {"10 requests/s", "unthrottled", "hellaswag"}
    assert all(row[3] == "" for row in table.rows if row[1] == "TPOT mean, ms")  # one session
    assert all(" – " in row[3] for row in table.rows if row[1] == "acc")


def test_a_failed_stage_is_said_inert(tmp_path: Path) -> None:
    record = synthetic.failed_record(synthetic.FP8, finished=synthetic.START + timedelta(hours=1))
    assert record.error
    bad = record.error.model_copy(update={"message": hostile.TEXTS["html"]})
    store.write(tmp_path / "measured", record.model_copy(update={"error": bad}))
    text = comment.render(describe(SHA, tmp_path / "measured", tmp_path / "none"))
    assert "‹img src=x" in text
    assert "<img" not in text

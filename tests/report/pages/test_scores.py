"""Scores of every unit from the record to the page: perplexities, groups, several seeds."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
import synthetic_parts
from synthetic import BF16, FP8
from synthetic_parts import Variant

from bench.records import store
from bench.records.record import Record, canonical_json
from report.decisions import compare
from report.differences.families import Verdicts
from report.findings.takeaways import findings
from report.pages import quality
from report.rows.results import Results, load

N = 60
GROUP = {"name": "mmlu", "version": "2", "tasks": ["mmlu_law", "mmlu_art"]}


def metric(name: str, value: float, **more: Any) -> dict[str, Any]:
    """One metric of today's records."""
    plain = {"stderr": None, "higher_is_better": True, "unit": "share", "aggregation": "mean"}
    return {"name": name, "value": value, **plain, **more}


def task(name: str, rows: list[dict[str, Any]], *metrics: dict[str, Any], **more: Any) -> Any:
    """A task's result and its rows."""
    for number, row in enumerate(rows):
        row |= {"doc": number, "hash": f"{hash_of(name)}{number:062x}"}
    plain = [{"acc": 0, "acc_norm": 0} | row for row in rows]
    found = synthetic_parts.task(name, plain, len(rows), 900, 1)
    return {**found, "choices": None, "asked": name, "metrics": list(metrics), **more}, rows


def hash_of(name: str) -> str:
    """Two digits that tell tasks apart."""
    return f"{sum(name.encode()) % 256:02x}"


def right(count: int, name: str, n: int = N) -> Any:
    """A subject of MMLU with so many right answers."""
    share = count / n
    error = math.sqrt(share * (1 - share) / (n - 1))
    rows = [{"acc": int(i < count)} for i in range(n)]
    return task(name, rows, metric("acc", share, stderr=error), asked="mmlu")


def texts(worse: float) -> Any:
    """Wikitext, of which a token more is `worse` nats less likely."""
    drawn = np.random.default_rng(5)
    words = [int(count) for count in drawn.integers(20, 90, N)]
    drifts = drawn.normal(0, 0.1, N)
    nats = [-count * (2.5 + float(x)) for count, x in zip(words, drifts, strict=True)]
    rows = [
        {"word_perplexity": [ll - worse * n * (1 + 0.1 * (-1) ** i), n]}
        for i, (ll, n) in enumerate(zip(nats, words, strict=True))
    ]
    total = -sum(row["word_perplexity"][0] for row in rows) / sum(words)
    told = {"higher_is_better": False, "unit": "perplexity", "aggregation": "weighted perplexity"}
    return task("wikitext", rows, metric("word_perplexity", math.exp(total), **told))


def sampled(values: tuple[float, ...]) -> Any:
    """GSM8K with three seeds."""
    mean = sum(values) / 3
    rows = [{"exact_match,strict-match": (i % 4) / 3} for i in range(N)]
    own = metric("exact_match,strict-match", mean, stderr=0.02, by_seed=list(values))
    more = {
        "sampling_seeds": [1234, 1235, 1236],
        "apply_chat_template": True,
        "generation": {"temperature": 0.6, "max_gen_toks": 256, "until": ["Q:"]},
    }
    return task("gsm8k", rows, own, **more)


def put(root: Path, variant: Variant, made: list[Any], groups: list[Any]) -> None:
    """A record of these tasks."""
    record, _ = synthetic.quality_record(variant)
    raw = record.model_dump(mode="json")
    packed = [store.pack_sidecar(rows) for _, rows in made]
    raw["quality"]["tasks"] = [
        {**told, "samples": sidecar.model_dump(mode="json")}
        for (told, _), (sidecar, _) in zip(made, packed, strict=True)
    ]
    raw["quality"]["groups"] = groups
    raw["spec"]["quality"] = {"tasks": [], "task": [{"name": told["asked"]} for told, _ in made]}
    store.write(root, Record.model_validate_json(canonical_json(raw)), [data for _, data in packed])


def group(count: int) -> dict[str, Any]:
    """MMLU's own figure, over both subjects."""
    whole = metric("acc", count / (2 * N), stderr=0.04, weight_by_size=True)
    return {**GROUP, "metrics": [{**whole, "unit": None, "aggregation": None}]}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A baseline and a variant whose text is less likely."""
    put(
        tmp_path, BF16,
        [right(40, "mmlu_law"), right(20, "mmlu_art"), texts(0.0), sampled((0.5, 0.4, 0.6))],
        [group(60)],
    )  # fmt: skip
    put(
        tmp_path, FP8,
        [right(39, "mmlu_law"), right(20, "mmlu_art"), texts(0.05), sampled((0.5, 0.5, 0.5))],
        [group(59)],
    )  # fmt: skip
    return load(tmp_path, None)


def test_a_group_stands_in_its_tasks_place(results: Results) -> None:
    assert {row.task for row in results.quality} == {"mmlu", "wikitext", "gsm8k"}
    assert {row.task for row in results.parts} == {"mmlu_law", "mmlu_art"}
    [mmlu] = [row for row in results.quality if row.task == "mmlu" and row.is_baseline]
    assert (mmlu.n, mmlu.value.value, mmlu.unit) == (2 * N, 0.5, "share")
    assert mmlu.value.interval
    found = {each.series: each for each in Verdicts(results).differences if each.stage == "quality"}
    assert set(found) == {"mmlu", "wikitext", "gsm8k"}
    assert (found["mmlu"].documents, found["mmlu"].lost, found["mmlu"].gained) == (2 * N, 1, 0)
    assert {row.series for row in results.history if row.stage == "quality"} == set(found)


def test_a_perplexity_is_better_the_lower_and_never_in_percent(results: Results) -> None:
    verdicts = Verdicts(results)
    [found] = [each for each in verdicts.differences if each.series == "wikitext"]
    assert found.kept
    assert found.kept.estimate == pytest.approx(math.exp(-0.05), rel=0.001)
    variant, baseline = found.values
    assert variant
    assert baseline
    assert found.verdict.estimate == pytest.approx(variant - baseline)
    assert variant > baseline
    told = compare.cells(found)
    assert "pp" not in " ".join(told)
    sections = {each.id: each for each in quality.sections(results.quality, verdicts)}
    table = sections["l40_wikitext"].table
    score = table.columns[1]
    assert (score.unit, score.better) == ("perplexity", "lower")
    assert [row.cells[0].text for row in table.rows] == [
        f"{baseline:.2f}", f"{variant:.2f}"
    ]  # fmt: skip
    headlines = [each.headline for each in findings(verdicts)]
    assert [each for each in headlines if re.search(r"\+[\d.]+ word_perplexity", each)]
    assert not [each for each in headlines if re.search(r" pp [^,;]*wikitext", each)]


def test_the_decision_is_the_mean_over_tasks_and_groups(results: Results) -> None:
    verdicts = Verdicts(results)
    who = next(row.who for row in results.quality if not row.is_baseline)
    found = verdicts.decision(who)
    assert found
    assert found.kept
    assert [each.series for each in found.tasks] == ["gsm8k", "mmlu", "wikitext"]
    kept = [each.kept.estimate for each in found.tasks if each.kept]
    assert found.kept.estimate == pytest.approx(sum(kept) / 3)


def test_seeds_and_settings_are_told(results: Results) -> None:
    sections = {each.id: each for each in quality.sections(results.quality, Verdicts(results))}
    asked = sections["l40_gsm8k"].asked
    assert "in the model's chat template" in asked
    assert "temperature 0.6, max gen toks 256, 3 seeds" in asked
    table = sections["l40_gsm8k"].table
    assert [column.key for column in table.columns][2] == "seeds"
    assert table.rows[0].cells[1].text == "10.00"
    assert sections["l40_mmlu"].table.rows[0].cells[0].text == "50.00"
    [(summary, [parts])] = sections["l40_mmlu"].more
    assert summary == "The 2 tasks of mmlu"
    assert [row.head.text for row in parts.rows] == ["mmlu_art", "mmlu_law"]


def test_what_is_kept_is_told_by_task_and_in_the_mean(results: Results) -> None:
    verdicts = Verdicts(results)
    [table] = quality.recoveries(results.quality, verdicts)
    [who] = {row.who for row in results.quality if not row.is_baseline}
    found = verdicts.decision(who)
    assert found
    assert found.kept
    assert [column.key for column in table.columns] == [
        *("variant", "mean"),
        *(each.series for each in found.tasks),
    ]
    [row] = table.rows
    kept = [found.kept, *(each.kept for each in found.tasks)]
    assert [cell.text for cell in row.cells] == [
        f"{100 * each.estimate:.1f}" for each in kept if each
    ]
    assert row.cells[0].note.startswith(found.decision.outcome)


def test_a_task_of_which_nothing_can_be_told_leaves_the_mean_open(tmp_path: Path) -> None:
    for variant, law in ((BF16, 0), (FP8, 3)):
        put(tmp_path, variant, [right(law, "mmlu_law"), texts(0.0)], [])
    results = load(tmp_path, None)
    [table] = quality.recoveries(results.quality, Verdicts(results))
    [mean, subject, text] = table.rows[0].cells
    assert (mean.text, mean.note) == ("not decided", "nothing can be told of mmlu_law")
    assert (subject.text, text.text) == ("unknown", "100.0")


def test_further_metrics_are_folded(tmp_path: Path) -> None:
    for variant in (BF16, FP8):
        store.write(tmp_path, *synthetic.quality_record(variant))
    results = load(tmp_path, None)
    [section] = quality.sections(results.quality, Verdicts(results))
    assert section.table.caption.startswith("hellaswag, acc, on")
    [(summary, [other])] = section.more
    assert summary == "Other metrics: acc_norm"
    assert other.caption.startswith("hellaswag, acc_norm, on")
    assert quality.recoveries(results.quality, Verdicts(results)) == [], "its section says it"


def test_each_family_has_an_axis_of_its_own(tmp_path: Path) -> None:
    for variant in (BF16, FP8):
        other = replace(variant, name=f"Other {variant.name}", family="Other")
        for each in (variant, other):
            store.write(tmp_path, *synthetic.quality_record(each))
    results = load(tmp_path, None)
    [section] = quality.sections(results.quality, Verdicts(results))
    assert len(section.charts) == 2
    assert {" of Other on " in chart.caption for chart in section.charts} == {True, False}
    for chart in section.charts:
        told = [value["short"] for value in chart.spec["data"]["values"]]
        assert sorted(told) == ["BF16", "FP8"]  # what all begin with is in the caption


@pytest.mark.parametrize(("documents", "words"), [(400, "guessing"), (200, "both answered")])
def test_scores_of_other_documents_are_not_drawn_side_by_side(
    documents: int, words: str, tmp_path: Path
) -> None:
    store.write(tmp_path, *synthetic.quality_record(BF16, documents=400))
    store.write(tmp_path, *synthetic.quality_record(FP8, documents=documents))
    results = load(tmp_path, None)
    [section] = quality.sections(results.quality, Verdicts(results))
    (chart,) = section.charts
    assert words in chart.caption
    groups = {row.group for row in section.table.rows}
    assert len(groups) == len({400, documents})  # what a reader's own baseline is set against

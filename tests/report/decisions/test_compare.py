"""Differences: the right rows against the right baseline, by the right test, with their caveats."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from folders import GOLDEN, REFERENCE
from statsmodels.stats.contingency_tables import mcnemar
from synthetic import AWQ, BF16, BROKEN, DEMO, FP8, L40, LAPTOP, MARLIN, SMALL, START
from synthetic_parts import Machine, Variant

from bench.errors import ConfigError
from bench.records import store
from bench.records.record import Record, canonical_json
from report import stats
from report.decisions import compare
from report.decisions.decision import decisions
from report.differences.families import Verdicts, differences
from report.differences.pair import Difference
from report.findings import takeaways
from report.pages import compare as compare_page
from report.rows.results import Results, load
from report.rows.rows import Metric
from report.stats import sessions

LATER = START + timedelta(days=1)


def results_of(root: Path, *variants: Variant, machine: Machine = L40) -> Results:
    synthetic.write(root, variants or DEMO, machine)
    return load(root, None)


def only(found: list[Difference], series: str, metric: str) -> Difference:
    [chosen] = [each for each in found if each.series == series and each.metric == metric]
    return chosen


def sessions_of(root: Path, *variants: Variant, count: int = 3, **options: Any) -> Results:
    """Every variant in so many sessions of its server, quality once."""
    for variant in variants:
        for number in range(count):
            finished = START + timedelta(hours=number)
            made = synthetic.speed_record(variant, finished=finished, seed=number, **options)
            store.write(root, *made)
        store.write(root, *synthetic.quality_record(variant))
    return load(root, None)


def test_a_ratio_is_that_of_the_sessions_and_judged_with_the_other_metrics(tmp_path: Path) -> None:
    """The interval is the one that the statistics give the sessions' means, laid side by side."""
    results = sessions_of(tmp_path, BF16, FP8)
    tpot = only(differences(results), "10", "tpot_mean_ms")
    values: dict[str, dict[str, Sequence[float | None]]] = {
        metric: {
            row.variant: row.by_session[metric] for row in results.speed if row.series == series
        }
        for metric, series in (
            (Metric.TTFT_MEAN, "10"),
            (Metric.TPOT_MEAN, "10"),
            (Metric.OUTPUT, "inf"),
        )
    }
    spread = sessions.find_spread(values)
    pools = {metric: sessions.pool(each) for metric, each in values.items()}
    expected = {
        each.metric: each
        for each in sessions.compare_family(
            pools, spread, ["qwen3-8b-bf16", "qwen3-8b-fp8"], "qwen3-8b-bf16"
        )
    }[Metric.TPOT_MEAN]
    means = {
        variant: math.exp(sum(math.log(value or math.nan) for value in each) / len(each))
        for variant, each in values[Metric.TPOT_MEAN].items()
    }
    ratio = means["qwen3-8b-fp8"] / means["qwen3-8b-bf16"]
    assert tpot.verdict.estimate == pytest.approx(ratio) == pytest.approx(expected.ratio)
    assert (tpot.verdict.interval, tpot.verdict.p) == (expected.interval, expected.p)
    assert (tpot.verdict.judged, tpot.word) == (True, "faster")


def test_what_is_not_judged_has_an_interval_and_no_verdict(tmp_path: Path) -> None:
    found = differences(sessions_of(tmp_path, BF16, FP8))
    tail = only(found, "10", "tpot_p99_ms")
    assert tail.verdict.interval is not None
    assert (tail.verdict.judged, tail.verdict.p, tail.word) == (False, None, "not judged")


def test_one_session_is_shown_and_not_judged(tmp_path: Path) -> None:
    found = differences(sessions_of(tmp_path, BF16, FP8, count=1))
    tpot = only(found, "10", "tpot_mean_ms")
    assert tpot.verdict.estimate == pytest.approx(0.66, rel=0.1)
    assert (tpot.verdict.interval, tpot.word) == (None, "one session")


def test_an_accuracy_is_paired_by_document(tmp_path: Path) -> None:
    worse = replace(FP8, accuracy=0.45)
    results = results_of(tmp_path, BF16, worse)
    difference = only(Verdicts(results).differences, "hellaswag", "acc")
    rows = {row.variant: row for row in results.quality if row.metric == "acc"}
    a, b = (
        results.answers(rows[variant].records, "hellaswag").scores["acc"] == 1
        for variant in ("qwen3-8b-fp8", "qwen3-8b-bf16")
    )
    table = [[(a & b).sum(), (a & ~b).sum()], [(b & ~a).sum(), (~a & ~b).sum()]]
    assert difference.paired
    assert difference.verdict.p == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert (difference.gained, difference.lost) == (table[0][1], table[1][0])
    assert difference.word == "loses"
    assert difference.kept is not None
    assert difference.kept.estimate == pytest.approx(a.mean() / b.mean())
    assert difference.right_probability is not None
    assert difference.changed_answers is not None
    assert difference.changed_answers.value >= np.mean(a != b)
    assert difference.shift is not None
    normed = only(differences(results), "hellaswag", "acc_norm")
    assert (normed.changed_answers, normed.shift) == (None, difference.shift)
    assert (normed.decision, normed.word) == (None, "not judged")


def test_other_documents_are_not_paired_and_that_is_said(tmp_path: Path) -> None:
    store.write(tmp_path, *synthetic.quality_record(BF16))
    store.write(tmp_path, *synthetic.quality_record(FP8, document_seed=9))
    difference = only(differences(load(tmp_path, None)), "hellaswag", "acc")
    assert not difference.paired
    assert difference.gained is None
    assert "not the same documents" in difference.caveats[0]
    assert difference.verdict.test == "z, pooled rate (unpaired)"


def generated(variant: Variant, right: list[int]) -> tuple[Record, list[bytes]]:
    """A task whose answers are text: no choices, one filtered metric, as lm-eval's gsm8k."""
    record, _ = synthetic.quality_record(variant, tasks=("gsm8k",), documents=len(right))
    rows = [{"doc": i, "hash": f"{i:064x}", "exact_match": x} for i, x in enumerate(right)]
    sidecar, data = store.pack_sidecar(rows)
    raw = record.model_dump(mode="json")
    [task] = raw["quality"]["tasks"]
    metrics = [("exact_match", sum(right) / len(right)), ("exact_match,strict-match", 0.5)]
    task["choices"] = None
    task["samples"] = sidecar.model_dump(mode="json")
    task["metrics"] = [{"name": n, "value": v, "stderr": None} for n, v in metrics]
    return Record.model_validate_json(canonical_json(raw)), [data]


def test_generated_answers_are_paired_by_what_was_kept_of_them(tmp_path: Path) -> None:
    store.write(tmp_path, *generated(BF16, [1] * 30 + [0] * 10))
    store.write(tmp_path, *generated(FP8, [1] * 20 + [0] * 20))
    results = load(tmp_path, None)
    found = differences(results)
    kept = only(found, "gsm8k", "exact_match")
    assert kept.paired
    assert (kept.gained, kept.lost, kept.shift, kept.changed_answers) == (0, 10, None, None)
    filtered = only(found, "gsm8k", "exact_match,strict-match")
    assert not filtered.paired
    assert filtered.verdict.estimate == 0
    assert takeaways.findings(Verdicts(results))


def test_documents_are_paired_by_their_hash_whatever_else_was_asked(tmp_path: Path) -> None:
    """Half of the documents are shared: those are compared, in two batches as in one."""
    store.write(tmp_path, *synthetic.quality_record(BF16, documents=200))
    store.write(tmp_path, *synthetic.quality_record(FP8, documents=100))
    [half] = [d for d in differences(load(tmp_path, None)) if d.metric == "acc"]
    assert (half.documents, half.paired) == (100, True)


def verdicts(found: list[Difference]) -> dict[tuple[str, str], stats.Verdict]:
    return {(each.series, each.metric): each.verdict for each in found if each.stage != "memory"}


def test_the_terminal_says_what_the_site_says(tmp_path: Path) -> None:
    """The pair with the baseline, and any other: as on the compare page, in both orders."""
    results = sessions_of(tmp_path, BF16, FP8, AWQ, MARLIN)
    verdicts = Verdicts(results)
    [section] = compare_page.sections(decisions(verdicts), verdicts)
    table = section.pairs
    assert table is not None
    assert len(table.rows) == 12
    for row in table.rows:
        a, b = (each.rpartition(".")[2] for each in row.pair.split())
        found = compare.compare(results, b, [a])
        for series, metric, cell in (
            ("10", "tpot_mean_ms", row.cells[2]),
            ("inf", "output_throughput_tps", row.cells[3]),
            ("hellaswag", "acc", row.cells[4]),
        ):
            assert only(found, series, metric).word.startswith(cell.word)


def test_the_terminal_has_the_words_of_the_sentence_and_says_which_documents(
    tmp_path: Path,
) -> None:
    results = sessions_of(tmp_path, BF16, FP8)
    found = compare.compare(results, "qwen3-8b-bf16", ["qwen3-8b-fp8"])
    said = compare.sentences(results)
    text = compare.plain(found, said)
    accuracy = only(found, "hellaswag", "acc")
    kept, between, verdict = compare.cells(accuracy)[-3:]
    assert kept.endswith(" % kept")
    sentence = said["measured", "l40", "qwen3-8b-fp8"]
    assert f"{kept.removesuffix(' kept')}, {between}" in sentence
    assert verdict.partition(":")[0] in sentence
    assert "keeps" not in between
    told = f"note: hellaswag: scores are on the {accuracy.documents} documents that both answered"
    assert text.count(told) == 1


@pytest.mark.parametrize("accuracy", [0.62, 0.3])
def test_an_unpaired_test_has_one_word_in_the_sentence_and_in_the_table(
    tmp_path: Path, accuracy: float
) -> None:
    store.write(tmp_path, *synthetic.quality_record(BF16, tasks=("arc_easy",)))
    variant = replace(FP8, accuracy=accuracy)
    store.write(tmp_path, *synthetic.quality_record(variant, tasks=("arc_easy",), document_seed=9))
    results = load(tmp_path, None)
    found = compare.compare(results, "qwen3-8b-bf16", ["qwen3-8b-fp8"])
    word = only(found, "arc_easy", "acc").word
    assert word == ("loses" if accuracy < 0.5 else "undecided")
    assert word in compare.sentences(results)["measured", "l40", "qwen3-8b-fp8"]


def test_the_weights_shown_are_those_that_are_compared(tmp_path: Path) -> None:
    """The engine may tell a little more or less of them from one start to the next."""
    store.write(tmp_path, *synthetic.speed_record(BF16))
    store.write(tmp_path, *synthetic.quality_record(BF16))
    store.write(tmp_path, *synthetic.speed_record(FP8))
    store.write(tmp_path, *synthetic.quality_record(replace(FP8, weights_gib=7.0)))
    verdicts = Verdicts(load(tmp_path, None))
    [decision] = decisions(verdicts)
    baseline, fp8 = decision.variants
    assert fp8.memory and baseline.weights_gib and fp8.weights_gib
    ratio = fp8.weights_gib / baseline.weights_gib
    assert fp8.memory.verdict.estimate == pytest.approx(ratio)


def test_swapping_the_two_swaps_the_verdict_whoever_else_is_measured(tmp_path: Path) -> None:
    slight = replace(FP8, name="Qwen3-8B slight", tpot_ms=49.5, ttft_ms=99.0)
    others = [replace(BF16, name=f"Qwen3-8B twin {i}", baseline=False) for i in range(4)]
    results = sessions_of(tmp_path, BF16, slight, AWQ, *others)
    names = [each.name.lower().replace(" ", "-") for each in (BF16, slight, AWQ, others[0])]
    for a, b in combinations(names, 2):
        there = verdicts(compare.compare(results, b, [a]))
        back = verdicts(compare.compare(results, a, [b]))
        swap = {"higher": "lower", "lower": "higher"}
        for key, one in there.items():
            other = back[key]
            assert other.outcome == swap.get(one.outcome, one.outcome)
            if one.p is not None:
                assert other.p == pytest.approx(one.p)


def test_every_variant_meets_its_own_baseline_on_its_own_machine(tmp_path: Path) -> None:
    synthetic.write_demo(tmp_path)
    found = differences(load(tmp_path, REFERENCE))
    met = {(d.a.source, d.a.hardware, d.a.variant, d.b.variant) for d in found}
    assert all((d.a.source, d.a.hardware) == (d.b.source, d.b.hardware) for d in found)
    assert ("measured", "laptop", "qwen3-0-6b-int2", "qwen3-0-6b-bf16") in met
    published = {(a, b) for source, _, a, b in met if source == "published"}
    assert ("l40-2025-qwen3-8b-fp8", "l40-2025-qwen3-8b-bf16") in published
    assert {b for _, b in published} == {"l40-2025-qwen3-8b-bf16", "l40-2025-llama-3-1-70b-awq"}


def test_without_its_baseline_a_variant_is_compared_with_nothing(tmp_path: Path) -> None:
    assert differences(results_of(tmp_path, FP8, MARLIN)) == []


def test_a_family_whose_baseline_changed_uses_the_newest(tmp_path: Path) -> None:
    store.write(tmp_path, *synthetic.speed_record(BF16))
    store.write(tmp_path, *synthetic.speed_record(FP8, finished=START))
    store.write(tmp_path, *synthetic.speed_record(replace(MARLIN, baseline=True), finished=LATER))
    found = differences(load(tmp_path, None))
    assert {d.b.variant for d in found} == {"qwen3-8b-awq-marlin"}


def test_swapping_the_two_turns_every_ratio_and_sign(tmp_path: Path) -> None:
    results = results_of(tmp_path, BF16, FP8)
    straight = compare.compare(results, "qwen3-8b-bf16", ["qwen3-8b-fp8"])
    turned = compare.compare(results, "qwen3-8b-fp8", ["qwen3-8b-bf16"])
    for one, other in zip(straight, turned, strict=True):
        assert (one.series, one.metric, one.a) == (other.series, other.metric, other.b)
        assert one.verdict.p == (other.verdict.p and pytest.approx(other.verdict.p))
        assert one.verdict.estimate is not None
        assert other.verdict.estimate is not None
        if one.stage == "quality":
            assert one.verdict.estimate == pytest.approx(-other.verdict.estimate)
        else:
            assert one.verdict.estimate == pytest.approx(1 / other.verdict.estimate)


def test_two_records_of_one_variant_are_one_session_each(tmp_path: Path) -> None:
    paths = [
        store.write(tmp_path, *synthetic.speed_record(FP8, finished=time, seed=seed))
        for seed, time in enumerate((START, LATER))
    ]
    old, new = (path.relative_to(tmp_path).as_posix() for path in paths)
    found = compare.compare(load(tmp_path, None), old, [new])
    words = {each.word for each in found if each.stage == "speed"}
    assert words == {"one session"}
    assert compare.plain(found, {}).startswith(f"{new} against {old}\n")


def test_machines_under_one_id_that_differ_are_named(tmp_path: Path) -> None:
    store.write(tmp_path, *synthetic.speed_record(BF16))
    other = replace(L40, gpu_name="NVIDIA L40S")
    store.write(tmp_path, *synthetic.speed_record(FP8, other, throttled=True))
    found = differences(load(tmp_path, None))
    expected = (
        "different machines under one hardware id: 1 × NVIDIA L40S; 1 × NVIDIA L40",
        "Qwen3-8B FP8 ran throttled",
    )
    assert {each.caveats for each in found} == {expected}
    assert expected[0] in compare.plain(found, {})


def test_another_engine_version_is_a_caveat(tmp_path: Path) -> None:
    store.write(tmp_path, *synthetic.speed_record(BF16))
    store.write(tmp_path, *synthetic.speed_record(FP8, engine="0.33.0", prompts=30))
    found = compare.compare(load(tmp_path, None), "qwen3-8b-bf16", ["qwen3-8b-fp8"])
    assert "different vLLM versions: 0.33.0; 0.32.0" in found[0].caveats
    assert "different numbers of prompts: 30 and 24" in found[0].caveats


def test_a_variant_on_two_machines_is_compared_on_both_or_the_one_named(tmp_path: Path) -> None:
    results_of(tmp_path, SMALL, BROKEN)
    results = results_of(tmp_path, SMALL, BROKEN, machine=LAPTOP)
    a, b = "qwen3-0-6b-int2", "qwen3-0-6b-bf16"
    both = compare.compare(results, b, [a])
    assert {each.a.hardware for each in both} == {"l40", "laptop"}
    for one in (
        compare.compare(results, b, [a], hardware="l40"),
        compare.compare(results, b, [f"l40/{a}"]),
    ):
        assert {each.a.hardware for each in one} == {"l40"}
    across = compare.compare(results, f"laptop/{a}", [f"l40/{a}"])
    assert "different machines: NVIDIA L40; A laptop, no GPU" in across[0].caveats


@pytest.mark.parametrize(
    ("a", "b", "message", "fix"),
    [
        ("qwen3-8b-fp9", "qwen3-8b-bf16", "no current result is named", "qwen3-8b-fp8"),
        ("x/y/none.json", "qwen3-8b-bf16", "there is no such record", "under the results"),
        ("qwen3-8b-fp8", "elsewhere", "no machine has both", "hardware/variant"),
        ("llama", "qwen3-8b-fp8", "share no load and no task", "same settings"),
    ],
)
def test_what_cannot_be_compared_is_said(
    tmp_path: Path, a: str, b: str, message: str, fix: str
) -> None:
    results_of(tmp_path, BF16, FP8)
    for number in (1, 2):
        machine = replace(L40, id=f"m{number}")
        elsewhere = replace(BF16, name="elsewhere")
        store.write(tmp_path, *synthetic.speed_record(elsewhere, machine))
    unlike = replace(BF16, name="llama", weights_gib=0.0)
    store.write(tmp_path, *synthetic.speed_record(unlike, rates=(3.0,)))
    with pytest.raises(ConfigError) as error:
        compare.compare(load(tmp_path, None), b, [a])
    assert message in error.value.message
    assert fix in error.value.fix


def test_the_published_pair_as_markdown() -> None:
    results = load(Path("nowhere"), REFERENCE)
    found = compare.compare(results, "l40-2025-qwen3-8b-bf16", ["l40-2025-qwen3-8b-fp8"])
    assert compare.plain(found, compare.sentences(results)) == (GOLDEN / "compare.txt").read_text()


def test_single_runs_have_no_verdict() -> None:
    results = load(Path("nowhere"), REFERENCE)
    speed = [each for each in differences(results) if each.stage == "speed"]
    assert len(speed) == 3 * 7
    assert {each.word for each in speed} == {"one run"}
    assert all(math.isfinite(each.verdict.estimate or math.nan) for each in speed)

"""Differences: the right rows against the right baseline, by the right test, with their caveats."""

import math
from dataclasses import replace
from datetime import timedelta
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import synthetic
from folders import GOLDEN, REFERENCE
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from synthetic import AWQ, BF16, BROKEN, DEMO, FP8, L40, LAPTOP, MARLIN, SMALL, START
from synthetic_parts import Machine, Variant

from bench.errors import ConfigError
from bench.records import store
from bench.records.record import Record, canonical_json
from report import stats
from report.differences import compare
from report.differences.families import Verdicts, differences
from report.differences.pair import Difference
from report.findings import takeaways
from report.pages import compare as compare_page
from report.rows.results import Results, load

LATER = START + timedelta(days=1)


def results_of(root: Path, *variants: Variant, machine: Machine = L40) -> Results:
    synthetic.write(root, variants or DEMO, machine)
    return load(root, None)


def only(found: list[Difference], series: str, metric: str) -> Difference:
    [chosen] = [each for each in found if each.series == series and each.metric == metric]
    return chosen


def test_a_ratio_and_its_p_are_welchs_on_the_log_scale(tmp_path: Path) -> None:
    record, sidecars = synthetic.speed_record(FP8, rates=(10.0,))
    other, more = synthetic.speed_record(BF16, rates=(10.0,))
    for made in ((record, sidecars), (other, more)):
        store.write(tmp_path, *made)
    found = differences(load(tmp_path, None))
    tpot = only(found, "10", "tpot_mean_ms")
    assert record.speed is not None
    assert other.speed is not None
    a = [repeat.tpot_ms.mean for repeat in record.speed.loads[0].repeats]
    b = [repeat.tpot_ms.mean for repeat in other.speed.loads[0].repeats]
    assert tpot.verdict.estimate == pytest.approx(np.mean(a) / np.mean(b))
    # With a spread of one percent the logarithm is as good as straight.
    welch = scipy_stats.ttest_ind(np.log(a), np.log(b), equal_var=False)
    assert tpot.verdict.p == pytest.approx(welch.pvalue, rel=0.05)
    assert tpot.word == "faster"


def test_an_accuracy_is_paired_by_document(tmp_path: Path) -> None:
    worse = replace(FP8, accuracy=0.45)
    results = results_of(tmp_path, BF16, worse)
    difference = only(differences(results), "hellaswag", "acc")
    rows = {row.variant: row for row in results.quality if row.metric == "acc"}
    a, b = (
        results.answers(rows[variant].record, "hellaswag").right["acc"]
        for variant in ("qwen3-8b-fp8", "qwen3-8b-bf16")
    )
    table = [[(a & b).sum(), (a & ~b).sum()], [(b & ~a).sum(), (~a & ~b).sum()]]
    assert difference.paired
    assert difference.verdict.p == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert (difference.gained, difference.lost) == (table[0][1], table[1][0])
    assert difference.word == "worse"
    assert difference.changed_answers is not None
    assert difference.changed_answers.value >= np.mean(a != b)
    assert difference.shift is not None
    normed = only(differences(results), "hellaswag", "acc_norm")
    assert (normed.changed_answers, normed.shift) == (None, difference.shift)


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


def test_a_familys_variants_are_corrected_together(tmp_path: Path) -> None:
    """One latency at one load over all variants; one task over all variants and metrics."""
    results = results_of(tmp_path, BF16, FP8, AWQ, MARLIN)
    found = differences(results)
    latency = [d for d in found if (d.series, d.metric) == ("inf", "ttft_mean_ms")]
    task = [d for d in found if d.series == "hellaswag"]
    assert (len(latency), len(task)) == (3, 6)
    for family in (latency, task):
        raw = [each.verdict.p for each in family]
        corrected = multipletests(raw, method="holm")[1]
        assert [each.verdict.p_adjusted for each in family] == pytest.approx(list(corrected))


def verdicts(found: list[Difference]) -> dict[tuple[str, str], stats.Verdict]:
    return {(each.series, each.metric): each.verdict for each in found if each.stage != "memory"}


def test_the_terminal_says_what_the_site_says(tmp_path: Path) -> None:
    """The pair with the baseline, and any other: as on the compare page, in both orders."""
    results = results_of(tmp_path, BF16, FP8, AWQ, MARLIN)
    verdicts = Verdicts(results)
    for difference in compare.compare(results, "qwen3-8b-awq", "qwen3-8b-bf16"):
        assert difference in verdicts.differences
    table = compare_page.pairs(results.speed, results.quality, verdicts)
    assert table is not None
    assert len(table.rows) == 6
    for row in table.rows:
        a, b = (each.rpartition(".")[2] for each in row.pair.split())
        found = compare.compare(results, a, b)
        for series, metric, cell in (
            ("10", "tpot_mean_ms", row.cells[2]),
            ("inf", "output_throughput_tps", row.cells[3]),
            ("hellaswag", "acc", row.cells[4]),
            ("hellaswag", "acc_norm", row.cells[5]),
        ):
            assert cell.note.startswith(only(found, series, metric).word)


def test_pairs_without_the_baseline_are_corrected_together(tmp_path: Path) -> None:
    results = results_of(tmp_path, BF16, FP8, AWQ, MARLIN)
    couples = [("awq", "awq-marlin"), ("awq", "fp8"), ("awq-marlin", "fp8")]
    found = [compare.compare(results, f"qwen3-8b-{a}", f"qwen3-8b-{b}") for a, b in couples]
    tests = [only(each, "10", "tpot_mean_ms").verdict for each in found]
    corrected = multipletests([test.p for test in tests], method="holm")[1]
    assert [test.p_adjusted for test in tests] == pytest.approx(list(corrected))
    assert {test.tests for test in tests} == {3}
    assert only(found[0], "hellaswag", "acc").verdict.tests == 6


def test_swapping_the_two_swaps_the_verdict_whoever_else_is_tested(tmp_path: Path) -> None:
    """An effect that only its correction makes noise must be noise in both directions."""
    slight = replace(FP8, name="Qwen3-8B slight", tpot_ms=49.0, ttft_ms=98.0)
    others = [replace(BF16, name=f"Qwen3-8B twin {i}", baseline=False) for i in range(4)]
    results = results_of(tmp_path, BF16, slight, AWQ, *others)
    names = [each.name.lower().replace(" ", "-") for each in (BF16, slight, AWQ, others[0])]
    hidden = 0
    for a, b in combinations(names, 2):
        straight, turned = compare.compare(results, a, b), compare.compare(results, b, a)
        there, back = verdicts(straight), verdicts(turned)
        swap = {"higher": "lower", "lower": "higher"}
        for key, one in there.items():
            other = back[key]
            assert other.outcome == swap.get(one.outcome, one.outcome)
            assert other.p_adjusted == pytest.approx(one.p_adjusted)
            hidden += one.p is not None and one.p < 0.05 and not one.significant
    assert hidden


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
    straight = compare.compare(results, "qwen3-8b-fp8", "qwen3-8b-bf16")
    turned = compare.compare(results, "qwen3-8b-bf16", "qwen3-8b-fp8")
    for one, other in zip(straight, turned, strict=True):
        assert (one.series, one.metric, one.a) == (other.series, other.metric, other.b)
        assert one.verdict.p == pytest.approx(other.verdict.p)
        assert one.verdict.estimate is not None
        assert other.verdict.estimate is not None
        if one.stage == "quality":
            assert one.verdict.estimate == pytest.approx(-other.verdict.estimate)
        else:
            assert one.verdict.estimate == pytest.approx(1 / other.verdict.estimate)


def test_two_records_of_one_variant_show_the_noise(tmp_path: Path) -> None:
    paths = [
        store.write(tmp_path, *synthetic.speed_record(FP8, finished=time, seed=seed))
        for seed, time in enumerate((START, LATER))
    ]
    old, new = (path.relative_to(tmp_path).as_posix() for path in paths)
    found = compare.compare(load(tmp_path, None), new, old)
    words = {each.word for each in found if each.stage == "speed"}
    assert words == {"cannot be told from noise"}
    assert f"A  {new}\nB  {old}\n" in compare.plain(found)


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
    assert expected[0] in compare.plain(found)


def test_another_engine_version_is_a_caveat(tmp_path: Path) -> None:
    store.write(tmp_path, *synthetic.speed_record(BF16))
    store.write(tmp_path, *synthetic.speed_record(FP8, engine="0.33.0", prompts=30))
    found = compare.compare(load(tmp_path, None), "qwen3-8b-fp8", "qwen3-8b-bf16")
    assert "different vLLM versions: 0.33.0; 0.32.0" in found[0].caveats
    assert "different numbers of prompts: 30 and 24" in found[0].caveats


def test_a_variant_on_two_machines_is_compared_on_both_or_the_one_named(tmp_path: Path) -> None:
    results_of(tmp_path, SMALL, BROKEN)
    results = results_of(tmp_path, SMALL, BROKEN, machine=LAPTOP)
    a, b = "qwen3-0-6b-int2", "qwen3-0-6b-bf16"
    both = compare.compare(results, a, b)
    assert {each.a.hardware for each in both} == {"l40", "laptop"}
    for one in (
        compare.compare(results, a, b, hardware="l40"),
        compare.compare(results, f"l40/{a}", b),
    ):
        assert {each.a.hardware for each in one} == {"l40"}
    across = compare.compare(results, f"l40/{a}", f"laptop/{a}")
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
        compare.compare(load(tmp_path, None), a, b)
    assert message in error.value.message
    assert fix in error.value.fix


def test_the_published_pair_as_markdown() -> None:
    results = load(Path("nowhere"), REFERENCE)
    found = compare.compare(results, "l40-2025-qwen3-8b-fp8", "l40-2025-qwen3-8b-bf16")
    assert compare.plain(found) == (GOLDEN / "compare.txt").read_text()


def test_single_runs_have_no_verdict() -> None:
    results = load(Path("nowhere"), REFERENCE)
    speed = [each for each in differences(results) if each.stage == "speed"]
    assert len(speed) == 3 * 7
    assert {each.word for each in speed} == {"no interval"}
    assert all(math.isfinite(each.verdict.estimate or math.nan) for each in speed)

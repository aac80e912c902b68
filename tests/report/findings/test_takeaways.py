"""Findings: from the published tables the conclusions those carry, from others other ones."""

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
import synthetic
from folders import REFERENCE
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest
from synthetic import AWQ, BF16, BROKEN, FP8, L40, LAPTOP, MARLIN, SMALL, START
from synthetic_parts import Machine, Variant

from bench.records import store
from bench.records.record import Record, canonical_json
from report import numbers, stats
from report.differences.families import Verdicts
from report.findings import takeaways
from report.findings.finding import Finding, Kind
from report.rows.loads import Kept, kept
from report.rows.results import Results, load

PUBLISHED = json.loads((REFERENCE / "l40-2025.json").read_text())
BASE, FP8_ROW, AWQ_ROW, MARLIN_ROW, Q4_ROW, IQ2_ROW, AWQ70_ROW = range(7)
LATER = START + timedelta(days=1)
Change = Callable[[list[dict[str, Any]]], None]


def findings(results: Results) -> list[Finding]:
    return takeaways.findings(Verdicts(results))


def published(tmp_path: Path, change: Change | None = None) -> list[Finding]:
    """The findings of the published tables, or of those tables changed."""
    raw = json.loads(json.dumps(PUBLISHED))
    if change is not None:
        change(raw["rows"])
    (tmp_path / "l40-2025.json").write_text(json.dumps(raw))
    return findings(load(tmp_path / "none", tmp_path))


def measured(root: Path, *variants: Variant, **options: Any) -> list[Finding]:
    for variant in variants:
        store.write(root, *synthetic.speed_record(variant, **options))
        store.write(root, *synthetic.quality_record(variant, documents=400))
    return findings(load(root, None))


def one(found: list[Finding], kind: Kind, about: str = "") -> Finding:
    """The only finding of a kind, or the only one about a variant or a family."""
    [chosen] = [
        finding
        for finding in found
        if finding.kind == kind
        and about in ("", finding.evidence[0].variant_name, finding.scope.family)
    ]
    return chosen


def none(found: list[Finding], kind: Kind) -> bool:
    return all(finding.kind != kind for finding in found)


def picked(finding: Finding) -> tuple[str, ...]:
    """The variant that a finding picks, and those it ties with."""
    assert finding.pick is not None
    return finding.pick.names


# What the published numbers carry: the right-hand column, line by line.


def test_fp8_takes_a_third_less_time_in_one_run(tmp_path: Path) -> None:
    finding = one(published(tmp_path), "saving", "Qwen3-8B FP8")
    assert finding.certainty == "one run"
    assert finding.certainty_text == "one run, no interval"
    assert "−34.2 % time per output token" in finding.headline
    assert "TTFT −30.2 %, end to end −34.2 %, output +6.4 %" in finding.detail


def test_awq_with_marlin_is_fastest(tmp_path: Path) -> None:
    found = published(tmp_path)
    finding = one(found, "fastest")
    assert picked(finding) == ("Qwen3-8B AWQ INT4, Marlin kernel",)
    assert finding.headline.startswith("Qwen3-8B AWQ INT4, Marlin kernel answers fastest")
    assert "time per output token −51.0 %" in finding.detail
    assert finding.certainty == "one run"
    assert "+11.2 %" in one(found, "throughput").detail


def test_the_offered_load_caps_the_throughput(tmp_path: Path) -> None:
    finding = one(published(tmp_path), "load_cap")
    assert finding.certainty == "one run"
    assert finding.headline == (
        "Output at 10 requests/s cannot exceed 1,280 tokens/s, which hides most of the difference"
    )
    assert "output is +11.2 % while its time per output token is −51.0 %" in finding.detail


def test_the_kernel_decides_not_the_bit_width(tmp_path: Path) -> None:
    finding = one(published(tmp_path), "kernel")
    assert finding.headline.startswith("The kernel, not the bit-width, decides")
    assert "2.06× the time per output token of Qwen3-8B BF16" in finding.headline
    assert finding.detail.startswith("4.21× between the two")
    assert (
        "end to end Qwen3-8B AWQ INT4, default kernel takes 2.05× of Qwen3-8B BF16"
        in finding.detail
    )
    assert finding.certainty == "one run"


def test_70b_above_8b_is_likely_not_settled(tmp_path: Path) -> None:
    finding = one(published(tmp_path), "families")
    pairs = [(a, b) for a in (283, 286) for b in (255, 251, 250)]
    p = [proportions_ztest(pair, (400, 400))[1] for pair in pairs]
    corrected = multipletests(p, method="holm")[1]
    assert (corrected < 0.05).sum() == 2
    assert "6 of 6 with p below 0.05 one by one" in finding.detail
    smallest, largest = numbers.p_value(min(corrected)), numbers.p_value(max(corrected))
    assert f"the smallest p {smallest}, the largest {largest}." in finding.detail
    assert finding.certainty == "likely"
    assert finding.headline == (
        "Llama-3.1-70B-Instruct is likely above Qwen3-8B on hellaswag: 2 of 6 comparisons hold"
        " after correction"
    )
    assert "+7.0 to +9.0 pp" in finding.detail
    assert "A paired test on the same documents would be sharper." in finding.detail


def test_two_bits_collapse_to_guessing(tmp_path: Path) -> None:
    finding = one(published(tmp_path), "chance")
    assert finding.headline.startswith(
        "Llama-3.1-70B-Instruct GGUF IQ2_S has collapsed on hellaswag: 26.75 %"
    )
    assert numbers.p_value(binomtest(107, 400, 0.25).pvalue) == "= 0.42"
    assert "p = 0.42" in finding.detail
    assert finding.certainty == "shown"
    assert "a loss of −44.75 pp" in finding.detail


def test_the_decline_of_qwen3_cannot_be_told_from_noise(tmp_path: Path) -> None:
    found = published(tmp_path)
    finding = one(found, "quality_noise", "Qwen3-8B")
    assert finding.certainty == "noise"
    assert "quality of Qwen3-8B FP8 and Qwen3-8B AWQ INT4, Marlin kernel" in finding.headline
    fp8, marlin = finding.detail.split("; Qwen3-8B AWQ INT4, Marlin kernel: ")
    assert fp8.startswith("Qwen3-8B FP8: acc −1.00 pp") and "p = 0.77" in fp8
    assert marlin.startswith("acc −1.25 pp") and "p = 0.71" in marlin
    assert "only differences of 9.6 pp or more" in finding.detail
    assert "10.5 pp after the correction for 2 tests" in finding.detail
    assert none(found, "quality_change")


def test_marlin_and_fp8_keep_the_service_level(tmp_path: Path) -> None:
    finding = one(published(tmp_path), "service_level")
    assert finding.headline == (
        "Qwen3-8B AWQ INT4, Marlin kernel and Qwen3-8B FP8 keep within the service level at"
        " 10 requests/s, Qwen3-8B AWQ INT4, Marlin kernel the fastest of them"
    )
    assert finding.certainty == "one run"


def test_the_memory_picks(tmp_path: Path) -> None:
    found = published(tmp_path)
    saved = numbers.change(5.7073 / 15.2683)
    assert one(found, "smallest").detail == f"{saved} against Qwen3-8B BF16 (15.3 GiB)."
    assert picked(one(found, "quality_per_gib"))[0].endswith("Marlin kernel")
    fit = one(found, "fit")
    assert "37.09 GiB of weights leave 3,216 tokens" in fit.headline


# Other tables, other conclusions.


def test_a_slower_fp8_saves_no_time(tmp_path: Path) -> None:
    def slow(rows: list[dict[str, Any]]) -> None:
        rows[FP8_ROW]["speed"]["tpot_mean_ms"] = 61.0

    headline = one(published(tmp_path, slow), "saving", "Qwen3-8B FP8").headline
    assert "+20.0 % time per output token" in headline


def test_another_winner_is_named(tmp_path: Path) -> None:
    def swap(rows: list[dict[str, Any]]) -> None:
        rows[BASE]["speed"], rows[MARLIN_ROW]["speed"] = (
            rows[MARLIN_ROW]["speed"],
            rows[BASE]["speed"],
        )

    found = published(tmp_path, swap)
    assert picked(one(found, "fastest"))[0] == "Qwen3-8B BF16"
    assert one(found, "kernel").headline.startswith("Same weights, other kernel")


def test_two_fast_kernels_do_not_decide(tmp_path: Path) -> None:
    def quick(rows: list[dict[str, Any]]) -> None:
        rows[AWQ_ROW]["speed"]["tpot_mean_ms"] = 30.0

    finding = one(published(tmp_path, quick), "kernel")
    assert finding.headline.startswith("Same weights, other kernel")
    assert "takes 1.20× the time per output token" in finding.headline


def test_other_weights_are_no_question_of_kernels(tmp_path: Path) -> None:
    def rename(rows: list[dict[str, Any]]) -> None:
        rows[AWQ_ROW]["repo"] = "somebody/else"

    assert none(published(tmp_path, rename), "kernel")


def test_a_saturated_machine_is_not_capped_by_its_load(tmp_path: Path) -> None:
    def slow(rows: list[dict[str, Any]]) -> None:
        for row in rows[: MARLIN_ROW + 1]:
            row["speed"]["output_throughput_tps"] /= 2

    found = published(tmp_path, slow)
    assert none(found, "load_cap")
    assert "could not be seen" not in one(found, "throughput").detail


def test_clear_gaps_between_families_are_shown(tmp_path: Path) -> None:
    def better(rows: list[dict[str, Any]]) -> None:
        for row in (Q4_ROW, AWQ70_ROW):
            rows[row]["quality"]["value"] = 0.85

    finding = one(published(tmp_path, better), "families")
    assert finding.certainty == "shown"
    assert "in each of 6 comparisons" in finding.headline


def test_families_that_overlap_cannot_be_ordered(tmp_path: Path) -> None:
    def alike(rows: list[dict[str, Any]]) -> None:
        rows[Q4_ROW]["quality"]["value"] = 0.63

    finding = one(published(tmp_path, alike), "families")
    assert finding.certainty == "noise"
    assert "cannot be ordered" in finding.headline


def test_two_bits_that_hold_have_not_collapsed(tmp_path: Path) -> None:
    def hold(rows: list[dict[str, Any]]) -> None:
        rows[IQ2_ROW]["quality"]["value"] = 0.55

    found = published(tmp_path, hold)
    assert none(found, "chance")
    worse = one(found, "quality_change")
    assert worse.certainty == "shown"
    assert "IQ2_S is worse than Llama-3.1-70B-Instruct AWQ INT4" in worse.headline


def test_a_real_decline_is_no_noise(tmp_path: Path) -> None:
    def decline(rows: list[dict[str, Any]]) -> None:
        rows[MARLIN_ROW]["quality"]["value"] = 0.45

    found = published(tmp_path, decline)
    assert one(found, "quality_change", "Qwen3-8B AWQ INT4, Marlin kernel")
    noise = one(found, "quality_noise", "Qwen3-8B")
    assert "the quality of Qwen3-8B FP8 cannot" in noise.headline


# Measured results, whose truth is known.


def test_measured_effects_are_found_with_their_certainty(tmp_path: Path) -> None:
    found = measured(tmp_path, BF16, FP8, AWQ, MARLIN, prompts=60)
    saving = one(found, "saving", "Qwen3-8B FP8")
    assert saving.certainty == "shown"
    [change] = re.findall(r"−(\d+\.\d) % time per output token", saving.headline)
    assert 1 - float(change) / 100 == pytest.approx(0.66, abs=0.03)
    assert one(found, "kernel").certainty == "shown"
    assert one(found, "kernel").headline.startswith("The kernel, not the bit-width, decides")
    assert picked(one(found, "fastest")) == ("Qwen3-8B AWQ, Marlin",)


def normed(variant: Variant, wrong: int) -> tuple[Record, list[bytes]]:
    """A quality record whose `acc_norm` is wrong for the first documents, its `acc` as it was."""
    record, [data] = synthetic.quality_record(variant, flips=0.0)
    rows = json.loads(gzip.decompress(data))
    for row in rows:
        row["acc_norm"] = int(row["doc"] >= wrong)
    sidecar, packed = store.pack_sidecar(rows)
    raw = record.model_dump(mode="json")
    [task] = raw["quality"]["tasks"]
    task["samples"] = sidecar.model_dump(mode="json")
    task["metrics"][1]["value"] = 1 - wrong / len(rows)
    return Record.model_validate_json(canonical_json(raw)), [packed]


def test_one_metrics_noise_does_not_hide_anothers_loss(tmp_path: Path) -> None:
    same = replace(FP8, accuracy=BF16.accuracy)
    store.write(tmp_path, *normed(BF16, 20))
    store.write(tmp_path, *normed(same, 60))
    for variant in (BF16, same):
        store.write(tmp_path, *synthetic.speed_record(variant))
    found = findings(load(tmp_path, None))
    loss = one(found, "quality_change")
    assert loss.headline == (
        "Qwen3-8B FP8 is worse than Qwen3-8B BF16 on hellaswag: −20.00 pp acc_norm"
    )
    assert "0 gained and 40 lost" in loss.detail
    assert none(found, "quality_noise")
    assert "−20.00 pp acc_norm on hellaswag" in one(found, "saving").headline


def test_where_memory_is_unknown_the_checkpoint_speaks_and_says_so(tmp_path: Path) -> None:
    synthetic.write(tmp_path, (SMALL, replace(SMALL, name="Half", baseline=False, weights_gib=0.6)))
    synthetic.write(
        tmp_path, (SMALL, replace(SMALL, name="Half", baseline=False, weights_gib=0.6)), LAPTOP
    )
    found = findings(load(tmp_path, None))
    kinds: tuple[Kind, ...] = ("smallest", "saving", "quality_per_gib")
    for kind in kinds:
        told = {f.scope.hardware: f.headline for f in found if f.kind == kind}
        assert "on disk" in told["laptop"]
        assert "disk" not in told["l40"]


def test_equal_variants_are_not_told_apart(tmp_path: Path) -> None:
    """A/A: of six pairs of equal variants hardly any differs, and a pick names both."""
    claims = 0
    for seed in range(6):
        twin = replace(BF16, name=f"Twin {seed}", baseline=False)
        found = measured(tmp_path / str(seed), BF16, twin, noise=0.02, seed=seed)
        saving = one(found, "saving", twin.name)
        claims += saving.certainty == "shown"
        if one(found, "fastest").certainty == "noise":
            assert len(picked(one(found, "fastest"))) == 2
        assert none(found, "quality_change")
        assert "Paired, 400 documents" in one(found, "quality_noise").detail
    assert claims <= 1


def test_mixed_machines_are_said_wherever_a_ratio_crosses_them(tmp_path: Path) -> None:
    store.write(tmp_path, *synthetic.speed_record(BF16))
    other = replace(L40, gpu_name="NVIDIA L40S")
    store.write(tmp_path, *synthetic.speed_record(FP8, other))
    found = findings(load(tmp_path, None))
    assert found[0].kind == "mixed_machines"
    assert "come from 2 different machines" in found[0].headline
    kinds: tuple[Kind, ...] = ("saving", "fastest", "throughput")
    for kind in kinds:
        assert "Mind: different machines under one hardware id" in one(found, kind).detail


def test_marks_and_failures_are_findings(tmp_path: Path) -> None:
    drawn = replace(BF16, name="Drawn", random_weights=True)
    found = measured(tmp_path, drawn, shared=True)
    assert one(found, "disturbed").headline.startswith("Drawn ran")
    assert one(found, "random_weights").headline.startswith("Drawn ran")
    assert none(found, "chance")
    store.write(tmp_path, synthetic.failed_record(FP8))
    store.write(tmp_path, synthetic.failed_record(drawn, finished=LATER))
    store.write(tmp_path, *synthetic.speed_record(drawn, finished=LATER + timedelta(days=1)))
    failed = one(findings(load(tmp_path, None)), "failed")
    assert failed.headline == "1 newest run failed: Qwen3-8B FP8"
    assert "out of memory" in failed.detail


def test_the_same_measured_twice_shows_the_noise_floor(tmp_path: Path) -> None:
    for seed, time in enumerate((START, LATER)):
        made = synthetic.speed_record(BF16, finished=time, seed=seed, noise=0.03)
        store.write(tmp_path, *made)
    finding = one(findings(load(tmp_path, None)), "noise_floor")
    assert finding.detail.startswith("The widest of 1 measurement taken twice")
    [floor] = re.findall(r"at most (\d+\.\d) %$", finding.headline)
    assert 1 < float(floor) < 50
    assert "24 hours apart" in finding.detail
    assert len(finding.evidence) == 2
    store.write(tmp_path, *synthetic.speed_record(FP8))
    found = findings(load(tmp_path, None))
    assert one(found, "noise_floor") == finding
    assert none(found, "unstable")
    assert none(found, "unrepeated")


def test_a_difference_that_is_noise_is_not_hidden_by_the_load(tmp_path: Path) -> None:
    """Both deliver nearly all that is asked; only a test tells whether there is more to see."""
    quick = replace(BF16, tpot_ms=5, ttft_ms=10)
    slow = replace(quick, name="Slow", baseline=False, tpot_ms=9)
    capped = one(measured(tmp_path / "shown", quick, slow, prompts=200), "load_cap")
    assert capped.certainty == "shown"
    assert "hides most of the difference" in capped.headline
    for seed in range(4):
        twin = replace(quick, name="Twin", baseline=False, tpot_ms=5.2)
        made = measured(tmp_path / str(seed), quick, twin, prompts=200, noise=0.2, seed=seed)
        [fast] = [f for f in made if f.kind == "saving"]
        assert fast.certainty == "noise"
        assert none(made, "load_cap")


def test_limited_clocks_are_told_with_their_reason(tmp_path: Path) -> None:
    record, sidecars = synthetic.speed_record(BF16, throttled=True)
    raw = record.model_dump(mode="json")
    clocks = {"throttle_reasons": ["idle", "power cap"]}
    for each in raw["speed"]["loads"]:
        each["telemetry"]["during"] = clocks
    store.write(tmp_path, Record.model_validate_json(canonical_json(raw)), sidecars)
    finding = one(findings(load(tmp_path, None)), "disturbed")
    assert finding.headline == "Qwen3-8B BF16 ran with limited clocks (power cap)"
    assert "normal for a GPU at full load" in finding.detail
    for wrong in ("another process", "cool machine", "idle"):
        assert wrong not in finding.headline + finding.detail


def test_a_collapse_is_as_sure_as_its_loss(tmp_path: Path) -> None:
    finding = one(measured(tmp_path, SMALL, BROKEN), "chance")
    assert finding.certainty == "shown"
    assert "a loss of −" in finding.detail
    assert "exact McNemar" in finding.detail


def test_what_no_test_says_is_said_by_its_interval(tmp_path: Path) -> None:
    half = replace(SMALL, name="Half", baseline=False, weights_gib=0.1)
    found = measured(tmp_path, SMALL, half)
    assert one(found, "quality_per_gib").certainty == "interval"
    assert one(found, "service_level").certainty == "interval"
    assert one(found, "service_level").certainty_text == "by its interval, not tested"


def test_what_could_have_been_shown_is_told_alone_and_corrected(tmp_path: Path) -> None:
    same = [replace(BF16, name=f"Twin {i}", baseline=False) for i in range(3)]
    for variant in (BF16, *same):
        store.write(tmp_path, *synthetic.quality_record(variant, documents=400, flips=0.2))
    few = replace(BF16, name="Hardly", baseline=False)
    store.write(tmp_path, *synthetic.quality_record(few, documents=400, flips=0.2))
    results = load(tmp_path, None)
    finding = one(findings(results), "quality_noise")
    tests = [each for each in Verdicts(results).differences if each.stage == "quality"]
    assert {test.verdict.tests for test in tests} == {8}
    test = max(tests, key=lambda each: each.detectable or 0)
    assert test.gained is not None and test.lost is not None
    flips = (test.gained + test.lost) / 400
    expected = stats.detectable_paired(400, flips, level=1 - 0.05 / 8)
    assert test.detectable == pytest.approx(expected)
    [told] = re.findall(r"differences of (.+?) pp or more, (.+?) pp after the", finding.detail)
    alone = max(each.detectable_alone or 0 for each in tests)
    assert told == (numbers.share(alone, 1), numbers.share(expected, 1))
    assert float(told[0]) < float(told[1])
    assert "pp after the correction for 8 tests." in finding.detail


def test_too_few_flips_to_show_anything_are_said(tmp_path: Path) -> None:
    store.write(tmp_path, *normed(BF16, 20))
    store.write(tmp_path, *normed(replace(FP8, accuracy=BF16.accuracy), 22))
    finding = one(findings(load(tmp_path, None)), "quality_noise")
    assert "Too few answers flipped to show any difference" in finding.detail
    assert finding.detail.endswith(": Qwen3-8B FP8, acc; Qwen3-8B FP8, acc_norm.")


def test_the_highest_rate_kept_is_that_of_each_variant(tmp_path: Path) -> None:
    quick = replace(BF16, tpot_ms=12)
    middle = replace(FP8, tpot_ms=25)
    for variant in (quick, middle, AWQ):
        store.write(tmp_path, *synthetic.speed_record(variant, rates=(2.0, 4.0), prompts=200))
    results = load(tmp_path, None)
    assert kept(results.speed) == {
        ("measured", "l40", "qwen3-8b-awq"): Kept(None, None),
        ("measured", "l40", "qwen3-8b-bf16"): Kept(4.0, None),
        ("measured", "l40", "qwen3-8b-fp8"): Kept(4.0, None),
    }
    rows = [
        replace(row, sustained="unsure")
        if (row.variant, row.request_rate_rps) == ("qwen3-8b-fp8", 4.0)
        else row
        for row in results.speed
    ]
    assert kept(rows)["measured", "l40", "qwen3-8b-fp8"] == Kept(2.0, 4.0)
    detail = one(findings(results), "service_level").detail
    assert "Highest rate kept: Qwen3-8B BF16 4/s, Qwen3-8B FP8 4/s, Qwen3-8B AWQ none" in detail


def test_what_guesses_is_no_pick(tmp_path: Path) -> None:
    found = measured(tmp_path, SMALL, replace(SMALL, name="Half", baseline=False), BROKEN)
    pick = one(found, "quality_per_gib")
    assert BROKEN.name not in picked(pick)
    assert "has collapsed" in one(found, "chance").headline


def test_one_record_and_none_say_little_and_nothing(tmp_path: Path) -> None:
    assert findings(load(tmp_path, None)) == []
    found = measured(tmp_path, BF16)
    assert {finding.kind for finding in found} == {"service_level", "unrepeated"}


def test_names_are_words_not_templates(tmp_path: Path) -> None:
    """A record's free text passes as it is; escaping is for where it lands."""
    hostile = "{{ 7*7 }} <b>{% raw %}"
    record, sidecars = synthetic.speed_record(FP8)
    record = record.model_copy(update={"variant_name": hostile})
    store.write(tmp_path, record, sidecars)
    store.write(tmp_path, *synthetic.speed_record(BF16))
    found = findings(load(tmp_path, None))
    assert one(found, "saving").headline.startswith(f"{hostile} against Qwen3-8B BF16")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, list[Finding]]:
    root = tmp_path_factory.mktemp("everything")
    synthetic.write_demo(root)
    weak = replace(FP8, name="Weak", accuracy=0.4)
    synthetic.write(root, (weak,), replace(L40, gpu_name="NVIDIA L40S"))
    for hours, tpot_ms in enumerate((40.0, 60.0)):  # a machine that differs from itself
        shaky, finished = replace(SMALL, tpot_ms=tpot_ms), LATER + timedelta(hours=hours)
        made = synthetic.speed_record(shaky, Machine("shaky"), finished=finished, noise=0.001)
        store.write(root, *made)
    results = load(root, REFERENCE)
    return results, findings(results)


def test_every_kind_of_finding_is_worded_and_reached(
    everything: tuple[Results, list[Finding]],
) -> None:
    _, found = everything
    assert {finding.kind for finding in found} == set(get_args(Kind))
    for finding in found:
        assert finding.headline
        assert not finding.headline.endswith(".")
        assert "None" not in finding.headline + finding.detail
        assert "nan" not in (finding.headline + finding.detail).split()
        assert "  " not in finding.headline + finding.detail


def test_every_finding_rests_on_rows_that_exist(
    everything: tuple[Results, list[Finding]],
) -> None:
    results, found = everything
    rows = [*results.speed, *results.quality, *results.runs, *results.history]
    for finding in found:
        assert finding.evidence
        assert all(each in rows for each in finding.evidence)


def test_measured_come_first_and_then_by_rank(
    everything: tuple[Results, list[Finding]],
) -> None:
    _, found = everything
    order = [(finding.scope.source != "measured", finding.rank) for finding in found]
    assert order == sorted(order)
    assert {finding.rank for finding in found if finding.kind == "fastest"} == {11}


def test_findings_are_the_same_from_rows_in_any_order(
    everything: tuple[Results, list[Finding]],
) -> None:
    results, found = everything
    turned = replace(results, speed=results.speed[::-1], quality=results.quality[::-1])
    assert {f.headline for f in findings(turned)} == {f.headline for f in found}

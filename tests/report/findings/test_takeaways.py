"""Findings: from the published tables the conclusions those carry, from others other ones."""

import gzip
import json
import math
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
from report import numbers
from report.differences.families import Verdicts
from report.findings import takeaways, words
from report.findings.finding import Certainty, Finding, Kind, certainty_text
from report.places import TEMPLATES
from report.rows.loads import Kept, kept
from report.rows.results import Results, load
from report.rows.sessions import machines

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


def measured(root: Path, *variants: Variant, sessions: int = 3, **options: Any) -> list[Finding]:
    """The findings of variants in so many sessions, and in one task of 400 documents."""
    seed = options.pop("seed", 0)
    for variant in variants:
        for number in range(sessions):
            time = START + timedelta(hours=number)
            session = seed * sessions + number
            made = synthetic.speed_record(variant, finished=time, seed=session, **options)
            store.write(root, *made)
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


# What the published numbers carry: the right-hand column, line by line.


def test_fp8_takes_a_third_less_time_in_one_run(tmp_path: Path) -> None:
    finding = one(published(tmp_path), "saving", "Qwen3-8B FP8")
    assert finding.certainty == "one run"
    assert finding.certainty_text == "one run, not judged"
    assert "−34.2 % time per output token" in finding.headline
    assert "TTFT −30.2 %, end to end −34.2 %, output +6.4 %" in finding.detail


def test_awq_with_marlin_is_fastest(tmp_path: Path) -> None:
    found = published(tmp_path)
    finding = one(found, "fastest")
    assert finding.headline == (
        "Qwen3-8B AWQ INT4, Marlin kernel takes the least time per token at 10 requests/s: 24.9 ms"
    )
    assert "time per output token −51.0 %" in finding.detail
    assert finding.certainty == "one run"
    assert "+11.2 %" in one(found, "throughput").detail


def test_the_offered_load_caps_the_throughput(tmp_path: Path) -> None:
    finding = one(published(tmp_path), "load_cap")
    assert (finding.certainty, finding.certainty_text) == ("arithmetic", "arithmetic")
    assert finding.headline == (
        "Output at 10 requests/s cannot exceed 1,280 tokens/s, whatever the variant"
    )
    assert "reaches 91 % of that, which hides most of the difference" in finding.detail
    assert finding.detail.endswith(
        "+11.2 % while its time per output token is −51.0 % (one run, not judged)."
    )


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
    assert "Qwen3-8B FP8 and AWQ INT4, Marlin kernel against Qwen3-8B BF16" in finding.headline
    fp8, marlin = finding.detail.split("; Qwen3-8B AWQ INT4, Marlin kernel: ")
    assert fp8.startswith("Qwen3-8B FP8: acc −1.00 pp") and "p = 0.77" in fp8
    assert marlin.startswith("acc −1.25 pp") and "p = 0.71" in marlin
    assert "only differences of 9.6 pp or more" in finding.detail
    assert "10.5 pp after the correction for 2 tests" in finding.detail
    assert none(found, "quality_change")


def test_marlin_and_fp8_keep_the_service_level(tmp_path: Path) -> None:
    finding = one(published(tmp_path), "service_level")
    assert finding.headline == (
        "Qwen3-8B AWQ INT4, Marlin kernel and FP8 keep within the service level at 10 requests/s"
    )
    assert finding.certainty == "one run"


def test_the_memory_picks(tmp_path: Path) -> None:
    found = published(tmp_path)
    saved = numbers.change(5.7073 / 15.2683)
    assert one(found, "smallest").detail == f"{saved} against Qwen3-8B BF16 (15.3 GiB)."
    assert one(found, "fit", "Llama-3.1-70B-Instruct").headline == (
        "Llama-3.1-70B-Instruct AWQ INT4 fits: 37.09 GiB of weights leave 3,216 tokens of KV cache"
    )
    fit = one(found, "fit", "Qwen3-8B")
    assert fit.headline.startswith("Qwen3-8B BF16 fits with the least room: 15.27 GiB of weights")
    assert fit.detail.startswith("The most room has Qwen3-8B AWQ INT4, Marlin kernel: 5.707 GiB")
    for each in (finding for finding in found if finding.kind == "fit"):
        assert {row.family for row in each.evidence} == {each.scope.family}


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
    assert one(found, "fastest").headline.startswith("Qwen3-8B BF16 takes")
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
    assert finding.certainty == "undecided"
    assert finding.headline.endswith(
        "cannot be ordered on hellaswag: 2 of 6 comparisons hold after correction"
    )


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
    assert "on hellaswag: Qwen3-8B FP8 against Qwen3-8B BF16" in noise.headline


# Measured results, whose truth is known.


def test_measured_effects_are_found_with_their_certainty(tmp_path: Path) -> None:
    found = measured(tmp_path, BF16, FP8, AWQ, MARLIN, prompts=60)
    saving = one(found, "saving", "Qwen3-8B FP8")
    assert saving.certainty == "shown"
    [change] = re.findall(r"−(\d+\.\d) % time per output token", saving.headline)
    assert 1 - float(change) / 100 == pytest.approx(0.66, abs=0.03)
    assert one(found, "kernel").certainty == "shown"
    assert one(found, "kernel").headline.startswith("The kernel, not the bit-width, decides")
    assert one(found, "fastest").headline.startswith("Qwen3-8B AWQ, Marlin takes the least time")
    assert one(found, "slower", "Qwen3-8B AWQ").certainty == "shown"


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


def scored(root: Path, *variants: Variant, documents: int = 400, **options: Any) -> list[Finding]:
    for variant in variants:
        store.write(root, *synthetic.quality_record(variant, documents=documents, **options))
    return findings(load(root, None))


def test_what_is_kept_lost_and_undecided_is_told_apart(tmp_path: Path) -> None:
    same = replace(BF16, name="Same", baseline=False)
    worse = replace(same, name="Worse", accuracy=0.4)
    found = scored(tmp_path, BF16, same, worse, documents=4000, flips=0.0)
    told = {f.headline: f.certainty for f in found if f.kind == "kept"}
    assert told == {
        "Same keeps Qwen3-8B BF16's quality": "shown",
        "Worse loses quality against Qwen3-8B BF16": "shown",
    }
    few = scored(tmp_path / "few", BF16, same, documents=60)
    finding = one(few, "kept")
    assert finding.headline == "Whether Same keeps Qwen3-8B BF16's quality is undecided"
    assert (finding.certainty, finding.certainty_text) == ("undecided", "undecided")
    assert re.search(r"over 60 documents; [\d,]+ more documents would decide", finding.detail)


def test_a_moved_probability_is_told_where_no_answer_flips(tmp_path: Path) -> None:
    """One nat less for the right choice of each document that is right by a wide margin."""

    def moved(variant: Variant, by: float) -> tuple[Record, list[bytes]]:
        record, [data] = synthetic.quality_record(variant, flips=0.0)
        rows = json.loads(gzip.decompress(data))
        for row in rows:
            row["loglikelihoods"][row["target"]] -= by * (1 + row["doc"] % 3)
        sidecar, packed = store.pack_sidecar(rows)
        raw = record.model_dump(mode="json")
        raw["quality"]["tasks"][0]["samples"] = sidecar.model_dump(mode="json")
        return Record.model_validate_json(canonical_json(raw)), [packed]

    same = replace(BF16, name="Same", baseline=False)
    for name, by in (("moved", 1.0), ("equal", 0.0)):
        store.write(tmp_path / name, *moved(BF16, 0.0))
        store.write(tmp_path / name, *moved(same, by))
    told = one(findings(load(tmp_path / "moved", None)), "sensitive")
    assert told.headline.startswith("Same gives right answers less probability than Qwen3-8B BF16")
    assert none(findings(load(tmp_path / "equal", None)), "sensitive")


def test_worse_than_guessing_is_told_as_that(tmp_path: Path) -> None:
    wrong = replace(SMALL, name="Wrong", baseline=False, accuracy=0.1)
    [told] = [f for f in scored(tmp_path, SMALL, wrong, flips=0.0) if f.kind == "chance"]
    assert told.headline.startswith("Wrong answers worse than guessing on hellaswag")
    assert none(scored(tmp_path / "able", SMALL), "chance")


def test_a_variant_that_is_faster_with_few_and_slower_with_many_is_told(tmp_path: Path) -> None:
    def swap(rows: list[dict[str, Any]]) -> None:
        rows[FP8_ROW]["speed"]["output_throughput_tps"] = 2000.0

    assert none(published(tmp_path, swap), "crossover")  # one load only
    for variant in (BF16, replace(FP8, tpot_ms=33)):
        for number in range(3):
            record, sidecars = synthetic.speed_record(
                variant, finished=START + timedelta(hours=number), seed=number
            )
            raw = record.model_dump(mode="json")
            if not variant.baseline:
                for repeat in raw["speed"]["loads"][1]["repeats"]:
                    repeat["output_throughput_tps"] /= 4
            store.write(tmp_path / "r", Record.model_validate_json(canonical_json(raw)), sidecars)
    told = one(findings(load(tmp_path / "r", None)), "crossover")
    assert "is faster than Qwen3-8B BF16 with few requests, slower with many" in told.headline
    assert told.certainty == "shown"


def test_the_least_energy_is_named(tmp_path: Path) -> None:
    told = one(measured(tmp_path, BF16, FP8), "energy")
    assert "J per output token" in told.headline
    assert told.certainty_text == "measured, not judged"
    assert none(measured(tmp_path / "alone", BF16), "energy")


def test_where_memory_is_unknown_the_checkpoint_speaks_and_says_so(tmp_path: Path) -> None:
    synthetic.write(tmp_path, (SMALL, replace(SMALL, name="Half", baseline=False, weights_gib=0.6)))
    synthetic.write(
        tmp_path, (SMALL, replace(SMALL, name="Half", baseline=False, weights_gib=0.6)), LAPTOP
    )
    found = findings(load(tmp_path, None))
    kinds: tuple[Kind, ...] = ("smallest", "saving")
    for kind in kinds:
        told = {f.scope.hardware: f.headline for f in found if f.kind == kind}
        assert "on disk" in told["laptop"]
        assert "disk" not in told["l40"]


def test_what_reads_the_same_is_the_least_of_nobody(tmp_path: Path) -> None:
    """A size is a number and no estimate: in memory, and per GPU where several share it."""

    def told(*variants: Variant) -> list[Finding]:
        """The findings where all but the baseline are served on two GPUs."""
        root = tmp_path / str(len(variants))
        for variant in variants:
            store.write(root, *synthetic.speed_record(variant))
        results = load(root, None)
        rows = [
            row if row.is_baseline else replace(row, served=replace(row.served, gpus=2))
            for row in results.speed
        ]
        return findings(replace(results, speed=rows))

    wide = replace(BF16, name="Wide", baseline=False, weights_gib=BF16.weights_gib + 0.01)
    two = told(BF16, wide)
    smallest = one(two, "smallest")
    assert smallest.headline == (
        "Qwen3-8B BF16 and Wide take the same memory: 15.0 GiB of weights"
        " (Wide: 7.50 GiB on each of 2 GPUs)"
    )
    assert (smallest.detail, len(smallest.evidence)) == ("", 2)
    assert one(two, "saving", "Wide").headline.startswith(
        "Wide against Qwen3-8B BF16: the same memory for weights (7.50 GiB on each of 2 GPUs), "
    )
    smallest = one(told(BF16, FP8, replace(FP8, name="Twin")), "smallest")
    assert smallest.headline == (
        "Qwen3-8B FP8 and Twin take the least memory: 8.80 GiB of weights"
        " (Qwen3-8B FP8: 4.40 GiB on each of 2 GPUs; Twin: 4.40 GiB on each of 2 GPUs)"
    )
    assert smallest.detail == "−41.3 % against Qwen3-8B BF16 (15.0 GiB)."


def test_nobody_has_the_least_room_where_all_have_the_same(tmp_path: Path) -> None:
    assert none(measured(tmp_path, BF16, replace(BF16, name="Twin"), sessions=1), "fit")


def test_a_slower_variant_saves_what_is_known_of_it(tmp_path: Path) -> None:
    """On disk where that is what is known, and nothing where it is as large."""
    slow = replace(SMALL, name="Slow", baseline=False, tpot_ms=3 * SMALL.tpot_ms, weights_gib=0.6)
    for root, variant, machine, saved in (
        ("gpu", slow, L40, "What it saves: −50.0 % memory for weights."),
        ("cpu", slow, LAPTOP, "What it saves: −50.0 % weights on disk."),
        ("same", replace(slow, weights_gib=SMALL.weights_gib), L40, ""),
    ):
        for each in (SMALL, variant):
            store.write(tmp_path / root, *synthetic.speed_record(each, machine))
        assert one(findings(load(tmp_path / root, None)), "slower").detail == saved


def test_a_difference_of_scores_is_marked_by_the_word_of_the_quality_page(tmp_path: Path) -> None:
    """Undecided, where that is the decision on it; never a verdict where a test shows nothing."""
    found = measured(tmp_path, BF16, FP8, sessions=1)
    verdicts = Verdicts(load(tmp_path, None))
    [row] = [
        r for r in verdicts.results.quality if (r.variant, r.metric) == ("qwen3-8b-fp8", "acc")
    ]
    test = verdicts.quality(row)
    assert test is not None and test.word.startswith("undecided: ")
    assert one(found, "saving", "Qwen3-8B FP8").headline.endswith("pp (undecided) on hellaswag")


def test_the_legend_names_every_certainty() -> None:
    legend = (TEMPLATES / "methodology.md").read_text().partition("{#take-aways}")[2].lower()
    told = [certainty_text(each, "measured") for each in get_args(Certainty)]
    assert len(set(told)) == len(told)
    for text in (*told, certainty_text("one run", "published")):
        assert f"*{text}*" in legend


def test_equal_variants_are_not_told_apart(tmp_path: Path) -> None:
    """A/A: of six pairs of equal variants hardly any differs, and the first names both."""
    claims = 0
    for seed in range(6):
        twin = replace(BF16, name=f"Twin {seed}", baseline=False)
        found = measured(tmp_path / str(seed), BF16, twin, noise=0.02, seed=seed)
        saving = one(found, "saving", twin.name)
        claims += saving.certainty == "shown"
        if one(found, "fastest").certainty == "noise":
            assert "no difference found to" in one(found, "fastest").headline
        assert not [f for f in found if "loses quality" in f.headline]
    assert claims <= 1


def test_where_all_are_equal_without_intervals_all_tie(tmp_path: Path) -> None:
    def alike(rows: list[dict[str, Any]]) -> None:
        for row in (FP8_ROW, AWQ_ROW, MARLIN_ROW):
            rows[row]["speed"] = rows[BASE]["speed"]

    headline = one(published(tmp_path, alike), "fastest").headline
    assert headline.endswith(", the same as Qwen3-8B AWQ INT4, Marlin kernel; BF16 and FP8")


def test_mixed_machines_are_said_wherever_a_ratio_crosses_them(tmp_path: Path) -> None:
    store.write(tmp_path, *synthetic.speed_record(BF16))
    other = replace(L40, gpu_name="NVIDIA L40S")
    store.write(tmp_path, *synthetic.speed_record(FP8, other))
    found = findings(load(tmp_path, None))
    assert "come from 2 different machines" in one(found, "mixed_machines").headline
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


def test_how_far_sessions_scatter_is_told_and_who_has_only_one(tmp_path: Path) -> None:
    for seed, time in enumerate((START, LATER)):
        made = synthetic.speed_record(BF16, finished=time, seed=seed, noise=0.03)
        store.write(tmp_path, *made)
    store.write(tmp_path, *synthetic.speed_record(FP8))
    found = findings(load(tmp_path, None))
    told = one(found, "session_spread")
    assert re.fullmatch(
        r"Sessions of the same variant scatter by \d+\.\d % \(standard deviation\) on NVIDIA L40",
        told.headline,
    )
    assert told.certainty_text == "measured, not judged"
    alone = one(found, "one_session")
    assert alone.headline == "One session only, so no verdict on speed: Qwen3-8B FP8"


def test_a_difference_that_is_noise_is_not_hidden_by_the_load(tmp_path: Path) -> None:
    """Both deliver nearly all that is asked; only a test tells whether there is more to see."""
    quick = replace(BF16, tpot_ms=5, ttft_ms=10)
    slow = replace(quick, name="Slow", baseline=False, tpot_ms=9)
    capped = one(measured(tmp_path / "shown", quick, slow, prompts=200), "load_cap")
    assert capped.certainty == "arithmetic"
    assert "hides most of the difference" in capped.detail
    assert (
        capped.detail.partition(" Mind: ")[0]
        .partition(" The unthrottled")[0]
        .endswith("(shown by a test).")
    )
    twin = replace(quick, name="Twin", baseline=False)
    assert none(measured(tmp_path / "equal", quick, twin, prompts=200, noise=0.2), "load_cap")


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


def test_the_service_level_is_said_by_its_interval(tmp_path: Path) -> None:
    found = measured(tmp_path, SMALL, replace(SMALL, name="Half", baseline=False))
    assert one(found, "service_level").certainty == "interval"
    assert one(found, "service_level").certainty_text == "by its interval"


def test_a_service_level_across_its_limit_is_undecided(tmp_path: Path) -> None:
    measured(tmp_path, SMALL, sessions=2)
    results = load(tmp_path, None)
    rows = [replace(row, sustained="unsure") for row in results.speed]
    told = one(findings(replace(results, speed=rows)), "service_level")
    assert told.headline == "No variant is sure to keep within the service level"
    assert told.certainty_text == "undecided"


def test_a_burst_is_no_rate_that_is_kept(tmp_path: Path) -> None:
    quick = replace(BF16, tpot_ms=2, ttft_ms=5)
    assert none(measured(tmp_path, quick, rates=(math.inf,)), "service_level")


def test_the_highest_rate_kept_is_that_of_each_variant(tmp_path: Path) -> None:
    quick = replace(BF16, tpot_ms=12)
    middle = replace(FP8, tpot_ms=25)
    for variant in (quick, middle, AWQ):
        store.write(tmp_path, *synthetic.speed_record(variant, rates=(2.0, 4.0), prompts=200))
    results = load(tmp_path, None)
    assert kept(results.speed) == {
        ("measured", "l40", "qwen3-8b-awq"): Kept(None, None, 2.0),
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
    rows = [replace(row, sustained="no") if row.sustained == "unsure" else row for row in rows]
    assert kept(rows)["measured", "l40", "qwen3-8b-fp8"] == Kept(2.0, None, 4.0)
    detail = one(findings(results), "service_level").detail
    assert "Highest rate kept: Qwen3-8B BF16 4/s, Qwen3-8B FP8 4/s, Qwen3-8B AWQ none" in detail


def test_one_record_and_none_say_little_and_nothing(tmp_path: Path) -> None:
    assert findings(load(tmp_path, None)) == []
    found = measured(tmp_path, BF16, sessions=1)
    assert {finding.kind for finding in found} == {"service_level", "one_session"}


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
    elsewhere = {"quality_change", "crossover"}  # each has tests of its own
    assert {finding.kind for finding in found} == set(get_args(Kind)) - elsewhere
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


def test_what_was_judged_comes_first_and_what_frames_it_last(
    everything: tuple[Results, list[Finding]],
) -> None:
    _, found = everything
    sources = [finding.scope.source for finding in found]
    assert sources == sorted(sources)
    published = [finding for finding in found if finding.scope.source == "published"]
    sure = [finding.certainty for finding in published if finding.rank <= 25]
    told = sure.index("one run")
    assert {"shown", "likely"} & set(sure[:told]) and set(sure[told:]) == {"one run", "arithmetic"}
    frames = [finding.rank > 25 for finding in published]
    assert frames == sorted(frames) and any(frames)
    assert {finding.rank for finding in found if finding.kind == "fastest"} == {11}


def test_findings_are_the_same_from_rows_in_any_order(
    everything: tuple[Results, list[Finding]],
) -> None:
    results, found = everything
    speed, quality = results.speed[::-1], results.quality[::-1]
    turned = replace(results, speed=speed, quality=quality, machines=machines(speed))
    assert {f.headline for f in findings(turned)} == {f.headline for f in found}


@pytest.mark.parametrize(
    ("of", "shown"),
    [
        (["A B"], "A B"),
        (["A B", "A C"], "A B and C"),
        (["A", "A B"], "A and A B"),  # nothing would be left of the first
        (["A B", "C D", "A E"], "A B, C D and A E"),
        (["A B, C", "A D", "A E"], "A B, C; D and E"),
        (["A B", "A C", "A D", "A E", "A F"], "A B, C, D and 2 more"),
    ],
)
def test_what_names_begin_with_is_said_once(of: list[str], shown: str) -> None:
    assert words.names(of) == shown

"""Decisions: who is taken for what, who ties, what is undecided, and the sentence on each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import synthetic
from folders import RECORDED, REFERENCE
from synthetic import AWQ, BF16, FP8, LAPTOP, MARLIN, SMALL, START
from synthetic_parts import Variant

from bench.records import store
from report.decisions.decision import Decision, Purpose, decisions
from report.differences.families import Verdicts
from report.rows.results import Results, load

H100 = RECORDED / "h100-quality"
TWIN = replace(BF16, name="Qwen3-8B twin", baseline=False)


def measured(
    root: Path, *variants: Variant, sessions: int = 3, documents: int = 4000, noise: float = 0.01
) -> Results:
    """Every variant in so many sessions, and in so many documents that hardly one flips."""
    for variant in variants:
        for number in range(sessions):
            time = START + timedelta(hours=number)
            made = synthetic.speed_record(variant, finished=time, seed=number, noise=noise)
            store.write(root, *made)
        quality = synthetic.quality_record(variant, documents=documents, flips=0.0)
        store.write(root, *quality)
    return load(root, None)


def only(results: Results) -> Decision:
    [decision] = decisions(Verdicts(results))
    return decision


def taken(decision: Decision, purpose: Purpose) -> list[str]:
    choice = decision.choice(purpose)
    return [each.name for each in (choice.take, *choice.ties)] if choice else []


def test_the_variant_that_is_best_and_keeps_quality_is_taken(tmp_path: Path) -> None:
    same = [replace(each, accuracy=BF16.accuracy) for each in (FP8, MARLIN)]
    decision = only(measured(tmp_path, BF16, *same))
    assert taken(decision, "latency") == ["Qwen3-8B AWQ, Marlin"]
    assert taken(decision, "memory") == ["Qwen3-8B AWQ, Marlin"]
    assert all(not choice.untested and choice.undecided is None for choice in decision.choices)


def test_who_loses_quality_is_never_taken_and_who_is_undecided_is_named(tmp_path: Path) -> None:
    lost = replace(MARLIN, accuracy=0.4)
    decision = only(measured(tmp_path / "lost", BF16, replace(FP8, accuracy=BF16.accuracy), lost))
    assert taken(decision, "latency") == ["Qwen3-8B FP8"]
    latency = decision.choice("latency")
    assert latency is not None and latency.undecided is None
    few = only(measured(tmp_path / "few", BF16, FP8, documents=80))
    latency = few.choice("latency")
    assert latency is not None and latency.undecided is not None
    assert (latency.take.name, latency.undecided.name) == ("Qwen3-8B BF16", "Qwen3-8B FP8")
    assert latency.sentence.startswith(
        "Qwen3-8B BF16: least time per token of those known to keep quality, "
    )
    ahead = r"Qwen3-8B FP8 is ahead; [\d,]+ more documents would decide its quality$"
    assert re.search(ahead, latency.sentence)
    safest = few.choice("safest")
    assert safest is not None
    assert safest.sentence == "Qwen3-8B BF16 itself: no other variant is shown to keep its quality"


def test_what_a_sentence_is_of_is_said(tmp_path: Path) -> None:
    """The load, sizes that are equal and those that nobody knows, and what was tested."""
    decision = only(measured(tmp_path / "tested", BF16, replace(FP8, accuracy=BF16.accuracy)))
    sentences = {choice.purpose: choice.sentence for choice in decision.choices}
    assert re.search(r"least time per token, [\d.]+ ms at 10 requests/s", sentences["latency"])
    assert "tokens/s at unthrottled load" in sentences["throughput"]
    alike = only(measured(tmp_path / "alike", BF16, TWIN)).choice("memory")
    assert alike is not None and "GiB of weights; the same as " in alike.sentence
    twin = only(load(tmp_path / "alike", None)).variants[1]
    assert ", as much memory, " in twin.sentence
    once = only(measured(tmp_path / "once", BF16, FP8, documents=80, sessions=1)).choice("latency")
    assert once is not None and "Qwen3-8B FP8 is ahead (not tested); " in once.sentence


def test_more_documents_than_the_task_has_decide_nothing(tmp_path: Path) -> None:
    for split, beyond in ((10_000_000, ""), (90, ", more than hellaswag has")):
        folder = tmp_path / str(split)
        for each in (BF16, FP8):
            store.write(folder, *synthetic.quality_record(each, documents=80, split=split))
        verdicts = Verdicts(load(folder, None))
        [who] = {row.who for row in verdicts.results.quality if not row.is_baseline}
        found = verdicts.decision(who)
        assert found is not None
        assert re.fullmatch(rf"[\d,]+ more documents would decide it{beyond}", found.needs("it"))


def test_a_tie_holds_nobody_whom_another_of_the_tie_beats(tmp_path: Path) -> None:
    """Six per cent apart at four per cent of noise: neighbours tie, the ends do not."""
    near = [replace(TWIN, name=f"T{ms}", tpot_ms=ms) for ms in (50.0, 50.3)]
    far = replace(TWIN, name="T90", tpot_ms=90.0)
    results = measured(tmp_path, BF16, *near, far, noise=0.02)
    verdicts, decision = Verdicts(results), only(results)
    names = taken(decision, "latency")
    assert "T90" not in names and len(names) > 1
    latency = decision.choice("latency")
    assert latency is not None
    rows = [each.usual for each in (latency.take, *latency.ties)]
    for a in rows:
        for b in rows:
            assert a and b
            outcome = verdicts.between_speeds(a, b, next(iter(a.metrics)).TPOT_MEAN).verdict.outcome
            assert a is b or outcome == "noise"


def test_one_session_is_taken_as_that(tmp_path: Path) -> None:
    decision = only(measured(tmp_path, BF16, replace(FP8, accuracy=BF16.accuracy), sessions=1))
    latency = decision.choice("latency")
    assert latency is not None
    assert (latency.take.name, latency.untested) == (
        "Qwen3-8B FP8",
        "one session or run each, so not tested",
    )
    assert "so not tested" in latency.sentence
    assert "(one session)" in decision.variants[1].sentence


def test_others_of_one_session_are_counted_beside_what_was_tested(tmp_path: Path) -> None:
    same = [replace(each, accuracy=BF16.accuracy) for each in (TWIN, MARLIN)]
    slow = replace(same[1], tpot_ms=80.0)
    measured(tmp_path, BF16, same[0])
    latency = only(measured(tmp_path, slow, sessions=1)).choice("latency")
    assert latency is not None
    assert latency.untested == "not tested against 1 other of one session or run"
    assert "no difference found to Qwen3-8B" in latency.sentence


def test_a_sentence_says_speed_memory_and_quality(tmp_path: Path) -> None:
    decision = only(measured(tmp_path, BF16, replace(FP8, accuracy=BF16.accuracy)))
    assert re.fullmatch(
        r"Qwen3-8B FP8: 3\d % less time per token \(−3\d\.\d % to −3\d\.\d %\), \d+ % more output"
        r" \(\+[\d.]+ % to \+[\d.]+ %\), 4\d % less memory, keeps at least 99 % of Qwen3-8B BF16's"
        r" quality \(100\.0 %, 99\.8 to 100\.2\)",
        decision.variants[1].sentence,
    )
    assert decision.variants[0].sentence.startswith("Qwen3-8B BF16: the baseline, ")


@pytest.mark.parametrize("points", [True, False])
def test_the_committed_h100_records_decide_by_their_documents(points: bool) -> None:
    """With the margin at one point: figures that were computed apart from this program."""
    results = load(H100, None)
    margin = {"points": 1.0} if points else {}
    rows = [replace(row, margin=margin) for row in results.quality]
    verdicts = Verdicts(replace(results, quality=rows))
    found = {
        row.variant.removeprefix("smollm2-135m-"): verdicts.decision(row.who)
        for row in rows
        if not row.is_baseline
    }
    int8, fp8, marlin = (found[each] for each in ("int8-w8a8", "fp8", "int4-w4a16-marlin-kernel"))
    assert int8 and int8.kept and fp8 and marlin
    if not points:
        assert int8.kept.estimate == pytest.approx(1.0122, abs=5e-5)
        return
    assert int8.decision.outcome == "keeps"
    assert int8.kept.interval is not None
    assert int8.kept.interval.low == pytest.approx(-0.0046, abs=5e-5)
    needed = [400 + (each.decision.more_documents or 0) for each in (fp8, marlin)]
    assert (fp8.decision.outcome, marlin.decision.outcome) == ("undecided", "undecided")
    assert needed == [pytest.approx(980, rel=0.01), pytest.approx(5300, rel=0.01)]


def test_real_models_on_gpus_come_before_toys_and_what_says_most_first(tmp_path: Path) -> None:
    synthetic.write(tmp_path, (BF16, FP8))
    synthetic.write(tmp_path, (SMALL,), LAPTOP)
    toy = replace(BF16, name="Toy", family="Toy", weights_gib=0.3)
    synthetic.write(tmp_path, (toy, replace(toy, name="Toy two", baseline=False)))
    found = decisions(Verdicts(load(tmp_path, REFERENCE)))
    order = [(each.source, each.hardware, each.family) for each in found]
    assert order[0] == ("measured", "l40", "Qwen3-8B")
    assert order[-1] == ("measured", "l40", "Toy")
    places: Sequence[str] = [hardware for _, hardware, _ in order]
    assert places.index("laptop") > places.index("l40")


def test_published_tables_are_decided_as_what_they_are() -> None:
    found = decisions(Verdicts(load(Path("nowhere"), REFERENCE)))
    qwen = next(each for each in found if each.family == "Qwen3-8B")
    fp8 = next(each for each in qwen.variants if each.name == "Qwen3-8B FP8")
    assert fp8.sentence == (
        "Qwen3-8B FP8: 34 % less time per token (one run), 6 % more output (one run),"
        " 42 % less memory, quality undecided"
    )
    llama = next(each for each in found if each.family.startswith("Llama"))
    two_bits = next(each for each in llama.variants if "IQ2" in each.name)
    assert two_bits.outcome == "loses"
    assert AWQ.name not in {each.name for each in llama.variants}

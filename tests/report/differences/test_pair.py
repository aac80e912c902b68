"""Two rows against each other: what is kept in each kind of score, and the words that are told."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from hypothesis import given
from hypothesis import strategies as st
from synthetic import BF16

from bench.records import store
from report import stats
from report.differences import pair
from report.rows.answers import Answers, score
from report.rows.results import Results, load
from report.rows.rows import Metric, QualityRow, SpeedRow, Unit
from report.stats import Interval, probabilities, recovery
from report.stats.recovery import Kept
from report.stats.verdict import Verdict

OTHER = replace(BF16, name="Other", baseline=False)
ANSWERS = [0.0, 1.0, 1.0, 1.0, 0.0, 1.0]
TEXTS = [-20.0, -31.0, -9.0, -44.0, -15.0, -27.0]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[QualityRow, QualityRow]:
    """A variant's score and its baseline's, as they are read from records."""
    root = tmp_path_factory.mktemp("rows")
    for variant in (BF16, OTHER):
        store.write(root, *synthetic.quality_record(variant))
    found = {row.variant_name: row for row in load(root, None).quality if row.metric == "acc"}
    return found["Other"], found[BF16.name]


@pytest.fixture(scope="module")
def speeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[SpeedRow, SpeedRow]:
    root = tmp_path_factory.mktemp("speeds")
    for variant in (BF16, OTHER):
        store.write(root, *synthetic.speed_record(variant))
    found = {row.variant_name: row for row in load(root, None).speed}
    return found["Other"], found[BF16.name]


def answers(scores: list[float], weights: list[float] | None = None) -> Answers:
    names = tuple((f"{number}", 0) for number in range(len(scores)))
    told = {} if weights is None else {"acc": np.array(weights)}
    return Answers(names, {"acc": np.array(scores)}, weights=told)


def kept(row: QualityRow, one: Answers, other: Answers, **margin: float) -> Kept:
    found = pair.retained(row, one, other, margin)
    assert found is not None
    return found


documents = st.lists(
    st.tuples(st.floats(-50, -1), st.floats(-50, -1), st.integers(1, 30)), min_size=3, max_size=20
)


@given(documents)
@pytest.mark.parametrize(
    ("how", "weighted"),
    [("perplexity", False), ("weighted perplexity", True), ("bits per byte", True)],
)
def test_of_a_text_what_is_kept_is_the_baselines_value_over_the_variants(
    rows: tuple[QualityRow, QualityRow],
    how: str,
    weighted: bool,
    texts: list[tuple[float, float, int]],
) -> None:
    unit: Unit = "bits per byte" if how == "bits per byte" else "perplexity"
    row = replace(rows[0], aggregation=how, unit=unit, higher_is_better=False)
    sizes = [float(size) for *_, size in texts] if weighted else None
    one = answers([a for a, *_ in texts], sizes)
    other = answers([b for _, b, _ in texts], sizes)
    values = [score(each, "acc", how) for each in (one, other)]
    assert kept(row, one, other).estimate == pytest.approx(values[1] / values[0])
    assert kept(row, one, other, points=1.0).equal == 1, "of what is no share a recovery is told"


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 1.0, 4.0, 1.0, 3.0]])
def test_of_a_share_points_are_told_where_they_are_asked(
    rows: tuple[QualityRow, QualityRow], weights: list[float] | None
) -> None:
    one, other = answers(ANSWERS, weights), answers([1.0, *ANSWERS[1:-1], 0.0], weights)
    a, b = (np.average(each.scores["acc"], weights=weights) for each in (one, other))
    assert kept(rows[0], one, other, points=1.0).estimate == pytest.approx(a - b)
    assert kept(rows[0], one, other, recovery=0.9).estimate == pytest.approx(a / b)
    scored = replace(rows[0], unit="score")
    assert kept(scored, one, other, points=1.0).estimate == pytest.approx(a / b)
    error = replace(rows[0], unit="score", higher_is_better=False)
    assert kept(error, one, other).estimate == pytest.approx(b / a)


def test_the_margin_is_a_recovery_or_points() -> None:
    assert pair.least({}) == 0.99
    assert pair.least({"recovery": 0.95}) == 0.95
    assert pair.least({"points": 2.0}) == -0.02


@given(st.floats(1.5, 50), st.floats(1.5, 50), st.floats(0.01, 0.3))
def test_a_difference_of_perplexities_has_the_ends_of_their_ratio(
    one: float, other: float, reach: float
) -> None:
    """The ratio's ends are those of the baseline's value over a variant's: the two that it is."""
    ratio = other / one
    ends = Interval(ratio * (1 - reach), ratio * (1 + reach), 0.95)
    found = pair._of_ratio((one, other), Kept(ratio, ends, 9, 1.0, 0.1))
    assert found.estimate is not None
    assert found.interval is not None
    assert found.estimate == pytest.approx(one - other)
    assert found.interval.low == pytest.approx(other / ends.high - other)
    assert found.interval.high == pytest.approx(other / ends.low - other)
    assert found.interval.low < found.estimate < found.interval.high
    assert found.interval.level == 0.95
    for unknown in (
        None,
        Kept(ratio, None, 9, 1.0, 0.1),
        Kept(ratio, Interval(0, 2, 0.95), 9, 1, 0),
    ):
        assert pair._of_ratio((one, other), unknown).interval is None


def differing(a: Any, b: Any, verdict: Verdict, **parts: Any) -> pair.Difference:
    return pair.Difference("quality", "acc", a, b, (0.5, 0.4), verdict, **parts)


SHOWN = Verdict(0.1, 0.0, Interval(0.05, 0.15, 0.95), 0.001, "z")


@pytest.mark.parametrize("tests", [1, 5])
def test_what_could_have_been_shown_is_that_of_the_test(
    rows: tuple[QualityRow, QualityRow], tests: int
) -> None:
    a, b = rows
    level = 1 - 0.05 / tests
    verdict = replace(SHOWN, tests=tests)
    paired = differing(a, b, verdict, documents=200, gained=9, lost=11)
    assert paired.paired
    assert paired.detectable == stats.detectable_paired(200, 0.1, level=level)
    assert paired.detectable_alone == stats.detectable_paired(200, 0.1)
    right = round(a.value.value * a.n) + round(b.value.value * b.n)
    alone = differing(a, b, verdict)
    assert not alone.paired
    rate = right / (a.n + b.n)
    assert alone.detectable == stats.detectable_unpaired(rate, a.n, b.n, level=level)
    assert alone.detectable_alone == stats.detectable_unpaired(rate, a.n, b.n)
    untested = differing(a, b, replace(verdict, p=None))
    assert untested.detectable is None
    assert differing(replace(a, n=0), b, verdict).detectable is None


@pytest.mark.parametrize("one_sided", [{"gained": 3, "lost": None}, {"gained": None, "lost": 3}])
def test_only_both_kinds_of_flips_make_a_pair(
    rows: tuple[QualityRow, QualityRow], one_sided: dict[str, int | None]
) -> None:
    found = differing(*rows, SHOWN, documents=100, **one_sided)
    assert not found.paired
    assert found.detectable == differing(*rows, SHOWN).detectable


def test_a_verdict_in_words(
    rows: tuple[QualityRow, QualityRow], speeds: tuple[SpeedRow, SpeedRow]
) -> None:
    a, b = rows
    error = replace(a, higher_is_better=False)
    less = replace(SHOWN, estimate=-0.1, interval=Interval(-0.15, -0.05, 0.95))
    assert differing(a, b, SHOWN).word == "better"
    assert differing(a, b, less).word == "worse"
    assert differing(error, b, SHOWN).word == "worse"
    assert differing(error, b, less).word == "better"
    assert differing(a, b, replace(SHOWN, p=0.5)).word == "no difference found"
    assert differing(a, b, replace(SHOWN, judged=False)).word == "not judged"
    assert differing(a, b, replace(SHOWN, p=None)).word == "not tested"

    ratio = Verdict(1.5, 1.0, Interval(1.2, 1.8, 0.95), 0.001, "t")
    one = pair.Difference("speed", Metric.TTFT_P50, *speeds, (3.0, 2.0), ratio)
    assert one.word == "slower"
    assert replace(one, metric=Metric.OUTPUT).word == "faster"
    untold = replace(one, verdict=Verdict(1.5, 1.0, None, None, "none"))
    assert untold.word == "one session"
    published = replace(speeds[0], source="published")
    assert replace(untold, a=published).word == "one run"
    size = pair.Difference("memory", "weights_gib", *rows, (3.0, 2.0), untold.verdict)
    assert size.word == "one number each"
    assert size.series == ""
    assert size.unit is None
    for one_row, other in ((rows[0], speeds[1]), (speeds[0], rows[1])):  # one has no quality
        told = pair.Difference("memory", "weights_gib", one_row, other, (3.0, 2.0), ratio)
        assert (told.detectable, told.detectable_alone) == (None, None)
    assert (one.unit, differing(a, b, SHOWN).unit) == (None, "share")


def test_only_one_load_of_two_variants_on_one_machine_is_judged(tmp_path: Path) -> None:
    """Anything else is a ratio and no more."""
    for number in range(3):
        for variant in (BF16, OTHER):
            finished = synthetic.START + timedelta(minutes=number)
            record = synthetic.speed_record(variant, seed=number, finished=finished)
            store.write(tmp_path, *record)
    results = load(tmp_path, None)
    rows = {(row.variant_name, row.pace.full): row for row in results.speed}
    (slow, free) = (pace for name, pace in rows if name == "Other")
    a, b, other = rows["Other", slow], rows[BF16.name, slow], rows[BF16.name, free]
    metric = Metric.TTFT_MEAN

    def told(one: SpeedRow, two: SpeedRow) -> Verdict:
        found = pair.speed(results, one, two, metric)
        assert found.values == (one.metrics[metric].value, two.metrics[metric].value)
        assert found.verdict.estimate == pytest.approx(found.values[0] / found.values[1])
        return found.verdict

    assert told(a, b).test == "simultaneous interval over sessions"
    assert told(a, b).judged
    alone = "one session each, not tested"
    assert told(a, other).test == alone
    assert told(a, replace(b, source="published")).test == alone
    assert told(a, replace(b, by_session={})).test == alone
    assert told(replace(a, by_session={}), b).test == alone
    assert told(a, replace(b, machine="another")).test == alone
    assert told(a, rows["Other", slow]).test == alone
    fewer = pair.speed(results, a, replace(b, prompts=7), metric)
    assert fewer.caveats == (f"different numbers of prompts: {a.prompts} and 7",)


def test_a_decision_in_words() -> None:
    told = {
        recovery.Decision("keeps"): "keeps",
        recovery.Decision("keeps", 5): "keeps",
        recovery.Decision("undecided"): "undecided",
        recovery.Decision("undecided", 1234): "undecided: 1,234 more documents",
        recovery.Decision("unknown"): "not tested",
    }
    assert {decision: pair.decision_text(decision) for decision in told} == told


def test_weights_are_compared_in_memory_or_else_on_disk(
    rows: tuple[QualityRow, QualityRow],
) -> None:
    a, b = rows

    def with_sizes(row: QualityRow, memory: float | None, disk: float | None) -> QualityRow:
        served = replace(row.served, weights_gib=memory, checkpoint_gib=disk)
        return replace(row, served=served)

    def told(*pairs: tuple[float | None, float | None]) -> tuple[str, float | None] | None:
        found = pair.memory(
            *(with_sizes(row, *sizes) for row, sizes in zip(rows, pairs, strict=True))
        )
        return (found[0].metric, found[0].verdict.estimate) if found else None

    assert told((3.0, 5.0), (4.0, 6.0)) == ("weights_gib", 0.75)
    assert told((3.0, 3.0), (None, 6.0)) == ("checkpoint_gib", 0.5)
    assert told((None, 3.0), (4.0, 6.0)) == ("checkpoint_gib", 0.5)
    assert told((3.0, None), (None, 6.0)) is None
    assert a.variant != b.variant


def test_what_is_unlike_is_named(speeds: tuple[SpeedRow, SpeedRow]) -> None:
    a, b = speeds
    assert pair.caveats(a, b) == ()
    elsewhere = replace(a, source="published", hardware="other")
    assert pair.caveats(elsewhere, b) == ("one was measured here, the other published elsewhere",)
    hot = replace(a, throttled=True, throttle_reasons=("heat", "power"), shared=True)
    assert pair.caveats(hot, b) == (
        "Other ran throttled (heat, power)", "Other shared its GPU",
    )  # fmt: skip
    assert pair.caveats(replace(hot, throttle_reasons=(), shared=False), b) == (
        "Other ran throttled",
    )
    assert pair.caveats(b, replace(a, status="partial")) == ("Other is a partial result",)


def test_only_the_same_question_to_both_here_can_be_paired(
    rows: tuple[QualityRow, QualityRow],
) -> None:
    a, b = rows
    assert pair.can_pair(a, b)
    for part in ("task", "metric", "task_version", "settings"):
        changed: dict[str, Any] = {part: "x"}
        assert not pair.can_pair(replace(a, **changed), b)
    both = [replace(row, source="published") for row in rows]
    assert not pair.can_pair(*both)


# -- document by document: two rows whose answers are these ----------------------------------------

CHOICES = ((-1.0, -2.0), (-3.0, -2.5), (-1.0, -4.0), (-2.0, -1.0))
MOVED = ((-2.0, -1.0), (-3.5, -2.0), (-1.0, -3.0), (-2.0, -1.0))


def of_choices(
    right: list[float], loglikelihoods: tuple[tuple[float, ...], ...], metric: str = "acc"
) -> Answers:
    names = tuple((f"{number}", 0) for number in range(len(right)))
    sizes = ((3, 4),) * len(right)
    scores = {metric: np.array(right)}
    return Answers(names, scores, loglikelihoods, sizes, (0, 1, 0, 1))


ONE, TWO = of_choices([0, 1, 1, 1], MOVED), of_choices([1, 1, 1, 0], CHOICES)


def judged(
    results: Results,
    rows: tuple[QualityRow, QualityRow],
    answers: tuple[Answers, Answers],
    fidelity: bool = True,
    **change: Any,
) -> pair.Difference:
    """The difference of two rows with these answers, both changed."""
    a, b = (replace(row, **change) for row in rows)
    for row, own in zip((a, b), answers, strict=True):
        results._answers[row.records, row.task] = own  # as if they were read
    return pair.quality(results, a, b, fidelity=fidelity)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return load(tmp_path, None)


Rows = tuple[QualityRow, QualityRow]


def test_right_and_wrong_are_paired_with_all_that_moved(results: Results, rows: Rows) -> None:
    found = judged(results, rows, (ONE, TWO))
    told = stats.compare_paired([False, True, True, True], [True, True, True, False])
    assert found.verdict == replace(told.verdict, judged=False)
    assert (found.documents, found.gained, found.lost, found.unpaired) == (4, 1, 1, "")
    assert found.values == (0.75, 0.75)
    assert found.kept == recovery.recovery([0, 1, 1, 1], [1, 1, 1, 0])
    assert found.changed_answers == stats.flipped_answers([1, 1, 0, 1], [0, 1, 0, 1])
    assert found.shift is not None
    moved = [(1 / 3 + 1 / 4) / 2, (0.5 / 3 + 0.5 / 4) / 2, (1 / 4) / 2, 0]
    assert found.shift.value == pytest.approx(sum(moved) / 4)
    assert found.right_probability == probabilities.compare_right_probabilities(
        probabilities.right_probabilities(MOVED, [0, 1, 0, 1]),
        probabilities.right_probabilities(CHOICES, [0, 1, 0, 1]),
    )
    bare = judged(results, rows, (ONE, TWO), fidelity=False)
    assert bare == replace(found, changed_answers=None, shift=None, right_probability=None)


def test_of_another_choice_than_the_likeliest_only_the_shift_is_known(
    results: Results, rows: Rows
) -> None:
    answers = of_choices([0, 1, 1, 1], MOVED, "acc_norm"), of_choices([1] * 4, CHOICES, "acc_norm")
    found = judged(results, rows, answers, metric="acc_norm")
    assert (found.changed_answers, found.right_probability) == (None, None)
    assert found.shift is not None
    assert (found.gained, found.lost) == (0, 1)


def test_without_choices_on_both_sides_nothing_of_them_is_told(
    results: Results, rows: Rows
) -> None:
    bare = (replace(each, loglikelihoods=(), sizes=(), targets=()) for each in (ONE, TWO))
    for one, two in zip(bare, (TWO, ONE), strict=True):
        for answers in ((one, two), (two, one)):
            found = judged(results, rows, answers)
            assert found.paired
            assert (found.changed_answers, found.shift, found.right_probability) == (None,) * 3
    untold = replace(ONE, targets=())
    found = judged(results, rows, (untold, TWO))
    assert found.changed_answers
    assert found.right_probability is None
    assert judged(results, rows, (TWO, untold)).right_probability is None


def test_scores_are_a_paired_mean_and_a_share_that_counts_unlike_too(
    results: Results, rows: Rows
) -> None:
    scores = [0.5, 1.0, 0.25, 0.0], [0.75, 0.5, 0.5, 0.5]
    weights = [1.0, 2.0, 3.0, 4.0]
    for values, unit, counts in (
        (scores, "score", None), (scores, "share", None), (scores, "share", weights),
        (([1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]), "score", None),
        (([1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]), "share", weights),
    ):  # fmt: skip
        one, two = (answers(each, counts) for each in values)
        found = judged(results, rows, (one, two), unit=unit)
        moved = recovery.difference(*values, weights=counts)
        assert moved is not None
        assert found.verdict == Verdict(
            moved.estimate, 0.0, moved.interval, None, "paired t", judged=False
        )
        assert not found.paired
        assert found.documents == 4


def test_perplexities_are_told_by_their_ratio(results: Results, rows: Rows) -> None:
    one, two = answers(TEXTS[:4]), answers(TEXTS[1:5])
    row: dict[str, Any] = {
        "aggregation": "perplexity",
        "unit": "perplexity",
        "higher_is_better": False,
    }
    found = judged(results, rows, (one, two), **row)
    assert found.verdict == replace(pair._of_ratio(found.values, found.kept), judged=False)  # type: ignore[arg-type]
    assert found.verdict.interval is not None
    assert found.verdict.null == 0
    assert found.verdict.estimate == pytest.approx(
        math.exp(-np.mean(TEXTS[:4])) - math.exp(-np.mean(TEXTS[1:5]))
    )


def test_what_cannot_be_paired_is_counted_or_not_tested_at_all(
    results: Results, rows: Rows
) -> None:
    a, b = rows
    single = ONE.only(ONE.documents[:1])
    elsewhere = replace(TWO, documents=tuple((f"other {i}", 0) for i in range(4)))
    cases: tuple[tuple[tuple[Answers, Answers], dict[str, Any]], ...] = (
        ((ONE, elsewhere), {}), ((single, TWO), {}), ((ONE, replace(TWO, scores={})), {}),
        ((replace(ONE, scores={}), TWO), {}), ((ONE, TWO), {"aggregation": None}),
    )  # fmt: skip
    for pairs, change in cases:
        found = judged(results, rows, pairs, **change)
        assert found.unpaired == "not the same documents and task settings, so the test is unpaired"
        rights = round(a.value.value * a.n), a.n, round(b.value.value * b.n), b.n
        assert found.verdict == stats.compare_counts(*rights)
        assert found.values == (a.value.value, b.value.value)
        plain = judged(results, rows, pairs, **change, counted=False).verdict
        gap = a.value.value - b.value.value
        assert plain == Verdict(gap, 0.0, None, None, "no test for this metric")
    assert judged(results, (a, replace(b, aggregation="perplexity")), (ONE, TWO)).unpaired
    assert judged(results, (a, replace(b, counted=False)), (ONE, elsewhere)).verdict.p is None
    assert judged(results, (replace(a, counted=False), b), (ONE, elsewhere)).verdict.p is None
    two = replace(ONE, documents=TWO.documents).only(TWO.documents[:2])
    assert judged(results, rows, (two, TWO)).documents == 2
    published = replace(a, source="published")
    for one, other in ((published, b), (b, published)):
        found = pair.quality(results, one, other)
        assert found.unpaired == "only summaries are published, so the test is unpaired"


def test_of_choices_the_shift_is_per_byte_of_each_documents_own() -> None:
    names = (("0", 0), ("1", 0))
    one = Answers(names, {}, ((-1.0, -2.0), (-3.0, -4.0, -9.0)), ((1, 2), (4, 4, 3)))
    other = replace(one, loglikelihoods=((-2.0, -2.0), (-3.0, -6.0, -3.0)))
    found = pair._shift(one, other)
    assert found is not None
    each = ((1 / 1 + 0) / 2, (0 + 2 / 4 + 6 / 3) / 3)
    assert found.value == pytest.approx(math.fsum(each) / 2)
    assert found.n == 2

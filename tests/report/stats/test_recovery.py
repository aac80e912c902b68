"""Quality's decision, against published tables, scipy, statsmodels and the committed records."""

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import zt_ind_solve_power
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from report.stats import recovery
from report.stats.recovery import Decision, Kept
from report.stats.verdict import Floats, Interval

H100 = Path(__file__).parents[3] / "bench" / "results" / "h100"
POINT = -0.01  # a margin of one percentage point
CELLS = st.tuples(*[st.integers(0, 60)] * 4)
SCORES = st.lists(st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)), min_size=3, max_size=40)


def sides(both: int, gained: int, lost: int, wrong: int) -> tuple[Floats, Floats]:
    counts = (both, gained, lost, wrong)
    return np.repeat([1.0, 1.0, 0.0, 0.0], counts), np.repeat([1.0, 0.0, 1.0, 0.0], counts)


def ends_of(kept: Kept | None) -> Interval:
    assert kept is not None and kept.interval is not None
    return kept.interval


def kept_of(kept: Kept | None) -> Kept:
    assert kept is not None
    return kept


@pytest.mark.parametrize(
    ("cells", "ratio", "low", "high"),
    [((59, 6, 16, 80), 0.8667, 0.7476, 0.9876), ((1, 1, 7, 12), 0.25, 0.0653, 0.9069)],
)
def test_recovery_of_published_tables(
    cells: tuple[int, int, int, int], ratio: float, low: float, high: float
) -> None:
    """Tang's score interval in Fagerland, Lydersen & Laake (2017), Statistical Analysis of
    Contingency Tables, ch. 8: complete response (Cavo 2012), airway responsiveness (Bentur 2009).
    """
    found = kept_of(recovery.recovery_of_counts(*cells))
    assert round(found.estimate, 4) == ratio
    assert (ends_of(found).low, ends_of(found).high) == pytest.approx((low, high), abs=1e-4)
    assert recovery.recovery(*sides(*cells)) == found


def score_statistic(both: int, gained: int, lost: int, n: int, ratio: float) -> float:
    """The statistic with the restricted maximum likelihood found by search, two parameters."""
    wrong = n - both - gained - lost

    def loss(point: Floats) -> float:
        p11, p01 = np.exp(point)
        p10 = ratio * (p11 + p01) - p11
        p00 = 1 - p11 - p01 - p10
        if min(p10, p00) <= 0:
            return 1e6
        cells = ((both, p11), (gained, p10), (lost, p01), (wrong, p00))
        return -sum(k * math.log(p) for k, p in cells if k)

    starts = [(f * both / n, g * (gained + lost) / n) for f in (0.9, 0.7) for g in (0.3, 1.1)]
    searches = [
        optimize.minimize(
            loss,
            np.log(each),
            method="Nelder-Mead",
            options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 9999},
        )
        for each in starts
    ]
    best = min(searches, key=lambda each: each.fun).x
    p11, p01 = np.exp(best)
    p10 = ratio * (p11 + p01) - p11
    return float((both + gained - ratio * (both + lost)) / math.sqrt(n * ratio * (p10 + p01)))


@pytest.mark.parametrize("cells", [(161, 2, 3, 400), (59, 6, 16, 161), (30, 9, 4, 60)])
def test_recovery_inverts_the_score_test(cells: tuple[int, int, int, int]) -> None:
    both, gained, lost, n = cells
    ends = ends_of(recovery.recovery_of_counts(both, gained, lost, n - both - gained - lost))
    assert score_statistic(*cells, ends.low) == pytest.approx(1.96, abs=2e-3)
    assert score_statistic(*cells, ends.high) == pytest.approx(-1.96, abs=2e-3)


@given(CELLS)
def test_recovery_says_the_same_about_one_as_mcnemars_test(
    cells: tuple[int, int, int, int],
) -> None:
    both, gained, lost, wrong = cells
    assume(both + lost > 0 and both + gained > 0 and sum(cells) > 1 and gained + lost > 0)
    p = mcnemar([[both, gained], [lost, wrong]], exact=False, correction=False).pvalue
    assume(abs(p - 0.05) > 1e-6)
    assert (p < 0.05) == (1.0 not in ends_of(recovery.recovery_of_counts(*cells)))


@given(CELLS)
def test_swapping_the_two_inverts_the_recovery(cells: tuple[int, int, int, int]) -> None:
    both, gained, lost, wrong = cells
    assume(both + lost > 0 and both + gained > 0 and sum(cells) > 1)
    there = kept_of(recovery.recovery_of_counts(both, gained, lost, wrong))
    back = kept_of(recovery.recovery_of_counts(both, lost, gained, wrong))
    assert there.estimate == pytest.approx(1 / back.estimate)
    assert there.estimate in ends_of(there)
    assert ends_of(there).low * ends_of(back).high == pytest.approx(1, rel=1e-6)


def test_no_flip_keeps_a_width() -> None:
    z2 = scipy_stats.norm.ppf(0.975) ** 2
    same = ends_of(recovery.recovery_of_counts(200, 0, 0, 100))
    assert (same.low, same.high) == pytest.approx((200 / (200 + z2), 1 + z2 / 200))
    scores = np.linspace(0.1, 0.9, 200)
    for alike in (
        recovery.recovery(scores, scores),
        recovery.recovery(scores, scores, lower_is_better=True),
        recovery.recovery_of_perplexity(-scores, -scores, np.ones(200)),
    ):
        ends = ends_of(alike)
        assert (ends.low, ends.high) == pytest.approx((200 / (200 + z2), 1 + z2 / 200))
        assert kept_of(alike).estimate == 1


def test_extreme_tables() -> None:
    assert recovery.recovery_of_counts(0, 5, 0, 10) is None  # nothing to recover
    lost_all = kept_of(recovery.recovery_of_counts(0, 0, 30, 10))
    assert (lost_all.estimate, ends_of(lost_all).low) == (0, 0)
    assert 0 < ends_of(lost_all).high < 0.2
    assert recovery.decide(lost_all, 0.99).outcome == "loses"
    everything = ends_of(recovery.recovery_of_counts(0, 3, 3, 0))
    assert everything.low < 1 < everything.high
    assert recovery.recovery([1.0], [1.0]) is None
    assert recovery.difference([1.0], [1.0]) is None
    assert recovery.recovery([0.5, 0.2], [0.0, 0.0]) is None


def test_difference_is_tangos() -> None:
    """Airway hyper-responsiveness, Fagerland, Lydersen & Laake (2014), Stat. Med. 33:2850-75."""
    found = kept_of(recovery.difference(*sides(1, 1, 7, 12)))
    assert found.estimate == pytest.approx(-6 / 21)
    ends = ends_of(found)
    assert (round(ends.low, 3), round(ends.high, 3)) == (-0.517, -0.026)
    assert found.scatter == pytest.approx(8 / 21)
    errors = kept_of(recovery.difference(*sides(1, 1, 7, 12), lower_is_better=True))
    assert (errors.estimate, ends_of(errors).high) == pytest.approx((6 / 21, -ends.low))


@given(SCORES)
def test_fiellers_ends_are_what_the_paired_t_test_just_rejects(
    scores: list[tuple[float, float]],
) -> None:
    variant, baseline = (np.array(side) for side in zip(*scores, strict=True))
    found = recovery.recovery(variant, baseline)
    assume(found is not None and found.interval is not None and np.ptp(variant - baseline) > 1e-3)
    assert found is not None
    assert found.estimate == pytest.approx(variant.mean() / baseline.mean())
    for end in (ends_of(found).low, ends_of(found).high):
        assert scipy_stats.ttest_1samp(variant - end * baseline, 0).pvalue == pytest.approx(
            0.05, rel=1e-3
        )
    errors = kept_of(recovery.recovery(baseline, variant, lower_is_better=True))
    assert errors == found


@given(SCORES)
def test_a_mean_difference_is_the_paired_t_interval(scores: list[tuple[float, float]]) -> None:
    variant, baseline = (np.array(side) for side in zip(*scores, strict=True))
    assume(np.ptp(variant - baseline) > 1e-3)
    found = kept_of(recovery.difference(variant, baseline))
    expected = scipy_stats.ttest_rel(variant, baseline).confidence_interval()
    assert (ends_of(found).low, ends_of(found).high) == pytest.approx(tuple(expected), abs=1e-9)
    lower = kept_of(recovery.difference(variant, baseline, lower_is_better=True))
    assert ends_of(lower).high == pytest.approx(-ends_of(found).low)


def test_a_mean_that_may_be_zero_has_no_bounded_recovery() -> None:
    found = kept_of(recovery.recovery([0.1, 0.0, 0.2], [0.0, 0.9, 0.0]))
    assert found.interval is None
    assert recovery.decide(found, 0.99) == Decision("unknown")


@given(SCORES, st.randoms(use_true_random=False))
def test_the_order_of_documents_does_not_matter_and_their_number_does(
    scores: list[tuple[float, float]], random: Random
) -> None:
    assume(len({one - other for one, other in scores}) > 1)
    shuffled = random.sample(scores, len(scores))
    for measure in (recovery.recovery, recovery.difference):
        found, again, four_times = (
            kept_of(measure(*zip(*rows, strict=True))) for rows in (scores, shuffled, scores * 4)
        )
        assert again.estimate == pytest.approx(found.estimate)
        assert again.scatter == pytest.approx(found.scatter)
        assert four_times.estimate == pytest.approx(found.estimate)
        if found.interval is not None:
            assert ends_of(again).low == pytest.approx(found.interval.low, rel=1e-6, abs=1e-9)
            assert ends_of(four_times).low >= found.interval.low
            assert ends_of(four_times).high <= found.interval.high


@given(CELLS, st.floats(0.1, 9))
def test_equal_weights_are_no_weights(cells: tuple[int, int, int, int], weight: float) -> None:
    assume(cells[0] + cells[2] > 0 and sum(cells) > 1)
    variant, baseline = sides(*cells)
    weights = np.full(variant.size, weight)
    for measure in (recovery.recovery, recovery.difference):
        plain, weighted = (kept_of(measure(variant, baseline, weights=w)) for w in (None, weights))
        assert plain.estimate == pytest.approx(weighted.estimate)
        assert ends_of(plain).low == pytest.approx(ends_of(weighted).low, abs=1e-9)
        assert plain.scatter == pytest.approx(weighted.scatter)


@pytest.mark.parametrize("binary", [True, False])
def test_subtasks_that_count_alike(binary: bool) -> None:
    random = np.random.default_rng(5)
    sizes = (40, 400)
    draw = (lambda n: random.integers(0, 2, n).astype(float)) if binary else random.random
    parts = [(draw(n), draw(n)) for n in sizes]
    variant, baseline = (np.concatenate(side) for side in zip(*parts, strict=True))
    weights = np.repeat([1 / n for n in sizes], sizes)
    found = kept_of(recovery.recovery(variant, baseline, weights=weights))
    scores = [[side.mean() for side in part] for part in parts]
    expected = np.mean([one for one, _ in scores]) / np.mean([other for _, other in scores])
    assert found.estimate == pytest.approx(expected)
    plain = ends_of(recovery.recovery(variant, baseline))
    assert ends_of(found).high - ends_of(found).low > plain.high - plain.low  # 40 count for half
    points = kept_of(recovery.difference(variant, baseline, weights=weights))
    assert points.estimate == pytest.approx(np.mean([one - other for one, other in scores]))


def test_perplexity_is_clustered_by_document_as_statsmodels_does() -> None:
    random = np.random.default_rng(6)
    lengths = random.integers(50, 900, 40)
    baseline = -3.0 * lengths + random.normal(0, 30, 40)
    variant = baseline - 0.02 * lengths + random.normal(0, 5, 40)
    found = kept_of(recovery.recovery_of_perplexity(variant, baseline, lengths))
    per_token = (variant - baseline) / lengths
    fit = sm.WLS(per_token, np.ones(40), weights=lengths).fit(cov_type="HC1", use_t=True)
    assert math.log(found.estimate) == pytest.approx(fit.params[0])
    low, high = fit.conf_int()[0]
    assert (math.log(ends_of(found).low), math.log(ends_of(found).high)) == pytest.approx(
        (low, high)
    )
    before, after = (math.exp(-side.sum() / lengths.sum()) for side in (baseline, variant))
    assert found.estimate == pytest.approx(before / after)
    assert found.estimate < 1


def test_the_mean_of_two_tasks_is_newcombes_square_and_add() -> None:
    """Zou & Donner (2008), §2: MOVER with Wilson's intervals is Newcombe's for p₁ − p₂."""
    (k1, n1), (k2, n2) = (56, 70), (48, 80)  # Newcombe (1998), Stat. Med. 17:873-890, case (a)
    low1, high1 = proportion_confint(k1, n1, method="wilson")
    low2, high2 = proportion_confint(k2, n2, method="wilson")
    tasks = [
        Kept(k1 / n1, Interval(low1, high1, 0.95), n1, 0.0, 0.1),
        Kept(-k2 / n2, Interval(-high2, -low2, 0.95), n2, 0.0, 0.1),
    ]
    ends = ends_of(recovery.average(tasks))
    expected = confint_proportions_2indep(k1, n1, k2, n2, method="newcomb", compare="diff")
    assert (2 * ends.low, 2 * ends.high) == pytest.approx(expected)
    assert (round(2 * ends.low, 4), round(2 * ends.high, 4)) == (0.0524, 0.3339)  # as published


def test_the_mean_over_tasks_adds_their_variances() -> None:
    wide, narrow = (Kept(1.0, Interval(1 - w, 1 + w, 0.95), n, 1.0, s)
                    for w, n, s in ((0.03, 100, 0.2), (0.04, 300, 0.9)))  # fmt: skip
    found = kept_of(recovery.average([wide, narrow]))
    assert (ends_of(found).low, ends_of(found).high) == pytest.approx((0.975, 1.025))
    assert found.documents == 400
    assert found.scatter / 400 == pytest.approx((0.2 / 100 + 0.9 / 300) / 4)
    assert recovery.average([wide]) == wide
    assert recovery.average([wide, None]) is recovery.average([]) is None
    with pytest.raises(ValueError, match="no common mean"):
        recovery.average([wide, Kept(0.0, Interval(-1, 1, 0.95), 9, 0.0, 0.1)])


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.991, 1.02, "keeps"), (0.99, 1.02, "keeps"), (0.97, 0.985, "loses"),
        (0.97, 0.99, "undecided"), (0.95, 1.05, "undecided"),
    ],
)  # fmt: skip
def test_the_decision_is_what_the_interval_says(low: float, high: float, outcome: str) -> None:
    kept = Kept((low + high) / 2, Interval(low, high, 0.95), 400, 1.0, 0.05)
    decision = recovery.decide(kept, 0.99)
    assert decision.outcome == outcome
    assert (decision.more_documents is None) == (outcome != "undecided")


@pytest.mark.parametrize(("scatter", "margin"), [(0.05, 0.01), (0.5, 0.02), (0.12, 0.005)])
def test_documents_needed_are_those_of_a_z_test(scatter: float, margin: float) -> None:
    effect = margin / math.sqrt(scatter)
    expected = zt_ind_solve_power(effect, alpha=0.025, power=0.8, ratio=0, alternative="larger")
    assert recovery.documents_needed(scatter, margin) == math.ceil(expected)


def test_documents_needed_without_a_flip_are_those_that_show_it() -> None:
    needed = recovery.documents_needed(0.0, 0.01)
    for documents, outcome in ((needed, "keeps"), (needed - 1, "undecided")):
        kept = recovery.difference(*sides(documents, 0, 0, 0))
        assert recovery.decide(kept, POINT).outcome == outcome
    with pytest.raises(ValueError, match="positive"):
        recovery.documents_needed(0.1, 0.0)


def test_as_many_documents_as_planned_and_still_undecided() -> None:
    """Then the estimate so far says how many: after twice as many the interval is √2 narrower."""
    kept = Kept(0.997, Interval(0.987, 1.007, 0.95), 10_000, 1.0, 0.01)
    more = recovery.decide(kept, 0.99).more_documents
    assert more == pytest.approx(10_000 * ((0.010 / 0.007) ** 2 - 1), abs=1)
    lost = Kept(0.985, Interval(0.975, 0.995, 0.95), 10_000, 1.0, 0.01)
    assert recovery.decide(lost, 0.99).more_documents == 30_000
    at_the_margin = Kept(0.99, Interval(0.98, 1.0, 0.95), 10_000, 1.0, 0.01)
    assert recovery.decide(at_the_margin, 0.99) == Decision("undecided", None)
    assert recovery.decide(None, 0.99) == Decision("unknown")


def test_what_is_undecided_asks_for_one_document_at_least() -> None:
    """Also where the interval ends nearer to the margin than numbers lie."""
    ends = Interval(math.nextafter(0.5, 0), 1.5, 0.95)
    assert recovery.decide(Kept(1.0, ends, 1000, 1.0, 0.01), 0.5) == Decision("undecided", 1)


def test_seeds_are_averaged_by_document() -> None:
    seeds = [[1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert recovery.mean_over_seeds(seeds) == pytest.approx([1, 1 / 3, 1 / 3])
    assert recovery.spread_over_seeds(seeds) == pytest.approx(np.std([2 / 3, 2 / 3, 1 / 3], ddof=1))
    assert recovery.spread_over_seeds(seeds[:1]) is None


def test_other_documents_are_refused() -> None:
    for measure in (recovery.recovery, recovery.difference):
        with pytest.raises(ValueError, match="same documents"):
            measure([1.0, 0.0], [1.0])
        with pytest.raises(ValueError, match="weights are positive"):
            measure([1.0, 0.0], [1.0, 1.0], weights=[1.0, 0.0])
    with pytest.raises(ValueError, match="same documents"):
        recovery.mean_over_seeds([[1.0], [1.0, 0.0]])


def answers_of(variant: str) -> dict[str, float]:
    """Right (1) or wrong (0) by the document's hash, from the first committed record."""
    path = min((H100 / variant).glob("quality-*.json"))
    (task,) = json.loads(path.read_text())["quality"]["tasks"]
    rows = json.loads(gzip.decompress((path.parent / task["samples"]["file"]).read_bytes()))
    return {row["hash"]: row["acc"] for row in rows}


def paired_answers(variant: str) -> tuple[Sequence[float], Sequence[float]]:
    baseline, of_variant = answers_of("smollm2-135m-bf16"), answers_of(f"smollm2-135m-{variant}")
    assert baseline.keys() == of_variant.keys() and len(baseline) == 400
    return [of_variant[each] for each in baseline], list(baseline.values())


def test_the_committed_records_by_percentage_points() -> None:
    """Paired by document hash, with a margin of one percentage point."""
    int8 = kept_of(recovery.difference(*paired_answers("int8-w8a8")))
    assert recovery.decide(int8, POINT) == Decision("keeps")
    assert round(100 * ends_of(int8).low, 2) == -0.46
    assert (
        round(100 * kept_of(recovery.recovery(*paired_answers("int8-w8a8"))).estimate, 1) == 101.2
    )
    for variant, needed in (("fp8", 982), ("int4-w4a16-marlin-kernel", 5298)):
        kept = kept_of(recovery.difference(*paired_answers(variant)))
        assert recovery.documents_needed(kept.scatter, 0.01) == needed
        assert recovery.decide(kept, POINT) == Decision("undecided", needed - 400)


def test_the_committed_records_by_recovery() -> None:
    """One per cent of a score of 41 % is less than a point: nothing is decided by 400 documents."""
    for variant, more in (("int8-w8a8", 1935), ("fp8", 5437), ("int4-w4a16-marlin-kernel", 31117)):
        kept = recovery.recovery(*paired_answers(variant))
        assert recovery.decide(kept, 0.99) == Decision("undecided", more)

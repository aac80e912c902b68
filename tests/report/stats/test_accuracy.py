"""Accuracies against statsmodels, scipy's other routines and enumeration."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from report import stats

COUNTS = st.integers(2, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
ANSWERS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


def interval_of(result: stats.Estimate | stats.Verdict | None) -> stats.Interval:
    assert result is not None and result.interval is not None
    return result.interval


def paired(both: int, gained: int, lost: int, wrong: int) -> stats.PairedComparison:
    a = [True] * (both + gained) + [False] * (lost + wrong)
    b = [True] * both + [False] * gained + [True] * lost + [False] * wrong
    return stats.compare_paired(a, b)


@given(COUNTS)
def test_proportion_has_wilsons_interval(counts: tuple[int, int]) -> None:
    k, n = counts
    rate = stats.proportion(k, n)
    assert rate is not None and rate.value == k / n
    interval = interval_of(rate)
    expected = proportion_confint(k, n, method="wilson")
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-12)
    assert rate.value in interval
    outcomes = [1.0] * k + [0.0] * (n - k)
    assert rate.standard_error == pytest.approx(scipy_stats.sem(outcomes))


@given(COUNTS)
def test_proportion_of_failures_mirrors_that_of_successes(counts: tuple[int, int]) -> None:
    k, n = counts
    right, wrong = interval_of(stats.proportion(k, n)), interval_of(stats.proportion(n - k, n))
    assert (right.low, right.high) == pytest.approx((1 - wrong.high, 1 - wrong.low))


@settings(max_examples=50)
@given(st.integers(2, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_chance_is_tested_by_enumeration(counts: tuple[int, int]) -> None:
    k, n = counts
    chances = [
        math.comb(n, i) * Fraction(1, 4) ** i * Fraction(3, 4) ** (n - i) for i in range(n + 1)
    ]
    exact = float(sum(p for p in chances if p <= chances[k]))
    assert stats.compare_with_chance(k, n, 0.25).p == pytest.approx(exact)


@given(COUNTS, COUNTS)
def test_unpaired_test_is_chi2_and_interval_newcombes(
    a: tuple[int, int], b: tuple[int, int]
) -> None:
    compared = stats.compare_counts(*a, *b)
    low, high = confint_proportions_2indep(*a, *b, method="newcomb", compare="diff")
    interval = interval_of(compared)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)
    assert compared.estimate is not None and compared.estimate in interval
    table = np.array([[k, n - k] for k, n in (a, b)])
    if table.sum(axis=0).all():
        chi2 = scipy_stats.chi2_contingency(table, correction=False)
        assert compared.p == pytest.approx(chi2.pvalue, rel=1e-6, abs=1e-15)
    else:
        assert compared.p == 1.0


@given(COUNTS, COUNTS)
def test_unpaired_comparison_is_symmetric(a: tuple[int, int], b: tuple[int, int]) -> None:
    there, back = stats.compare_counts(*a, *b), stats.compare_counts(*b, *a)
    assert there.p == pytest.approx(back.p)
    assert there.estimate == pytest.approx(-(back.estimate or 0.0))
    assert interval_of(there).low == pytest.approx(-interval_of(back).high, abs=1e-12)


@given(ANSWERS)
def test_paired_p_is_statsmodels_mcnemar(answers: list[tuple[bool, bool]]) -> None:
    a, b = zip(*answers, strict=True)
    compared = stats.compare_paired(a, b)
    table = [[compared.both_right, compared.gained], [compared.lost, compared.both_wrong]]
    assert np.sum(table) == compared.n == len(answers)
    assert compared.verdict.p == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert compared.verdict.estimate == pytest.approx(np.mean(a) - np.mean(b))


@given(ANSWERS, st.randoms(use_true_random=False))
def test_paired_comparison_ignores_order_and_mirrors(
    answers: list[tuple[bool, bool]], random: np.random.Generator
) -> None:
    a, b = zip(*answers, strict=True)
    there, back = stats.compare_paired(a, b), stats.compare_paired(b, a)
    assert (there.gained, there.lost) == (back.lost, back.gained)
    assert there.verdict.p == back.verdict.p
    interval = interval_of(there.verdict)
    assert interval.low == pytest.approx(-interval_of(back.verdict).high, abs=1e-9)
    assert there.verdict.estimate is not None and there.verdict.estimate in interval
    shuffled = answers.copy()
    random.shuffle(shuffled)
    assert stats.compare_paired(*zip(*shuffled, strict=True)) == there


def constrained_score(gained: int, lost: int, n: int, delta: float) -> float:
    """Tango's statistic with the restricted maximum likelihood found by search."""

    def loss(q: float) -> float:  # q = probability of a loss, q + delta that of a gain
        cells = [(gained, q + delta), (lost, q), (n - gained - lost, 1 - 2 * q - delta)]
        return -sum(k * math.log(max(p, 1e-300)) for k, p in cells if k)

    low, high = max(0.0, -delta), (1 - delta) / 2
    q = optimize.minimize_scalar(
        loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    ).x
    return float((gained - lost - n * delta) / math.sqrt(n * (2 * q + delta - delta**2)))


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(1, 7, 21), (12, 12, 100), (25, 9, 400), (3, 0, 50), (0, 0, 40)]
)
def test_paired_interval_inverts_the_score_test(gained: int, lost: int, n: int) -> None:
    interval = interval_of(paired(n - gained - lost, gained, lost, 0).verdict)
    assert constrained_score(gained, lost, n, interval.low) == pytest.approx(1.96, abs=1e-3)
    assert constrained_score(gained, lost, n, interval.high) == pytest.approx(-1.96, abs=1e-3)


def test_paired_interval_of_a_published_table() -> None:
    """Airway hyper-responsiveness, Fagerland, Lydersen & Laake (2014), Stat. Med. 33:2850-75."""
    interval = interval_of(paired(1, 1, 7, 12).verdict)
    assert (round(interval.low, 3), round(interval.high, 3)) == (-0.517, -0.026)


def test_paired_interval_never_denies_what_the_exact_p_shows() -> None:
    for n in (5, 12, 25):
        for gained in range(n + 1):
            for lost in range(n + 1 - gained):
                verdict = paired(n - gained - lost, gained, lost, 0).verdict
                assert verdict.p is not None
                assert verdict.significant == (verdict.p < 0.05)


def test_one_sided_flips_reach_the_end_of_the_scale() -> None:
    assert interval_of(paired(0, 30, 0, 0).verdict).high == 1.0
    assert interval_of(paired(0, 0, 30, 0).verdict).low == -1.0
    same = paired(200, 0, 0, 200)
    assert (same.verdict.p, same.verdict.outcome) == (1.0, "noise")
    assert interval_of(same.verdict).high > 0.005


@pytest.mark.parametrize(("rate", "n_a", "n_b"), [(0.63, 400, 400), (0.5, 100, 1000)])
def test_unpaired_detectable_is_statsmodels_power(rate: float, n_a: int, n_b: int) -> None:
    effect = NormalIndPower().solve_power(nobs1=n_a, ratio=n_b / n_a, alpha=0.05, power=0.8)
    expected = effect * math.sqrt(rate * (1 - rate))
    assert stats.detectable_unpaired(rate, n_a, n_b) == pytest.approx(expected, rel=1e-4)


def enumerated_power(n: int, discordant: float, difference: float) -> float:
    up, down = (discordant + difference) / 2, (discordant - difference) / 2
    return sum(
        scipy_stats.multinomial.pmf([b, c, n - b - c], n, [up, down, 1 - discordant])
        for b in range(n + 1)
        for c in range(n + 1 - b)
        if mcnemar([[0, b], [c, 0]], exact=True).pvalue < 0.05
    )


def test_paired_detectable_has_the_power_asked_for() -> None:
    difference = stats.detectable_paired(40, 0.4)
    assert difference is not None
    assert enumerated_power(40, 0.4, difference) == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize(("n", "discordant"), [(400, 0.1), (400, 0.3), (10042, 0.05)])
def test_paired_detectable_is_near_connors_formula(n: int, discordant: float) -> None:
    """Connor (1987), Biometrics 43:207-211, the normal approximation without correction."""

    def needed(d: float) -> float:
        return (
            1.95996 * math.sqrt(discordant) + 0.84162 * math.sqrt(discordant - d**2)
        ) ** 2 / d**2

    approximate = optimize.brentq(lambda d: needed(d) - n, 1e-4, discordant)
    exact = stats.detectable_paired(n, discordant)
    assert exact is not None
    assert approximate <= exact <= 1.1 * approximate


def test_pairing_shows_smaller_differences_than_not_pairing() -> None:
    with_pairs = stats.detectable_paired(400, 0.1)
    without = stats.detectable_unpaired(0.63, 400, 400)
    assert with_pairs is not None and without is not None
    assert with_pairs < without / 2


def test_what_cannot_be_shown_is_unknown() -> None:
    assert stats.detectable_paired(400, 0.0) is None
    assert stats.detectable_paired(400, 0.005) is None  # about two flips: never significant
    assert stats.detectable_paired(1, 0.5) is None
    assert stats.detectable_unpaired(1.0, 400, 400) is None
    assert stats.detectable_unpaired(0.5, 2, 2) is None
    assert stats.detectable_unpaired(0.5, 1, 400) is None


def test_empty_and_single_samples_are_unknown() -> None:
    for k, n in ((0, 0), (1, 1)):
        assert stats.proportion(k, n) is None
        assert stats.compare_with_chance(k, n, 0.25).outcome == "unknown"
        assert stats.compare_counts(k, n, 5, 10).outcome == "unknown"
        assert stats.compare_counts(5, 10, k, n).estimate is None
        compared = stats.compare_paired([True] * n, [False] * n)
        assert (compared.n, compared.verdict.outcome) == (n, "unknown")
        assert stats.flipped_answers([0] * n, [1] * n) is None
    assert stats.loglikelihood_shift([], [], [], []) is None
    one = stats.loglikelihood_shift([-1.0, -2.0], [-2.0, -4.0], [1, 2], [7, 7])
    assert one == stats.Estimate(1.0, None, None, 1)


def test_impossible_input_is_refused() -> None:
    with pytest.raises(ValueError, match="5 of 4"):
        stats.proportion(5, 4)
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.detectable_unpaired(1.5, 10, 10)
    with pytest.raises(ValueError, match="same documents"):
        stats.compare_paired([True], [True, False])
    with pytest.raises(ValueError, match="same documents"):
        stats.flipped_answers([1], [1, 2])
    with pytest.raises(ValueError, match="same documents"):
        stats.loglikelihood_shift([-1.0], [-1.0, -2.0], [3], [0])
    with pytest.raises(ValueError, match="no bytes"):
        stats.loglikelihood_shift([-1.0], [-1.0], [0], [0])


def test_flipped_answers_counts_right_and_wrong_ones() -> None:
    flipped = stats.flipped_answers([0, 1, 2, 3], [0, 2, 1, 3])
    assert flipped == stats.proportion(2, 4)


ROWS = st.lists(
    st.tuples(st.floats(-100, -0.1), st.floats(-100, -0.1), st.integers(1, 50), st.integers(0, 5)),
    min_size=2,
    max_size=40,
)


@given(ROWS, st.randoms(use_true_random=False))
def test_loglikelihood_shift_is_a_mean_over_documents(
    rows: list[tuple[float, float, int, int]], random: np.random.Generator
) -> None:
    shift = stats.loglikelihood_shift(*zip(*rows, strict=True))
    by_document: dict[int, list[float]] = {}
    for a, b, size, document in rows:
        by_document.setdefault(document, []).append(abs(a - b) / size)
    means = [float(np.mean(values)) for values in by_document.values()]
    assert shift is not None
    assert (shift.value, shift.n) == pytest.approx((np.mean(means), len(means)))
    shuffled = rows.copy()
    random.shuffle(shuffled)
    assert stats.loglikelihood_shift(*zip(*shuffled, strict=True)) == shift
    assume(len(means) > 1 and np.ptp(means) > 1e-6)
    low, high = DescrStatsW(means).tconfint_mean(0.05)
    interval = interval_of(shift)
    assert (interval.low, interval.high) == pytest.approx((max(0.0, low), high))


def test_identical_runs_shift_nothing() -> None:
    runs = [-1.0, -2.0, -3.0]
    same = stats.loglikelihood_shift(runs, runs, [1, 2, 3], [0, 1, 2])
    assert same == stats.Estimate(0.0, None, None, 3)

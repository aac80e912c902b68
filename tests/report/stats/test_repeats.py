"""Repeats: means, percentiles, ratios, the noise floor and histories, against other routes."""

from itertools import product

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from report import stats

TIMES = st.floats(1e-3, 1e6)
REPEATS = st.lists(TIMES, min_size=2, max_size=8)
REQUESTS = st.lists(st.lists(TIMES, min_size=1, max_size=12), min_size=2, max_size=5)


def interval_of(result: stats.Estimate | stats.Verdict | None) -> stats.Interval:
    assert result is not None and result.interval is not None
    return result.interval


def latencies(
    random: np.random.Generator, repeats: int, between: float, within: float, requests: int = 200
) -> list[list[float]]:
    """Log-normal requests whose repeats differ among themselves by `between`."""
    shifts = random.normal(0, between, (repeats, 1))
    rows = np.exp(shifts + random.normal(0, within, (repeats, requests)))
    return [list(row) for row in rows]


@given(REPEATS)
def test_mean_interval_is_students(values: list[float]) -> None:
    assume(np.ptp(values) > 1e-6 * max(values))
    estimate = stats.mean(values)
    assert estimate is not None and estimate.n == len(values)
    low, high = DescrStatsW(values).tconfint_mean(0.05)
    assert estimate.value == pytest.approx(np.mean(values))
    assert estimate.standard_error == pytest.approx(scipy_stats.sem(values))
    interval = interval_of(estimate)
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert estimate.value in interval


@given(REPEATS)
def test_a_positive_mean_has_a_t_interval_of_logarithms_by_the_delta_method(
    values: list[float],
) -> None:
    """Never below 0 where Student's own would be, and the same where repeats hardly differ."""
    assume(np.ptp(values) > 1e-6 * max(values))
    estimate, plain = stats.mean_of_positive(values), stats.mean(values)
    assert estimate is not None and plain is not None
    assert (estimate.value, estimate.standard_error) == (plain.value, plain.standard_error)
    log_error = scipy_stats.sem(values) / np.mean(values)
    ends = scipy_stats.t.interval(0.95, len(values) - 1, np.log(np.mean(values)), log_error)
    if ends[1] - ends[0] < 600:
        interval = interval_of(estimate)
        assert (interval.low, interval.high) == pytest.approx(tuple(np.exp(ends)))
        assert interval.low > 0


def test_few_scattered_repeats_stay_possible() -> None:
    wild = [60.0, 90.0, 156.0]
    assert interval_of(stats.mean(wild)).low < 0 < interval_of(stats.mean_of_positive(wild)).low
    assert stats.mean_of_positive([0.0, 0.0]) == stats.Estimate(0.0, None, None, 2)


@given(REPEATS, st.randoms(use_true_random=False))
def test_mean_ignores_order(values: list[float], random: np.random.Generator) -> None:
    shuffled = values.copy()
    random.shuffle(shuffled)
    assert stats.mean(shuffled) == stats.mean(values)


def test_no_spread_is_unknown() -> None:
    assert stats.mean([]) is None
    for constant in ([3.5], [3.5, 3.5, 3.5]):
        estimate = stats.mean(constant)
        assert estimate == stats.Estimate(3.5, None, None, len(constant))
    assert stats.percentiles([], [50, 90]) == (None, None)
    assert stats.percentiles([[], []], [50]) == (None,)
    assert stats.percentiles([[1.0, 2.0, 3.0]], [50]) == (stats.Estimate(2.0, None, None, 1),)
    assert stats.percentiles([[7.0, 7.0]] * 3, [90]) == (stats.Estimate(7.0, None, None, 3),)


@pytest.mark.parametrize("bad", [[1.0, float("nan")], [float("inf")], [[1.0, 2.0]]])
def test_what_is_no_number_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        stats.mean(bad)


def test_impossible_percentiles_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        stats.percentiles([[1.0, 2.0]], [101])
    with pytest.raises(ValueError, match="negative"):
        stats.percentiles([[1.0, -2.0]], [50])


@given(REQUESTS, st.floats(0, 100))
def test_percentile_is_numpys_of_the_pooled_requests(
    repeats: list[list[float]], rank: float
) -> None:
    (estimate,) = stats.percentiles(repeats, [rank], resamples=2)
    assert estimate is not None
    assert estimate.value == pytest.approx(np.percentile(np.concatenate(repeats), rank))


@settings(max_examples=50)
@given(REQUESTS, st.randoms(use_true_random=False))
def test_percentiles_ignore_order_and_hold_their_estimate(
    repeats: list[list[float]], random: np.random.Generator
) -> None:
    estimates = stats.percentiles(repeats, [10, 50, 99], resamples=40)
    shuffled = [sorted(repeat, reverse=True) for repeat in repeats]
    random.shuffle(shuffled)
    assert stats.percentiles(shuffled, [10, 50, 99], resamples=40) == estimates
    for estimate in estimates:
        assert estimate is not None
        assert estimate.interval is None or estimate.value in estimate.interval


def test_bootstrap_error_is_that_of_all_possible_resamples() -> None:
    repeats = [[1.0, 2.0, 5.0], [3.0, 8.0, 9.0]]
    draws = [list(draw) for repeat in repeats for draw in product(repeat, repeat=3)]
    medians = [np.median([*one, *other]) for one, other in product(draws, draws)]
    (estimate,) = stats.percentiles(repeats, [50], resamples=20_000)
    assert estimate is not None and estimate.standard_error is not None
    exact = np.log(medians).std()
    assert estimate.standard_error / estimate.value == pytest.approx(exact, rel=0.02)
    reach = scipy_stats.t.ppf(0.975, 1) * estimate.standard_error / estimate.value
    interval = interval_of(estimate)
    assert np.log(interval.high / estimate.value) == pytest.approx(reach)
    assert np.log(estimate.value / interval.low) == pytest.approx(reach)


def test_bootstrap_is_seeded_and_blocks_do_not_repeat() -> None:
    repeats = latencies(np.random.default_rng(1), 3, 0.05, 0.3)
    first, again, other = (stats.percentiles(repeats, [90], seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    large = latencies(np.random.default_rng(2), 2, 0.05, 0.3, requests=2000)
    (few,), (many,) = (stats.percentiles(large, [50], resamples=r) for r in (250, 2000))
    assert few is not None and many is not None
    assert few.standard_error != pytest.approx(many.standard_error, rel=0.004)
    assert few.standard_error == pytest.approx(many.standard_error, rel=0.2)


@pytest.mark.parametrize(("between", "within"), [(0.0, 0.5), (0.1, 0.5), (0.1, 0.05)])
def test_same_variant_twice_is_rarely_called_different(between: float, within: float) -> None:
    random = np.random.default_rng(3)
    runs = [
        stats.percentiles(latencies(random, 3, between, within, 60), [90], resamples=200)[0]
        for _ in range(300)
    ]
    alarms = sum(stats.ratio(a, b).significant for a, b in zip(runs[::2], runs[1::2], strict=True))
    assert alarms <= 15  # of 150; nominal 7.5


def test_a_true_difference_is_found() -> None:
    random = np.random.default_rng(4)
    base = latencies(random, 3, 0.02, 0.1)
    twice = [[2 * t for t in repeat] for repeat in latencies(random, 3, 0.02, 0.1)]
    (slow,), (fast,) = stats.percentiles(twice, [90]), stats.percentiles(base, [90])
    compared = stats.ratio(slow, fast)
    assert stats.speed(compared, higher_is_faster=False) == "slower"
    assert 2.0 in interval_of(compared)


@given(REPEATS, REPEATS)
def test_ratio_of_means_is_welchs_t_of_the_values_over_their_mean(
    a: list[float], b: list[float]
) -> None:
    for values in (a, b):
        assume(np.ptp(values) > 1e-3 * max(values))
    compared = stats.ratio(stats.mean(a), stats.mean(b))
    assert compared.estimate == pytest.approx(np.mean(a) / np.mean(b))
    scaled = CompareMeans(
        DescrStatsW(np.divide(a, np.mean(a))), DescrStatsW(np.divide(b, np.mean(b)))
    )
    low, high = scaled.tconfint_diff(0.05, usevar="unequal")
    interval = interval_of(compared)
    assert np.log(interval.high / interval.low) == pytest.approx(high - low)
    log_ratio = np.log(np.mean(a) / np.mean(b))
    degrees = scaled.dof_satt()
    expected = scipy_stats.t.sf(abs(log_ratio) / scaled.std_meandiff_separatevar, degrees) * 2
    assert compared.p == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_ratio_agrees_with_fiellers_interval_where_noise_is_small() -> None:
    random = np.random.default_rng(5)
    a, b = random.normal(100, 1, 6), random.normal(50, 0.5, 6)
    interval = interval_of(stats.ratio(stats.mean(a), stats.mean(b)))
    t2 = scipy_stats.t.ppf(0.975, 10) ** 2
    va, vb = a.var(ddof=1) / 6, b.var(ddof=1) / 6
    roots = np.roots([b.mean() ** 2 - t2 * vb, -2 * a.mean() * b.mean(), a.mean() ** 2 - t2 * va])
    assert [interval.low, interval.high] == pytest.approx(sorted(roots), rel=2e-3)


@given(REPEATS, REPEATS)
def test_ratio_is_symmetric(a: list[float], b: list[float]) -> None:
    there, back = (
        stats.ratio(x, y)
        for x, y in ((stats.mean(a), stats.mean(b)), (stats.mean(b), stats.mean(a)))
    )
    assert there.p == back.p
    assert there.estimate is not None and back.estimate is not None
    assert there.estimate == pytest.approx(1 / back.estimate)
    mirrored = {"higher": "lower", "lower": "higher"}
    assert there.outcome == mirrored.get(back.outcome, back.outcome)
    if there.interval is None or back.interval is None:
        assert there.interval is back.interval is None
    else:
        assert there.estimate in there.interval
        assert there.interval.low == pytest.approx(1 / back.interval.high)


def test_ratio_of_unknowns_is_unknown() -> None:
    known, single = stats.mean([1.0, 2.0, 3.0]), stats.mean([4.0])
    for a, b in ((None, known), (known, None), (stats.mean([0.0, 0.0]), known)):
        assert stats.ratio(a, b).estimate is None
        assert stats.ratio(a, b).outcome == "unknown"
    assert stats.ratio(single, known).estimate == 2.0
    assert stats.ratio(single, known).outcome == "unknown"
    astray = stats.ratio(stats.mean([-1e9, 1e9 + 1]), known)
    assert (astray.interval, astray.outcome) == (None, "unknown")


def test_noise_floor_is_the_widest_ratio_of_the_same_thing_either_way() -> None:
    slow, fast = stats.mean([125.0, 125.5, 124.5]), stats.mean([100.0, 101.0, 99.0])
    again = stats.mean([101.0, 100.0, 102.0])
    for pair in ((slow, fast), (fast, slow)):
        floor = stats.noise_floor([stats.ratio(again, fast), stats.ratio(*pair)])
        assert floor == pytest.approx(1.25)
    assert stats.noise_floor([]) is None
    assert stats.noise_floor([stats.ratio(None, fast)]) is None


@given(st.lists(st.floats(1, 1000), min_size=3, max_size=10))
def test_history_tests_the_last_value_as_a_regression_does(series: list[float]) -> None:
    assume(np.ptp(np.log(series[:-1])) > 1e-2)
    verdicts = stats.changes(series)
    last = verdicts[-1]
    assume(not any(v.significant for v in verdicts[:-1]))
    design = np.zeros((len(series), 2))
    design[:, 0], design[-1, 1] = 1, 1
    fit = sm.OLS(np.log(series), design).fit()
    assert last.p == pytest.approx(fit.pvalues[1], rel=1e-5, abs=1e-9)
    assert last.estimate == pytest.approx(np.exp(fit.params[1]))
    assert last.p_adjusted == pytest.approx(min(1.0, fit.pvalues[1] * (len(series) - 2)))


@given(st.permutations([1.0, 1.02, 0.99, 1.05]))
def test_history_ignores_the_order_of_earlier_values(earlier: list[float]) -> None:
    assert stats.changes([*earlier, 1.3])[-1] == stats.changes([1.0, 1.02, 0.99, 1.05, 1.3])[-1]


def test_history_flags_each_step_once_and_starts_anew() -> None:
    random = np.random.default_rng(6)
    steps = np.repeat([100.0, 130.0, 100.0], 10)
    series = steps * np.exp(random.normal(0, 0.01, 30))
    verdicts = stats.changes(series)
    assert [i for i, v in enumerate(verdicts) if v.significant] == [10, 20]
    assert stats.speed(verdicts[10], higher_is_faster=True) == "faster"
    assert stats.speed(verdicts[20], higher_is_faster=True) == "slower"
    assert stats.changes(series, tests=10**9)[10].outcome == "noise"


def test_history_without_change_is_rarely_flagged() -> None:
    random = np.random.default_rng(7)
    series = [np.exp(random.normal(0, 0.05, 12)) for _ in range(400)]
    flagged = sum(any(v.significant for v in stats.changes(s)) for s in series)
    assert flagged <= 32  # nominal at most 20


def test_short_and_constant_histories_are_unknown() -> None:
    assert stats.changes([]) == ()
    assert [v.outcome for v in stats.changes([1.0, 2.0])] == ["unknown", "unknown"]
    assert stats.changes([1.0, 2.0])[1].estimate == pytest.approx(2.0)
    assert stats.changes([1.0, 1.0, 2.0])[2].outcome == "unknown"
    with pytest.raises(ValueError, match="positive"):
        stats.changes([1.0, 0.0])

"""Repeats: means, percentiles, ratios, the noise floor and histories, against other routes."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.weightstats import DescrStatsW

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


@given(REPEATS, st.randoms(use_true_random=False))
def test_mean_ignores_order(values: list[float], random: np.random.Generator) -> None:
    shuffled = values.copy()
    random.shuffle(shuffled)
    assert stats.mean(shuffled) == stats.mean(values)


def test_no_spread_is_unknown() -> None:
    assert stats.mean([]) is None
    for constant in ([3.5], [3.5, 3.5, 3.5]):
        assert stats.mean(constant) == stats.Estimate(3.5, None, None, len(constant))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([1.0, float("nan")], "finite numbers"),
        ([float("inf")], "finite numbers"),
        ([[1.0, 2.0]], "a flat sequence"),
    ],
)
def test_what_is_no_number_is_refused(bad: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        stats.mean(bad)


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

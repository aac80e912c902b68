"""The published experiment's own figures, and verdicts as a family."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from report import stats

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)

# HellaSwag, right answers of 400, as published (shared/experiment.md: acc × 400)
LARGE = {"70B Q4_K_M": 283, "70B AWQ": 286}
SMALL = {"8B BF16": 255, "8B FP8": 251, "8B AWQ": 250}
N = 400


def verdict(estimate: float | None, low: float, high: float, p: float | None) -> stats.Verdict:
    return stats.Verdict(estimate, 1.0, stats.Interval(low, high, 0.95), p, "some test")


def test_published_8b_variants_cannot_be_told_apart() -> None:
    fp8 = stats.compare_counts(SMALL["8B FP8"], N, SMALL["8B BF16"], N)
    awq = stats.compare_counts(SMALL["8B AWQ"], N, SMALL["8B BF16"], N)
    assert (fp8.estimate, awq.estimate) == pytest.approx((-0.01, -0.0125))
    assert fp8.p is not None and round(fp8.p, 2) == 0.77
    assert awq.p is not None and round(awq.p, 2) == 0.71
    for compared in (fp8, awq):
        assert compared.outcome == "noise"
        assert compared.interval is not None
        half_width = (compared.interval.high - compared.interval.low) / 2
        assert half_width == pytest.approx(0.066, abs=0.001)


def test_published_smallest_detectable_difference() -> None:
    for one, other in (("8B BF16", "8B FP8"), ("8B BF16", "8B AWQ"), ("8B FP8", "8B AWQ")):
        rate = (SMALL[one] + SMALL[other]) / (2 * N)
        detectable = stats.detectable_unpaired(rate, N, N)
        assert detectable is not None and round(detectable, 3) == 0.096


def test_published_70b_against_8b_corrected_for_six_comparisons() -> None:
    pairs = list(product(LARGE, SMALL))
    single = [stats.compare_counts(LARGE[a], N, SMALL[b], N) for a, b in pairs]
    p_values = [v.p for v in single if v.p is not None]
    assert (round(min(p_values), 3), round(max(p_values), 3)) == (0.007, 0.035)
    assert all(v.outcome == "higher" for v in single)
    corrected = dict(zip(pairs, stats.correct(single), strict=True))
    adjusted = {pair: round(v.p_adjusted or 0.0, 3) for pair, v in corrected.items()}
    assert adjusted.pop(("70B AWQ", "8B FP8")) == 0.042
    assert adjusted.pop(("70B AWQ", "8B AWQ")) == 0.041
    assert set(adjusted.values()) == {0.053}
    shown = [pair for pair, v in corrected.items() if v.significant]
    assert shown == [("70B AWQ", "8B FP8"), ("70B AWQ", "8B AWQ")]


def test_published_2bit_gguf_is_at_chance() -> None:
    two_bit = stats.compare_with_chance(107, N, 0.25)
    assert two_bit.estimate == 0.2675
    assert two_bit.p is not None and round(two_bit.p, 2) == 0.42
    assert two_bit.outcome == "noise"
    assert stats.compare_with_chance(250, N, 0.25).outcome == "higher"


def test_outcome_needs_both_test_and_interval() -> None:
    assert verdict(1.2, 1.1, 1.3, 0.01).outcome == "higher"
    assert verdict(0.8, 0.7, 0.9, 0.01).outcome == "lower"
    assert verdict(1.2, 1.1, 1.3, 0.06).outcome == "noise"
    assert verdict(1.2, 0.9, 1.3, 0.01).outcome == "noise"
    assert verdict(1.2, 1.1, 1.3, None).outcome == "unknown"
    assert verdict(None, 1.1, 1.3, 0.01).outcome == "unknown"
    assert not verdict(1.2, 1.1, 1.3, None).significant


def test_level_sets_how_small_p_must_be() -> None:
    strict = stats.Verdict(1.2, 1.0, stats.Interval(1.1, 1.3, 0.99), 0.02, "some test")
    assert strict.outcome == "noise"


def test_speed_depends_on_what_the_metric_counts() -> None:
    more, less, same = (verdict(e, e - 0.1, e + 0.1, 0.01) for e in (1.2, 0.8, 1.0))
    assert stats.speed(more, higher_is_faster=True) == "faster"
    assert stats.speed(more, higher_is_faster=False) == "slower"
    assert stats.speed(less, higher_is_faster=True) == "slower"
    assert stats.speed(less, higher_is_faster=False) == "faster"
    assert stats.speed(same, higher_is_faster=True) == "noise"
    assert stats.speed(verdict(1.2, 1.1, 1.3, None), higher_is_faster=True) == "unknown"


@settings(max_examples=20)  # multipletests collects garbage on every call: 25 ms to 100 ms
@given(P_VALUES)
def test_holm_is_statsmodels_holm(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(np.array(stats.holm(p_values), dtype=float), expected)


@given(P_VALUES)
def test_holm_is_monotone_and_never_smaller_than_p(p_values: list[float]) -> None:
    adjusted = stats.holm(p_values)
    pairs = sorted(zip(p_values, (p for p in adjusted if p is not None), strict=True))
    assert all(p <= q <= 1 for p, q in pairs)
    assert [q for _, q in pairs] == sorted(q for _, q in pairs)


@given(P_VALUES)
def test_holm_ignores_order_and_unknowns(p_values: list[float]) -> None:
    order = np.random.default_rng(len(p_values)).permutation(len(p_values))
    adjusted = stats.holm(p_values)
    shuffled = stats.holm([p_values[i] for i in order])
    assert shuffled == tuple(adjusted[i] for i in order)
    assert stats.holm([None, *p_values]) == (None, *adjusted)


def test_correction_of_nothing_and_of_unknowns() -> None:
    unknown = stats.Verdict(None, 1.0, None, None, "t")
    assert stats.holm([]) == ()
    assert stats.correct([]) == ()
    assert stats.correct([unknown]) == (unknown,)


def test_what_is_only_described_is_neither_side() -> None:
    ends = stats.Interval(1.08, 1.12, 0.95)
    shown = stats.Verdict(1.1, 1.0, ends, 0.001, "t")
    described = replace(shown, judged=False)
    assert (shown.outcome, shown.significant) == ("higher", True)
    assert (described.outcome, described.significant) == ("described", False)
    assert replace(described, interval=None).outcome == "unknown"


def test_an_inverted_verdict_is_that_of_the_two_swapped() -> None:
    ends = stats.Interval(1.1, 1.25, 0.95)
    turned = stats.invert(stats.Verdict(1.2, 1.0, ends, 0.01, "t"))
    assert turned.estimate == pytest.approx(1 / 1.2)
    assert turned.p == 0.01
    assert turned.interval is not None
    assert (turned.interval.low, turned.interval.high) == pytest.approx((1 / 1.25, 1 / 1.1))
    assert turned.outcome == "lower"
    counts = stats.invert(stats.compare_counts(300, 400, 200, 400))
    assert counts.estimate == stats.compare_counts(200, 400, 300, 400).estimate
    assert stats.invert(stats.Verdict(None, 1.0, None, None, "t")).outcome == "unknown"

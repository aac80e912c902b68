"""Critical values against published tables, scipy's own and plain integration."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy import stats as scipy_stats

from report.stats import simultaneous

DEGREES = st.floats(1.0, 200.0)


def alike(count: int) -> list[float]:
    return [math.sqrt(0.5)] * count


def dunnett(loadings: Sequence[float], degrees: float, alpha: float) -> float:
    within = simultaneous.within_family(loadings, others=False)
    return simultaneous.critical_values(within, (degrees,), alpha)[0]


@pytest.mark.parametrize(
    ("degrees", "alpha", "row"),
    [
        (5, 0.05, [2.57, 3.03, 3.29, 3.48, 3.62]),
        (10, 0.05, [2.23, 2.57, 2.76, 2.89, 2.99]),
        (20, 0.05, [2.09, 2.38, 2.54, 2.65, 2.73]),
        (60, 0.05, [2.00, 2.27, 2.41, 2.51, 2.58]),
        (10, 0.01, [3.17, 3.53, 3.74, 3.88, 3.99]),
        (20, 0.01, [2.85, 3.13, 3.29, 3.40, 3.48]),
    ],
)
def test_dunnetts_table(degrees: float, alpha: float, row: list[float]) -> None:
    """Two-sided values, Dunnett (1964), Biometrics 20:482-491, tables II and III."""
    found = [dunnett(alike(m), degrees, alpha) for m in range(1, 6)]
    assert found == pytest.approx(row, abs=0.0051)


def test_unequal_numbers_are_scipys_dunnett() -> None:
    random = np.random.default_rng(0)
    variants = [random.normal(size=n) for n in (3, 4, 5, 6)]
    control = random.normal(size=7)
    expected = scipy_stats.dunnett(*variants, control=control, rng=random)
    ends = expected.confidence_interval(0.95)
    groups = [*variants, control]
    degrees = sum(group.size - 1 for group in groups)
    pooled = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / degrees
    loadings = [math.sqrt(1 / 7 / (1 / 7 + 1 / each.size)) for each in variants]
    within = simultaneous.within_family(loadings, others=False)
    (width,) = simultaneous.critical_values(within, (degrees,), 0.05)
    errors = np.array([math.sqrt(pooled * (1 / 7 + 1 / each.size)) for each in variants])
    differences = np.array([each.mean() - control.mean() for each in variants])
    assert differences - width * errors == pytest.approx(ends.low, abs=0.003)  # scipy's is random
    p_values = simultaneous.chances(within, differences / errors, (degrees,) * 4)
    assert p_values == pytest.approx(expected.pvalue, abs=0.002)


@pytest.mark.parametrize(("groups", "degrees"), [(2, 3), (4, 8), (4, 1.3), (10, 20), (20, 200)])
def test_all_pairs_alike_are_scipys_studentized_range(groups: int, degrees: float) -> None:
    (found,) = simultaneous.critical_values(
        simultaneous.within_range(groups), (float(degrees),), 0.05 / 3
    )
    expected = scipy_stats.studentized_range.ppf(1 - 0.05 / 3, groups, degrees) / math.sqrt(2)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("degrees", [2.0, 6.0, 30.0])
def test_one_comparison_is_students_t(degrees: float) -> None:
    assert dunnett([0.3], degrees, 0.05) == pytest.approx(scipy_stats.t.ppf(0.975, degrees))


@pytest.mark.parametrize("loadings", [(0.3, 0.5, 0.9), (0.95, 0.95), (0.6, 0.1, 0.1, 0.8)])
def test_unequal_loadings_are_the_multivariate_normal(loadings: tuple[float, ...]) -> None:
    shape = np.outer(loadings, loadings)
    np.fill_diagonal(shape, 1.0)
    limit = np.full(len(loadings), dunnett(loadings, 1e6, 0.05))
    chance = scipy_stats.multivariate_normal.cdf(
        limit, cov=shape, lower_limit=-limit, abseps=1e-6, rng=np.random.default_rng(1)
    )
    assert chance == pytest.approx(0.95, abs=1e-4)


def test_pairs_without_the_baseline_are_integrated_too() -> None:
    """Two variants: P(|t₁| ≤ c, |t₂| ≤ c, |t₁ − t₂| ≤ factor · c) by the bivariate density."""
    factor, degrees = simultaneous.OTHER_PAIRS, 6
    within = simultaneous.within_family(alike(2))
    (width,) = simultaneous.critical_values(within, (float(degrees),), 0.05)
    density = scipy_stats.multivariate_t(shape=[[1, 0.5], [0.5, 1]], df=degrees)
    chance, _ = integrate.dblquad(
        lambda y, x: float(density.pdf([x, y])),
        -width,
        width,
        lambda x: max(-width, x - factor * width),
        lambda x: min(width, x + factor * width),
        epsabs=1e-6,
    )
    assert chance == pytest.approx(0.95, abs=1e-5)


@pytest.mark.parametrize("count", [2, 3, 7, 19])
def test_judging_the_other_pairs_costs_little(count: int) -> None:
    degrees = (2.0 * (count + 1),)
    both = simultaneous.within_family(alike(count))
    (width,) = simultaneous.critical_values(both, degrees, 0.05 / 3)
    alone = dunnett(alike(count), degrees[0], 0.05 / 3)
    (all_alike,) = simultaneous.critical_values(
        simultaneous.within_range(count + 1), degrees, 0.05 / 3
    )
    assert alone < width < 1.02 * alone
    assert width < all_alike < simultaneous.OTHER_PAIRS * width


@settings(max_examples=50)
@given(
    st.lists(st.floats(0.05, 0.999), min_size=1, max_size=5),
    st.lists(DEGREES, min_size=1, max_size=4),
    st.floats(0.001, 0.2),
)
def test_chances_undo_critical_values(
    loadings: list[float], degrees: list[float], alpha: float
) -> None:
    within = simultaneous.within_family(loadings)
    widths = simultaneous.critical_values(within, tuple(degrees), alpha)
    found = simultaneous.chances(within, np.array(widths), tuple(degrees))
    assert found == pytest.approx(alpha, rel=1e-6)
    wider = simultaneous.critical_values(within, tuple(degrees), alpha / 2)
    assert all(w > n for w, n in zip(wider, widths, strict=True))
    shuffled = simultaneous.within_family(loadings[::-1])
    assert simultaneous.critical_values(shuffled, tuple(degrees), alpha) == widths


@given(DEGREES, DEGREES)
def test_fewer_degrees_of_freedom_are_wider(one: float, other: float) -> None:
    few, many = sorted((one, other))
    within = simultaneous.within_family(alike(3))
    narrow, wide = (simultaneous.critical_values(within, (d,), 0.02)[0] for d in (many, few))
    assert narrow <= wide * (1 + 1e-9)


def test_the_fewest_degrees_of_freedom_still_have_a_width() -> None:
    (width,) = simultaneous.critical_values(simultaneous.within_family(alike(1)), (0.5,), 0.05)
    assert width == pytest.approx(scipy_stats.t.ppf(0.975, 0.5), rel=1e-3)

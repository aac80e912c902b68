"""How wide simultaneous intervals must be: Dunnett's and Tukey's critical values, and both at once.

A family has one baseline and m further variants. Divided by their standard errors, its differences
are multivariate t. Given the estimate s of the spread they are normal, and each difference from the
baseline is λᵢ z + √(1 − λᵢ²) eᵢ: one shared z, which is the baseline's own error, and independent
eᵢ. So the chance that all lie within ±a is one integral over z, and that of the t one more over s.
Both are sums over fixed nodes here: no random numbers, the same answer every time.

Source: Dunnett (1955), JASA 50:1096-1121 (the product structure); Tukey (1953) and Kramer (1956),
Biometrics 12:307-310 (all pairs); Hochberg & Tamhane (1987), Multiple Comparison Procedures, ch. 2
and appendix 3.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import interpolate, special

from report.stats.verdict import Floats

# The promise: at most 5 % of reports have a false verdict. A quarter of a point is kept back for
# what the sessions themselves must tell, how alike metrics are and which variants are noisier.
PROMISED, AIMED_AT = 0.05, 0.0475

# Intervals of the pairs without the baseline are wider by this factor. Judging them too then costs
# the baseline's 1 % of width (four variants, three sessions: from 3.64 to 3.67 standard errors; 20
# variants: from 3.48 to 3.51), where treating all pairs alike costs 10 % (4.00) to 20 % (4.21).
OTHER_PAIRS = 1.4

# The chance that all differences lie within ±a standard errors, by a, given s = 1.
Within = interpolate.CubicSpline

_LIMITS = np.linspace(0.0, 8.6, 87)  # a; nothing lies beyond the last
_SHARED = np.linspace(0.0, 6.0, 41)  # z; both signs count alike
_MOST_SHARED = 0.97  # of the variance: nearer to 1, sums over these z are no longer exact
_NORMAL = np.linspace(-8.0, 8.0, 161)
_SPREADS = np.linspace(-30.0, 7.0, 186)  # log s in units of its standard deviation, 1/√(2ν)


def within_family(loadings: Sequence[float], *, others: bool = True) -> Within:
    """The m differences from the baseline, and those of the m from each other if `others`.

    Args:
        loadings: λᵢ for each variant, √(v₀ / (v₀ + vᵢ)) with v the variances of the means: √½
            where all are alike. Rounded to 3 decimals.

    The limit of the other pairs is `OTHER_PAIRS` times as wide. Their chance, given that those
    with the baseline hold, is taken as where all variances are equal; then everything is exact.
    """
    return _within_family(tuple(sorted(round(each, 3) for each in loadings)), others)


@lru_cache(maxsize=256)
def within_range(groups: int) -> Within:
    """All differences of so many alike: Tukey's studentized range, over √2.

    n ∫ φ(z) (Φ(z + √2 a) − Φ(z))ⁿ⁻¹ dz, with z the least of them.
    """
    reach = special.ndtr(_NORMAL + math.sqrt(2) * _LIMITS[:, None]) - special.ndtr(_NORMAL)
    return Within(_LIMITS, reach ** (groups - 1) @ _weights(_NORMAL) * groups)


@lru_cache(maxsize=4096)  # the metrics of a family mostly ask for the same
def critical_values(within: Within, degrees: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """The limits that are missed with chance alpha, for each of the degrees of freedom.

    Newton's method on the logarithms of limit and chance, which are nearly a straight line.
    """
    spreads, weights = spread_nodes(degrees)
    slopes = within.derivative()
    limits = -special.stdtrit(np.array(degrees), alpha / 2)  # those of one difference alone
    for _ in range(60):
        at = np.minimum(limits[:, None] * spreads, _LIMITS[-1])
        missed = 1 - (weights * within(at)).sum(axis=1)
        slope = (weights * slopes(at) * spreads).sum(axis=1) * limits / missed
        steps = np.log(missed / alpha) / slope
        limits = limits * np.exp(np.clip(steps, -1, 1))
        if np.abs(steps).max(initial=0) < 1e-8:
            return tuple(limits.tolist())
    raise ArithmeticError(f"no critical value at {alpha} for degrees of freedom {degrees}")


def chances(within: Within, statistics: Floats, degrees: tuple[float, ...]) -> Floats:
    """The alpha of which each statistic, in standard errors, is the critical value."""
    spreads, weights = spread_nodes(degrees)
    at = np.minimum(np.abs(statistics)[:, None] * spreads, _LIMITS[-1])
    missed: Floats = np.clip(1 - (weights * within(at)).sum(axis=1), 0, 1)
    return missed


@lru_cache(maxsize=4096)
def _within_family(loadings: tuple[float, ...], others: bool) -> Within:
    chance = _baseline_chances(loadings)
    if others and len(loadings) > 1:
        chance = chance * _others_chances(len(loadings))
    return Within(_LIMITS, chance)


def _baseline_chances(loadings: Sequence[float]) -> Floats:
    """∫ φ(z) Πᵢ P(|λᵢ z + √(1 − λᵢ²) e| ≤ a) dz, for each limit a."""
    product = np.ones((_LIMITS.size, _SHARED.size))
    for loading in sorted(set(loadings)):
        shared = min(loading * loading, _MOST_SHARED)
        centre, own = math.sqrt(shared) * _SHARED, math.sqrt(1 - shared)
        limits = _LIMITS[:, None]
        alone = special.ndtr((limits - centre) / own) - special.ndtr((-limits - centre) / own)
        product *= alone ** loadings.count(loading)
    weights = _weights(_SHARED) * np.where(_SHARED == 0, 1, 2)
    chance: Floats = product @ weights
    return chance


@lru_cache(maxsize=256)
def _others_chances(count: int) -> Floats:
    """The chance that the differences among `count` hold, given those from the baseline; all alike.

    Both together, by the baseline's error z and the least of the others, u: the rest lie between
    u and the nearer of u + √2 · OTHER_PAIRS · a and z + √2 a. Two rules, one on each side of where
    the two ends meet.
    """
    nodes, node_weights = np.polynomial.legendre.leggauss(48)
    z, z_weights = _NORMAL[:, None], _weights(_NORMAL)
    both = [1.0]
    alike = _baseline_chances((math.sqrt(0.5),) * count)
    for limit in math.sqrt(2) * _LIMITS[1:]:
        total = 0.0
        for left, right in ((-1.0, 1 - OTHER_PAIRS), (1 - OTHER_PAIRS, 1.0)):
            half = (right - left) / 2
            u = z + limit * (half * nodes + (right + left) / 2)
            end = np.minimum(u + OTHER_PAIRS * limit, z + limit)
            rest = (special.ndtr(end) - special.ndtr(u)) ** (count - 1)
            least = count * np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
            total += float(z_weights @ (least * rest) @ node_weights) * limit * half
        both.append(total)
    given: Floats = np.clip(np.array(both) / np.where(_LIMITS == 0, 1, alike), 0, 1)
    return given


def _weights(nodes: Floats) -> Floats:
    """Of an integral over the standard normal density on evenly spaced nodes."""
    weights: Floats = np.exp(-(nodes**2) / 2) * (nodes[1] - nodes[0]) / math.sqrt(2 * math.pi)
    return weights


@lru_cache(maxsize=1024)
def spread_nodes(degrees: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Values of s = √(χ²(ν)/ν), evenly spaced in log s, and their weights; a row for each ν."""
    half = np.array(degrees)[:, None] / 2
    logs = _SPREADS / np.sqrt(4 * half)
    density = np.exp(half * (2 * logs - np.exp(2 * logs) + 1))
    return np.exp(logs), density / density.sum(axis=1, keepdims=True)

"""Speed, judged by server sessions: how far apart they lie, and which variants differ for sure.

The unit is the server session; its requests and repeats share its memory layout, clocks and
neighbours. All is done on logarithms of a session's metric, so that a difference is a ratio.

**Spread.** No variant has sessions enough to tell its own variance, so it is pooled over all
variants of a machine for each metric: s²ₘ. Some variants are steadier than others, and a noisy
baseline judged by the pool would make false verdicts: at four times the others' spread in 22 % of
reports instead of 5 %. So a variant's variance is

    vᵢₘ = s²ₘ · bᵢ,   bᵢ = 1 + wᵢ (rᵢ − 1),   rᵢ = mean over metrics of s²ᵢₘ / s²ₘ,

moderated as in empirical Bayes: wᵢ = Dᵢ/(Dᵢ + d₀) in Smyth's terms, with the prior's d₀ found by
moments. Two things differ from his use on thousands of genes. The relative spread rᵢ is one number
for all metrics, because what makes a variant's sessions unsteady shows in all of them; that has
three times the degrees of freedom. And the moments are those of rᵢ itself and not of its logarithm,
since a variance far too large is what does harm, while one far too small is chance.

**Intervals** are simultaneous, see `simultaneous`; their degrees of freedom are Satterthwaite's.
In 95 % of reports all intervals of a family on a machine cover the truth, for all metrics judged
and all pairs. The verdict is read off the interval, so the two cannot disagree.

Source: Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3:3 (moderation); Bühlmann (1967), ASTIN
Bulletin 4:199-207, and Morris (1983), JASA 78:47-55 (weights by moments); Satterthwaite (1946),
Biometrics Bulletin 2:110-114. Every choice was measured: `benchmarks/verdicts.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from report.stats import simultaneous
from report.stats.simultaneous import AIMED_AT, OTHER_PAIRS, PROMISED
from report.stats.verdict import Estimate, Floats, Interval, t_quantile

# By variant: one number for each server session, in the same order for every metric; None where a
# session lacks it.
Sessions = Mapping[str, Sequence[float | None]]
Logs = Mapping[str, Sequence[float | None]]
Outcome = Literal["higher", "lower", "no difference found", "unknown"]
Speed = Literal["faster", "slower", "no difference found", "unknown"]

_LEVEL = 1 - PROMISED
_LARGEST_LOG = 700.0  # beyond it exp() leaves the range of numbers, and 1/exp() too


@dataclass(frozen=True, slots=True)
class Spread:
    """What all sessions of a machine say about how far apart sessions lie.

    By variant: `relative` is bᵢ, its variance over the pooled one; `weight` wᵢ, the share of it
    that is its own; `degrees` Dᵢ of freedom, over all metrics. `likeness` is ρ²: 1 where a slow
    session is as slow in all metrics, 0 where they have nothing to do with one another.
    """

    relative: Mapping[str, float]
    weight: Mapping[str, float]
    degrees: Mapping[str, float]
    likeness: float


@dataclass(frozen=True, slots=True)
class Pool:
    """One metric on one machine: by variant geometric mean and number of sessions; their spread.

    `variance` is s²ₘ of the logarithms: 0 where sessions do not differ, or nobody has two.
    """

    means: Mapping[str, float]
    counts: Mapping[str, int]
    variance: float
    degrees: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of a variant over that of its baseline (or of another variant).

    `interval` holds for the whole family at 95 %, and `p` belongs to it: below 0.05 exactly where
    the interval leaves out 1. Both are None without a verdict: one session, or no spread at all.
    `sessions` are the numbers of the two.
    """

    metric: str
    variant: str
    baseline: str
    sessions: tuple[int, int]
    ratio: float
    interval: Interval | None
    p: float | None

    @property
    def outcome(self) -> Outcome:
        """What the interval says."""
        if self.interval is None:
            return "unknown"
        if 1.0 in self.interval:
            return "no difference found"
        return "higher" if self.interval.low > 1 else "lower"

    def speed(self, *, higher_is_faster: bool) -> Speed:
        """The outcome as speed: more tokens per second are faster, more milliseconds slower."""
        outcome = self.outcome
        if outcome in ("no difference found", "unknown"):
            return outcome
        return "faster" if (outcome == "higher") == higher_is_faster else "slower"

    def invert(self) -> Comparison:
        """The comparison of the baseline with the variant."""
        ends = self.interval
        return replace(
            self,
            variant=self.baseline,
            baseline=self.variant,
            sessions=(self.sessions[1], self.sessions[0]),
            ratio=1 / self.ratio,
            interval=ends and Interval(1 / ends.high, 1 / ends.low, ends.level),
        )


def find_spread(metrics: Mapping[str, Sessions]) -> Spread:
    """Compares the variants' spreads over all metrics that are judged.

    Args:
        metrics: by metric (and load), the sessions of all variants of a machine.

    Where all spreads are equal, chance alone gives rᵢ the variance Vᵢ = 2 (ν − dᵢ)/((ν + 2) Dᵢ),
    that of a beta variable, with d the degrees of freedom for one metric and ν their sum; what the
    rᵢ vary beyond it is A, and wᵢ = 1 − fᵢ Vᵢ/(A + Vᵢ). The factor fᵢ = 1 − 1/Dᵢ, at least 0.6 and
    with two sessions 0.5, favours a variant's own spread: to take a noisy variant for a steady one
    is worse than the reverse. Two sessions, the baseline four times as noisy: a false verdict in
    10 % of reports without the factor, in 6 to 7 % with it.
    """
    logs = {metric: _logs(values) for metric, values in metrics.items()}
    own: dict[str, list[tuple[float, int]]] = {}  # by variant, for each metric: s²ᵢₘ/s²ₘ and d
    for each in logs.values():
        pooled, _ = _pooled_variance(each)
        if pooled > 0:
            for variant, values in each.items():
                known = [value for value in values if value is not None]
                if len(known) > 1:
                    share = _squares(known) / (len(known) - 1) / pooled
                    own.setdefault(variant, []).append((share, len(known) - 1))
    total = {v: sum(d for _, d in each) for v, each in own.items()}
    found = {v: sum(r * d for r, d in each) / total[v] for v, each in own.items()}
    likeness = _likeness(list(logs.values()), found)
    degrees = {v: total[v] / (1 + (len(each) - 1) * likeness) for v, each in own.items()}
    of_one_metric = {v: total[v] / len(each) for v, each in own.items()}
    weight = _own_weights(found, degrees, of_one_metric)
    relative = {v: 1 + weight[v] * (r - 1) for v, r in found.items()}
    return Spread(relative, weight, degrees, likeness)


def pool(values: Sessions) -> Pool:
    """Pools the sessions of one metric, measured for whichever variants of a machine."""
    known = {v: [each for each in numbers if each is not None] for v, numbers in values.items()}
    variance, degrees = _pooled_variance(_logs(values))
    return Pool(
        means={v: _geometric_mean(each) for v, each in known.items() if each},
        counts={v: len(each) for v, each in known.items() if each},
        variance=variance,
        degrees=degrees,
    )


def compare_family(
    metrics: Mapping[str, Pool], spread: Spread, family: Sequence[str], baseline: str | None
) -> tuple[Comparison, ...]:
    """Compares all pairs of a family in all metrics, by one set of simultaneous intervals.

    Args:
        metrics: those `spread` was found from, over all variants of the machine.
        family: the variants to compare.
        baseline: one of them, whose pairs get the narrowest intervals; None has all pairs alike.

    Returns:
        For each metric the pairs with the baseline (variant over baseline), then all others, in
        the order of `family`. A variant that was not measured is left out.

    The metrics are corrected for one another as if they were 1 + (M − 1) √(1 − ρ²) independent
    ones: M where they have nothing in common (Dunn 1961, JASA 56:52-64), one where a session is
    as slow in all of them. In between it was checked by simulation.
    """
    tested = {name: _judged(each, family) for name, each in metrics.items()}
    count = sum(len(judged) > 1 for judged in tested.values())
    apart = round(1 + max(0, count - 1) * math.sqrt(1 - spread.likeness), 2)
    found: list[Comparison] = []
    for name, measured in metrics.items():
        present = [variant for variant in family if variant in measured.means]
        pairs = [(each, baseline) for each in present if baseline in present and each != baseline]
        pairs += combinations([each for each in present if each != baseline], 2)
        undecided = [_undecided(name, measured, *pair) for pair in pairs]
        found += _decide(undecided, measured, spread, tested[name], baseline, apart)
    return tuple(found)


def compare_alone(
    metric: str, measured: Pool, spread: Spread, variant: str, baseline: str
) -> Comparison | None:
    """One ratio with an ordinary 95 % interval, to describe a metric that is not judged.

    None where one of the two was not measured.
    """
    if variant not in measured.means or baseline not in measured.means:
        return None
    comparison = _undecided(metric, measured, variant, baseline)
    if len(_judged(measured, (variant, baseline))) < 2:
        return comparison
    uncertainty = _pooled_uncertainty(measured, spread)
    error, degrees = _error(measured, spread, (variant, baseline), uncertainty)
    return _with_interval(comparison, t_quantile(_LEVEL, degrees) * error, None)


def describe(measured: Pool, spread: Spread) -> dict[str, Estimate]:
    """The value of every variant that was measured: the geometric mean over sessions.

    Its own 95 % interval rests on the pooled spread; one session has none.
    """
    found, uncertainty = {}, _pooled_uncertainty(measured, spread)
    judged = set(_judged(measured, list(measured.means)))
    for variant, value in measured.means.items():
        interval = own_error = None
        if variant in judged:
            error, degrees = _error(measured, spread, (variant,), uncertainty)
            reach = math.exp(min(t_quantile(_LEVEL, degrees) * error, _LARGEST_LOG))
            interval, own_error = Interval(value / reach, value * reach, _LEVEL), value * error
        found[variant] = Estimate(value, interval, own_error, measured.counts[variant])
    return found


def _decide(
    undecided: Sequence[Comparison],
    measured: Pool,
    spread: Spread,
    judged: Sequence[str],
    baseline: str | None,
    apart: float,
) -> list[Comparison]:
    """The same comparisons, with intervals where both sides have sessions enough."""
    able = [each for each in undecided if each.variant in judged and each.baseline in judged]
    if not able:
        return list(undecided)
    within, wider = _widths(able, measured, spread, judged, baseline)
    uncertainty = _pooled_uncertainty(measured, spread)
    pairs = ((each.variant, each.baseline) for each in able)
    spreads = [_error(measured, spread, pair, uncertainty) for pair in pairs]
    degrees = tuple(nu for _, nu in spreads)
    errors = np.array([error for error, _ in spreads]) * wider
    alpha = AIMED_AT / apart
    widths = simultaneous.critical_values(within, degrees, alpha)
    statistics = np.log([each.ratio for each in able]) / errors
    missed = simultaneous.chances(within, statistics, degrees)
    p_values = np.minimum(1, missed * PROMISED / alpha)
    told = {
        (each.variant, each.baseline): _with_interval(each, float(reach), float(p))
        for each, reach, p in zip(able, widths * errors, p_values, strict=True)
    }
    return [told.get((each.variant, each.baseline), each) for each in undecided]


def _widths(
    able: Sequence[Comparison],
    measured: Pool,
    spread: Spread,
    judged: Sequence[str],
    baseline: str | None,
) -> tuple[simultaneous.Within, Floats]:
    """The chance that all differences lie within a width, and how much wider each one's is."""
    if baseline is None or baseline not in judged:
        return simultaneous.within_range(len(judged)), np.ones(len(able))
    its = _share(measured, spread, baseline)
    others = [_share(measured, spread, each) for each in judged if each != baseline]
    within = simultaneous.within_family([math.sqrt(its / (its + each)) for each in others])
    return within, np.array([1 if each.baseline == baseline else OTHER_PAIRS for each in able])


def _undecided(metric: str, measured: Pool, variant: str, baseline: str) -> Comparison:
    ratio = measured.means[variant] / measured.means[baseline]
    sessions = (measured.counts[variant], measured.counts[baseline])
    return Comparison(metric, variant, baseline, sessions, ratio, None, None)


def _with_interval(comparison: Comparison, log_reach: float, p: float | None) -> Comparison:
    centre = math.log(comparison.ratio)
    low, high = max(centre - log_reach, -_LARGEST_LOG), min(centre + log_reach, _LARGEST_LOG)
    return replace(comparison, interval=Interval(math.exp(low), math.exp(high), _LEVEL), p=p)


def _judged(measured: Pool, variants: Sequence[str]) -> list[str]:
    """Those with two sessions or more; nobody where sessions do not differ at all."""
    if measured.variance == 0:
        return []
    return [variant for variant in variants if measured.counts.get(variant, 0) > 1]


def _share(measured: Pool, spread: Spread, variant: str) -> float:
    """The variance of a variant's mean, over the pooled variance."""
    return spread.relative.get(variant, 1.0) / measured.counts[variant]


def _error(
    measured: Pool, spread: Spread, variants: Sequence[str], pooled_uncertainty: float
) -> tuple[float, float]:
    """The standard error of a mean, or of a difference of two, and its degrees of freedom.

    1/ν is the squared relative uncertainty of the variance: of what is the variants' own in it,
    and of the pooled variance, to which noisy variants contribute most.
    """
    shares = {each: _share(measured, spread, each) for each in variants}
    total = sum(shares.values())
    own = sum(
        (spread.weight[each] * share / total) ** 2 / spread.degrees[each]
        for each, share in shares.items()
        if each in spread.weight
    )
    return math.sqrt(measured.variance * total), 1 / (own + pooled_uncertainty)


def _pooled_uncertainty(measured: Pool, spread: Spread) -> float:
    """Of the pooled variance, relative and squared; infinite where no variant has two sessions."""
    squares = everything = 0.0
    for each, count in measured.counts.items():
        part = spread.relative.get(each, 1.0)
        squares += (count - 1) * part**2
        everything += (count - 1) * part
    return squares / everything**2 if everything else math.inf


def _own_weights(
    relative: Mapping[str, float], degrees: Mapping[str, float], of_one_metric: Mapping[str, float]
) -> dict[str, float]:
    """How much of each variant's own spread to believe; see `find_spread`."""
    total = sum(of_one_metric.values())
    chance = {v: 2 * (total - of_one_metric[v]) / ((total + 2) * degrees[v]) for v in relative}
    excess = sum(degrees[v] * ((relative[v] - 1) ** 2 - chance[v]) for v in relative)
    weights = {}
    for v in relative:
        seen = excess / sum(degrees.values()) + chance[v]
        favour = max(0.6, 1 - 1 / degrees[v]) if of_one_metric[v] > 1 else 0.5
        weights[v] = max(0.0, 1 - favour * chance[v] / seen) if seen > 0 else 0.0
    return weights


def _likeness(metrics: Sequence[Logs], relative: Mapping[str, float]) -> float:
    """Mean ρ² over pairs of metrics, of sessions about their variant's mean, less chance's part.

    A variant noisier than the pool is scaled down to it, so that it does not count for more.
    """
    found = []
    for one, other in combinations(metrics, 2):
        products = first = second = degrees = 0.0
        for variant in sorted(one.keys() & other.keys() & relative.keys()):
            if len(one[variant]) != len(other[variant]):
                raise ValueError(f"{variant}: list the same sessions for every metric")
            both = [
                (a, b)
                for a, b in zip(one[variant], other[variant], strict=True)
                if a is not None and b is not None
            ]
            if len(both) > 1:
                centre_a, centre_b = (sum(side) / len(both) for side in zip(*both, strict=True))
                scale = max(relative[variant], 1.0)
                products += sum((a - centre_a) * (b - centre_b) for a, b in both) / scale
                first += sum((a - centre_a) ** 2 for a, _ in both) / scale
                second += sum((b - centre_b) ** 2 for _, b in both) / scale
                degrees += len(both) - 1
        if degrees > 1 and first * second > 0:
            found.append((products**2 / (first * second) - 1 / degrees) / (1 - 1 / degrees))
    return min(max(sum(found) / len(found), 0.0), 1.0) if found else 0.0


def _pooled_variance(logs: Logs) -> tuple[float, int]:
    """s² of all variants together, with its degrees of freedom."""
    known = [[each for each in values if each is not None] for values in logs.values()]
    degrees = sum(len(each) - 1 for each in known if each)
    squares = math.fsum(_squares(each) for each in known if each)
    return (squares / degrees if degrees else 0.0), degrees


def _geometric_mean(values: Sequence[float]) -> float:
    """Exactly the value where all are equal."""
    if min(values) == max(values):
        return values[0]
    return math.exp(math.fsum(math.log(each) for each in values) / len(values))


def _squares(logs: Sequence[float]) -> float:
    """The sum of squares about the mean; exactly 0 where all are equal."""
    if min(logs) == max(logs):
        return 0.0
    centre = math.fsum(logs) / len(logs)
    return math.fsum((each - centre) ** 2 for each in logs)


def _logs(values: Sessions) -> dict[str, list[float | None]]:
    for variant, numbers in values.items():
        if not all(each is None or 0 < each < math.inf for each in numbers):
            raise ValueError(f"{variant}: speeds are positive numbers, got {list(numbers)}")
    return {
        variant: [None if each is None else math.log(each) for each in numbers]
        for variant, numbers in values.items()
    }

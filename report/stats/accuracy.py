"""Accuracies: rates, differences paired and unpaired, what n could have shown, and fidelity."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from report.stats.repeats import mean
from report.stats.verdict import Estimate, Interval, Numbers, Verdict, finite

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Two variants' answers to the same documents, a against baseline b.

    `gained` documents are right with a only, `lost` ones with b only: together the flips.
    """

    verdict: Verdict
    n: int
    both_right: int
    gained: int
    lost: int
    both_wrong: int


def proportion(successes: int, n: int, *, level: float = 0.95) -> Estimate | None:
    """A rate such as accuracy with Wilson's score interval; None for fewer than two documents.

    The standard error is √(p(1−p)/(n−1)), the one lm-eval prints.

    Source: Wilson (1927), JASA 22:209-212; Cochran (1977), Sampling Techniques, §3.2.
    """
    _check_counts(successes, n)
    if n < 2:
        return None
    rate = successes / n
    error = math.sqrt(rate * (1 - rate) / (n - 1))
    return Estimate(rate, _wilson(successes, n, level), error, n)


@lru_cache(maxsize=4096)
def compare_with_chance(successes: int, n: int, chance: float, *, level: float = 0.95) -> Verdict:
    """Test a rate against guessing (`chance` 0.25 for four choices) by the exact binomial test.

    Two-sided by the probability of the outcome: every outcome no likelier than the seen counts.

    Source: Clopper & Pearson (1934), Biometrika 26:404-413 (the exact test); Sterne (1954),
    Biometrika 41:275-278 (the two-sided rule). Interval: Wilson, see `proportion`.
    """
    test = "exact binomial"
    rate = proportion(successes, n, level=level)
    if rate is None:
        return Verdict(None, chance, None, None, test)
    from scipy import stats  # half a second to import, and seldom asked

    p = float(stats.binomtest(successes, n, chance).pvalue)
    return Verdict(rate.value, chance, rate.interval, p, test)


def compare_counts(
    right_a: int, n_a: int, right_b: int, n_b: int, *, level: float = 0.95
) -> Verdict:
    """Difference a − b of two rates of which only the counts are known: unpaired.

    Far weaker than `compare_paired` on the same documents; for published results only.

    Source: test: Pearson (1900), Phil. Mag. 50:157-175, χ² of the 2×2 table without continuity
    correction, which is the square of z with the pooled rate; interval: Newcombe (1998),
    Stat. Med. 17:873-890, method 10.
    """
    test = "z, pooled rate (unpaired)"
    a, b = proportion(right_a, n_a, level=level), proportion(right_b, n_b, level=level)
    if a is None or b is None or a.interval is None or b.interval is None:
        return Verdict(None, 0.0, None, None, test)
    difference = a.value - b.value
    interval = Interval(
        difference - math.hypot(a.value - a.interval.low, b.interval.high - b.value),
        difference + math.hypot(a.interval.high - a.value, b.value - b.interval.low),
        level,
    )
    pooled = (right_a + right_b) / (n_a + n_b)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    p = float(2 * special.ndtr(-abs(difference) / error)) if error else 1.0
    return Verdict(difference, 0.0, interval, p, test)


def compare_paired(
    right_a: Sequence[bool] | Bools, right_b: Sequence[bool] | Bools, *, level: float = 0.95
) -> PairedComparison:
    """Accuracy difference a − b over the same documents, row by row the same document.

    The p is McNemar's exact one; the interval inverts his score test, so that it never denies
    what the p shows, and keeps a width when not one answer flipped.

    Source: McNemar (1947), Psychometrika 12:153-157; Tango (1998), Stat. Med. 17:891-908.
    """
    a, b = np.asarray(right_a, dtype=np.bool_), np.asarray(right_b, dtype=np.bool_)
    _check_pairs(a.shape, b.shape)
    n = int(a.size)
    both, gained, lost = int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum())
    test = "exact McNemar"
    if n < 2:
        verdict = Verdict(None, 0.0, None, None, test)
    else:
        flips = gained + lost
        p = min(1.0, 2 * float(special.bdtr(min(gained, lost), flips, 0.5))) if flips else 1.0
        interval = tango(gained, lost, n, level)
        verdict = Verdict((gained - lost) / n, 0.0, interval, p, test)
    wrong = n - both - gained - lost
    return PairedComparison(verdict, n, both, gained, lost, wrong)


def detectable_unpaired(
    rate: float, n_a: int, n_b: int, *, level: float = 0.95, power: float = 0.8
) -> float | None:
    """The true difference near `rate` that an unpaired test shows with probability `power`.

    (z(1−α/2) + z(power)) √(p(1−p)(1/n_a + 1/n_b)); None where the rate has no spread, or where
    no difference between 0 and 1 is large enough.

    Source: Bloom (1995), Evaluation Review 19:547-556.
    """
    _check_rate(rate)
    if min(n_a, n_b) < 2 or rate in (0.0, 1.0):
        return None
    reach = float(special.ndtri((1 + level) / 2) + special.ndtri(power))
    difference = reach * math.sqrt(rate * (1 - rate) * (1 / n_a + 1 / n_b))
    return difference if difference <= 1 else None


@lru_cache(maxsize=4096)
def detectable_paired(
    n: int, discordant_rate: float, *, level: float = 0.95, power: float = 0.8
) -> float | None:
    """The true difference that exact McNemar shows with probability `power`, given the flips.

    `discordant_rate` is the share of documents on which the two disagree about being right. The
    power is exact: binomial in the number of flips, binomial in their direction. None where even
    flips in one direction only would not be shown.

    Source: Duffy (1984), Biometrics 40:1005-1015 (exact unconditional power of McNemar's test).
    """
    _check_rate(discordant_rate)
    if n < 2 or discordant_rate == 0:
        return None
    from scipy import stats

    centre, spread = n * discordant_rate, math.sqrt(n * discordant_rate * (1 - discordant_rate))
    first = max(0, math.floor(centre - 7 * spread - 7))
    flips = np.arange(first, min(n, math.ceil(centre + 7 * spread + 7)) + 1)  # the rest: < 1e-10
    weights = stats.binom.pmf(flips, n, discordant_rate)
    critical = stats.binom.ppf((1 - level) / 2, flips, 0.5) - 1  # −1: no count is significant

    def excess(difference: float) -> float:
        toward = (1 + difference / discordant_rate) / 2
        one, other = (stats.binom.cdf(critical, flips, p) for p in (toward, 1 - toward))
        return float(weights @ (one + other)) - power

    if excess(discordant_rate) < 0:
        return None
    return float(optimize.brentq(excess, 0.0, discordant_rate, xtol=1e-6))


def flipped_answers(
    answers_a: Sequence[Hashable], answers_b: Sequence[Hashable], *, level: float = 0.95
) -> Estimate | None:
    """Share of documents whose chosen answer differs, right or wrong, with Wilson's interval.

    Source: Dutta et al. (2024), Accuracy is Not All You Need, arXiv:2407.09141 (flips as a
    distance between models); interval: see `proportion`.
    """
    _check_pairs((len(answers_a),), (len(answers_b),))
    flips = sum(a != b for a, b in zip(answers_a, answers_b, strict=True))
    return proportion(flips, len(answers_a), level=level)


def loglikelihood_shift(
    a: Numbers,
    b: Numbers,
    n_bytes: Numbers,
    documents: Sequence[int] | npt.NDArray[np.int64],
    *,
    level: float = 0.95,
) -> Estimate | None:
    """Mean over documents of |Δ log-likelihood| per byte (nats), with a t interval.

    One row per scored continuation: its two log-likelihoods, its length in bytes and the number
    of its document. A document's rows are averaged first, being one observation. All zeros give
    0 with an unknown interval.

    Source: per-byte normalisation as in Gao et al. (2020), The Pile, arXiv:2101.00027;
    clustering by document: Miller (2024), Adding Error Bars to Evals, arXiv:2411.00640.
    """
    left, right, lengths = finite(a), finite(b), finite(n_bytes)
    _, rows = np.unique(np.asarray(documents), return_inverse=True)
    _check_pairs(left.shape, right.shape, lengths.shape, rows.shape)
    if left.size and lengths.min() <= 0:
        raise ValueError("loglikelihood_shift: a continuation has no bytes")
    shifts = np.abs(left - right) / lengths
    order = np.lexsort((shifts, rows))  # one order of summation, whatever the order of rows
    sums = np.bincount(rows[order], shifts[order])
    estimate = mean(sums / np.bincount(rows), level=level)
    if estimate is None or estimate.interval is None:
        return estimate
    interval = Interval(max(0.0, estimate.interval.low), estimate.interval.high, level)
    return Estimate(estimate.value, interval, estimate.standard_error, estimate.n)


def _wilson(successes: int, n: int, level: float) -> Interval:
    # Not `binomtest(…).proportion_ci`: a p-value comes first, 3 ms for each share of a report.
    z2 = float(special.ndtri((1 + level) / 2)) ** 2
    centre = (successes + z2 / 2) / (n + z2)
    reach = math.sqrt(z2 * (successes * (n - successes) / n + z2 / 4)) / (n + z2)
    low = 0.0 if successes == 0 else centre - reach  # rounding must not exclude the rate
    high = 1.0 if successes == n else centre + reach
    return Interval(low, high, level)


def tango(gained: float, lost: float, n: float, level: float) -> Interval:
    """Roots of (difference − Δ)² = z² · variance restricted to Δ, one on each side."""
    z2 = float(special.ndtri((1 + level) / 2)) ** 2
    if gained == lost == 0:  # the general equation has a double root at 0 here
        return Interval(-z2 / (n + z2), z2 / (n + z2), level)
    difference = (gained - lost) / n

    def excess(delta: float) -> float:
        linear = (2 * n - gained + lost) * delta - gained - lost
        constant = -lost * delta * (1 - delta)
        q = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        return (difference - delta) ** 2 - z2 / n * (2 * q + delta * (1 - delta))

    low, high = (optimize.brentq(excess, *ends) for ends in ((-1, difference), (difference, 1)))
    return Interval(float(low), float(high), level)


def _check_counts(successes: int, n: int) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no rate: counts must satisfy 0 <= k <= n")


def _check_rate(rate: float) -> None:
    if not 0 <= rate <= 1:
        raise ValueError(f"a rate lies between 0 and 1, got {rate}")


def _check_pairs(*shapes: tuple[int, ...]) -> None:
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ValueError(f"rows must be the same documents in the same order, got shapes {shapes}")

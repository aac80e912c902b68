"""Quality's decision: does a variant keep what its baseline scored, on the same documents?

The question is non-inferiority. A variant keeps quality if its interval lies at or above the
margin, loses it if the interval lies below, and is undecided in between, with the number of
documents that would decide it. What is asked about is a `Kept`: its recovery, the variant's score
over the baseline's, or the difference of the two scores.

One decision rests on the mean over tasks (`average`), whatever the number of tasks: tested one by
one, 57 subjects of one benchmark gave a false "worse" in 85 % of simulated reports.

Source: Schuirmann (1987), J. Pharmacokinet. Biopharm. 15:657-680, and Blackwelder (1982), Control.
Clin. Trials 3:345-353 (non-inferiority by an interval); each formula's own source stands with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import optimize, special

from report.stats.accuracy import tango
from report.stats.verdict import Floats, Interval, Numbers, finite, t_quantile

Outcome = Literal["keeps", "loses", "undecided", "unknown"]

_LEVEL = 0.95
_Z = float(special.ndtri((1 + _LEVEL) / 2))
_POWER = 0.8
_DECIDES = (_Z + float(special.ndtri(_POWER))) ** 2  # 7.85


@dataclass(frozen=True, slots=True)
class Kept:
    """What a variant kept of the baseline's score, over so many paired documents.

    `equal` is what it would be if nothing differed: 1 for a recovery, 0 for a difference.
    `scatter` is the variance that one document brings, so that `scatter / documents` is that of the
    estimate; for a difference of right answers it is the share of documents that flipped.
    """

    estimate: float
    interval: Interval | None
    documents: int
    equal: float
    scatter: float


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome, and for an undecided one the number of further documents that would decide it.

    None where no number can be told.
    """

    outcome: Outcome
    more_documents: int | None = None


def decide(kept: Kept | None, least: float) -> Decision:
    """Judges what was kept against the least that counts as kept.

    Args:
        least: the margin: 0.99 for a recovery, −0.01 for a difference of one percentage point.

    The documents are those that give a variant without any loss an 80 % chance of being shown to
    keep: n = (z(0.975) + z(0.8))² scatter / margin², which is 7.85 · flips / margin². If there are
    as many already, they are those after which the estimate so far would decide.
    """
    if kept is None or kept.interval is None:
        return Decision("unknown")
    if kept.interval.low >= least:
        return Decision("keeps")
    if kept.interval.high < least:
        return Decision("loses")
    needed = documents_needed(kept.scatter, kept.equal - least)
    if needed <= kept.documents:
        end = kept.interval.low if kept.estimate >= least else kept.interval.high
        distance = abs(kept.estimate - least)
        if distance == 0:
            return Decision("undecided")
        needed = math.ceil(kept.documents * (abs(end - kept.estimate) / distance) ** 2)
    return Decision("undecided", max(1, needed - kept.documents))


def documents_needed(scatter: float, margin: float) -> int:
    """Documents that show no loss beyond the margin, four times out of five, where there is none.

    Args:
        scatter: see `Kept`; the share of documents expected to flip, for right answers.
        margin: how much less would still count as kept: 0.01 for a percentage point.

    At least z²/margin: with fewer, not even answers without one flip would do (see `recovery`).

    Source: Nam (1997), Biometrics 53:1422-1430, to first order.
    """
    if margin <= 0:
        raise ValueError(f"a margin is positive, got {margin}")
    return math.ceil(max(_DECIDES * scatter / margin**2, _Z**2 * (1 - margin) / margin))


def recovery(
    variant: Numbers,
    baseline: Numbers,
    *,
    lower_is_better: bool = False,
    weights: Numbers | None = None,
) -> Kept | None:
    """The ratio of two scores over the same documents, row by row one document.

    Args:
        variant, baseline: one value per document: right or wrong as 1 or 0, or any score, such as
            F1 or a mean over seeds (`mean_over_seeds`).
        lower_is_better: for an error or bits per byte; the recovery is then baseline / variant.
        weights: of the documents, where they do not count alike: 1 / documents of their subtask
            for a group whose subtasks do. Only their proportions matter.

    For right answers the interval is `recovery_of_counts`' with, if weighted, the effective number
    of documents (Kish 1965, Survey Sampling, §11.7); for other scores Fieller's, with the pairs'
    covariance. Where not one document differs it is that of answers without a flip: being alike so
    far is no certainty. None where the score below the line is zero, or for a single document.

    Source: Fieller (1954), J. R. Statist. Soc. B 16:175-185.
    """
    one, other, share = _paired(variant, baseline, weights)
    if one.size < 2:
        return None
    if _are_answers(one, other) and not lower_is_better:
        return recovery_of_counts(*_flips(one, other, share), documents=one.size)
    above, below = (other, one) if lower_is_better else (one, other)
    return _fieller(above, below, share)


def difference(
    variant: Numbers,
    baseline: Numbers,
    *,
    lower_is_better: bool = False,
    weights: Numbers | None = None,
) -> Kept | None:
    """The difference of two scores over the same documents, above 0 where the variant is better.

    Arguments as in `recovery`. For right answers with Tango's interval (see `accuracy`), for other
    scores with Student's t; without an interval where those do not differ in a single document.
    """
    one, other, share = _paired(variant, baseline, weights)
    documents = one.size
    if documents < 2:
        return None
    if _are_answers(one, other):
        both, gained, lost, wrong = _flips(one, other, share)
        effective = both + gained + lost + wrong
        flips = (gained + lost) / effective
        estimate, interval = (gained - lost) / effective, tango(gained, lost, effective, _LEVEL)
        if lower_is_better:
            estimate, interval = -estimate, Interval(-interval.high, -interval.low, _LEVEL)
        return Kept(estimate, interval, documents, 0.0, flips * documents / effective)
    change = other - one if lower_is_better else one - other
    estimate = float(share @ change)
    variance = _variance(change - estimate, share)
    if variance == 0:
        return Kept(estimate, None, documents, 0.0, 0.0)
    reach = t_quantile(_LEVEL, documents - 1) * math.sqrt(variance)
    interval = Interval(estimate - reach, estimate + reach, _LEVEL)
    return Kept(estimate, interval, documents, 0.0, documents * variance)


def recovery_of_counts(
    both: float, gained: float, lost: float, wrong: float, *, documents: int | None = None
) -> Kept | None:
    """The ratio of two shares of right answers: right with both, variant only, baseline only, none.

    The interval inverts the score test, so that it keeps a width where no answer flipped, and says
    the same about 1 as McNemar's test. None where the baseline has no right answer.

    Args:
        documents: if the counts are those of an effective number.

    Source: Nam & Blackwelder (2002), Stat. Med. 21:689-699; Tang, Tang & Chan (2003), Stat. Med.
    22:1217-1233 (the interval).
    """
    if both + lost == 0:
        return None
    total = both + gained + lost + wrong
    documents = round(total) if documents is None else documents
    flips, score = (gained + lost) / total, (both + lost) / total
    scatter = flips / score**2 * documents / total
    interval = _score_interval(both, gained, lost, total)
    return Kept((both + gained) / (both + lost), interval, documents, 1.0, scatter)


def recovery_of_perplexity(variant: Numbers, baseline: Numbers, lengths: Numbers) -> Kept | None:
    """The baseline's perplexity over the variant's, from documents' log-likelihoods in nats.

    Args:
        lengths: of the documents, in what the perplexity is by: tokens, words, or bytes.

    exp of the difference in mean log-likelihood, whose interval is clustered by document: a ratio
    of sums with the t of documents − 1 degrees of freedom.

    Source: Cochran (1977), Sampling Techniques, 3rd ed., §6.3 (ratio estimator).
    """
    one, other, size = (finite(each) for each in (variant, baseline, lengths))
    _check_pairs(one, other, size)
    documents = one.size
    if documents < 2 or size.sum() <= 0:
        return None
    mean = float((one - other).sum() / size.sum())
    residuals = one - other - mean * size
    variance = documents / (documents - 1) * float(residuals @ residuals) / size.sum() ** 2
    estimate = math.exp(mean)
    if variance == 0:
        return Kept(estimate, _unflipped(documents), documents, 1.0, 0.0)
    reach = math.exp(t_quantile(_LEVEL, documents - 1) * math.sqrt(variance))
    interval = Interval(estimate / reach, estimate * reach, _LEVEL)
    return Kept(estimate, interval, documents, 1.0, documents * variance)


def average(tasks: Sequence[Kept | None]) -> Kept | None:
    """The mean over tasks, each of one weight: what the decision is about.

    The interval recovers each task's variance from its own interval, separately on each side, so
    that a skewed one stays so: L = θ̄ − √Σ(θᵢ − lᵢ)² / T, U likewise. None where a task is.

    Source: Zou & Donner (2008), Stat. Med. 27:1693-1702 (MOVER), for independent estimates.
    """
    known = [each for each in tasks if each is not None and each.interval is not None]
    if len(known) < len(tasks) or not tasks:
        return None
    if len({each.equal for each in known}) > 1:
        raise ValueError("recoveries and differences have no common mean")
    count = len(known)
    estimate = math.fsum(each.estimate for each in known) / count
    ends = [(each.estimate, each.interval) for each in known if each.interval is not None]
    below = math.sqrt(math.fsum((value - end.low) ** 2 for value, end in ends)) / count
    above = math.sqrt(math.fsum((end.high - value) ** 2 for value, end in ends)) / count
    documents = sum(each.documents for each in known)
    variance = math.fsum(each.scatter / each.documents for each in known) / count**2
    interval = Interval(estimate - below, estimate + above, _LEVEL)
    return Kept(estimate, interval, documents, known[0].equal, documents * variance)


def mean_over_seeds(values: Sequence[Numbers]) -> Floats:
    """Each document's mean over the seeds; `values` has a row of documents for each seed."""
    rows = [finite(row) for row in values]
    _check_pairs(*rows)
    means: Floats = np.mean(rows, axis=0)
    return means


def spread_over_seeds(values: Sequence[Numbers]) -> float | None:
    """The standard deviation of the score from seed to seed; None with fewer than two seeds."""
    rows = [finite(row) for row in values]
    _check_pairs(*rows)
    return float(np.std([row.mean() for row in rows], ddof=1)) if len(rows) > 1 else None


def _fieller(above: Floats, below: Floats, share: Floats) -> Kept | None:
    """The ratio of two weighted means of paired values."""
    documents, mean = above.size, float(share @ below)
    if mean <= 0:
        return None
    ratio = float(share @ above) / mean
    if np.array_equal(above, below):
        return Kept(1.0, _unflipped(1 / float(share @ share)), documents, 1.0, 0.0)
    scatter = documents * _variance(above - ratio * below, share) / mean**2
    deviations = np.stack([above - ratio * mean, below - mean]) * share
    (up, mixed), (_, down) = deviations @ deviations.T * documents / (documents - 1)
    t2 = t_quantile(_LEVEL, documents - 1) ** 2
    square, product = mean**2 - t2 * down, ratio * mean**2 - t2 * mixed
    if square <= 0:  # the mean below the line is not surely positive: no bound on one side
        return Kept(ratio, None, documents, 1.0, scatter)
    root = math.sqrt(max(0.0, product**2 - square * ((ratio * mean) ** 2 - t2 * up)))
    interval = Interval((product - root) / square, (product + root) / square, _LEVEL)
    return Kept(ratio, interval, documents, 1.0, scatter)


@lru_cache(maxsize=4096)
def _score_interval(both: float, gained: float, lost: float, total: float) -> Interval:
    """The ratios θ that the score test does not reject.

    T(θ) = (x₁ − θ x₀) / √(n θ (p₁₀ + p₀₁)), with the flips' shares p of greatest likelihood under
    θ. There the share wrong with both is the seen one, and p₀₁ solves a quadratic equation.
    """
    right, reference, seen = both + gained, both + lost, both + gained + lost

    def statistic(log_ratio: float) -> float:
        ratio = math.exp(log_ratio)
        fixed = (ratio - 1) * seen / total
        square = total * (1 + ratio)
        linear = square * fixed - lost - gained * ratio**2
        root = math.sqrt(max(0.0, linear**2 + 4 * square * lost * fixed))
        down = max((root - linear) / (2 * square), -fixed, 0.0)
        up = (fixed + down) / ratio
        variance = total * ratio * (up + down)
        return (right - ratio * reference) / math.sqrt(variance) if variance > 0 else 0.0

    def end(target: float, start: float, step: float) -> float:
        far = start + step
        while (statistic(far) - target) * step > 0:  # the statistic falls as the ratio grows
            far += step
            if abs(far) > 60:
                return 0.0 if step < 0 else math.inf
        return math.exp(float(optimize.brentq(lambda x: statistic(x) - target, start, far)))

    if right == 0:
        return Interval(0.0, end(-_Z, math.log(0.5 / reference), 1.0), _LEVEL)
    start = math.log(right / reference)
    return Interval(end(_Z, start, -1.0), end(-_Z, start, 1.0), _LEVEL)


def _unflipped(documents: float) -> Interval:
    """The score interval of so many documents, all right with both."""
    return Interval(documents / (documents + _Z**2), 1 + _Z**2 / documents, _LEVEL)


def _variance(residuals: Floats, share: Floats) -> float:
    """Of a weighted mean, from the documents' deviations."""
    weighted = residuals * share
    return float(weighted @ weighted) * residuals.size / (residuals.size - 1)


def _flips(one: Floats, other: Floats, share: Floats) -> tuple[float, float, float, float]:
    """Both right, gained, lost, none: counts, of the effective number of documents if weighted."""
    effective = 1 / float(share @ share)
    cells = (one * other, one * (1 - other), other * (1 - one), (1 - one) * (1 - other))
    if np.ptp(share) == 0:
        both, gained, lost, wrong = (float(cell.sum()) for cell in cells)
    else:
        both, gained, lost, wrong = (float(share @ cell) * effective for cell in cells)
    return both, gained, lost, wrong


def _paired(
    variant: Numbers, baseline: Numbers, weights: Numbers | None
) -> tuple[Floats, Floats, Floats]:
    one, other = finite(variant), finite(baseline)
    share = np.ones(one.size) if weights is None else finite(weights)
    _check_pairs(one, other, share)
    if share.size and share.min() <= 0:
        raise ValueError("weights are positive")
    return one, other, share / share.sum() if share.size else share


def _are_answers(*scores: Floats) -> bool:
    return all(bool(np.isin(each, (0, 1)).all()) for each in scores)


def _check_pairs(*rows: Floats) -> None:
    if len({row.size for row in rows}) > 1:
        raise ValueError("rows must be the same documents in the same order")

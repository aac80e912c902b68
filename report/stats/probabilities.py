"""What moves before an answer flips: probabilities of right choices, and of a text's own tokens.

An answer flips only where two choices were nearly even, so flips need thousands of documents to
show what the probabilities show on a hundred. Everything is paired and clustered by document: one
document is one observation, however many choices or tokens it has.

Source: Miller (2024), Adding Error Bars to Evals, arXiv:2411.00640 (pairing and clustering);
Schaeffer et al. (2023), Are Emergent Abilities of Large Language Models a Mirage?,
arXiv:2304.15004 (why a probability tells more than an answer).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from report.stats.verdict import Estimate, Interval, Numbers, finite, finite_rows, t_quantile

Outcome = Literal["higher", "lower", "no difference found", "unknown"]

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Change:
    """A mean change from the baseline to a variant; its p tests it against no change.

    Interval and p are those of one t statistic, and None where no document differs at all.
    """

    estimate: Estimate
    p: float | None

    @property
    def outcome(self) -> Outcome:
        """What the interval says."""
        ends = self.estimate.interval
        if ends is None:
            return "unknown"
        if 0.0 in ends:
            return "no difference found"
        return "higher" if ends.low > 0 else "lower"


def right_probabilities(
    loglikelihoods: Sequence[Sequence[float]], right: Sequence[int]
) -> list[float]:
    """The probability a model gives to the right choice of each document.

    exp(ℓ_right) / Σ exp(ℓ), from its choices' log-likelihoods: as among these choices only.
    """
    found = [0.0] * len(right)
    for count in set(map(len, loglikelihoods)):
        alike = [i for i, each in enumerate(loglikelihoods) if len(each) == count]
        every = special.softmax(finite_rows([loglikelihoods[i] for i in alike]), axis=1)
        for i, chances in zip(alike, every, strict=True):
            found[i] = float(chances[right[i]])
    return found


def compare_right_probabilities(variant: Numbers, baseline: Numbers) -> Change | None:
    """The mean change in the probability of the right choice, over the same documents.

    Source: Student (1908), Biometrika 6:1-25 (paired t). None for fewer than two documents.
    """
    one, other = finite(variant), finite(baseline)
    return _change_by_document(one - other, np.ones(one.size))


def compare_logprobs(variant: Numbers, baseline: Numbers, tokens: Numbers) -> Change | None:
    """The mean change in log-probability per token (nats), over the same documents' own text.

    Args:
        variant, baseline: each document's sum of log-probabilities.
        tokens: each document's number of tokens, the same for both.

    A ratio of sums, Σdᵢ / Σnᵢ, with the variance of its residuals dᵢ − R nᵢ between documents and
    the t of documents − 1 degrees of freedom.

    Source: Cochran (1977), Sampling Techniques, 3rd ed., §6.3. None for fewer than two documents.
    """
    one, other = finite(variant), finite(baseline)
    return _change_by_document(one - other, finite(tokens))


def mean_divergence(
    divergences: Numbers, tokens: Numbers, floor: Numbers | None = None
) -> Change | None:
    """The mean divergence from the baseline per token (nats), over documents' own text.

    Args:
        divergences: each document's sum over its tokens (see `divergence.kl_lower_bound`).
        tokens: each document's number of tokens.
        floor: the same of the baseline against itself, measured twice, on the same documents.
            It is subtracted: a divergence is never negative, so rounding alone, where batches
            differ, gives more than none.

    Variance as in `compare_logprobs`. Without a floor p tests whether it is above zero, which it
    is for any change that reaches several documents.
    """
    sums = finite(divergences)
    return _change_by_document(sums - finite(floor) if floor is not None else sums, finite(tokens))


def _change_by_document(sums: np.ndarray, sizes: np.ndarray) -> Change | None:
    if sums.size != sizes.size:
        raise ValueError("rows must be the same documents in the same order")
    documents = sums.size
    if documents < 2:
        return None
    if sizes.min() < 0 or sizes.sum() == 0:
        raise ValueError("documents have a positive number of tokens in all")
    total = math.fsum(sizes)
    mean = math.fsum(sums) / total
    residuals = sums - mean * sizes
    squares = math.fsum(residuals**2)
    if not np.any(sums) or squares == 0:
        return Change(Estimate(mean, None, None, documents), None)
    error = math.sqrt(documents / (documents - 1) * squares) / total
    reach = t_quantile(_LEVEL, documents - 1) * error
    p = float(2 * special.stdtr(documents - 1, -abs(mean) / error))
    interval = Interval(mean - reach, mean + reach, _LEVEL)
    return Change(Estimate(mean, interval, error, documents), p)

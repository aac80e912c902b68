"""How far a variant's expectations of a text are from the baseline's: no right answers needed.

The records keep the most likely tokens of a position, not the whole vocabulary. Of those both
variants name, the divergence is exact; everything else is one outcome of its own. Merging outcomes
never increases a Kullback-Leibler divergence (data processing inequality; Cover and Thomas,
Elements of Information Theory, 2nd ed., section 2.8), so the result is a lower bound of the true
one, and close to it where the listed tokens carry nearly all probability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """The token that stands at one position, and the log-probabilities of the likeliest there."""

    token: int
    top: Mapping[str, float]


def kl_lower_bound(baseline: Mapping[str, float], other: Mapping[str, float]) -> float:
    """KL(baseline ‖ other) in nats over the tokens both name and one outcome for all the rest.

    Args:
        baseline, other: log-probabilities by token.
    """
    shared = baseline.keys() & other.keys()
    pairs = [(math.exp(baseline[token]), math.exp(other[token])) for token in sorted(shared)]
    rest = (1 - math.fsum(p for p, _ in pairs), 1 - math.fsum(q for _, q in pairs))
    return max(0.0, math.fsum(_term(p, q) for p, q in [*pairs, rest]))


def mean_kl(baseline: Sequence[Position], other: Sequence[Position]) -> float | None:
    """The mean of `kl_lower_bound` over the positions of the text, in nats per token.

    Args:
        baseline, other: the same positions of the text, as each variant expects them.

    Returns:
        None where the two did not read the same tokens, or none at all: then nothing can be said.
    """
    if not baseline or [each.token for each in baseline] != [each.token for each in other]:
        return None
    terms = [kl_lower_bound(a.top, b.top) for a, b in zip(baseline, other, strict=True)]
    return math.fsum(terms) / len(terms)


def _term(p: float, q: float) -> float:
    """p log(p/q), zero where p is; rounding can leave the rest a hair below zero."""
    if p <= 1e-9:
        return 0.0
    return p * math.log(p / max(q, 1e-9))

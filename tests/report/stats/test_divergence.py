"""The divergence on a fixed text, against scipy and its own bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr

from bench.measure import texts
from report.stats.divergence import Position, kl_lower_bound, mean_kl


def distributions(size: int) -> st.SearchStrategy[list[float]]:
    weights = st.lists(st.floats(0.01, 1), min_size=size, max_size=size)
    return weights.map(lambda values: [value / math.fsum(values) for value in values])


def top(probabilities: list[float], count: int) -> dict[str, float]:
    """The most likely tokens with their log-probabilities, as a server lists them."""
    order = sorted(range(len(probabilities)), key=lambda n: -probabilities[n])[:count]
    return {str(n): math.log(probabilities[n]) for n in order}


@given(distributions(12), distributions(12))
def test_the_whole_vocabulary_gives_the_exact_divergence(p: list[float], q: list[float]) -> None:
    exact = float(rel_entr(np.array(p), np.array(q)).sum())
    assert kl_lower_bound(top(p, 12), top(q, 12)) == pytest.approx(exact, abs=1e-7)


@given(distributions(12), distributions(12), st.integers(1, 11))
def test_a_part_of_it_gives_a_lower_bound(p: list[float], q: list[float], count: int) -> None:
    exact = float(rel_entr(np.array(p), np.array(q)).sum())
    assert 0 <= kl_lower_bound(top(p, count), top(q, count)) <= exact + 1e-7


@given(distributions(8), st.integers(1, 8))
def test_equal_expectations_do_not_diverge(p: list[float], count: int) -> None:
    assert kl_lower_bound(top(p, count), top(p, count)) == pytest.approx(0, abs=1e-12)


def test_labels_that_tokens_share_leave_a_lower_bound() -> None:
    """As a server tells of a place, as it is kept, and as it is read: over many places."""
    random, vocabulary = np.random.default_rng(4), 20_000
    exact, kept = [], []
    for place in range(60):
        logits = random.normal(0, 2.5, vocabulary)
        moved = logits + random.normal(0, 0.3, vocabulary)
        p, q = (np.exp(each) / np.exp(each).sum() for each in (logits, moved))
        labelled = [
            texts._labelled(f"text {place}", {str(n): math.log(of[n]) for n in largest})
            for of in (p, q)
            for largest in [np.argsort(of)[-texts.TOP :].tolist()]
        ]
        exact.append(float(rel_entr(p, q).sum()))
        kept.append(kl_lower_bound(*labelled))
    assert all(bound <= whole + 1e-3 for bound, whole in zip(kept, exact, strict=True))
    assert 0 < np.mean(kept) < np.mean(exact)


def test_two_outcomes_by_hand() -> None:
    baseline = {"1": math.log(0.5)}
    other = {"1": math.log(0.25)}
    assert kl_lower_bound(baseline, other) == pytest.approx(
        0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)
    )


def test_another_tokenization_cannot_be_compared() -> None:
    rows = [Position(1, {"1": -0.1})]
    assert mean_kl(rows, [Position(2, {"1": -0.1})]) is None
    assert mean_kl([], []) is None
    assert mean_kl(rows, rows) == 0

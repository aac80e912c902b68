"""Probabilities and log-probabilities of the same documents, against scipy and statsmodels."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from report.stats import probabilities, recovery

H100 = Path(__file__).parents[3] / "bench" / "results" / "h100"
PAIRS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=40)


@given(st.lists(st.floats(-300, 0), min_size=2, max_size=6), st.integers(0, 1))
def test_the_right_choices_probability_is_its_share(scores: list[float], right: int) -> None:
    [found] = probabilities.right_probabilities([scores], [right])
    expected = 1 / math.fsum(math.exp(min(700, each - scores[right])) for each in scores)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-300)
    every = probabilities.right_probabilities([scores] * len(scores), range(len(scores)))
    assert sum(every) == pytest.approx(1)


@given(st.lists(st.lists(st.floats(-300, 0), min_size=1, max_size=6), max_size=9))
def test_documents_of_more_choices_do_not_change_the_others(rows: list[list[float]]) -> None:
    alone = [probabilities.right_probabilities([row], [0])[0] for row in rows]
    assert probabilities.right_probabilities(rows, [0] * len(rows)) == alone


@given(PAIRS)
def test_changes_are_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    variant, baseline = (np.array(side) for side in zip(*pairs, strict=True))
    assume(np.ptp(variant - baseline) > 1e-3)
    found = probabilities.compare_right_probabilities(variant, baseline)
    expected = scipy_stats.ttest_rel(variant, baseline)
    assert found is not None and found.estimate.interval is not None and found.p is not None
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    ends = found.estimate.interval
    assert (ends.low, ends.high) == pytest.approx(tuple(expected.confidence_interval()), abs=1e-9)
    assume(abs(found.p - 0.05) > 1e-6)
    assert (found.outcome == "no difference found") == (found.p >= 0.05)
    back = probabilities.compare_right_probabilities(baseline, variant)
    assert back is not None
    mirrored = {"higher": "lower", "lower": "higher"}
    assert back.outcome == mirrored.get(found.outcome, found.outcome)


@given(PAIRS, st.integers(1, 500))
def test_documents_of_equal_length_are_the_paired_t_test_per_token(
    pairs: list[tuple[float, float]], tokens: int
) -> None:
    variant, baseline = (np.array(side) for side in zip(*pairs, strict=True))
    assume(np.ptp(variant - baseline) > 1e-3)
    found = probabilities.compare_logprobs(variant, baseline, np.full(variant.size, tokens))
    expected = scipy_stats.ttest_rel(variant, baseline)
    assert found is not None and found.p is not None
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.estimate.value == pytest.approx((variant - baseline).mean() / tokens)


def test_log_probabilities_are_clustered_by_document_as_statsmodels_does() -> None:
    random = np.random.default_rng(1)
    tokens = random.integers(20, 500, 30)
    baseline = -2.5 * tokens + random.normal(0, 20, 30)
    variant = baseline - 0.05 * tokens + random.normal(0, 10, 30)
    found = probabilities.compare_logprobs(variant, baseline, tokens)
    fit = sm.WLS((variant - baseline) / tokens, np.ones(30), weights=tokens).fit(
        cov_type="HC1", use_t=True
    )
    assert found is not None and found.estimate.interval is not None
    assert found.estimate.value == pytest.approx(fit.params[0])
    assert found.estimate.standard_error == pytest.approx(fit.bse[0])
    assert found.p == pytest.approx(fit.pvalues[0])
    ends = found.estimate.interval
    assert (ends.low, ends.high) == pytest.approx(tuple(fit.conf_int()[0]))
    assert found.outcome == "lower"


def test_a_divergence_is_told_above_its_floor() -> None:
    random = np.random.default_rng(2)
    tokens = np.full(50, 100)
    floor = random.gamma(4, 0.05, 50)  # what batches in another order give
    same, moved = random.gamma(4, 0.05, 50), floor + random.gamma(2, 0.2, 50)
    alone = probabilities.mean_divergence(same, tokens)
    assert alone is not None and alone.outcome == "higher"  # never negative, so never zero
    equal = probabilities.mean_divergence(same, tokens, floor)
    more = probabilities.mean_divergence(moved, tokens, floor)
    assert equal is not None and equal.outcome == "no difference found"
    assert more is not None and more.outcome == "higher"
    assert more.estimate.value == pytest.approx((moved - floor).sum() / 5000)
    assert more.estimate.n == 50


def test_nothing_that_differs_is_unknown() -> None:
    same = probabilities.compare_right_probabilities([0.2, 0.4], [0.2, 0.4])
    assert same is not None
    assert (same.estimate.value, same.estimate.interval, same.p) == (0.0, None, None)
    assert same.outcome == "unknown"
    shifted = probabilities.compare_right_probabilities([0.5, 0.75], [0.25, 0.5])
    assert shifted is not None and (shifted.estimate.value, shifted.p) == (0.25, None)
    assert probabilities.compare_right_probabilities([0.2], [0.4]) is None


def test_other_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="same documents"):
        probabilities.compare_logprobs([1.0, 2.0], [1.0, 2.0], [3])
    with pytest.raises(ValueError, match="positive number of tokens"):
        probabilities.mean_divergence([1.0, 2.0], [0, 0])


def rows_of(variant: str) -> dict[str, tuple[float, float]]:
    """By document hash, of the 400 all have: if it is right, the right choice's probability."""
    path = min((H100 / f"smollm2-135m-{variant}").glob("quality-*.json"))
    (task,) = json.loads(path.read_text())["quality"]["tasks"]
    rows = json.loads(gzip.decompress((path.parent / task["samples"]["file"]).read_bytes()))
    given = probabilities.right_probabilities(
        [row["loglikelihoods"] for row in rows], [row["target"] for row in rows]
    )
    return {row["hash"]: (row["acc"], p) for row, p in zip(rows, given, strict=True)}


@pytest.mark.parametrize("variant", ["fp8", "int8-w8a8", "int4-w4a16-marlin-kernel"])
def test_committed_records_tell_more_by_probabilities_than_by_answers(variant: str) -> None:
    baseline, other = rows_of("bf16"), rows_of(variant)
    right, before = (np.array(side) for side in zip(*baseline.values(), strict=True))
    answers, after = (
        np.array(side) for side in zip(*(other[each] for each in baseline), strict=True)
    )
    change = probabilities.compare_right_probabilities(after, before)
    flips = recovery.difference(answers, right)
    assert change is not None and change.estimate.interval is not None
    assert flips is not None and flips.interval is not None
    assert change.p == pytest.approx(scipy_stats.ttest_rel(after, before).pvalue)
    ends = change.estimate.interval
    assert ends.high - ends.low < 0.8 * (flips.interval.high - flips.interval.low)

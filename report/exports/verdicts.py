"""Every difference against a baseline as a row: what it rests on, its interval, its verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from report.differences.families import Verdicts
from report.differences.pair import Difference
from report.rows.results import Results
from report.rows.rows import SpeedRow
from report.stats import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictRow:
    """One metric of a variant against its baseline.

    `estimate` is a ratio of speeds or sizes, or a difference of scores; `kept` what a score kept
    of the baseline's, over `documents` that both answered. `judged` says whether the interval
    carries a verdict; `decision` is that over all tasks of the variant. So is what changed in the
    log-probability of `text_documents` documents' own text, nats per token, and its divergence.
    """

    source: str
    hardware: str
    family: str
    variant: str
    baseline: str
    stage: str
    load_or_task: str | None
    metric: str
    value: float | None
    baseline_value: float | None
    estimate: float | None
    estimate_low: float | None
    estimate_high: float | None
    p: float | None
    p_adjusted: float | None
    tests: int
    test: str
    judged: bool
    verdict: str
    sessions: int | None = None
    baseline_sessions: int | None = None
    kept: float | None = None
    kept_low: float | None = None
    kept_high: float | None = None
    documents: int | None = None
    gained: int | None = None
    lost: int | None = None
    changed_answers: float | None = None
    loglikelihood_shift: float | None = None
    right_probability: float | None = None
    right_probability_low: float | None = None
    right_probability_high: float | None = None
    decision: str | None = None
    decision_kept: float | None = None
    decision_kept_low: float | None = None
    decision_kept_high: float | None = None
    more_documents: int | None = None
    text_documents: int | None = None
    text_logprob: float | None = None
    text_logprob_low: float | None = None
    text_logprob_high: float | None = None
    text_logprob_p: float | None = None
    text_divergence: float | None = None
    text_divergence_low: float | None = None
    text_divergence_high: float | None = None


def verdict_rows(results: Results) -> Iterator[VerdictRow]:
    """The rows of all families and machines, in the order of the differences."""
    verdicts = results.once(Verdicts)
    for each in verdicts.differences:
        yield _row(each, verdicts)


def _row(each: Difference, verdicts: Verdicts) -> VerdictRow:
    a, b, verdict = each.a, each.b, each.verdict
    low, high = _ends(verdict.interval)
    kept_low, kept_high = _ends(each.kept.interval if each.kept else None)
    moved = each.right_probability.estimate if each.right_probability else None
    moved_low, moved_high = _ends(moved.interval if moved else None)
    decided = verdicts.decision(a.who) if each.stage == "quality" else None
    all_low, all_high = _ends(decided.kept.interval if decided and decided.kept else None)
    text = each.own_text
    text_low, text_high = _ends(text.logprob.estimate.interval if text else None)
    apart_low, apart_high = _ends(text.divergence.estimate.interval if text else None)
    return VerdictRow(
        source=a.source,
        hardware=a.hardware,
        family=a.family,
        variant=a.variant,
        baseline=b.variant,
        stage=each.stage,
        load_or_task=each.series or None,
        metric=each.metric,
        value=each.values[0],
        baseline_value=each.values[1],
        estimate=verdict.estimate,
        estimate_low=low,
        estimate_high=high,
        p=verdict.p,
        p_adjusted=verdict.p_adjusted,
        tests=verdict.tests,
        test=verdict.test,
        judged=verdict.judged and verdict.interval is not None,
        verdict=each.word,
        sessions=a.sessions if isinstance(a, SpeedRow) and each.stage == "speed" else None,
        baseline_sessions=b.sessions if isinstance(b, SpeedRow) and each.stage == "speed" else None,
        kept=each.kept.estimate if each.kept else None,
        kept_low=kept_low,
        kept_high=kept_high,
        documents=each.documents,
        gained=each.gained,
        lost=each.lost,
        changed_answers=each.changed_answers.value if each.changed_answers else None,
        loglikelihood_shift=each.shift.value if each.shift else None,
        right_probability=moved.value if moved else None,
        right_probability_low=moved_low,
        right_probability_high=moved_high,
        decision=decided.decision.outcome if decided else None,
        decision_kept=decided.kept.estimate if decided and decided.kept else None,
        decision_kept_low=all_low,
        decision_kept_high=all_high,
        more_documents=decided.decision.more_documents if decided else None,
        text_documents=text.documents if text else None,
        text_logprob=text.logprob.estimate.value if text else None,
        text_logprob_low=text_low,
        text_logprob_high=text_high,
        text_logprob_p=text.logprob.p if text else None,
        text_divergence=text.divergence.estimate.value if text else None,
        text_divergence_low=apart_low,
        text_divergence_high=apart_high,
    )


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (interval.low, interval.high) if interval else (None, None)

"""Two rows against each other: by sessions, or document by document where those are the same.

Everything is a against b: a ratio is a / b, a difference a − b.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from report import stats
from report.differences.texts import OwnText
from report.rows.answers import Answers, paired, score
from report.rows.results import Results
from report.rows.rows import LATENCIES, Metric, QualityRow, Result, Size, SpeedRow, Unit
from report.stats import probabilities, recovery, sessions
from report.stats.recovery import Decision, Kept
from report.stats.sessions import Comparison

# Weights in memory as the engine tells them; else the checkpoint on disk.
SIZES: tuple[Size, ...] = ("weights_gib", "checkpoint_gib")
RECOVERY = 0.99  # of the baseline's score, where a record names no other margin
_ALPHA = 0.05
_UNTESTED = {"memory": "one number each", "speed": "one session", "quality": "not tested"}
_PUBLISHED = "only summaries are published, so the test is unpaired"
_DOCUMENTS = "not the same documents and task settings, so the test is unpaired"


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of a against b, with the value of each.

    `verdict` is of the ratio a / b for speed and memory, of a − b for quality. The rest is for
    quality: what a kept of b's score, the decision where this task alone makes it, documents
    gained and lost by a, and, for paired rows, the shift of log-likelihood per byte, the change in
    the probability of the right choice and, for `acc`, the share of changed answers. `own_text` is
    of all tasks of the two.
    """

    stage: Literal["speed", "quality", "memory"]
    metric: str
    a: Result
    b: Result
    values: tuple[float | None, float | None]
    verdict: stats.Verdict
    unlike: tuple[str, ...] = ()
    unpaired: str = ""  # why the documents could not be paired
    kept: Kept | None = None
    decision: Decision | None = None
    documents: int | None = None
    gained: int | None = None
    lost: int | None = None
    changed_answers: stats.Estimate | None = None
    shift: stats.Estimate | None = None
    right_probability: probabilities.Change | None = None
    own_text: OwnText | None = None

    @property
    def series(self) -> str:
        """The request rate or the task; nothing for memory."""
        return self.a.series if self.stage != "memory" else ""

    @property
    def word(self) -> str:
        """The verdict in words: faster, keeps quality, no difference found; never more."""
        if self.decision is not None:
            return decision_text(self.decision)
        outcome = self.verdict.outcome
        if decided := self._of_totals(outcome):
            return decided
        if outcome not in ("higher", "lower"):
            plain = {"noise": "no difference found", "described": "not judged"}
            published = self.stage == "speed" and self.a.source == "published"
            return plain.get(outcome, "one run" if published else _UNTESTED[self.stage])
        if self.stage == "speed":
            return stats.speed(self.verdict, higher_is_faster=self.metric not in LATENCIES)
        assert isinstance(self.a, QualityRow)
        return "better" if (outcome == "higher") == self.a.higher_is_better else "worse"

    def _of_totals(self, outcome: str) -> str:
        """What totals alone decide against a baseline: never that quality is kept."""
        if not (self.unpaired and self.b.is_baseline and isinstance(self.a, QualityRow)):
            return ""
        worse = "lower" if self.a.higher_is_better else "higher"
        return {"noise": "undecided", worse: "loses"}.get(outcome, "")

    @property
    def unit(self) -> Unit | None:
        """What a score and its difference are told in; None for speed and memory."""
        return self.a.unit if isinstance(self.a, QualityRow) and self.stage == "quality" else None

    @property
    def paired(self) -> bool:
        """Whether it is tested document by document."""
        return self.gained is not None and self.lost is not None

    @property
    def documents_left(self) -> int | None:
        """How many documents its task has beside those that both answered; None if not known."""
        if not isinstance(self.a, QualityRow) or self.documents is None:
            return None
        every = self.a.documents_original
        return None if every is None else max(0, every - self.documents)

    @property
    def caveats(self) -> tuple[str, ...]:
        """What keeps the two from being alike."""
        return (*self.unlike, *((self.unpaired,) if self.unpaired else ()))

    @property
    def detectable(self) -> float | None:
        """The smallest true difference shown four times out of five, corrected for all tests.

        At level 1 − α/m for m tests: what passes the first step of Holm's method passes the whole
        (Holm 1979), so the true value is this or smaller.
        """
        return self._detectable(1 - _ALPHA / self.verdict.tests)

    @property
    def detectable_alone(self) -> float | None:
        """The same if this were the only test."""
        return self._detectable(1 - _ALPHA)

    def _detectable(self, level: float) -> float | None:
        a, b = self.a, self.b
        if not isinstance(a, QualityRow) or not isinstance(b, QualityRow) or not (a.n and b.n):
            return None
        if self.gained is not None and self.lost is not None and self.documents:
            flips = (self.gained + self.lost) / self.documents
            return stats.detectable_paired(self.documents, flips, level=level)
        if self.verdict.p is None:
            return None
        pooled = sum(round(row.value.value * row.n) for row in (a, b)) / (a.n + b.n)
        return stats.detectable_unpaired(pooled, a.n, b.n, level=level)


def more_than_there_are(more: int, tasks: Sequence[Difference]) -> str:
    """Whose documents are too few for so many more of them, in words; nothing if they are not."""
    left = [each.documents_left for each in tasks]
    if any(each is None for each in left) or more <= sum(each or 0 for each in left):
        return ""
    names = dict.fromkeys(each.series for each in tasks)
    return f"more than {next(iter(names))} has" if len(names) == 1 else "more than its tasks have"


def decision_text(decision: Decision) -> str:
    """A decision on quality in words."""
    more = decision.more_documents
    if decision.outcome != "undecided" or more is None:
        return "not tested" if decision.outcome == "unknown" else decision.outcome
    return f"undecided: {more:,} more documents"


def speed(results: Results, a: SpeedRow, b: SpeedRow, metric: Metric) -> Difference:
    """A latency or throughput as a ratio: judged, described, or of one session each."""
    one, other = a.metrics.get(metric), b.metrics.get(metric)
    found = caveats(a, b)
    if a.prompts != b.prompts:
        found += (f"different numbers of prompts: {a.prompts} and {b.prompts}",)
    values = (one.value if one else None, other.value if other else None)
    return Difference("speed", metric, a, b, values, _ratio(results, a, b, metric), found)


def _ratio(results: Results, a: SpeedRow, b: SpeedRow, metric: Metric) -> stats.Verdict:
    """What the sessions of their machine say, where both were measured there under one load."""
    one, other = a.metrics.get(metric), b.metrics.get(metric)
    plain = one.value / other.value if one and other and other.value > 0 else None
    alone = stats.Verdict(plain, 1.0, None, None, "one session each, not tested")
    if a.source != b.source or a.workload != b.workload or not (a.by_session and b.by_session):
        return alone
    if a.place != b.place or a.variant == b.variant:
        return alone
    machine = results.machines[a.place]
    if found := machine.compare(a, b, metric):
        return _verdict(found, "simultaneous interval over sessions")
    pool = machine.pools.get((metric, a.workload))
    if pool is None:
        return alone
    told = sessions.compare_alone(metric, pool, machine.spread, a.variant, b.variant)
    return replace(_verdict(told, "interval over sessions"), judged=False) if told else alone


def _verdict(found: Comparison, test: str) -> stats.Verdict:
    return stats.Verdict(found.ratio, 1.0, found.interval, found.p, test)


def memory(a: Result, b: Result) -> list[Difference]:
    """Weights in memory, or where an engine does not say (on CPU), on disk; a ratio if known.

    One number each, the same every time, so there is nothing to test.
    """
    for size in SIZES:
        one, other = a.served.size(size), b.served.size(size)
        if one and other:
            verdict = stats.Verdict(one / other, 1.0, None, None, "one number each, not tested")
            return [Difference("memory", size, a, b, (one, other), verdict, caveats(a, b))]
    return []


def quality(results: Results, a: QualityRow, b: QualityRow, *, fidelity: bool = True) -> Difference:
    """A difference of scores: document by document where both answered the same, else unpaired.

    Without `fidelity` the answers' and log-likelihoods' shifts are left out, which are slow.
    """
    found = _paired(results, a, b, fidelity=fidelity) if can_pair(a, b) else None
    if found is not None:
        return found
    why = _PUBLISHED if "published" in (a.source, b.source) else _DOCUMENTS
    values = (a.value.value, b.value.value)
    if a.counted and b.counted:
        counts = (round(values[0] * a.n), a.n, round(values[1] * b.n), b.n)
        verdict = stats.compare_counts(*counts)
    else:
        gap = values[0] - values[1]
        verdict = stats.Verdict(gap, 0.0, None, None, "no test for this metric")
    return Difference("quality", a.metric, a, b, values, verdict, caveats(a, b), why)


def can_pair(a: QualityRow, b: QualityRow) -> bool:
    """Whether both were measured, in the same task with the same settings.

    Which documents they share is seen from the documents' own hashes.
    """
    asked = [(row.source, row.task, row.metric, row.task_version, row.settings) for row in (a, b)]
    return asked[0] == asked[1] and a.source == "measured"


def least(margin: Mapping[str, float]) -> float:
    """The margin as `recovery.decide` takes it: a recovery, or a difference of scores."""
    return -margin["points"] / 100 if "points" in margin else margin.get("recovery", RECOVERY)


def retained(row: QualityRow, a: Answers, b: Answers, margin: Mapping[str, float]) -> Kept | None:
    """What a kept of b's score over the same documents, as a recovery or, if asked, in points.

    Only a share has points; a perplexity's recovery is b's over a's.
    """
    one, other, weights = a.scores[row.metric], b.scores[row.metric], b.weights.get(row.metric)
    if row.aggregation in ("perplexity", "weighted perplexity"):
        sizes = np.ones(one.size) if weights is None else weights
        return recovery.recovery_of_perplexity(one, other, sizes)
    if row.aggregation == "bits per byte" and weights is not None:
        one, other = -one / weights, -other / weights
    in_points = "points" in margin and row.unit == "share"
    tell = recovery.difference if in_points else recovery.recovery
    return tell(one, other, lower_is_better=not row.higher_is_better, weights=weights)


def _paired(results: Results, a: QualityRow, b: QualityRow, *, fidelity: bool) -> Difference | None:
    """Document by document; None where they share none, or a sidecar lacks the metric for one."""
    metric = a.metric
    one, other = paired(*(results.answers(row.records, row.task) for row in (a, b)))
    if metric not in one.scores or metric not in other.scores or len(one.documents) < 2:
        return None
    if a.aggregation is None or a.aggregation != b.aggregation:
        return None
    scores = one.scores[metric], other.scores[metric]
    means = score(one, metric, a.aggregation), score(other, metric, a.aggregation)
    kept = retained(a, one, other, b.margin)
    gained = lost = None
    alike = metric not in one.weights
    if a.unit == "share" and alike and all(np.isin(each, (0, 1)).all() for each in scores):
        compared = stats.compare_paired(*(each == 1 for each in scores))
        verdict, gained, lost = compared.verdict, compared.gained, compared.lost
    elif a.aggregation == "mean":
        moved = recovery.difference(*scores, weights=one.weights.get(metric))
        estimate = moved.estimate if moved else None
        interval = moved.interval if moved else None
        verdict = stats.Verdict(estimate, 0.0, interval, None, "paired t")
    else:
        verdict = _of_ratio(means, kept)
    changed = shift = right_answers = None
    if fidelity and one.loglikelihoods and other.loglikelihoods:
        # acc_norm's choice divides by characters, which are not kept: only acc's is known.
        changed = stats.flipped_answers(one.chosen, other.chosen) if metric == "acc" else None
        shift = _shift(one, other)
        right = one.right_probabilities, other.right_probabilities
        if metric == "acc" and right[0] and right[1]:
            right_answers = probabilities.compare_right_probabilities(right[0], right[1])
    return Difference(
        "quality", metric, a, b, means, replace(verdict, judged=False),
        unlike=caveats(a, b),
        kept=kept,
        documents=len(one.documents),
        gained=gained,
        lost=lost,
        changed_answers=changed,
        shift=shift,
        right_probability=right_answers,
    )  # fmt: skip


def _of_ratio(means: tuple[float, float], kept: Kept | None) -> stats.Verdict:
    """A difference of perplexities, as their ratio's interval has it at the baseline's value."""
    interval = None
    if kept is not None and kept.interval is not None and kept.interval.low > 0:
        ends = (means[1] / kept.interval.high, means[1] / kept.interval.low)
        interval = stats.Interval(ends[0] - means[1], ends[1] - means[1], kept.interval.level)
    return stats.Verdict(means[0] - means[1], 0.0, interval, None, "paired ratio of sums")


def _shift(one: Answers, other: Answers) -> stats.Estimate | None:
    """The mean absolute shift of a choice's log-likelihood per byte."""
    flat = [
        [value for each in values for value in each]
        for values in (one.loglikelihoods, other.loglikelihoods, one.sizes)
    ]
    documents = np.repeat(np.arange(len(one.documents)), [len(each) for each in one.loglikelihoods])
    return stats.loglikelihood_shift(flat[0], flat[1], flat[2], documents)


def caveats(a: Result, b: Result) -> tuple[str, ...]:
    """What keeps the two from being alike in all but the variant."""
    found = []
    if a.source != b.source:
        found.append("one was measured here, the other published elsewhere")
    elif a.hardware != b.hardware:
        found.append(f"different machines: {a.hardware_name}; {b.hardware_name}")
    elif a.machine != b.machine:
        found.append(f"different machines under one hardware id: {a.machine}; {b.machine}")
    if a.engine_version != b.engine_version:
        found.append(f"different vLLM versions: {a.engine_version}; {b.engine_version}")
    for row in (a, b):
        if isinstance(row, SpeedRow):
            found += [f"{row.variant_name} {word}" for word in _disturbances(row)]
        if row.status == "partial":
            found.append(f"{row.variant_name} is a partial result")
    return tuple(found)


def _disturbances(row: SpeedRow) -> list[str]:
    """What was not as on an idle, cool machine, in words."""
    reasons = f" ({', '.join(row.throttle_reasons)})" if row.throttle_reasons else ""
    words = [f"ran throttled{reasons}"] if row.throttled else []
    return [*words, "shared its GPU"] if row.shared else words

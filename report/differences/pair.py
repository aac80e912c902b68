"""Two rows against each other: tested, paired where the documents are the same.

Everything is a against b: a ratio is a / b, a difference a − b.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from report import numbers, stats
from report.rows.drift import Drift
from report.rows.results import Results
from report.rows.rows import LATENCIES, Metric, QualityRow, Result, Size, SpeedRow, is_share

# Weights in memory as the engine tells them; else the checkpoint on disk.
SIZES: tuple[Size, ...] = ("weights_gib", "checkpoint_gib")
_ALPHA = 0.05
_UNTESTED = {"memory": "one number each", "speed": "no interval", "quality": "not tested"}
_PUBLISHED = "only summaries are published, so the test is unpaired"
_DOCUMENTS = "not the same documents and task settings, so the test is unpaired"


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of a against b, with the value of each.

    `verdict` is of the ratio a / b for speed and memory, of a − b for quality. The rest is for
    quality: documents gained and lost by a, and, for paired rows, the shift of log-likelihood per
    byte and, for `acc`, the share of changed answers.
    """

    stage: Literal["speed", "quality", "memory"]
    metric: str
    a: Result
    b: Result
    values: tuple[float | None, float | None]
    verdict: stats.Verdict
    unlike: tuple[str, ...] = ()
    unpaired: str = ""  # why the documents could not be paired
    gained: int | None = None
    lost: int | None = None
    changed_answers: stats.Estimate | None = None
    shift: stats.Estimate | None = None

    @property
    def series(self) -> str:
        """The request rate or the task; nothing for memory."""
        return self.a.series if self.stage != "memory" else ""

    @property
    def word(self) -> str:
        """The verdict in words: faster, worse, cannot be told from noise; never more than shown."""
        outcome = self.verdict.outcome
        if self.verdict.drifts:
            return "cannot be told from drift"
        if outcome == "noise":
            return "cannot be told from noise"
        if outcome == "unknown":
            return _UNTESTED[self.stage]
        if self.stage == "speed":
            return stats.speed(self.verdict, higher_is_faster=self.metric not in LATENCIES)
        if is_share(self.metric):
            return "better" if outcome == "higher" else "worse"
        return outcome

    @property
    def paired(self) -> bool:
        """Whether it is tested document by document."""
        return self.gained is not None and self.lost is not None

    @property
    def caveats(self) -> tuple[str, ...]:
        """What keeps the two from being alike, and what keeps the ratio from being a finding."""
        drift = drift_text(self.verdict) if self.verdict.drifts else ""
        return (*self.unlike, *(text for text in (self.unpaired, drift) if text))

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
        if self.gained is not None and self.lost is not None:
            return stats.detectable_paired(a.n, (self.gained + self.lost) / a.n, level=level)
        if self.verdict.p is None:
            return None
        pooled = sum(round(row.value.value * row.n) for row in (a, b)) / (a.n + b.n)
        return stats.detectable_unpaired(pooled, a.n, b.n, level=level)


def speed(a: SpeedRow, b: SpeedRow, metric: Metric, drift: Drift) -> Difference:
    """A latency or throughput as a ratio of means or percentiles; no interval for single runs.

    A ratio within the floor of its machine, load and metric is noise, whatever its p.
    """
    one, other = a.metrics.get(metric), b.metrics.get(metric)
    verdict = replace(stats.ratio(one, other), floor=drift.floor(a, b, metric))
    found = caveats(a, b)
    if a.prompts != b.prompts:
        found += (f"different numbers of prompts: {a.prompts} and {b.prompts}",)
    values = (one.value if one else None, other.value if other else None)
    return Difference("speed", metric, a, b, values, verdict, found)


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
    """An accuracy difference: paired where both answered the same documents, else unpaired.

    Without `fidelity` the answers' and log-likelihoods' shifts are left out, which are slow.
    """
    paired = _paired(results, a, b, fidelity=fidelity) if can_pair(a, b) else None
    if paired is not None:
        return paired
    why = _PUBLISHED if "published" in (a.source, b.source) else _DOCUMENTS
    values = (a.value.value, b.value.value)
    if is_share(a.metric):
        counts = (round(values[0] * a.n), a.n, round(values[1] * b.n), b.n)
        verdict = stats.compare_counts(*counts)
    else:
        gap = values[0] - values[1]
        verdict = stats.Verdict(gap, 0.0, None, None, "no test for this metric")
    return Difference("quality", a.metric, a, b, values, verdict, caveats(a, b), why)


def can_pair(a: QualityRow, b: QualityRow) -> bool:
    """Whether the stored outcomes are of the same documents, asked in the same way."""
    measured = a.source == b.source == "measured"
    return measured and is_share(a.metric) and _documents(a) == _documents(b)


def _documents(row: QualityRow) -> tuple[object, ...]:
    return row.task, row.documents_sha256, row.config_sha256, row.num_fewshot, row.n


def _paired(results: Results, a: QualityRow, b: QualityRow, *, fidelity: bool) -> Difference | None:
    """The test document by document; None where a sidecar does not have the metric for each."""
    one, other = (results.answers(row.record, row.task) for row in (a, b))
    if a.metric not in one.right or a.metric not in other.right:
        return None
    compared = stats.compare_paired(one.right[a.metric], other.right[a.metric])
    changed = shift = None
    if fidelity and one.chosen and other.chosen:
        # acc_norm's choice divides by characters, which are not kept: only acc's is known.
        changed = stats.flipped_answers(one.chosen, other.chosen) if a.metric == "acc" else None
        shift = stats.loglikelihood_shift(
            one.loglikelihoods, other.loglikelihoods, one.n_bytes, one.documents
        )
    return Difference(
        "quality", a.metric, a, b, (a.value.value, b.value.value), compared.verdict,
        unlike=caveats(a, b),
        gained=compared.gained,
        lost=compared.lost,
        changed_answers=changed,
        shift=shift,
    )  # fmt: skip


def drift_text(verdict: stats.Verdict) -> str:
    """Why a ratio that a test shows is none: how far this machine's own results lie apart."""
    apart = numbers.share((verdict.floor or 1) - 1, 1)
    return f"within this machine's own drift: the same variant measured twice differed by {apart} %"


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

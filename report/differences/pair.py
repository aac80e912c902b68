"""Two rows of one frame against each other: tested, paired where the documents are the same.

Everything is a against b: a ratio is a / b, a difference a − b.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bench.records import store
from bench.records.record import TaskResult
from report import numbers, rates, stats
from report.rows.drift import Drift
from report.rows.load import Results
from report.rows.rows import Row, estimate, is_share

Stage = Literal["speed", "quality", "memory"]
# Weights in memory as the engine tells them; else the checkpoint on disk.
SIZES = ("weights_gib", "checkpoint_gib")
_ALPHA = 0.05
_PUBLISHED = "only summaries are published, so the test is unpaired"
_DOCUMENTS = "not the same documents and task settings, so the test is unpaired"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two compared: who it is, where its row stands, and its value."""

    source: str
    hardware: str
    variant: str
    name: str
    record: str
    anchor: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of a against b; `series` is the request rate or the task.

    `verdict` is of the ratio a / b for speed and memory, of a − b for quality. The rest is for
    quality: documents gained and lost by a, and, for paired rows, the shift of log-likelihood per
    byte and, for `acc`, the share of changed answers.
    """

    stage: Stage
    family: str
    series: str
    metric: str
    a: Side
    b: Side
    verdict: stats.Verdict
    unlike: tuple[str, ...] = ()
    paired: bool = False
    gained: int | None = None
    lost: int | None = None
    changed_answers: stats.Estimate | None = None
    shift: stats.Estimate | None = None

    @property
    def caveats(self) -> tuple[str, ...]:
        """What keeps the two from being alike, and what keeps the ratio from being a finding."""
        return (*self.unlike, *([drift_text(self.verdict)] if self.verdict.drifts else []))

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
        if self.paired and self.gained is not None and self.lost is not None and a.n:
            return stats.detectable_paired(a.n, (self.gained + self.lost) / a.n, level=level)
        if self.verdict.p is None or a.value is None or b.value is None or not (a.n and b.n):
            return None
        pooled = (round(a.value * a.n) + round(b.value * b.n)) / (a.n + b.n)
        return stats.detectable_unpaired(pooled, a.n, b.n, level=level)


@dataclass(frozen=True)
class Outcomes:
    """One variant's answers to one task: per document, and per scored choice of each.

    `right` has the metrics that are 0 or 1 for every document. Tasks that generate text have no
    choices: `chosen` and the arrays per choice are then empty.
    """

    right: dict[str, npt.NDArray[np.bool_]]
    chosen: list[int]
    loglikelihoods: npt.NDArray[np.float64]
    n_bytes: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]


class Answers:
    """The sidecars of quality rows, each opened once."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._seen: dict[tuple[str, str], Outcomes] = {}

    def of(self, row: Row) -> Outcomes:
        """The outcomes behind a row, documents in the order of their index."""
        key = row["record"], row["task"]
        if key not in self._seen:
            sidecar = self._task(row).samples
            rows = store.read_sidecar(self._results.root / row["record"], sidecar)
            self._seen[key] = _outcomes(sorted(rows, key=lambda each: int(each["doc"])))
        return self._seen[key]

    def asked(self, row: Row) -> tuple[str | None, ...]:
        """Which documents a row's task asked, and how; equal where outcomes can be paired."""
        task = self._task(row)
        return task.documents_sha256, task.config_sha256

    def _task(self, row: Row) -> TaskResult:
        record = self._results.read(row["record"])
        tasks = record.quality.tasks if record.quality else ()
        return next(task for task in tasks if task.name == row["task"])


def speed(a: Row, b: Row, metric: str, drift: Drift) -> Difference:
    """A latency or throughput as a ratio of means or percentiles; no interval for single runs.

    A ratio within the floor of its machine, load and metric is noise, whatever its p.
    """
    verdict = stats.ratio(estimate(a, metric), estimate(b, metric))
    verdict = replace(verdict, floor=drift.floor(a, b, metric))
    found = caveats(a, b)
    if a["prompts"] != b["prompts"]:
        found += (f"different numbers of prompts: {a['prompts']} and {b['prompts']}",)
    series = rates.name(a["request_rate_rps"])
    return _difference("speed", series, metric, (a, b), verdict, unlike=found)


def memory(a: Row, b: Row, metric: str) -> Difference:
    """Memory as a ratio: one number each, the same every time, so there is nothing to test."""
    ratio = None if a[metric] is None or not b[metric] else a[metric] / b[metric]
    verdict = stats.Verdict(ratio, 1.0, None, None, "one number each, not tested")
    return _difference("memory", "", metric, (a, b), verdict, unlike=caveats(a, b))


def quality(answers: Answers, a: Row, b: Row, *, fidelity: bool = True) -> Difference:
    """An accuracy difference: paired where both answered the same documents, else unpaired.

    Without `fidelity` the answers' and log-likelihoods' shifts are left out, which are slow.
    """
    if can_pair(a, b):
        one, other = answers.of(a), answers.of(b)
        if a["metric"] in one.right and a["metric"] in other.right:
            return _paired(one, other, a, b, fidelity=fidelity)
    published = "published" in (a["source"], b["source"])
    found = (*caveats(a, b), _PUBLISHED if published else _DOCUMENTS)
    if is_share(a["metric"]) and None not in (a["value"], b["value"]):
        counts = round(a["value"] * a["n"]), a["n"], round(b["value"] * b["n"]), b["n"]
        verdict = stats.compare_counts(*counts)
    else:
        known = None not in (a["value"], b["value"])
        gap = a["value"] - b["value"] if known else None
        verdict = stats.Verdict(gap, 0.0, None, None, "no test for this metric")
    return _difference("quality", a["task"], a["metric"], (a, b), verdict, unlike=found)


def can_pair(a: Row, b: Row) -> bool:
    """Whether the stored outcomes are of the same documents, asked in the same way."""
    same = ("task", "documents_sha256", "config_sha256", "num_fewshot", "n")
    measured = a["source"] == b["source"] == "measured"
    return measured and is_share(a["metric"]) and all(a[key] == b[key] for key in same)


def _paired(one: Outcomes, other: Outcomes, a: Row, b: Row, *, fidelity: bool) -> Difference:
    metric = a["metric"]
    compared = stats.compare_paired(one.right[metric], other.right[metric])
    changed = shift = None
    if fidelity and one.chosen and other.chosen:
        # acc_norm's choice divides by characters, which are not kept: only acc's is known.
        changed = stats.flipped_answers(one.chosen, other.chosen) if metric == "acc" else None
        shift = stats.loglikelihood_shift(
            one.loglikelihoods, other.loglikelihoods, one.n_bytes, one.documents
        )
    return _difference(
        "quality", a["task"], metric, (a, b), compared.verdict,
        unlike=caveats(a, b),
        paired=True,
        gained=compared.gained,
        lost=compared.lost,
        changed_answers=changed,
        shift=shift,
    )  # fmt: skip


def _outcomes(rows: list[Row]) -> Outcomes:
    shared = set.intersection(*(set(row) for row in rows)) if rows else set()
    binary = [m for m in sorted(shared) if is_share(m) and all(row[m] in (0, 1) for row in rows)]
    scored = {"loglikelihoods", "bytes"} <= shared and all(min(row["bytes"]) > 0 for row in rows)
    scores = [row["loglikelihoods"] for row in rows] if scored else []
    sizes = [size for row in rows for size in row["bytes"]] if scored else []
    return Outcomes(
        right={m: np.array([row[m] == 1 for row in rows], dtype=np.bool_) for m in binary},
        chosen=[each.index(max(each)) for each in scores],
        loglikelihoods=np.array([score for each in scores for score in each], dtype=np.float64),
        n_bytes=np.array(sizes, dtype=np.int64),
        documents=np.repeat(np.arange(len(scores)), [len(each) for each in scores]),
    )


def _difference(
    stage: Stage,
    series: str,
    metric: str,
    rows: tuple[Row, Row],
    verdict: stats.Verdict,
    **rest: Any,
) -> Difference:
    a, b = rows
    column = "value" if stage == "quality" else metric
    sides = (_side(a, column), _side(b, column))
    return Difference(stage, a["family"], series, metric, *sides, verdict, **rest)


def _side(row: Row, column: str) -> Side:
    who = (row["source"], row["hardware"], row["variant"], row["variant_name"])
    ends = (row.get(f"{column}_low"), row.get(f"{column}_high"))
    return Side(*who, row["record"], row["anchor"], row[column], *ends, row.get("n"))


def drift_text(verdict: stats.Verdict) -> str:
    """Why a ratio that a test shows is none: how far this machine's own results lie apart."""
    apart = numbers.share((verdict.floor or 1) - 1, 1)
    return f"within this machine's own drift: the same variant measured twice differed by {apart} %"


def caveats(a: Row, b: Row) -> tuple[str, ...]:
    """What keeps the two from being alike in all but the variant."""
    found = []
    if a["source"] != b["source"]:
        found.append("one was measured here, the other published elsewhere")
    elif a["hardware"] != b["hardware"]:
        found.append(f"different machines: {a['hardware_name']}; {b['hardware_name']}")
    elif a["machine"] != b["machine"]:
        found.append(f"different machines under one hardware id: {a['machine']}; {b['machine']}")
    if a["engine_version"] != b["engine_version"]:
        found.append(f"different vLLM versions: {a['engine_version']}; {b['engine_version']}")
    for row in (a, b):
        found += [f"{row['variant_name']} {word}" for word in disturbances(row)]
        if row["status"] == "partial":
            found.append(f"{row['variant_name']} is a partial result")
    return tuple(found)


def disturbances(row: Row) -> list[str]:
    """What was not as on an idle, cool machine while a speed row was measured, in words."""
    reasons = f" ({row['throttle_reasons']})" if row.get("throttle_reasons") else ""
    marks = {"throttled": f"ran throttled{reasons}", "shared": "shared its GPU"}
    return [word for key, word in marks.items() if row.get(key)]

"""`bench compare BASELINE OTHER…`: what the names stand for, as a table for the terminal.

The same lines serve the job summary and the comment of a pull request (`report/pull_request.py`).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from tabulate import tabulate

from bench.errors import ConfigError
from report import escape, numbers, rates
from report.decisions.decision import decisions
from report.differences import families, pair
from report.differences.pair import Difference
from report.differences.texts import OwnText, own_text
from report.rows import measured
from report.rows.results import Results, fold
from report.rows.rows import LATENCIES, Kin, Metric, QualityRow, Result, SpeedRow, Who

HEADLINES = (
    Metric.TTFT_MEAN,
    Metric.TTFT_P90,
    Metric.TPOT_MEAN,
    Metric.TPOT_P90,
    Metric.E2E_MEAN,
    Metric.E2E_P90,
    Metric.OUTPUT,
)
HEADER = ("load or task", "metric", "it", "baseline", "difference", "95 % interval", "verdict")
_METRICS: dict[str, str] = {
    **{metric: f"{metric.label}, {metric.unit}" for metric in LATENCIES},
    Metric.OUTPUT: "output tokens/s",
    Metric.REQUESTS: "requests/s",
    Metric.ALL_TOKENS: "all tokens/s",
    Metric.GOODPUT: "goodput, requests/s",
    "weights_gib": "weights, GiB",
    "checkpoint_gib": "checkpoint, GiB",
}


def compare(
    results: Results, baseline: str, others: Sequence[str], *, hardware: str | None = None
) -> list[Difference]:
    """The headline metrics of each of `others` against `baseline`.

    Two of one family on one machine have the verdict that everybody gets (`families.Verdicts`),
    whichever is named first.

    Each is a variant's id, `hardware/variant`, a published row's id, or a record's path under
    the results. A variant measured on several machines is compared on each that both share, or on
    `hardware` alone.

    Raises:
        ConfigError: there is no such result, or the two share no machine and it is not clear
            which of several is meant.
    """
    couples = {other: _couples(results, other, baseline, hardware) for other in others}
    kin = {
        row.kin for each in couples.values() for both in each for its in both for row in its.rows
    }
    verdicts = families.Verdicts(results, kin)
    found: list[Difference] = []
    for other in others:
        own: list[Difference] = []
        for it, base in couples[other]:
            for x, y in families.matches(it.speed, base.speed, lambda row: row.workload):
                own += families.speeds(results, x, y, HEADLINES)
            scores = list(families.matches(it.quality, base.quality, lambda row: row.asked))
            text = own_text(results, [a for a, _ in scores], [b for _, b in scores])
            own += [replace(verdicts.between_scores(a, b), own_text=text) for a, b in scores]
            for rows in families.matches(it.sized, base.sized, lambda _: ()):
                own += pair.memory(*rows)
        if not own:
            raise ConfigError(
                f"{other} and {baseline} share no load and no task",
                "measure both with the same settings",
            )
        found += own
    return found


def sentences(results: Results, kin: Collection[Kin] | None = None) -> dict[Who, str]:
    """What is said of every variant, in one sentence.

    Args:
        kin: only of these families; of all where None.
    """
    verdicts = families.Verdicts(results, kin)
    return {
        each.row.who: each.sentence
        for decision in decisions(verdicts)
        for each in decision.variants
    }


def plain(found: Sequence[Difference], said: Mapping[Who, str]) -> str:
    """A table for each pair of results, for the terminal, and the sentence on a variant."""
    by_pair: dict[tuple[str, str], list[Difference]] = {}
    for difference in found:
        a, b = difference.a, difference.b
        names = (who(a), who(b)) if who(a) != who(b) else (a.record, b.record)
        by_pair.setdefault(names, []).append(difference)
    blocks = []
    for (one, other), rows in by_pair.items():
        mind = "".join(f"note: {escape.clean(text)}\n" for text in remarks(rows))
        lines = [tuple(map(escape.clean, cells(row))) for row in rows]
        table = tabulate(lines, headers=HEADER, tablefmt="simple", disable_numparse=True)
        sentence = said.get(rows[0].a.who, "") if rows[0].b.is_baseline else ""
        head = f"{escape.clean(sentence)}.\n\n" if sentence else ""
        blocks.append(f"{one} against {other}\n\n{head}{table}\n{mind}")
    return "\n".join(blocks)


def remarks(found: Iterable[Difference]) -> list[str]:
    """What to mind of these, each once: which documents scores are on, and the caveats."""
    scores = [
        f"{each.series}: scores are on the {each.documents:,} documents that both answered"
        for each in found
        if each.documents
    ]
    return list(dict.fromkeys([*scores, *(text for each in found for text in each.caveats)]))


def as_json(found: Sequence[Difference]) -> str:
    """Every difference with its interval, test and decision, as JSON."""
    return json.dumps([_json(each) for each in found], indent=2, ensure_ascii=False)


def _json(each: Difference) -> dict[str, object]:
    verdict, kept, ends = each.verdict, each.kept, each.verdict.interval
    told: dict[str, object] = {
        "variant": who(each.a),
        "baseline": who(each.b),
        "stage": each.stage,
        "load_or_task": None if each.stage == "memory" else each.series,
        "metric": each.metric,
        "value": each.values[0],
        "baseline_value": each.values[1],
        "estimate": verdict.estimate,
        "of": "ratio" if verdict.null == 1 else "difference",
        "low": ends.low if ends else None,
        "high": ends.high if ends else None,
        "p": verdict.p if verdict.p_adjusted is None else verdict.p_adjusted,
        "test": verdict.test,
        "tests": verdict.tests,
        "judged": verdict.judged,
        "verdict": each.word,
        "caveats": list(each.caveats),
    }
    if each.stage == "quality":
        told |= {
            "kept": kept.estimate if kept else None,
            "kept_low": kept.interval.low if kept and kept.interval else None,
            "kept_high": kept.interval.high if kept and kept.interval else None,
            "decision": each.decision.outcome if each.decision else None,
            "more_documents": each.decision.more_documents if each.decision else None,
            "documents": each.documents,
            "gained": each.gained,
            "lost": each.lost,
            "own_text": _text_json(each.own_text) if each.own_text else None,
        }
    return told


def _text_json(text: OwnText) -> dict[str, object]:
    """What changed in the documents' own text, nats per token; of all tasks of the two."""
    told: dict[str, object] = {"documents": text.documents}
    for name, change in (("logprob", text.logprob), ("divergence", text.divergence)):
        ends = change.estimate.interval
        told |= {
            name: change.estimate.value,
            f"{name}_low": ends.low if ends else None,
            f"{name}_high": ends.high if ends else None,
        }
    return {**told, "logprob_p": text.logprob.p, "logprob_outcome": text.logprob.outcome}


def cells(difference: Difference) -> tuple[str, ...]:
    """A difference as plain text under `HEADER`."""
    unit, kept = difference.unit, difference.kept
    show = numbers.score(unit) if unit else numbers.number
    estimate, ends = difference.verdict.estimate, difference.verdict.interval
    form: numbers.Form = numbers.change
    if unit:
        form = _points if unit == "share" else numbers.score_gap(unit)
    shown, between = form(estimate), f"{form(ends.low)} to {form(ends.high)}" if ends else ""
    if kept is not None and kept.equal == 1:
        ends, recovery = kept.interval, partial(numbers.share, decimals=1)
        shown = f"{recovery(kept.estimate)} % kept"
        between = f"{recovery(ends.low)} to {recovery(ends.high)}" if ends else ""
    return (
        "" if difference.stage == "memory" else asked_text(difference.a),
        metric_text(difference.metric),
        *map(show, difference.values),
        shown,
        between,
        difference.word,
    )


def asked_text(row: Result) -> str:
    """A row's load or task as a reader sees it."""
    return rates.full(row.pace) if isinstance(row, SpeedRow) else row.series


def metric_text(metric: str) -> str:
    """A metric as a reader sees it: TTFT p90, ms; a task's metric stays lm-eval's own word."""
    return _METRICS.get(metric, metric)


def who(row: Result) -> str:
    """A result as `bench compare` takes it; both ids are slugs, safe in code spans."""
    return f"{row.hardware}/{row.variant}"


@dataclass
class _Named:
    """The rows on one machine that a name stands for."""

    speed: list[SpeedRow] = field(default_factory=list)
    quality: list[QualityRow] = field(default_factory=list)

    @property
    def rows(self) -> list[Result]:
        return [*self.quality, *self.speed]

    @property
    def sized(self) -> list[Result]:
        return families.sized(self.rows)[:1]


def _couples(results: Results, a: str, b: str, hardware: str | None) -> list[tuple[_Named, _Named]]:
    """The rows of `a` and of `b` on each machine that has both; or of both where each is on one."""
    of_b, of_a = (_named(results, name, hardware) for name in (b, a))
    shared = sorted(set(of_a) & set(of_b))
    if shared:
        return [(of_a[place], of_b[place]) for place in shared]
    if len(of_a) == len(of_b) == 1:
        return list(zip(of_a.values(), of_b.values(), strict=True))
    places = f"{a} is on {', '.join(sorted(of_a))}; {b} on {', '.join(sorted(of_b))}"
    raise ConfigError(f"no machine has both: {places}", "name each as hardware/variant")


def _named(results: Results, name: str, only: str | None) -> dict[str, _Named]:
    """The rows that a name stands for, by hardware; on `only` one if that is given."""
    if name.endswith(".json"):
        return _of_record(results, name)
    hardware, _, variant = name.rpartition("/")
    place = hardware or only
    chosen: dict[str, _Named] = {}
    for load in results.speed:
        if load.variant == variant and load.hardware == (place or load.hardware):
            chosen.setdefault(load.hardware, _Named()).speed.append(load)
    for score in results.quality:
        if score.variant == variant and score.hardware == (place or score.hardware):
            chosen.setdefault(score.hardware, _Named()).quality.append(score)
    if not chosen:
        known = sorted({row.variant for row in (*results.speed, *results.quality)})
        close = difflib.get_close_matches(variant, known, n=3, cutoff=0.4) or known[:3]
        raise ConfigError(
            f"no current result is named {name}",
            f"use one of: {', '.join(close)}" if close else "measure something first: bench run",
        )
    return chosen


def _of_record(results: Results, where: str) -> dict[str, _Named]:
    path = results.root / where
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such record", "give its path under the results")
    record = results.record(where)
    speed = list(measured.speed_rows(record, where, path))
    scores, _ = fold(results.root, list(measured.quality_rows(record, where)), [record])
    return {record.hardware: _Named(speed, scores)}


def _points(value: float | None) -> str:
    return numbers.UNKNOWN if value is None else f"{numbers.points(value)} pp"

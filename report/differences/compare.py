"""`bench compare A B`: what the two names stand for, tested, as a table for the terminal.

The same lines serve the job summary and the comment of a pull request (`report/pull_request.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tabulate import tabulate

from bench.errors import ConfigError
from report import escape, numbers, rates
from report.differences import families, pair
from report.differences.pair import Difference
from report.rows import measured
from report.rows.results import Results
from report.rows.rows import LATENCIES, Metric, QualityRow, Result, SpeedRow

HEADLINES = (
    Metric.TTFT_MEAN,
    Metric.TTFT_P90,
    Metric.TPOT_MEAN,
    Metric.TPOT_P90,
    Metric.E2E_MEAN,
    Metric.E2E_P90,
    Metric.OUTPUT,
)
HEADER = ("load or task", "metric", "A", "B", "A against B", "95 % interval", "p", "verdict")
_METRICS: dict[str, str] = {
    **{metric: f"{metric.label}, {metric.unit}" for metric in LATENCIES},
    Metric.OUTPUT: "output tokens/s",
    Metric.REQUESTS: "requests/s",
    Metric.ALL_TOKENS: "all tokens/s",
    Metric.GOODPUT: "goodput, requests/s",
    "weights_gib": "weights, GiB",
    "checkpoint_gib": "checkpoint, GiB",
}


def compare(results: Results, a: str, b: str, *, hardware: str | None = None) -> list[Difference]:
    """The headline metrics of result `a` against `b`.

    Two of one family have the verdict that everybody gets (`families.Verdicts`), whichever is
    named first; what is compared only here is corrected for what is compared with it.

    Each is a variant's id, `hardware/variant`, a published row's id, or a record's path under
    the results. A variant measured on several machines is compared on each that both share, or on
    `hardware` alone.

    Raises:
        ConfigError: there is no such result, or the two share no machine and it is not clear
            which of several is meant.
    """
    verdicts = families.Verdicts(results)
    found: list[Difference] = []
    for of_a, of_b in _couples(results, a, b, hardware):
        for x, y in families.matches(of_a.speed, of_b.speed, lambda row: row.workload):
            found += families.speeds(results, x, y, HEADLINES)
        for one, other in families.matches(of_a.quality, of_b.quality, lambda row: row.asked):
            found.append(pair.quality(results, one, other))
        for rows in families.matches(of_a.sized, of_b.sized, lambda _: ()):
            found += pair.memory(*rows)
    if not found:
        raise ConfigError(
            f"{a} and {b} share no load and no task", "measure both with the same settings"
        )
    return [
        replace(test, verdict=verdicts.told(test.a, test.b, test.metric) or test.verdict)
        if test.stage != "memory"
        else test
        for test in families.correct(found)
    ]


def plain(found: Sequence[Difference]) -> str:
    """A table for each pair of results, for the terminal."""
    by_pair: dict[tuple[str, str], list[Difference]] = {}
    for difference in found:
        a, b = difference.a, difference.b
        names = (who(a), who(b)) if who(a) != who(b) else (a.record, b.record)
        by_pair.setdefault(names, []).append(difference)
    blocks = []
    for (one, other), rows in by_pair.items():
        mind = dict.fromkeys(text for row in rows for text in row.caveats)
        notes = "".join(f"note: {escape.clean(text)}\n" for text in mind)
        lines = [tuple(map(escape.clean, cells(row))) for row in rows]
        table = tabulate(lines, headers=HEADER, tablefmt="simple", disable_numparse=True)
        blocks.append(f"A  {one}\nB  {other}\n\n{table}\n{notes}")
    return "\n".join(blocks)


def cells(difference: Difference) -> tuple[str, ...]:
    """A difference as plain text under `HEADER`."""
    verdict, quality = difference.verdict, difference.stage == "quality"
    form = _points if quality else numbers.change
    show = numbers.share if quality else numbers.number
    ends = verdict.interval
    p = verdict.p if verdict.p_adjusted is None else verdict.p_adjusted
    return (
        "" if difference.stage == "memory" else asked_text(difference.a),
        metric_text(difference.metric),
        *map(show, difference.values),
        form(verdict.estimate),
        f"{form(ends.low)} to {form(ends.high)}" if ends else "",
        "" if p is None else numbers.p_value(p, equals=""),
        difference.word,
    )


def asked_text(row: Result) -> str:
    """A row's load or task as a reader sees it."""
    return rates.full(row.request_rate_rps) if isinstance(row, SpeedRow) else row.series


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
    def sized(self) -> list[Result]:
        return families.sized([*self.quality, *self.speed])[:1]


def _couples(results: Results, a: str, b: str, hardware: str | None) -> list[tuple[_Named, _Named]]:
    """The rows of `a` and of `b` on each machine that has both; or of both where each is on one."""
    of_a, of_b = (_named(results, name, hardware) for name in (a, b))
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
    return {record.hardware: _Named(speed, list(measured.quality_rows(record, where)))}


def _points(value: float | None) -> str:
    return numbers.UNKNOWN if value is None else f"{numbers.points(value)} pp"

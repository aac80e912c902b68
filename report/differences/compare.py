"""Variants against their baseline, or any two results against each other, with verdicts.

The same differences serve the site, `bench compare`, and the job summary and comment of a pull
request (`report/pull_request.py`). Verdicts that are read together are one family, after Holm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tabulate import tabulate

from bench.errors import ConfigError
from report import escape, numbers, rates, stats
from report.differences import families, pair
from report.differences.pair import Difference, Side
from report.rows import names as named
from report.rows import rows as build
from report.rows.load import Results, rows_of
from report.rows.rows import LATENCY_COLUMNS, THROUGHPUTS, Row

HEADLINES = (
    "ttft_mean_ms",
    "ttft_p90_ms",
    "tpot_mean_ms",
    "tpot_p90_ms",
    "e2e_mean_ms",
    "e2e_p90_ms",
    "output_throughput_tps",
)
LABELS = {
    "output_throughput_tps": "output tokens/s",
    "request_throughput_rps": "requests/s",
    "total_throughput_tps": "all tokens/s",
    "goodput_rps": "goodput, requests/s",
    "weights_gib": "weights, GiB",
    "checkpoint_gib": "checkpoint, GiB",
}
HEADER = ("load or task", "metric", "A", "B", "A against B", "95 % interval", "p", "verdict")
_UNTESTED = {"memory": "one number each", "speed": "no interval", "quality": "not tested"}


def differences(results: Results) -> list[Difference]:
    """Every variant against its family's baseline on the same hardware, measured and published.

    The variants of a family are one family of tests, in each latency or throughput at each load
    and, all metrics together, in each task.
    """
    answers = pair.Answers(results)
    speed, quality = rows_of(results.speed), rows_of(results.quality)
    metrics = (*LATENCY_COLUMNS, *THROUGHPUTS, "goodput_rps")
    found: list[Difference] = []
    for a, b in families.against_baseline(speed, families.WORKLOAD):
        found += _speed(a, b, metrics, results)
    found += [
        pair.quality(answers, a, b) for a, b in families.against_baseline(quality, families.ASKED)
    ]
    for a, b in families.against_baseline(_sized(quality + speed), ()):
        found += _memory(a, b)
    return families.correct(found)


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
    answers = pair.Answers(results)
    told = families.Verdicts(results, answers, differences(results))
    found: list[tuple[Difference, stats.Verdict | None]] = []
    for rows_a, rows_b in named.couples(results, a, b, hardware):
        for x, y in families.matches(_loads(rows_a), _loads(rows_b), families.WORKLOAD):
            tests = _speed(x, y, HEADLINES, results)
            found += [(test, told.of(x, y, test.metric)) for test in tests]
        asked = families.matches(_tasks(rows_a), _tasks(rows_b), families.ASKED)
        found += [(pair.quality(answers, x, y), told.of(x, y, x["metric"])) for x, y in asked]
        sized = [_sized(_tasks(rows) + _loads(rows))[:1] for rows in (rows_a, rows_b)]
        for x, y in families.matches(sized[0], sized[1], ()):
            found += [(size, None) for size in _memory(x, y)]
    if not found:
        raise ConfigError(
            f"{a} and {b} share no load and no task", "measure both with the same settings"
        )
    tests = families.correct([test for test, _ in found])
    return [
        replace(test, verdict=verdict or test.verdict)
        for test, (_, verdict) in zip(tests, found, strict=True)
    ]


def verdict_word(difference: Difference) -> str:
    """The verdict in words: faster, worse, cannot be told from noise, …; never more than shown."""
    outcome = difference.verdict.outcome
    if difference.verdict.drifts:
        return "cannot be told from drift"
    if outcome == "noise":
        return "cannot be told from noise"
    if outcome == "unknown":
        return _UNTESTED[difference.stage]
    if difference.stage == "speed":
        slow = difference.metric.endswith("_ms")
        return stats.speed(difference.verdict, higher_is_faster=not slow)
    if build.is_share(difference.metric):
        return "better" if outcome == "higher" else "worse"
    return outcome


def cells(difference: Difference) -> tuple[str, ...]:
    """A difference as plain text under `HEADER`."""
    verdict, quality = difference.verdict, difference.stage == "quality"
    form = _points if quality else numbers.change
    show = numbers.share if quality else numbers.number
    ends = verdict.interval
    return (
        rates.full(float(difference.series)) if difference.stage == "speed" else difference.series,
        metric_text(difference.metric),
        show(difference.a.value),
        show(difference.b.value),
        form(verdict.estimate),
        f"{form(ends.low)} to {form(ends.high)}" if ends else "",
        _p(verdict),
        verdict_word(difference),
    )


def metric_text(metric: str) -> str:
    """A metric as a reader sees it: TTFT p90, ms; a task's metric stays lm-eval's own word."""
    if metric in LATENCY_COLUMNS:
        name, which, unit = metric.split("_")
        return f"{name.upper()} {which}, {unit}"
    return LABELS.get(metric, metric)


def plain(found: Sequence[Difference]) -> str:
    """A table for each pair of results, for the terminal."""
    blocks = []
    for (a, b), rows in _by_pair(found).items():
        notes = "".join(f"note: {escape.clean(text)}\n" for text in _caveats(rows))
        lines = [tuple(map(escape.clean, cells(row))) for row in rows]
        table = tabulate(lines, headers=HEADER, tablefmt="simple", disable_numparse=True)
        blocks.append(f"A  {a}\nB  {b}\n\n{table}\n{notes}")
    return "\n".join(blocks)


def who(side: Side) -> str:
    """A side as `bench compare` takes it; both ids are slugs, safe in code spans."""
    return f"{side.hardware}/{side.variant}"


def _loads(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "task" not in row]


def _tasks(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if "task" in row]


def _sized(rows: Sequence[Row]) -> list[Row]:
    """One row for each variant, one that knows the weights' size in memory if there is any."""
    chosen: dict[tuple[str, ...], Row] = {}
    for row in rows:
        key = row["source"], row["hardware"], row["variant"]
        if key not in chosen or (row["weights_gib"] and not chosen[key]["weights_gib"]):
            chosen[key] = row
    return list(chosen.values())


def _memory(a: Row, b: Row) -> list[Difference]:
    """Weights in memory, or where an engine does not say (on CPU), the checkpoint's size."""
    known = [name for name in pair.SIZES if a[name] and b[name]]
    return [pair.memory(a, b, name) for name in known[:1]]


def _speed(a: Row, b: Row, metrics: Iterable[str], results: Results) -> list[Difference]:
    known = [metric for metric in metrics if a[metric] is not None and b[metric] is not None]
    return [pair.speed(a, b, metric, results.drift) for metric in known]


def _by_pair(found: Sequence[Difference]) -> dict[tuple[str, str], list[Difference]]:
    by_pair: dict[tuple[str, str], list[Difference]] = {}
    for difference in found:
        a, b = difference.a, difference.b
        names = (who(a), who(b)) if who(a) != who(b) else (a.record, b.record)
        by_pair.setdefault(names, []).append(difference)
    return by_pair


def _caveats(rows: Sequence[Difference]) -> list[str]:
    return list(dict.fromkeys(text for row in rows for text in row.caveats))


def _p(verdict: stats.Verdict) -> str:
    p = verdict.p if verdict.p_adjusted is None else verdict.p_adjusted
    return "" if p is None else numbers.p_value(p).removeprefix("= ")


def _points(value: float | None) -> str:
    return numbers.UNKNOWN if value is None else f"{numbers.points(value)} pp"

"""The history page: each series over time, and a change only where the test says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Any

from report import numbers, rates, stats
from report.charts import charts
from report.charts.drawing import Chart
from report.differences import pair
from report.pages.tables import Cell, Column, Row, Table, measured, unknown
from report.rows.load import Results, rows_of
from report.rows.rows import is_share

Frame = dict[str, Any]
_LEAST = 3  # two results before one can be tested
_MOST_EARLIER = 6
_NAMES = {
    "ttft_mean_ms": "TTFT mean, ms",
    "tpot_mean_ms": "TPOT mean, ms",
    "e2e_mean_ms": "E2E mean, ms",
    "output_throughput_tps": "Output, tokens/s",
}
_COLUMNS = (
    Column("variant", "Variant", numeric=False),
    Column("series", "Series", numeric=False),
    Column("results", "Results"),
    Column("since", "Since", numeric=False),
    Column("newest", "Newest"),
    Column("earlier", "Earlier", "newest first", numeric=False),
    Column(
        "change",
        "Against those before",
        title="Newest against the mean of the earlier ones; an accuracy against the one before",
    ),
    Column("verdict", "Verdict", numeric=False),
    Column("engines", "vLLM", numeric=False),
)


def sections(results: Results, root: str) -> list[dict[str, Any]]:
    """Per machine: a table of every series with at least two results, and a picture of TPOT."""
    rows = sorted(rows_of(results.history), key=_identity)
    series = [list(group) for _, group in groupby(rows, key=_identity)]
    series = [group for group in series if len(group) > 1]
    answers = pair.Answers(results)
    tests = sum(len(group) - (1 if _is_share(group) else 2) for group in series)
    made = []
    for hardware, groups in groupby(series, key=lambda group: group[0]["hardware"]):
        own = list(groups)
        name = own[0][0]["hardware_name"]
        verdicts = [_changes(group, tests, answers) for group in own]
        told = list(zip(own, verdicts, strict=True))
        made.append(
            {
                "id": hardware,
                "title": name,
                "flagged": sum(any(v.significant for v in seen) for seen in verdicts),
                "count": len(own),
                "table": Table(
                    f"history-{hardware}",
                    f"Every series with two or more results, {name}",
                    _COLUMNS,
                    [_row(group, seen, root) for group, seen in told],
                ),
                "chart": _chart(hardware, name, own),
            }
        )
    return made


def _identity(row: Frame) -> tuple[str, ...]:
    """What one series shares: all but the engine and the time."""
    keys = ("hardware", "variant", "stage", "series", "metric", "machine", "asked")
    return tuple(str(row[key]) for key in keys)


def _is_share(group: Sequence[Frame]) -> bool:
    return group[0]["stage"] == "quality" and is_share(group[0]["metric"])


def _changes(
    group: Sequence[Frame], tests: int, answers: pair.Answers
) -> tuple[stats.Verdict, ...]:
    """One verdict per result, the first against nothing.

    An accuracy is tested against the one before it, on the documents both answered; anything else
    against the spread of all earlier values.
    """
    if _is_share(group):
        nothing = stats.Verdict(None, 0.0, None, None, "exact McNemar, Bonferroni")
        return (nothing, *(_flipped(old, new, tests, answers) for old, new in pairwise(group)))
    values = [row["value"] for row in group]
    if any(numbers.is_missing(value) or value <= 0 for value in values):
        return ()
    return stats.changes(values, tests=max(tests, 1))


def _flipped(old: Frame, new: Frame, tests: int, answers: pair.Answers) -> stats.Verdict:
    """The change of an accuracy; sidecars are opened only where the two differ."""
    if old["value"] == new["value"]:
        return stats.Verdict(0.0, 0.0, None, 1.0, "equal")
    one, other = ({**row, "task": row["series"]} for row in (new, old))
    right = [answers.of(row).right.get(new["metric"]) for row in (one, other)]
    if right[0] is not None and right[1] is not None and answers.asked(one) == answers.asked(other):
        verdict = stats.compare_paired(right[0], right[1]).verdict
    else:
        now, then = (round(row["value"] * row["n"]) for row in (new, old))
        verdict = stats.compare_counts(now, new["n"], then, old["n"])
    corrected = None if verdict.p is None else min(1.0, verdict.p * tests)
    return replace(verdict, p_adjusted=corrected, tests=tests)


def _row(group: Sequence[Frame], seen: Sequence[stats.Verdict], root: str) -> Row:
    last = group[-1]
    quality = last["stage"] == "quality"
    form = numbers.share if quality else numbers.number
    newest = seen[-1] if seen else None
    share = _is_share(group)
    flagged = [row for row, verdict in zip(group, seen, strict=False) if verdict.significant]
    word = "no change shown"
    if share and len({row["value"] for row in group}) == 1:
        word = "the same every time"
    elif len(group) < _LEAST and not share:
        word = "too few results to tell"
    elif not seen or all(verdict.outcome == "unknown" for verdict in seen):
        word = "not tested: the earlier ones do not differ"
    if flagged:
        word = "changed on " + ", ".join(numbers.date(row["finished_at"]) for row in flagged)
    engines = list(dict.fromkeys(str(row["engine_version"]) for row in group))
    if quality:
        name = f"{last['series']}, {last['metric']}, %"
    else:
        load = rates.short_load(float(last["series"]))
        name = f"{_NAMES.get(last['metric'], last['metric'])} at {load}"
    return Row(
        Cell(last["variant_name"], href=f"{root}variants/{last['variant']}.html"),
        [
            Cell(name),
            Cell(numbers.whole(len(group)), value=len(group)),
            Cell(numbers.date(group[0]["finished_at"])),
            replace(measured(last, "value", form), href=f"{root}records/{last['record']}"),
            Cell("", links=_earlier(group, form, root)),
            _change(newest, share),
            Cell(word, tone="" if flagged else "unknown"),
            Cell(" → ".join(engines)),
        ],
        variant=last["variant"],
    )


def _change(newest: stats.Verdict | None, share: bool) -> Cell:
    """In percent, an accuracy's in percentage points."""
    if newest is None or newest.estimate is None:
        return unknown()
    form = numbers.points if share else numbers.change
    unit = " pp" if share else ""
    return Cell(f"{form(newest.estimate)}{unit}", value=newest.estimate - newest.null)


def _earlier(group: Sequence[Frame], form: Any, root: str) -> list[tuple[str, str]]:
    """The results before the newest, each a link to its record."""
    before = list(group[:-1])[: -_MOST_EARLIER - 1 : -1]
    return [(form(row["value"]), f"{root}records/{row['record']}") for row in before]


def _chart(hardware: str, name: str, series: Sequence[Sequence[Frame]]) -> Chart | None:
    """TPOT over time of at most six variants at the load that most of them share."""
    chosen = [g for g in series if g[0]["metric"] == "tpot_mean_ms"]
    loads = sorted({g[0]["series"] for g in chosen}, key=lambda s: (s == "inf", s))
    chosen = [g for g in chosen if g[0]["series"] == loads[0]][:6] if loads else []
    rows = [
        {
            "label": row["variant_name"],
            "x": row["finished_at"],
            "value": row["value"],
            "low": row["value_low"],
            "high": row["value_high"],
            "text": f"{numbers.number(row['value'])} ms, vLLM {row['engine_version']}",
        }
        for group in chosen
        for row in group
        if not numbers.is_missing(row["value"])
    ]
    load = rates.short_load(float(loads[0])) if loads else ""
    caption = f"Time per output token over time on {name} at {load}; bars are 95 % intervals."
    return charts.lines(
        f"history-{hardware}", rows, caption, ("finished", "TPOT mean, ms"), over_time=True
    )

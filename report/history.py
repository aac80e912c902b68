"""The history page: each series over time, and a change only where the test says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from report import charts, numbers, stats
from report.drawing import Chart
from report.tables import Cell, Column, Row, Table, measured

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
        "change", "Against those before", "%", title="Newest against the mean of the earlier ones"
    ),
    Column("verdict", "Verdict", numeric=False),
    Column("engines", "vLLM", numeric=False),
)


def sections(rows: Sequence[Frame], root: str) -> list[dict[str, Any]]:
    """Per machine: a table of every series with at least two results, and a picture of TPOT."""
    series = [list(group) for _, group in groupby(rows, key=_identity)]
    series = [group for group in series if len(group) > 1]
    tests = sum(max(len(group) - 2, 0) for group in series)
    made = []
    for hardware, groups in groupby(series, key=lambda group: group[0]["hardware"]):
        own = list(groups)
        name = own[0][0]["hardware_name"]
        verdicts = [_changes(group, tests) for group in own]
        pairs = list(zip(own, verdicts, strict=True))
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
                    [_row(group, seen, root) for group, seen in pairs],
                ),
                "chart": _chart(hardware, name, own),
            }
        )
    return made


def _identity(row: Frame) -> tuple[str, ...]:
    return tuple(str(row[key]) for key in ("hardware", "variant", "stage", "series", "metric"))


def _changes(group: Sequence[Frame], tests: int) -> tuple[stats.Verdict, ...]:
    values = [row["value"] for row in group]
    if any(numbers.is_missing(value) or value <= 0 for value in values):
        return ()
    return stats.changes(values, tests=max(tests, 1))


def _row(group: Sequence[Frame], seen: Sequence[stats.Verdict], root: str) -> Row:
    last = group[-1]
    quality = last["stage"] == "quality"
    form = numbers.share if quality else numbers.number
    newest = seen[-1] if seen else None
    flagged = [row for row, verdict in zip(group, seen, strict=False) if verdict.significant]
    word = "no change shown"
    if len(group) < _LEAST:
        word = "too few results to tell"
    elif not seen or all(verdict.outcome == "unknown" for verdict in seen):
        word = "not tested: the earlier ones do not differ"
    if flagged:
        word = "changed on " + ", ".join(numbers.date(row["finished_at"]) for row in flagged)
    engines = list(dict.fromkeys(str(row["engine_version"]) for row in group))
    ratio = newest.estimate if newest else None
    name = (
        f"{last['series']}, {last['metric']}, %"
        if quality
        else (f"{_NAMES.get(last['metric'], last['metric'])} at {_load(last['series'])}")
    )
    return Row(
        Cell(last["variant_name"], href=f"{root}variants/{last['variant']}.html"),
        [
            Cell(name),
            Cell(numbers.whole(len(group)), value=len(group)),
            Cell(numbers.date(group[0]["finished_at"])),
            replace(measured(last, "value", form), href=f"{root}records/{last['record']}"),
            Cell("", links=_earlier(group, form, root)),
            Cell(numbers.change(ratio), value=None if ratio is None else ratio - 1),
            Cell(word, tone="" if flagged else "unknown"),
            Cell(" → ".join(engines)),
        ],
        variant=last["variant"],
    )


def _earlier(group: Sequence[Frame], form: Any, root: str) -> list[tuple[str, str]]:
    """The results before the newest, each a link to its record."""
    before = list(group[:-1])[: -_MOST_EARLIER - 1 : -1]
    return [(form(row["value"]), f"{root}records/{row['record']}") for row in before]


def _load(series: str) -> str:
    return "unthrottled load" if series == "inf" else f"{series}/s"


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
    load = _load(loads[0]) if loads else ""
    caption = f"Time per output token over time on {name} at {load}; bars are 95 % intervals."
    return charts.lines(
        f"history-{hardware}", rows, caption, ("finished", "TPOT mean, ms"), over_time=True
    )

"""What the newest results of some variants say, as Markdown: the job summary, the comment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from report import numbers
from report.compare import (
    HEADLINES,
    differences,
    inert,
    load_text,
    markdown,
    metric_text,
    table,
    who,
)
from report.load import Results, rows_of
from report.rows import Row, rate_text

_ALONE = ("load or task", "metric", "value", "95 % interval")


def summary_markdown(results: Results, variants: Iterable[str]) -> str:
    """What the newest results of these variants say, for a job summary or a comment.

    A variant is shown against its family's baseline, or by its own values where there is none;
    a newest result that failed and a variant without any result are named.
    """
    wanted = sorted(set(variants))
    shown = [
        difference
        for difference in differences(results)
        if difference.a.variant in wanted
        and (difference.stage != "speed" or difference.metric in HEADLINES)
    ]
    told = {(difference.stage, who(difference.a)) for difference in shown}
    rows = [
        ("speed" if stage is results.speed else "quality", row)
        for stage in (results.speed, results.quality)
        for row in rows_of(stage[stage["variant"].isin(wanted)])
    ]
    alone = [row for stage, row in rows if (stage, _place(row)) not in told]
    runs = rows_of(results.runs[results.runs["variant"].isin(wanted)])
    newest = {(row["hardware"], row["variant"], row["stage"]): row for row in runs}
    failed = [row for row in newest.values() if row["status"] == "failed"]
    missing = sorted(
        set(wanted) - {row["variant"] for _, row in rows} - {r["variant"] for r in runs}
    )
    return "\n".join(
        [
            *([markdown(shown)] if shown else []),
            *_values(alone),
            *(f"`{_place(r)}`, {r['stage']}: failed. {inert(r['error'] or '')}\n" for r in failed),
            *(f"{inert(name)}: no result\n" for name in missing),
        ]
    )


def _values(rows: Sequence[Row]) -> list[str]:
    """A table of plain values for each variant that is compared with nothing."""
    tables: dict[str, list[tuple[str, ...]]] = {}
    for row in rows:
        lines = tables.setdefault(_place(row), [])
        if "task" in row:
            ends = numbers.interval(row["value_low"], row["value_high"], numbers.share)
            lines.append((row["task"], row["metric"], numbers.share(row["value"]), ends))
            continue
        load = load_text(rate_text(row["request_rate_rps"]))
        for metric in HEADLINES:
            ends = numbers.interval(row[f"{metric}_low"], row[f"{metric}_high"])
            lines.append((load, metric_text(metric), numbers.number(row[metric]), ends))
    return [f"`{place}`\n\n{table(lines, _ALONE)}\n" for place, lines in tables.items()]


def _place(row: Row) -> str:
    return f"{row['hardware']}/{row['variant']}"

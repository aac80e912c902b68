"""The quality page's tables: one task and metric at a time, on one machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from report import numbers
from report.pages.speed import head, record_cell
from report.pages.tables import Cell, Column, Row, Table, amount, measured

Frame = dict[str, Any]
Tests = Callable[[Frame], Sequence[Cell]]

TESTED = (
    Column("difference", "Against baseline", "pp", title="Difference, tested; interval below"),
    Column("flips", "Flips", "lost / gained", title="Documents only one of the two got right"),
    Column("detectable", "Could be seen from", "pp", title="Shown 80 % of the time at this n"),
    Column("changed", "Answers changed", "%", title="Documents answered with another choice"),
    Column("shift", "Log-likelihood shift", "nats per byte", title="Mean absolute difference"),
)
_COLUMNS = (
    Column("variant", "Variant", numeric=False),
    Column("value", "Score", "%", better="higher", scale="points"),
    *TESTED,
    Column("chance", "Guessing", "%"),
    Column("n", "Documents"),
    Column("rps", "Scored", "requests/s", better="higher", scale="ratio"),
    Column("memory", "Weights", "GiB", better="lower", scale="ratio"),
    Column("record", "Record", numeric=False, title="The JSON these numbers come from"),
)


def tables(rows: Sequence[Frame], root: str, tests: Tests) -> list[dict[str, Any]]:
    """Per machine and task: every metric's score, and the test against the family's baseline."""
    groups: dict[tuple[str, str], list[Frame]] = {}
    for row in rows:
        groups.setdefault((row["hardware"], row["task"]), []).append(row)
    sections = []
    for (hardware, task), own in groups.items():
        name = own[0]["hardware_name"]
        metrics = dict.fromkeys(row["metric"] for row in own)
        sections.append(
            {
                "id": f"{hardware}-{task}",
                "hardware": hardware,
                "task": task,
                "title": f"{task}, {name}",
                "asked": _asked(own),
                "tables": [
                    _table(metric, [r for r in own if r["metric"] == metric], root, tests)
                    for metric in metrics
                ],
            }
        )
    return sections


def _table(metric: str, rows: Sequence[Frame], root: str, tests: Tests) -> Table:
    first = rows[0]
    return Table(
        f"quality-{first['hardware']}-{first['task']}-{metric}",
        f"{first['task']}, {metric}, on {first['hardware_name']}",
        _COLUMNS,
        [_row(row, root, tests) for row in rows],
        baselines=len(rows) > 1,
    )


def _row(row: Frame, root: str, tests: Tests) -> Row:
    cells = [
        measured(row, "value", numbers.share),
        *tests(row),
        amount(row["chance"], lambda v: numbers.share(v, 0)),
        amount(row["n"], numbers.whole),
        amount(row["requests_per_s"]),
        amount(row["weights_gib"]),
        record_cell(row, root),
    ]
    return Row(
        head(row, root),
        cells,
        id=row["anchor"],
        group=f"{row['task']}.{row['metric']}",
        variant=row["variant"],
        baseline=bool(row["is_baseline"]),
        published=row["source"] == "published",
    )


def _asked(rows: Sequence[Frame]) -> str:
    """What was asked, where all rows agree; else that they do not."""
    kinds = sorted(
        {
            f"{numbers.whole(r['n'])} documents, {r['selection'] or 'selection unknown'}, "
            f"{numbers.whole(r['num_fewshot'])}-shot"
            for r in rows
        }
    )
    return "; ".join(kinds)

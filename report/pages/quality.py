"""The quality page: one task at a time on one machine, and what each expects of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from bench.config import slug
from bench.records import store
from bench.records.record import Fidelity
from report import numbers
from report.charts import charts
from report.charts.drawing import Chart
from report.differences.families import Quality, Verdicts
from report.differences.pair import decision_text
from report.differences.texts import OwnText
from report.findings.finding import primary
from report.pages import cells
from report.pages.tables import Cell, Column, Row, Table
from report.rows.results import Results
from report.rows.rows import QualityRow, Who, metric_order
from report.stats import divergence
from report.stats.probabilities import Outcome

_UNITS = {"share": "%", "score": ""}
_TELLS: dict[Outcome, str] = {
    "higher": "more expected",
    "lower": "less expected",
    "no difference found": "no difference found",
    "unknown": "not tested",
}
_OWN_TEXTS = (
    cells.VARIANT,
    Column(
        "logprob",
        "Change in log-probability",
        "nats per token",
        better="higher",
        title="Of the documents' own text, against the baseline",
    ),
    Column("p", "p", title="Against no change"),
    Column("kl", "Divergence from baseline", "nats per token", better="lower"),
    Column("documents", "Documents"),
)
_EXPECTATIONS = (
    cells.VARIANT,
    Column("kl", "Divergence from baseline", "nats per token", better="lower"),
    Column("perplexity", "Perplexity of the text", better="lower"),
    Column("positions", "Positions"),
)


@dataclass(frozen=True, slots=True)
class Section:
    """Everything about one task on one machine; `more` is folded, by what it says it holds."""

    id: str
    title: str
    asked: str
    charts: Sequence[Chart]
    table: Table
    more: Sequence[tuple[str, Sequence[Table]]]


def sections(rows: Sequence[QualityRow], verdicts: Verdicts) -> list[Section]:
    """Per machine and task: its score, and the test against the family's baseline.

    Further metrics are folded, and so are a group's tasks: one table, where nothing is judged.
    """
    groups: dict[tuple[str, str], list[QualityRow]] = {}
    for row in rows:
        groups.setdefault((row.hardware, row.task), []).append(row)
    made = []
    for (hardware, task), own in groups.items():
        place = f"{hardware}_{task}"  # an id of hardware holds no underscore
        first, *others = sorted({row.metric for row in own}, key=metric_order)
        leading = [row for row in own if row.metric == first]
        rest = [
            _table(place, [row for row in own if row.metric == metric], verdicts)
            for metric in others
        ]
        parts = [
            row for row in verdicts.results.parts if (row.hardware, row.part_of) == (hardware, task)
        ]
        more = [(f"Other metrics: {', '.join(others)}", rest)] if rest else []
        if parts:
            listed = _parts(place, parts)
            more.append((f"The {len(listed.rows)} tasks of {task}", [listed]))
        title = f"{task}, {own[0].hardware_name}"
        table = _table(place, leading, verdicts)
        made.append(
            Section(place, title, _asked(own), _charts(place, leading, verdicts), table, more)
        )
    return made


def _charts(place: str, rows: Sequence[QualityRow], verdicts: Verdicts) -> list[Chart]:
    """One for each family: what it scored, or the changes where it answered other documents."""
    made = []
    for number, family in enumerate(dict.fromkeys(row.family for row in rows)):
        own, name = [row for row in rows if row.family == family], f"{place}-{number}"
        if len({row.n for row in own if row.source == "measured"}) > 1:
            found = [(row, verdicts.quality(row)) for row in own]
            chart = charts.score_changes(name, [(row, d.verdict) for row, d in found if d])
        else:
            chart = charts.scores(name, own)
        made += [chart] if chart else []
    return made


def recoveries(rows: Sequence[QualityRow], verdicts: Verdicts) -> list[Table]:
    """Per machine and family of several tasks: what each variant kept in each, and in the mean."""
    families: dict[tuple[str, str], dict[Who, QualityRow]] = {}
    for row in rows:
        if verdicts.decision(row.who):
            families.setdefault((row.hardware, row.family), {}).setdefault(row.who, row)
    made = []
    for (hardware, family), members in families.items():
        judged = [(row, found) for who, row in members.items() if (found := verdicts.decision(who))]
        tasks = sorted({each.series for _, found in judged for each in found.tasks})
        if len(tasks) == 1:
            continue  # its own section says it
        unit = "pp" if judged[0][1].in_points else "%"
        columns = (
            cells.VARIANT,
            Column("mean", "All tasks", unit, better="higher", title="The mean, which decides"),
            *(Column(task, task, unit, better="higher") for task in tasks),
        )
        body = [
            Row(cells.head(row), _kept(found, tasks), variant=row.variant) for row, found in judged
        ]
        words = "lost or gained against" if judged[0][1].in_points else "kept of"
        where = next(iter(members.values())).hardware_name
        caption = f"What each {words} its baseline's score: {family} on {where}"
        made.append(Table(f"kept-{hardware}_{slug(family)}", caption, columns, body))
    return made


def _kept(found: Quality, tasks: Sequence[str]) -> list[Cell]:
    """The mean with the decision, then each task."""
    of_task = {each.series: each.kept for each in found.tasks}
    if found.kept is None:
        lacking = [task for task in tasks if of_task.get(task) is None]
        first = Cell("not decided", note=f"nothing can be told of {', '.join(lacking)}")
    else:
        decided = decision_text(found.decision)
        first = cells.kept(found.kept, in_points=found.in_points, note=decided)
    first = replace(first, tone=cells.DECIDED.get(found.decision.outcome, ""))
    return [first, *(cells.kept(of_task.get(task), in_points=found.in_points) for task in tasks)]


def _columns(of: QualityRow, *, seeds: bool) -> tuple[Column, ...]:
    better: Literal["higher", "lower"] = "higher" if of.higher_is_better else "lower"
    unit = _UNITS.get(of.unit, of.unit)
    spread = Column("seeds", "From seed to seed", "±", title="Standard deviation of the score")
    return (
        cells.VARIANT,
        Column("value", "Score", unit, better=better),
        *([spread] if seeds else []),
        *cells.tested(of.unit),
        Column("n", "Documents"),
    )


def _table(place: str, rows: Sequence[QualityRow], verdicts: Verdicts) -> Table:
    first, form = rows[0], numbers.score(rows[0].unit)
    seeds = any(row.spread_over_seeds is not None for row in rows)
    body = [
        Row(
            cells.head(row),
            [
                cells.measured(row.value, form),
                *([cells.amount(row.spread_over_seeds, form)] if seeds else []),
                *cells.score_tests(row, verdicts),
                cells.answered(row, verdicts.quality(row)),
            ],
            id=row.anchor,
            group=".".join((*row.asked, str(row.n))),  # of as many documents
            variant=row.variant,
            baseline=row.is_baseline,
            published=row.source == "published",
        )
        for row in rows
    ]
    caption = f"{first.task}, {first.metric}, on {first.hardware_name}"
    name = f"quality-{place}-{first.metric}"
    return Table(name, caption, _columns(first, seeds=seeds), body)


def _parts(place: str, rows: Sequence[QualityRow]) -> Table:
    """The tasks of a group: a row for each, a column for each variant's leading score."""
    rows = primary(rows)
    variants = {row.variant: row.variant_name for row in rows}
    by_task: dict[str, dict[str, QualityRow]] = {}
    for row in rows:
        by_task.setdefault(row.task, {})[row.variant] = row
    first = rows[0]
    unit, form = _UNITS.get(first.unit, first.unit), numbers.score(first.unit)
    columns = (
        Column("task", "Task", numeric=False),
        Column("n", "Documents"),
        *(Column(variant, name, unit) for variant, name in variants.items()),
    )
    body = [
        Row(
            Cell(task),
            [
                cells.amount(max(row.n for row in own.values()), numbers.whole),
                *(
                    cells.measured(own[variant].value, form) if variant in own else cells.unknown()
                    for variant in variants
                ),
            ],
        )
        for task, own in sorted(by_task.items())
    ]
    caption = f"The tasks of {first.part_of}, {first.metric}, not judged one by one"
    return Table(f"parts-{place}", caption, columns, body, quiet=True)


def _asked(rows: Sequence[QualityRow]) -> str:
    """What was asked, where all rows agree; else that they do not."""
    kinds = {
        f"{numbers.whole(row.n)} documents, {row.selection or 'selection unknown'}, "
        f"{numbers.whole(row.num_fewshot)}-shot{cells.settings(row)}"
        for row in rows
    }
    guessing = {cells.whole_percent(row.chance) for row in rows if row.chance is not None}
    by_chance = [f"guessing scores {' or '.join(sorted(guessing))} %"] if guessing else []
    return "; ".join([*sorted(kinds), *by_chance])


def own_texts(rows: Sequence[QualityRow], verdicts: Verdicts) -> list[Table]:
    """Per machine, where a variant and its baseline read the same documents' own text."""
    read: dict[str, list[QualityRow]] = {}
    for row in {row.who: row for row in rows}.values():
        if verdicts.own_text(row.who) is not None:
            read.setdefault(row.hardware, []).append(row)
    return [
        Table(
            f"own-texts-{hardware}",
            f"What each expects of the documents' own text, on {own[0].hardware_name}",
            _OWN_TEXTS,
            [_own_text(row, told) for row in own if (told := verdicts.own_text(row.who))],
        )
        for hardware, own in read.items()
    ]


def _own_text(row: QualityRow, told: OwnText) -> Row:
    change, apart = told.logprob, cells.measured(told.divergence.estimate)
    form, ends = numbers.score_gap("score"), change.estimate.interval
    moved = replace(cells.measured(change.estimate, form), word=_TELLS[change.outcome])
    shown = [
        replace(moved, interval=f"{form(ends.low)} to {form(ends.high)}") if ends else moved,
        cells.amount(change.p, partial(numbers.p_value, equals="")),
        replace(apart, text=f"≥ {apart.text}"),
        cells.amount(told.documents, numbers.whole),
    ]
    return Row(cells.head(row), shown, group="own text", variant=row.variant)


@dataclass(frozen=True, slots=True)
class _Expected:
    """What a variant expects at each position of the text, as its sidecar has it."""

    row: QualityRow
    fidelity: Fidelity
    positions: Sequence[divergence.Position]


def expectations(results: Results, rows: Sequence[QualityRow]) -> list[Table]:
    """Per machine, where the records hold it; each family is read beside its baseline."""
    read: dict[str, dict[str, _Expected]] = {}
    for row in {row.record: row for row in rows if row.source == "measured"}.values():
        quality = results.record(row.record).quality
        if quality and quality.fidelity:
            seen = store.read_sidecar(results.root / row.record, quality.fidelity.logprobs)
            positions = [divergence.Position(at["token"], at["top"]) for at in seen]
            each = _Expected(row, quality.fidelity, positions)
            read.setdefault(row.hardware, {})[row.variant] = each
    made = []
    for hardware, held in read.items():
        bases = {each.row.family: each for each in held.values() if each.row.is_baseline}
        body = [_expected(each, bases.get(each.row.family)) for each in held.values()]
        name = next(iter(held.values())).row.hardware_name
        caption = f"What each expects of one fixed text, on {name}"
        made.append(Table(f"expectations-{hardware}", caption, _EXPECTATIONS, body))
    return made


def _expected(each: _Expected, base: _Expected | None) -> Row:
    row = each.row
    moved = cells.unknown()
    if row.is_baseline:
        moved = Cell("baseline", tone="unknown")
    elif base and (value := divergence.mean_kl(base.positions, each.positions)) is not None:
        moved = Cell(f"≥ {numbers.number(value)}", value)
    shown = [
        moved,
        cells.amount(math.exp(-each.fidelity.mean_logprob), cells.four_digits),
        cells.amount(each.fidelity.positions, numbers.whole),
    ]
    return Row(cells.head(row), shown, group="text", variant=row.variant, baseline=row.is_baseline)

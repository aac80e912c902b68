"""The decision as the first page shows it: what to take for each purpose, and the table for it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from report import escape, numbers
from report.decisions.decision import PURPOSES, Choice, Decision
from report.decisions.summary import VariantSummary, quality_text
from report.pages import cells, tables
from report.pages.tables import Cell, Column, Row, Table
from report.rows.results import Results

_QUALITY = Column("kept", "Quality kept", "%", title="Of the baseline's, with its 95 % interval")
_TPOT = Column("tpot", "Time per token", "against baseline")
_OUTPUT = Column("output", "Output", "against baseline")
_MEMORY = Column("gib", "Weights", "GiB")
_CACHE = Column("kv", "KV cache", "tokens")
_COST = Column("usd", "Cost", "$ per million tokens")
_MOST = 12  # rows of a table that is to be taken in at once


@dataclass(frozen=True, slots=True)
class Take:
    """What to take for one purpose, said in one sentence."""

    purpose: str
    label: str
    name: str
    sentence: str
    href: str
    sure: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """Everything that decides between the variants of one family on one machine."""

    id: str
    family: str
    machine: str
    about: str
    takes: tuple[Take, ...]
    table: Table
    serve: str
    measure: str


def panels(results: Results, found: Sequence[Decision]) -> list[Panel]:
    """One for each decision, in their order."""
    return [_panel(results, each) for each in found]


def html(value: Sequence[Panel]) -> escape.Markdown:
    """The panels as a raw HTML block, the first one open."""
    shown = [(panel, tables.html(panel.table)) for panel in value]
    return escape.html_block(tables.fragment("decisions.html.j2", panels=shown))


def _panel(results: Results, decision: Decision) -> Panel:
    about = []
    if decision.source == "published":
        about.append("Published elsewhere: one run each, nothing measured here.")
    if all(each.is_random for each in decision.variants):
        about.append("Random weights: speed and memory only.")
    taken = decision.choices[0].take if decision.choices else decision.variants[0]
    identifier = f"{decision.source}-{decision.hardware}_{decision.family}"
    return Panel(
        escape.identifier(identifier.lower()),
        decision.family,
        decision.hardware_name,
        " ".join(about),
        tuple(_take(each) for each in decision.choices),
        _table(identifier, decision),
        *_commands(results, taken),
    )


def _take(choice: Choice) -> Take:
    names = [choice.take.name, *(each.name for each in choice.ties)]
    name = " or ".join(names) if len(names) < 3 else f"{names[0]} or {len(names) - 1} others"
    label = PURPOSES[choice.purpose]
    href = choice.take.row.page
    return Take(choice.purpose, label, name, f"{choice.sentence}.", href, choice.sure)


def _table(identifier: str, decision: Decision) -> Table:
    """The variants, those that are taken first; columns that nobody knows are left out."""
    taken: dict[str, list[str]] = {}
    for choice in decision.choices:
        for each in (choice.take, *choice.ties):
            taken.setdefault(each.name, []).append(PURPOSES[choice.purpose].lower())
    filled = [
        (_QUALITY, [_quality(each) for each in decision.variants]),
        (_TPOT, [cells.against_baseline(each.row, each.tpot) for each in decision.variants]),
        (_OUTPUT, [cells.against_baseline(each.row, each.output) for each in decision.variants]),
        (_MEMORY, [cells.amount(each.weights_gib) for each in decision.variants]),
        (_CACHE, [cells.amount(each.kv_cache_tokens, numbers.whole) for each in decision.variants]),
        (_COST, [cells.amount(each.usd_per_million) for each in decision.variants]),
    ]
    known = [(column, own) for column, own in filled if any(cell.tone != "unknown" for cell in own)]
    rows = [
        Row(
            Cell(each.name, href=each.row.page, tag=", ".join(taken.get(each.name, ()))),
            [own[i] for _, own in known],
            id="",
            variant=each.row.variant,
            baseline=each.row.is_baseline,
            published=decision.source == "published",
        )
        for i, each in enumerate(decision.variants)
    ]
    rows.sort(key=lambda row: not row.head.tag)
    caption = f"{decision.family} on {decision.hardware_name}"
    name = escape.identifier(f"decision-{identifier.lower()}")
    columns = (cells.VARIANT, *(column for column, _ in known))
    return Table(name, caption, columns, rows[:_MOST], quiet=True)


def _quality(of: VariantSummary) -> Cell:
    """What was kept of the baseline's quality, and the decision on it."""
    if of.row.is_baseline:
        return Cell("baseline", tone="unknown")
    if of.unpaired:
        cell = cells.against(of.unpaired[0])
        return replace(cell, text=f"{cell.text} pp") if of.unpaired[0].unit == "share" else cell
    kept = of.quality.kept if of.quality else None
    if kept is None or kept.interval is None:
        return Cell(quality_text(of), tone="unknown")
    form = numbers.points if of.quality and of.quality.in_points else numbers.share
    low, high = (form(end, 1) for end in (kept.interval.low, kept.interval.high))
    return Cell(
        form(kept.estimate, 1),
        kept.estimate,
        f"{low} to {high}",
        of.outcome,
        tone="better" if of.outcome == "keeps" else "worse" if of.outcome == "loses" else "",
        ends=(kept.interval.low, kept.interval.high),
    )


def _commands(results: Results, taken: VariantSummary) -> tuple[str, str]:
    """What to type to serve the variant, as it was served here, and to measure it again."""
    row = taken.row
    if row.source == "published":
        return "", ""
    record = results.record(row.record)
    serve = shlex.join(record.engine.argv) if record.engine else ""
    return serve, f"bench run --variant {row.variant} --hardware {row.hardware}"

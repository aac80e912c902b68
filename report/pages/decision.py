"""The decision as the first page shows it: what to take for each purpose, and the table for it.

Model, machine and purpose stand in the address's fragment, and the style sheet shows the panel and
the purpose that it names: the page works the same without scripts.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from markupsafe import Markup

from report import escape, numbers, rates
from report.charts import charts, drawing
from report.charts.drawing import Chart
from report.decisions.decision import PURPOSES, Choice, Decision, Purpose
from report.decisions.summary import VariantSummary, quality_text
from report.pages import cells, tables
from report.pages.frontier import Frontier, frontier
from report.pages.tables import Cell, Column, Row, Table
from report.rows.results import Results
from report.rows.rows import Metric, SpeedRow
from report.stats import Estimate

_QUALITY = Column("kept", "Quality kept", title="Of the baseline's, with its 95 % interval")
_TPOT = Column("tpot", "Time per token", title="Against the baseline, with its 95 % interval")
_OUTPUT = Column("output", "Output", title="Against the baseline, with its 95 % interval")
_MEMORY = Column("gib", "Weights", "GiB")
_CACHE = Column("kv", "KV cache", "tokens")
_COST = Column("usd", "Cost", "$/million", title="US dollars for a million output tokens")
_MOST = 12  # rows of a table that is to be taken in at once
_SHORT: dict[Purpose, str] = {
    "latency": "wait",
    "throughput": "output",
    "memory": "memory",
    "cost": "cost",
    "safest": "quality",
}


@dataclass(frozen=True, slots=True)
class Chip:
    """A link to another panel, or to this one."""

    text: str
    href: str
    here: bool


@dataclass(frozen=True, slots=True)
class Take:
    """What to take for one purpose: its name, and the rest of the sentence."""

    purpose: Purpose
    label: str
    name: str
    href: str
    rest: str


@dataclass(frozen=True, slots=True)
class Command:
    """What to type to serve a variant as it was served, and to measure it, for these purposes."""

    purposes: str
    serve: str
    measure: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Everything that decides between the variants of one family on one machine."""

    id: str
    title: str
    models: tuple[Chip, ...]
    machines: tuple[Chip, ...]
    about: str
    takes: tuple[Take, ...]
    table: Table
    more: int
    commands: tuple[Command, ...]
    frontier: Frontier | None
    trade_off: Chart | None
    file: str  # below the site's root: this decision alone, for mailing

    @property
    def summary(self) -> str:
        """What to take first, in a sentence."""
        takes = [f"Take {each.name}{each.rest}" for each in self.takes[:1]]
        return " ".join([*takes, *([self.about] if self.about else [])]) or self.title

    @property
    def charts(self) -> list[Chart]:
        """Its pictures."""
        both = (self.frontier.chart if self.frontier else None, self.trade_off)
        return [chart for chart in both if chart is not None]


def panels(results: Results, found: Sequence[Decision]) -> list[Panel]:
    """One for each decision, in their order."""
    return [_panel(results, each, found) for each in found]


def html(value: Sequence[Panel]) -> escape.Markdown:
    """The panels as a raw HTML block."""
    return escape.html_block(markup(value))


def markup(value: Sequence[Panel]) -> Markup:
    """The panels as HTML."""
    shown = [(panel, tables.html(panel.table), _pictures(panel)) for panel in value]
    return tables.fragment("decisions.html.j2", panels=shown)


def _pictures(panel: Panel) -> Markup:
    """Throughput against latency, then quality against speed."""
    shown = Markup("")
    if panel.frontier:
        chart = panel.frontier.chart
        figure = drawing.markup(chart) if chart else ""
        shown += tables.fragment("frontier.html.j2", frontier=panel.frontier, figure=figure)
    return shown + (drawing.markup(panel.trade_off) if panel.trade_off else "")


def _panel(results: Results, decision: Decision, found: Sequence[Decision]) -> Panel:
    return Panel(
        _identifier(decision),
        f"{decision.family} on {_machine(decision)}",
        tuple(_models(decision, found)),
        tuple(
            Chip(_machine(each), f"#{_identifier(each)}", each is decision)
            for each in found
            if each.family == decision.family
        ),
        _about(decision),
        tuple(_take(each) for each in decision.choices),
        _table(decision),
        max(0, len(decision.variants) - _MOST),
        tuple(_commands(results, decision)),
        frontier(_identifier(decision), results, decision),
        charts.quality_against_speed(
            f"trade-off-{_identifier(decision)}", list(_kept(decision.variants))
        ),
        f"decisions/{_identifier(decision)}.html",
    )


def _kept(variants: Iterable[VariantSummary]) -> Iterator[tuple[SpeedRow, Estimate]]:
    """Each variant's speed where latency is judged, and what it kept; a baseline keeps itself."""
    for each in variants:
        kept = each.quality.kept if each.quality and not each.quality.in_points else None
        if each.usual is None:
            continue
        if each.row.is_baseline and each.scores:
            yield each.usual, Estimate(1.0, None, None, 1)
        elif kept is not None:
            yield each.usual, Estimate(kept.estimate, kept.interval, None, kept.documents)


def _identifier(decision: Decision) -> str:
    place = f"{decision.source}-{decision.hardware}_{decision.family}"
    return escape.identifier(place.lower())


def _machine(decision: Decision) -> str:
    published = ", published" if decision.source == "published" else ""
    return f"{decision.hardware_name}{published}"


def _models(decision: Decision, found: Sequence[Decision]) -> Iterable[Chip]:
    """Every family: on this machine where it was measured here, else where it comes first."""
    for family in dict.fromkeys(each.family for each in found):
        own = [each for each in found if each.family == family]
        here = [
            each
            for each in own
            if (each.source, each.hardware) == (decision.source, decision.hardware)
        ]
        target = (here or own)[0]
        yield Chip(family, f"#{_identifier(target)}", target is decision)


def _about(decision: Decision) -> str:
    about = []
    if decision.source == "published":
        about.append("Published elsewhere: speed of one run, not tested; quality unpaired.")
    if all(each.is_random for each in decision.variants):
        about.append("Random weights: speed and memory only.")
    return " ".join(about)


def _take(choice: Choice) -> Take:
    name = choice.take.name
    rest = choice.sentence.removeprefix(name)
    return Take(choice.purpose, PURPOSES[choice.purpose], name, choice.take.row.page, f"{rest}.")


def _deployed(argv: Sequence[str]) -> list[str]:
    """The command line without where it listened while it was measured."""
    here = [i for i, word in enumerate(argv) if word in ("--host", "--port")]
    return [word for i, word in enumerate(argv) if i not in here and i - 1 not in here]


def _commands(results: Results, decision: Decision) -> Iterable[Command]:
    """What to type for each variant that is taken; nobody can serve what was only published."""
    if decision.source == "published":
        return
    for each in decision.variants:
        best, _ = _purposes(decision, each)
        if not best and (decision.choices or each is not decision.variants[0]):
            continue
        row = each.row
        record = results.record(row.record)
        serve = shlex.join(_deployed(record.engine.argv)) if record.engine else ""
        measure = f"bench run --variant {row.variant} --hardware {row.hardware}"
        yield Command(" ".join(best), serve, measure)


def _purposes(decision: Decision, of: VariantSummary) -> tuple[list[Purpose], list[Purpose]]:
    """What a variant is taken for, and what it ties for with the one that is."""
    best = [each.purpose for each in decision.choices if each.take is of]
    tied = [each.purpose for each in decision.choices if any(of is one for one in each.ties)]
    return best, tied


def _table(decision: Decision) -> Table:
    """The variants, those that are taken first; columns that nobody knows are left out."""

    def rank(of: VariantSummary) -> tuple[bool, bool, bool, float]:
        best, tied = _purposes(decision, of)
        ratio = of.tpot.verdict.estimate if of.tpot else None
        return not best, not tied, not of.row.is_baseline, ratio or math.inf

    variants = sorted(decision.variants, key=rank)[:_MOST]
    in_points = any(each.unpaired or (each.quality and each.quality.in_points) for each in variants)
    kept = [_quality(each, 0.0 if in_points else 1.0) for each in variants]
    tpot = _at(_TPOT, [each.usual for each in variants])
    output = _at(_OUTPUT, [each.highest for each in variants])
    filled = [
        (_QUALITY, _drawn(kept, _margin(variants))),
        (tpot, _drawn([_speed(each, Metric.TPOT_MEAN) for each in variants], 1.0)),
        (output, _drawn([_speed(each, Metric.OUTPUT) for each in variants], 1.0)),
        (_MEMORY, [cells.amount(each.weights_gib, note=_where(each)) for each in variants]),
        (_CACHE, [cells.amount(each.kv_cache_tokens, numbers.whole) for each in variants]),
        (_COST, [cells.amount(each.usd_per_million) for each in variants]),
    ]
    known = [(column, own) for column, own in filled if any(cell.tone != "unknown" for cell in own)]
    rows = [
        Row(
            Cell(each.name, href=each.row.page, tag=_tag(decision, each)),
            [own[i] for _, own in known],
            variant=each.row.variant,
            marks=" ".join(chain(*_purposes(decision, each))),
        )
        for i, each in enumerate(variants)
    ]
    columns = (cells.VARIANT, *(column for column, _ in known))
    caption = f"{decision.family} on {_machine(decision)}"
    name = f"decision-{_identifier(decision)}"
    return Table(name, caption, columns, rows, quiet=True, dense=True)


def _at(column: Column, rows: Iterable[SpeedRow | None]) -> Column:
    """The column with the load that it is of, which all rows of a decision share."""
    loads = {rates.short(row.pace) for row in rows if row is not None}
    return replace(column, note=", ".join(sorted(loads)))


def _where(of: VariantSummary) -> str:
    """What is to be minded of the weights' size."""
    return "on disk" if of.weights_on_disk else cells.gpus(of.row)


def _tag(decision: Decision, of: VariantSummary) -> str:
    """What marks a row: whether it is the baseline or published, and what it is taken for."""
    marks = ["baseline"] if of.row.is_baseline else []
    marks += ["published"] if decision.source == "published" else []
    best, tied = _purposes(decision, of)
    if best and len(best) == len(decision.choices):
        return "; ".join([*marks, "take for all"])
    for word, purposes in (("take", best), ("tie", tied)):
        marks += [f"{word}: {', '.join(_SHORT[each] for each in purposes)}"] if purposes else []
    return "; ".join(marks)


def _quality(of: VariantSummary, unchanged: float) -> Cell:
    """The decision on its quality and what it kept, the interval under it; a baseline's score.

    Args:
        unchanged: what the baseline itself kept, by which it is sorted.
    """
    if of.row.is_baseline:
        first = next(iter(of.scores), None)
        if first is None:
            return Cell("", tone="unknown")
        value = first.value.value
        own = f"{numbers.share(value, 1)} %" if first.unit == "share" else numbers.number(value)
        return Cell(own, unchanged, note=f"on {first.task}", tone="unknown")
    tone, quality = cells.DECIDED.get(of.outcome, ""), of.quality
    if of.unpaired:
        verdict = of.unpaired[0].verdict
        gap, ends = verdict.estimate, verdict.interval
        if of.unpaired[0].unit != "share" or gap is None or ends is None:
            return replace(cells.against(of.unpaired[0]), tone=tone)
        shown = f"{numbers.points(ends.low, 1)} to {numbers.points(ends.high, 1)}, unpaired"
        text = f"{of.outcome} {numbers.points(gap, 1)} pp"
        return Cell(text, gap, shown, tone=tone, ends=(ends.low, ends.high))
    if quality is None or quality.kept is None or quality.kept.interval is None:
        return Cell(quality_text(of).removeprefix("quality "), tone="unknown")
    form, unit = (numbers.points, "pp") if quality.in_points else (numbers.share, "%")
    low, high = quality.kept.interval.low, quality.kept.interval.high
    shown = f"{form(low, 1)} to {form(high, 1)}"
    text = f"{of.outcome} {form(quality.kept.estimate, 1)} {unit}"
    return Cell(text, quality.kept.estimate, shown, tone=tone, ends=(low, high))


def _margin(of: Iterable[VariantSummary]) -> float:
    """What a variant has to keep: where the column's line stands."""
    return next((each.quality.least for each in of if each.quality), 0.0)


def _speed(of: VariantSummary, metric: Metric) -> Cell:
    """A ratio to the baseline, the interval under it; the baseline has its own value."""
    row, found = (of.highest, of.output) if metric is Metric.OUTPUT else (of.usual, of.tpot)
    if of.row.is_baseline:
        known = row.metrics.get(metric) if row else None
        if known is None:
            return cells.unknown()
        return Cell(f"{numbers.number(known.value)} {metric.unit}", 1.0, tone="unknown")
    if found is None or found.verdict.estimate is None:
        return cells.unknown()
    ratio, ends = found.verdict.estimate, found.verdict.interval
    if ends is None:
        return Cell(numbers.change(ratio), ratio, found.word)
    same = found.verdict.outcome == "noise"
    return Cell(
        "no difference" if same else numbers.change(ratio),
        ratio,
        f"{numbers.signed(100 * ends.low - 100)} to {numbers.signed(100 * ends.high - 100)}",
        tone="" if same else cells.tone(found),
        ends=(ends.low, ends.high),
    )


def _drawn(column: Sequence[Cell], at: float) -> list[Cell]:
    """The cells with their intervals drawn on one scale, a line where nothing is changed or lost.

    Ends far out are cut at four times the middle one's distance, or one wild row would make
    dots of all others.
    """
    reach = sorted(max(abs(end - at) for end in each.ends) for each in column if each.ends)
    if not reach:
        return list(column)
    most = min(reach[-1], 4 * reach[len(reach) // 2]) or 1.0

    def x(value: float) -> float:
        return round(50 + 48 * max(-1.0, min(1.0, (value - at) / most)), 1)

    return [
        replace(each, drawn=_range(x(each.ends[0]), x(each.value or 0.0), x(each.ends[1]), each))
        if each.ends
        else each
        for each in column
    ]


def _range(low: float, middle: float, high: float, cell: Cell) -> Markup:
    return Markup(
        '<svg class="range {}" viewBox="0 0 100 10" aria-hidden="true"><path d="M50 0v10"/>'
        '<line x1="{}" x2="{}" y1="5" y2="5"/><circle cx="{}" cy="5" r="3"/></svg>'
    ).format(cell.tone, low, high, middle)

"""The compare page: the variants of a family on a machine, and every two of them.

A pair has the one verdict that it has everywhere (`families.Verdicts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from report import escape, numbers, rates
from report.decisions.decision import Decision
from report.decisions.summary import VariantSummary
from report.differences.families import Verdicts
from report.differences.pair import Difference
from report.pages import cells, tables
from report.pages.tables import Better, Cell, Column, Row, Table
from report.rows import loads
from report.rows.loads import Kept
from report.rows.rows import LATENCIES, Metric, QualityRow, Size, SpeedRow, Who

# Beyond these many pairs a table is no help, and pairing answers takes its time.
MOST_PAIRS = 200
_SIZES: dict[Size, str] = {"weights_gib": "GiB", "checkpoint_gib": "GiB on disk"}
_SPEEDS = (Metric.TTFT_MEAN, Metric.TPOT_MEAN, Metric.OUTPUT)  # those that carry a verdict


@dataclass(frozen=True, slots=True)
class Section:
    """The variants of one family on one machine; a reader opens it."""

    title: str
    table: Table
    pairs: Table | None


def sections(found: Sequence[Decision], verdicts: Verdicts) -> list[Section]:
    """One for each family and machine, in the order of the decisions."""
    kept = loads.kept(verdicts.results.speed)
    made = []
    for decision in found:
        published = ", published" if decision.source == "published" else ""
        title = f"{decision.family} on {decision.hardware_name}{published}"
        made.append(
            Section(title, _table(title, decision, kept), _pairs(title, decision, verdicts))
        )
    return made


def html(value: Sequence[Section]) -> escape.Markdown:
    """The sections as a raw HTML block, the first one open."""
    shown = [
        (each, tables.html(each.table), tables.html(each.pairs) if each.pairs else "")
        for each in value
    ]
    return escape.html_block(tables.fragment("compare.html.j2", sections=shown))


def identifier(who: Who) -> str:
    """The HTML id of a variant's row on the compare page."""
    return ".".join(who)


def _table(title: str, decision: Decision, kept: Mapping[Who, Kept]) -> Table:
    variants = decision.variants
    asked = {row.asked: row for each in variants for row in each.scores}
    size = _size(variants)
    columns = (
        cells.VARIANT,
        Column(size, "Weights", _SIZES[size], better="lower", change="exact"),
        Column("kv", "KV cache", "tokens", better="higher", change="exact"),
        *(_speed_column(metric, variants) for metric in _SPEEDS),
        Column("carried", "Carries", "requests/s", title="Highest rate within the service level"),
        *(_score_column(row) for row in asked.values()),
    )
    rows = [
        Row(
            _head(each),
            [
                cells.amount(each.row.served.size(size), note=cells.gpus(each.row)),
                cells.amount(each.kv_cache_tokens, numbers.whole),
                *(_speed(each, metric) for metric in _SPEEDS),
                _carries(kept.get(each.row.who)),
                *(_score(each, key) for key in asked),
            ],
            id=identifier(each.row.who),
            variant=each.row.variant,
            where=each.row.hardware_name,
            baseline=each.row.is_baseline,
            published=each.row.source == "published",
        )
        for each in variants
    ]
    return Table(_identifier(decision), title, columns, rows, choose=True, quiet=True)


def _speed_column(metric: Metric, variants: Sequence[VariantSummary], unit: str = "") -> Column:
    """A metric at the load it is judged at; at another load it is another column."""
    row = next((row for each in variants if (row := _row(each, metric))), None)
    better: Better = "lower" if metric in LATENCIES else "higher"
    unit = unit or metric.unit
    if row is None:
        return Column(metric, metric.label, unit, better=better, change="untested")
    sent = f"{row.input_tokens:,} tokens in, {row.output_tokens:,} out"
    key = f"{metric}.{rates.name(row.pace)}.{row.input_tokens}.{row.output_tokens}"
    unit = f"{unit}, {rates.short(row.pace)}"
    return Column(key, metric.label, unit, better=better, change="untested", title=sent)


def _score_column(row: QualityRow, unit: str = "%") -> Column:
    share = row.unit == "share"
    return Column(
        ".".join(row.asked),
        row.task,
        f"{row.metric}, {unit}" if share else row.metric,
        better="higher" if row.higher_is_better else "lower",
        change="unpaired",
    )


def _head(of: VariantSummary) -> Cell:
    """The variant, and the records of its speed and its quality."""
    rows = [row for row in (of.usual, of.highest) if row is not None]
    named = {row.record_page: "speed" for row in rows}
    named |= {row.record_page: "quality" for row in of.scores}
    told = cells.head(of.usual or of.row)
    return replace(told, records=[(name, page) for page, name in named.items()] or told.records)


def _size(variants: Sequence[VariantSummary]) -> Size:
    """The weights in memory, or where an engine tells that of none, on disk: never one by one."""
    known = any(each.row.served.weights_gib for each in variants)
    return "weights_gib" if known else "checkpoint_gib"


def _row(of: VariantSummary, metric: Metric) -> SpeedRow | None:
    """At the load that the metric is judged at."""
    return of.highest if metric is Metric.OUTPUT else of.usual


def _speed(of: VariantSummary, metric: Metric) -> Cell:
    row = _row(of, metric)
    form = cells.four_digits if metric is Metric.OUTPUT else numbers.number
    return cells.measured(row.metrics.get(metric) if row else None, form)


def _score(of: VariantSummary, asked: tuple[str, str]) -> Cell:
    row = next((row for row in of.scores if row.asked == asked), None)
    if row is None:
        return cells.unknown()
    documents = f"{numbers.whole(row.n)} documents"
    return replace(cells.measured(row.value, numbers.score(row.unit)), title=documents)


def _carries(kept: Kept | None) -> Cell:
    """The highest rate it is sure to keep of those that were tried, and what is known above it."""
    if kept is None:
        return cells.unknown()
    note = ""
    if kept.unsure is not None:
        note = f"unsure at {kept.unsure:g}"
    elif kept.fails is not None:
        note = f"fails at {kept.fails:g}"
    if kept.highest is None:
        return Cell("none", note=note, title="No rate that was tried is within the level")
    if not note:
        return Cell(f"≥ {kept.highest:g}", kept.highest, note="highest tried")
    return Cell(f"{kept.highest:g}", kept.highest, note=note)


def _pairs(title: str, decision: Decision, verdicts: Verdicts) -> Table | None:
    """Every two, either way round, with what a test says of them, or why there is none."""
    couples = list(permutations(decision.variants, 2))
    if not couples or len(couples) > MOST_PAIRS:
        return None
    asked = {row.asked: row for each in decision.variants for row in each.scores}
    columns = (
        Column("a", "Variant", numeric=False),
        Column("b", "Against", numeric=False),
        *(_speed_column(metric, decision.variants, "%") for metric in _SPEEDS),
        *(_score_column(row, "pp") for row in asked.values()),
    )
    rows = []
    for a, b in couples:
        shown: list[Difference | None] = [_speeds(a, b, metric, verdicts) for metric in _SPEEDS]
        shown += [_scores(a, b, key, verdicts) for key in asked]
        rows.append(
            Row(
                Cell(a.name),
                [Cell(b.name), *(cells.against(one) if one else cells.unknown() for one in shown)],
                pair=f"{identifier(a.row.who)} {identifier(b.row.who)}",
                published=a.row.source == "published",
            )
        )
    return Table(f"{_identifier(decision)}-pairs", f"Every two, {title}", columns, rows, quiet=True)


def _identifier(decision: Decision) -> str:
    place = f"compare-{decision.source}-{decision.hardware}_{decision.family}"
    return escape.identifier(place.lower())


def _speeds(
    a: VariantSummary, b: VariantSummary, metric: Metric, verdicts: Verdicts
) -> Difference | None:
    one, other = _row(a, metric), _row(b, metric)
    if one is None or other is None or one.workload != other.workload:
        return None
    return verdicts.between_speeds(one, other, metric)


def _scores(
    a: VariantSummary, b: VariantSummary, asked: tuple[str, str], verdicts: Verdicts
) -> Difference | None:
    one, other = (next((row for row in each.scores if row.asked == asked), None) for each in (a, b))
    return verdicts.between_scores(one, other) if one and other else None

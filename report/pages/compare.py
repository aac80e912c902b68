"""The compare page: every variant on every machine in one row, and every two of a family tested.

A pair has the one verdict that it has everywhere (`families.Verdicts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from bench.records.pace import Pace
from report import numbers, rates
from report.differences.families import Verdicts
from report.differences.pair import Difference
from report.pages import cells
from report.pages.speed import tokens_text
from report.pages.tables import Cell, Column, Row, Table
from report.rows import loads
from report.rows.loads import Kept
from report.rows.rows import Metric, QualityRow, Result, SpeedRow, Unit, Who

# Beyond these many pairs a table is no help, and pairing answers takes its time.
MOST_PAIRS = 400
Asked = tuple[str, str]  # task, metric
Key = Metric | Asked  # what two are compared by
_HEADINGS = {
    Metric.TPOT_MEAN: Column("TPOT", "TPOT", "%, lowest load"),
    Metric.OUTPUT: Column("output", "Output", "%, highest load"),
}


@dataclass
class Told:
    """What the page tells of one variant on one machine."""

    lowest: SpeedRow | None = None  # for latency
    highest: SpeedRow | None = None  # for output
    scores: dict[Asked, QualityRow] = field(default_factory=dict)

    @property
    def rows(self) -> list[Result]:
        """All rows it rests on."""
        speed = [row for row in (self.lowest, self.highest) if row is not None]
        return [*speed, *self.scores.values()]


def gather(speed: Sequence[SpeedRow], quality: Sequence[QualityRow]) -> dict[Who, Told]:
    """What is told of each variant on each machine, in the order of the rows."""
    highest = loads.highest(speed)
    found = {who: Told(row, highest[who]) for who, row in loads.lowest(speed).items()}
    for row in quality:
        found.setdefault(row.who, Told()).scores[row.asked] = row
    return found


def identifier(who: Who) -> str:
    """The HTML id of a variant's row on the compare page."""
    return ".".join(who)


def table(speed: Sequence[SpeedRow], quality: Sequence[QualityRow]) -> Table:
    """Every variant on every machine in one row, measured and published alike."""
    asked = {row.asked: row for row in quality}
    columns = (
        cells.VARIANT,
        Column("machine", "On", numeric=False),
        Column("gib", "Weights", "GiB", better="lower", scale="ratio"),
        Column("kv", "KV cache", "tokens", better="higher", scale="ratio"),
        Column("load", "Lowest load", "requests", numeric=False),
        Column("ttft", "TTFT p90", "ms", better="lower", scale="ratio"),
        Column("tpot", "TPOT mean", "ms", better="lower", scale="ratio"),
        Column("e2e", "E2E mean", "ms", better="lower", scale="ratio"),
        Column("tps", "Most output", "tokens/s", better="higher", scale="ratio"),
        Column("carried", "Carries", "requests/s", title="Highest rate within the service level"),
        *(
            Column(
                f"{row.task}.{row.metric}",
                f"{row.task} {row.metric}",
                "%" if row.unit == "share" else "",
                better="higher" if row.higher_is_better else "lower",
                scale="points" if row.unit == "share" else "ratio",
            )
            for row in asked.values()
        ),
        Column("record", "Records", numeric=False, title="The JSON these numbers come from"),
    )
    kept = loads.kept(speed)
    told = gather(speed, quality)
    rows = [_row(who, each, [*asked], kept.get(who)) for who, each in told.items()]
    return Table("compare", "All variants", columns, rows, choose=True)


def _row(who: Who, told: Told, asked: Sequence[Asked], kept: Kept | None) -> Row:
    first, lowest, highest = told.rows[0], told.lowest, told.highest
    records = {
        row.record_page: "speed" if isinstance(row, SpeedRow) else "quality" for row in told.rows
    }
    (href, name), *others = records.items()
    shown = [
        cells.text(first.hardware_name),
        _weights(told.rows),
        cells.amount(_first(row.served.kv_cache_tokens for row in told.rows), numbers.whole),
        Cell(rates.short(lowest.pace), note=tokens_text(lowest)) if lowest else cells.unknown(),
        *(
            cells.measured(lowest.metrics.get(metric) if lowest else None)
            for metric in (Metric.TTFT_P90, Metric.TPOT_MEAN, Metric.E2E_MEAN)
        ),
        cells.measured(
            highest.metrics.get(Metric.OUTPUT),
            cells.four_digits,
            rates.note(highest.pace),
        )
        if highest
        else cells.unknown(),
        _carries(kept),
        *(_score(told.scores.get(each)) for each in asked),
        Cell(name, href=href, links=[(text, link) for link, text in others]),
    ]
    return Row(
        cells.head(first),
        shown,
        id=identifier(who),
        variant=first.variant,
        where=first.hardware_name,
        published=first.source == "published",
    )


def _weights(rows: Sequence[Result]) -> Cell:
    """In memory as the engine says, else on disk: the same weights are about the same size."""
    held = _first(row.served.weights_gib for row in rows)
    stored = _first(row.served.checkpoint_gib for row in rows)
    if stored is None or held is not None:
        return cells.amount(held)
    return cells.amount(stored, note="on disk")


def _carries(kept: Kept | None) -> Cell:
    """The highest measured rate it is sure to keep, and the next one it may keep."""
    if kept is None:
        return cells.unknown()
    note = "" if kept.unsure is None else f"unsure at {rates.short(Pace(kept.unsure))}"
    if kept.highest is None:
        return Cell("none measured", note=note)
    return replace(cells.load(Pace(kept.highest)), note=note)


def _first(values: Iterator[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)


def _score(row: QualityRow | None) -> Cell:
    """An accuracy, with how many documents it is of: machines may have been asked others."""
    if row is None:
        return cells.unknown()
    return cells.measured(row.value, numbers.score(row.unit), f"{numbers.whole(row.n)} documents")


def pairs(
    speed: Sequence[SpeedRow], quality: Sequence[QualityRow], verdicts: Verdicts
) -> Table | None:
    """One row per pair: time per token, most output, and every metric of each task."""
    told = gather(speed, quality)
    couples = list(_couples(told))
    if not couples or len(couples) > MOST_PAIRS:
        return None
    found = {(a, b): _tests(told[a], told[b], verdicts) for a, b in couples}
    keys = list(dict.fromkeys(key for tests in found.values() for key in tests))
    units = {key: test.unit for tests in found.values() for key, test in tests.items()}
    columns = (
        Column("a", "A", numeric=False),
        Column("b", "against B", numeric=False),
        Column("machine", "On", numeric=False),
        *(_heading(key, units.get(key)) for key in keys),
    )
    body = [_pair(a, b, told, tests, keys) for (a, b), tests in found.items()]
    return Table("pairs", "Every two of a family on one machine, tested", columns, body)


def _couples(told: Mapping[Who, Told]) -> Iterator[tuple[Who, Who]]:
    """Pairs within a family on a machine, the baseline always as B."""
    groups: dict[tuple[str, ...], list[Who]] = {}
    for who, each in told.items():
        groups.setdefault(each.rows[0].kin, []).append(who)
    for own in groups.values():
        own.sort(key=lambda who: (not told[who].rows[0].is_baseline, who))
        for b, a in combinations(own, 2):
            yield a, b


def _tests(a: Told, b: Told, verdicts: Verdicts) -> dict[Key, Difference]:
    """What both have, at the same load."""
    found: dict[Key, Difference] = {}
    for metric, one, other in (
        (Metric.TPOT_MEAN, a.lowest, b.lowest),
        (Metric.OUTPUT, a.highest, b.highest),
    ):
        if one and other and one.pace == other.pace:
            found[metric] = verdicts.between_speeds(one, other, metric)
    for asked, score in a.scores.items():
        if asked in b.scores:
            found[asked] = verdicts.between_scores(score, b.scores[asked])
    return found


def _heading(key: Key, unit: Unit | None) -> Column:
    if isinstance(key, Metric):
        return _HEADINGS[key]
    name = " ".join(key)
    return Column(name.replace(" ", "-"), name, "pp" if unit == "share" else "")


def _pair(
    a: Who, b: Who, told: Mapping[Who, Told], tests: Mapping[Key, Difference], keys: Sequence[Key]
) -> Row:
    one, other = told[a].rows[0], told[b].rows[0]
    shown = [cells.against(tests[key]) if key in tests else cells.unknown() for key in keys]
    return Row(
        Cell(one.variant_name),
        [Cell(other.variant_name), Cell(one.hardware_name), *shown],
        pair=f"{identifier(a)} {identifier(b)}",
        published=one.source == "published",
    )

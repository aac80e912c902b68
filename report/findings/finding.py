"""What a take-away is, and the rows its rules look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeVar

from report import stats
from report.differences.families import Verdicts
from report.differences.pair import Difference, caveats
from report.rows.rows import (
    HistoryRow,
    QualityRow,
    Result,
    RunRow,
    Source,
    SpeedRow,
    leading_metric,
    metric_order,
)
from report.rows.sessions import find_baseline

Row = TypeVar("Row", bound=Result)

# shown: a test says so after correction. likely: only before correction. interval: no test, but
# each value's own interval says so. noise: a test says it cannot be told. undecided: an interval
# lies on both sides of a limit. one run: values without any interval. measured: values that no test
# is made for. fact: what is counted or on record. arithmetic: it follows from what was asked.
Certainty = Literal[
    "shown", "likely", "interval", "noise", "undecided", "one run", "measured", "fact", "arithmetic"
]
CERTAINTIES: dict[Certainty, str] = {
    "shown": "shown by a test",
    "likely": "likely, not settled",
    "interval": "by its interval",
    "noise": "no difference found",
    "undecided": "undecided",
    "one run": "one session, not judged",
    "measured": "measured, not judged",
    "fact": "counted, not sampled",
    "arithmetic": "arithmetic",
}
Kind = Literal[
    "mixed_machines", "disturbed", "failed", "random_weights", "service_level", "fastest",
    "throughput", "smallest", "energy", "saving", "crossover", "slower", "kernel", "chance",
    "kept", "sensitive", "quality_noise", "quality_change", "families", "load_cap", "fit",
    "one_session", "session_spread",
]  # fmt: skip


Evidence = SpeedRow | QualityRow | RunRow | HistoryRow


@dataclass(frozen=True, slots=True)
class Scope:
    """What a finding is about; `family` is empty where it is about the whole machine."""

    source: Source
    hardware: str
    hardware_name: str
    family: str = ""


@dataclass(frozen=True, slots=True)
class Caution:
    """What a reader must know before taking one of these variants, or taking it for speed."""

    words: str
    variants: tuple[str, ...]
    of_speed: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One take-away: a sentence, what carries it, how sure it is; lower `rank` matters more.

    Headline, without its final stop, and detail are plain text that may hold names from records:
    escape them where they land. What rests on sizes stands side by side on the compare page alone.
    """

    kind: Kind
    rank: int
    scope: Scope
    certainty: Certainty
    headline: str
    detail: str
    evidence: tuple[Evidence, ...]  # rows it rests on
    caution: Caution | None = None
    about_size: bool = False

    @property
    def certainty_text(self) -> str:
        """How sure that is, in words."""
        return certainty_text(self.certainty, self.scope.source)


@dataclass(frozen=True, slots=True)
class Place:
    """What a rule looks at: the rows of a scope, and the verdicts on all."""

    scope: Scope
    verdicts: Verdicts
    speed: list[SpeedRow]
    quality: list[QualityRow]

    @property
    def rows(self) -> list[Result]:
        """Both, quality first."""
        return [*self.quality, *self.speed]

    def tasks(self) -> Iterator[tuple[str, list[list[QualityRow]]]]:
        """Each task with each variant's rows, those of the metric that stands for it first."""
        for task, group in groupby(sorted(self.quality, key=asked_order), key=lambda row: row.task):
            of_task = list(group)
            main = primary(of_task)[0].metric
            every = [list(own) for _, own in groupby(of_task, key=lambda row: row.variant)]
            yield task, [own for own in every if own[0].metric == main]

    def gaps(self, rows: Sequence[QualityRow]) -> list[Difference]:
        """The tests of one variant's rows of one task, one for each metric that has one."""
        tests = [self.verdicts.quality(row) for row in rows]
        return [test for test in tests if test is not None]


def families(verdicts: Verdicts) -> list[Place]:
    """Every family on every machine, in a fixed order."""
    return _places(verdicts, lambda row: row.family)


def machines(verdicts: Verdicts) -> list[Place]:
    """Every machine, in a fixed order."""
    return _places(verdicts, lambda _: "")


def _places(verdicts: Verdicts, family: Callable[[Result], str]) -> list[Place]:
    places: dict[Scope, Place] = {}

    def place(row: Result) -> Place:
        scope = Scope(row.source, row.hardware, row.hardware_name, family(row))
        return places.setdefault(scope, Place(scope, verdicts, [], []))

    for load in verdicts.results.speed:
        place(load).speed.append(load)
    for score in verdicts.results.quality:
        place(score).quality.append(score)
    return sorted(
        places.values(),
        key=lambda each: (each.scope.source != "measured", each.scope.hardware, each.scope.family),
    )


def evidence(*rows: Result) -> tuple[Evidence, ...]:
    """The rows as evidence, each once, in the order given."""
    return tuple({row.anchor: row for row in rows}.values())


def compared(
    kind: Kind,
    rank: int,
    scope: Scope,
    certainty: Certainty,
    headline: str,
    detail: str,
    *rows: Result,
    caution: Caution | None = None,
    about_size: bool = False,
) -> Finding:
    """A finding that sets rows side by side, with what keeps them from being alike."""
    mind = dict.fromkeys(text for row in rows[1:] for text in caveats(rows[0], row))
    told = with_caveats(detail, mind)
    found = (kind, rank, scope, certainty, headline, told, evidence(*rows))
    return Finding(*found, caution, about_size)


def with_caveats(detail: str, mind: Iterable[str]) -> str:
    """What carries a finding, and what the compared do not share."""
    text = "; ".join(mind)
    return f"{detail} Mind: {text}.".strip() if text else detail


def baseline_of(rows: Sequence[Row]) -> Row | None:
    """The baseline's row among rows of one family at one load or of one task."""
    baseline = find_baseline(rows)
    return next((row for row in rows if row.variant == baseline), None)


def primary(rows: Sequence[QualityRow]) -> list[QualityRow]:
    """Rows of one task by the metric that stands for it: `acc` where it has that."""
    metrics = {row.metric for row in rows}
    return [row for row in rows if row.metric == leading_metric(metrics)]


def asked_order(row: QualityRow) -> tuple[str, str, tuple[int, bool, str]]:
    """Sorts quality rows by task, variant and metric, `acc` first."""
    return row.task, row.variant, metric_order(row.metric)


def certainty_text(certainty: Certainty, source: Source) -> str:
    """A certainty in words; what was published is known of runs, not of sessions."""
    if certainty == "one run" and source == "published":
        return "one run, not judged"
    return CERTAINTIES[certainty]


def certainty_of(verdict: stats.Verdict) -> Certainty:
    """How sure one verdict is; a verdict without an interval rests on one run."""
    if verdict.outcome == "unknown":
        return "one run"
    if verdict.outcome == "described":
        return "interval"
    return "shown" if verdict.significant else "noise"

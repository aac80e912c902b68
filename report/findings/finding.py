"""What a take-away is, and the facts its rules look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from report import stats
from report.differences import pair
from report.differences.families import Verdicts, find_baseline
from report.differences.pair import Answers, Difference, caveats
from report.rows.load import Results, rows_of
from report.rows.rows import PROPORTIONS, Row

# shown: a test says so after correction. likely: only before correction. noise: a test says it
# cannot be told. interval: no test, but each value's own interval says so. one run: values without
# any interval. fact: counted or computed, not sampled.
Certainty = Literal["shown", "likely", "interval", "noise", "one run", "fact"]
CERTAINTIES: dict[Certainty, str] = {
    "shown": "shown by a test",
    "likely": "likely, not settled",
    "interval": "by its interval, not tested",
    "noise": "cannot be told from noise",
    "one run": "one run, no interval",
    "fact": "counted, not sampled",
}
Kind = Literal[
    "mixed_machines", "disturbed", "failed", "random_weights", "service_level", "fastest",
    "throughput", "smallest", "quality_per_gib", "saving", "kernel", "chance", "quality_noise",
    "quality_change", "families", "load_cap", "fit", "noise_floor", "unstable", "unrepeated",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evidence:
    """A row a finding rests on: its HTML id in the tables, its record, its variant's name."""

    anchor: str
    record: str
    name: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What a finding is about; `family` is empty where it is about the whole machine."""

    source: str
    hardware: str
    hardware_name: str
    family: str = ""


@dataclass(frozen=True, slots=True)
class Pick:
    """A finding as advice: for which purpose, which variant, and what that does.

    `names` is the variant and those that it ties with. `claim` goes on after the first name.
    """

    purpose: str
    names: tuple[str, ...]
    claim: str
    of_speed: bool = False


@dataclass(frozen=True, slots=True)
class Caution:
    """What a reader must know before picking one of these variants, or picking it for speed."""

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
    evidence: tuple[Evidence, ...]
    pick: Pick | None = None
    caution: Caution | None = None
    about_size: bool = False

    @property
    def certainty_text(self) -> str:
        """How sure that is, in words."""
        return CERTAINTIES[self.certainty]


@dataclass(frozen=True)
class Facts:
    """The results as the rules read them."""

    results: Results
    speed: list[Row]
    quality: list[Row]
    runs: list[Row]
    tests: Mapping[tuple[str, ...], Difference]
    answers: Answers
    verdicts: Verdicts
    scopes: Mapping[Scope, tuple[list[Row], list[Row]]] = field(repr=False)

    def test(self, row: Row, series: str, metric: str) -> Difference | None:
        """A row's variant against its baseline; None for the baseline itself and the untested."""
        key = (row["source"], row["hardware"], row["variant"], series, metric)
        return self.tests.get(key)

    def between(self, a: Row, b: Row, metric: str) -> stats.Verdict:
        """The verdict of a against b that is told everywhere; alone where they are no family."""
        told = self.verdicts.of(a, b, metric)
        if told is not None:
            return told
        if "task" in a:
            return pair.quality(self.answers, a, b, fidelity=False).verdict
        return pair.speed(a, b, metric, self.results.drift).verdict

    def gaps(self, rows: Sequence[Row]) -> list[Difference]:
        """The tests of one variant's rows of one task, one for each metric that has one."""
        tests = [self.test(row, row["task"], row["metric"]) for row in rows]
        return [test for test in tests if test is not None]


def gather(results: Results, tests: Sequence[Difference]) -> Facts:
    """The facts of all results; a family on a machine is one scope."""
    speed, quality = rows_of(results.speed), rows_of(results.quality)
    scopes: dict[Scope, tuple[list[Row], list[Row]]] = {}
    for place, rows in enumerate((speed, quality)):
        for row in rows:
            scopes.setdefault(scope_of(row), ([], []))[place].append(row)
    answers = Answers(results)
    return Facts(
        results,
        speed,
        quality,
        rows_of(results.runs),
        {(d.a.source, d.a.hardware, d.a.variant, d.series, d.metric): d for d in tests},
        answers,
        Verdicts(results, answers, tests),
        dict(sorted(scopes.items(), key=lambda item: _order(item[0]))),
    )


def scope_of(row: Row, *, family: bool = True) -> Scope:
    """The scope a row belongs to; its hardware's, or its family's on it."""
    where = (row["source"], row["hardware"], row["hardware_name"])
    return Scope(*where, row["family"] if family else "")


def machines(rows: Iterable[Row]) -> Iterator[tuple[Scope, list[Row]]]:
    """Rows by source and hardware, in a fixed order."""
    groups: dict[Scope, list[Row]] = {}
    for row in rows:
        groups.setdefault(scope_of(row, family=False), []).append(row)
    yield from sorted(groups.items(), key=lambda item: _order(item[0]))


def evidence(*rows: Row) -> tuple[Evidence, ...]:
    """The rows as evidence, each once, in the order given."""
    made = (Evidence(row["anchor"], row["record"], row["variant_name"]) for row in rows)
    return tuple(dict.fromkeys(made))


def compared(
    kind: Kind,
    rank: int,
    scope: Scope,
    certainty: Certainty,
    headline: str,
    detail: str,
    *rows: Row,
    pick: Pick | None = None,
    caution: Caution | None = None,
    about_size: bool = False,
) -> Finding:
    """A finding that sets rows side by side, with what keeps them from being alike."""
    mind = dict.fromkeys(text for row in rows[1:] for text in caveats(rows[0], row))
    told = with_caveats(detail, mind)
    found = (kind, rank, scope, certainty, headline, told, evidence(*rows))
    return Finding(*found, pick, caution, about_size)


def with_caveats(detail: str, mind: Iterable[str]) -> str:
    """What carries a finding, and what the compared do not share."""
    text = "; ".join(mind)
    return f"{detail} Mind: {text}.".strip() if text else detail


def baseline_of(rows: Sequence[Row]) -> Row | None:
    """The baseline's row among rows of one family at one load or of one task."""
    baseline = find_baseline(rows)
    return next((row for row in rows if row["variant"] == baseline), None)


def at_load(rows: Sequence[Row], rate: float) -> list[Row]:
    """The rows at one request rate and, of those, at the workload most of them share."""
    here = [row for row in rows if row["request_rate_rps"] == rate]
    kinds = [(row["input_tokens"], row["output_tokens"]) for row in here]
    usual = max(sorted(set(kinds)), key=kinds.count, default=None)
    return [row for row, kind in zip(here, kinds, strict=True) if kind == usual]


def usual_rate(rows: Sequence[Row]) -> float:
    """The request rate that most variants share; the lowest of those, so a limited one if any."""
    rates = [row["request_rate_rps"] for row in rows]
    usual: float = max(sorted(set(rates)), key=rates.count)
    return usual


def primary(rows: Sequence[Row]) -> list[Row]:
    """Rows of one task by the metric that stands for it: `acc` where it has that."""
    metrics = {row["metric"] for row in rows}
    return [row for row in rows if row["metric"] == min(metrics, key=_metric_order)]


def by_task(facts: Facts) -> Iterator[tuple[Scope, str, list[list[Row]]]]:
    """For each family on each machine and task: each variant's rows, the primary metric first."""
    for scope, (_, rows) in facts.scopes.items():
        known = sorted((r for r in rows if r["value"] is not None), key=asked_order)
        for task, group in groupby(known, key=lambda row: str(row["task"])):
            of_task = list(group)
            variants = groupby(of_task, key=lambda row: str(row["variant"]))
            main = primary(of_task)[0]["metric"]
            every = [list(own) for _, own in variants]
            yield scope, task, [own for own in every if own[0]["metric"] == main]


def asked_order(row: Row) -> tuple[str, str, tuple[int, str]]:
    """Sorts quality rows by task, variant and metric, `acc` first."""
    return row["task"], row["variant"], _metric_order(row["metric"])


def _metric_order(metric: str) -> tuple[int, str]:
    known = metric in PROPORTIONS
    return PROPORTIONS.index(metric) if known else len(PROPORTIONS), metric


def certainty_of(verdict: stats.Verdict | None) -> Certainty:
    """How sure one verdict is; a verdict without an interval rests on one run."""
    if verdict is None or verdict.outcome == "unknown":
        return "one run"
    return "shown" if verdict.significant else "noise"


def _order(scope: Scope) -> tuple[bool, str, str]:
    return scope.source != "measured", scope.hardware, scope.family

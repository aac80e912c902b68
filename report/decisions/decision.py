"""The decision for a family on a machine: for each purpose, which variant to take.

Only variants that keep their baseline's quality are taken; where quality is undecided or was not
measured, the choice says so. A tie holds variants none of which is beaten by another of the tie.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from report import numbers, rates
from report.decisions.summary import VariantSummary, quality_text, summaries
from report.differences.families import Verdicts
from report.rows.rows import LATENCIES, Kin, Metric, QualityRow, Source, SpeedRow, is_toy

Purpose = Literal["latency", "throughput", "memory", "cost", "safest"]
PURPOSES: dict[Purpose, str] = {
    "latency": "Shortest wait",
    "throughput": "Most output",
    "memory": "Least memory",
    "cost": "Lowest cost",
    "safest": "Safest quality",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What to take for one purpose: `take`, and `ties` that nothing tells from it.

    `undecided` names a variant that would be taken if it were shown to keep quality. `untested`
    says in words against how many others nothing is shown; it is empty where the difference to all
    is shown, counted or, for quality, decided.
    """

    purpose: Purpose
    take: VariantSummary
    ties: tuple[VariantSummary, ...]
    undecided: VariantSummary | None
    untested: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Everything that decides between the variants of a family on one machine."""

    source: Source
    hardware: str
    hardware_name: str
    family: str
    variants: tuple[VariantSummary, ...]
    choices: tuple[Choice, ...]

    @property
    def on_gpu(self) -> bool:
        """Whether the machine has a GPU, as all published ones have."""
        has_gpu = any(each.row.served.gpu_memory_gib for each in self.variants)
        return has_gpu or self.source == "published"

    @property
    def is_toy(self) -> bool:
        """Whether it is of random weights, or of a model too small to be put to use."""
        return is_toy([each.row for each in self.variants])

    def choice(self, purpose: Purpose) -> Choice | None:
        """What to take for a purpose; None where nothing is known for it."""
        return next((each for each in self.choices if each.purpose == purpose), None)


def decisions(verdicts: Verdicts) -> list[Decision]:
    """One for each family and machine: real models, GPUs, and what says most first."""
    groups: dict[Kin, tuple[list[SpeedRow], list[QualityRow]]] = {}
    for load in verdicts.loads:
        groups.setdefault(load.kin, ([], []))[0].append(load)
    for score in verdicts.scores:
        groups.setdefault(score.kin, ([], []))[1].append(score)
    made = []
    for (source, hardware, family), (speed, quality) in groups.items():
        variants = summaries(verdicts, speed, quality)
        choices = tuple(_choices(verdicts, variants))
        name = variants[0].row.hardware_name
        made.append(Decision(source, hardware, name, family, variants, choices))
    return sorted(
        made,
        key=lambda each: (
            *(each.is_toy, not each.on_gpu, -len(each.choices), each.source != "measured"),
            *(each.hardware, each.family),
        ),
    )


def _choices(verdicts: Verdicts, variants: Sequence[VariantSummary]) -> Iterator[Choice]:
    if len(variants) < 2:
        return
    yield from _fastest(verdicts, variants, "latency", Metric.TPOT_MEAN, "least time per token")
    yield from _fastest(verdicts, variants, "throughput", Metric.OUTPUT, "most output")
    yield from _smallest(variants)
    yield from _cheapest(verdicts, variants)
    yield from _safest(variants)


def _able(variants: Iterable[VariantSummary]) -> tuple[list[VariantSummary], list[VariantSummary]]:
    """Those that may be taken, and those whose quality would have to be decided first.

    Where no variant's quality was measured, all may be.
    """
    known = [each for each in variants if not each.row.is_baseline]
    if all(each.outcome == "unknown" for each in known):
        return list(variants), []
    keeps = [each for each in variants if each.outcome == "keeps"]
    return keeps, [each for each in known if each.outcome in ("undecided", "unknown")]


def _fastest(
    verdicts: Verdicts,
    variants: Sequence[VariantSummary],
    purpose: Purpose,
    metric: Metric,
    words: str,
) -> Iterator[Choice]:
    able, open_ = _able(variants)
    ranked = _ranked(able, metric)
    if not ranked:
        return
    ties, untested = _ties(verdicts, ranked, metric)
    first, *others = ties
    before = _before(_ranked([*open_, first], metric), first)
    ahead = next(
        ((each, how) for each in before if (how := _ahead(verdicts, each, first, metric))), None
    )
    yield _choice(purpose, first, others, ahead, untested, words, _value(first, metric))


def _ahead(verdicts: Verdicts, one: VariantSummary, first: VariantSummary, metric: Metric) -> str:
    """How one with the better number is ahead, in words; nothing where no difference was found."""
    a, b = _row(one, metric), _row(first, metric)
    assert a and b
    outcome = verdicts.between_speeds(a, b, metric).verdict.outcome
    if outcome == "noise":
        return ""
    return "ahead" if outcome in ("higher", "lower") else "ahead (not tested)"


def _before(ranked: Sequence[VariantSummary], one: VariantSummary) -> list[VariantSummary]:
    """Those ranked before one."""
    return list(ranked[: next(i for i, each in enumerate(ranked) if each is one)])


def _ranked(variants: Iterable[VariantSummary], metric: Metric) -> list[VariantSummary]:
    """Those that know a metric at the load it is judged at, the best first."""
    sign = 1 if metric in LATENCIES else -1
    known = [
        (sign * row.metrics[metric].value, each.name, each)
        for each in variants
        if (row := _row(each, metric)) is not None and metric in row.metrics
    ]
    return [each for _, _, each in sorted(known, key=lambda one: one[:2])]


def _row(of: VariantSummary, metric: Metric) -> SpeedRow | None:
    return of.highest if metric is Metric.OUTPUT else of.usual


def _value(of: VariantSummary, metric: Metric) -> str:
    row = _row(of, metric)
    assert row
    load = rates.load(row.pace)
    return f"{numbers.number(row.metrics[metric].value)} {metric.unit} at {load}"


def _ties(
    verdicts: Verdicts, ranked: Sequence[VariantSummary], metric: Metric
) -> tuple[list[VariantSummary], str]:
    """The first and those not told from it, without those that another of them beats.

    And in words how many could not be tested against it, if any: one session alone shows nothing.
    """
    rows = {each.name: row for each in ranked if (row := _row(each, metric))}

    def outcome(a: VariantSummary, b: VariantSummary) -> str:
        return verdicts.between_speeds(rows[a.name], rows[b.name], metric).verdict.outcome

    worse = "higher" if metric in LATENCIES else "lower"
    first, *rest = ranked
    told = {each.name: outcome(each, first) for each in rest}
    near = [first, *(each for each in rest if told[each.name] == "noise")]
    kept = [
        each
        for each in near
        if not any(outcome(each, other) == worse for other in near if other is not each)
    ]
    untested = sum(each not in ("noise", worse) for each in told.values())
    if untested == len(rest) > 0:
        return kept, "one session or run each, so not tested"
    others = f"{untested} other{'s' if untested > 1 else ''}"
    return kept, f"not tested against {others} of one session or run" if untested else ""


def _smallest(variants: Sequence[VariantSummary]) -> Iterator[Choice]:
    able, open_ = _able(variants)
    sized = [each for each in able if each.weights_gib]
    if not sized:
        return
    least = min(each.weights_gib or 0.0 for each in sized)
    first, *ties = [each for each in sized if each.weights_gib == least]
    smaller = [each for each in open_ if each.weights_gib and each.weights_gib < least]
    ahead = min(smaller, key=lambda each: each.weights_gib or 0.0, default=None)
    held = f"{numbers.number(least)} GiB of weights{' on disk' if first.weights_on_disk else ''}"
    unknown = sum(not each.weights_gib for each in (*able, *open_))
    untold = f"not known of {unknown} other{'s' if unknown > 1 else ''}" if unknown else ""
    smallest = (ahead, "smaller") if ahead else None
    yield _choice("memory", first, ties, smallest, untold, "least memory", held)


def _cheapest(verdicts: Verdicts, variants: Sequence[VariantSummary]) -> Iterator[Choice]:
    """At one price an hour the cheapest is whoever gives most output."""
    priced = [each for each in variants if each.usd_per_million is not None]
    for choice in _fastest(verdicts, priced, "cost", Metric.OUTPUT, "least money per token"):
        usd = f"${numbers.number(choice.take.usd_per_million)} per million output tokens"
        ahead = (choice.undecided, "cheaper") if choice.undecided else None
        take = choice.take, choice.ties, ahead, choice.untested
        yield _choice("cost", *take, "least money per token", usd)


def _safest(variants: Sequence[VariantSummary]) -> Iterator[Choice]:
    """The variant whose kept quality has the highest lower bound; the baseline if none keeps."""
    base = [each for each in variants if each.row.is_baseline]
    keeps = [
        (each.quality.kept.interval.low, each)
        for each in variants
        if each.outcome == "keeps"
        and each.quality
        and each.quality.kept
        and each.quality.kept.interval
    ]
    if keeps:
        _, first = max(keeps, key=lambda each: each[0])
        yield Choice("safest", first, (), None, "", f"{first.name}: {quality_text(first)}")
    elif base and any(each.scores for each in variants if not each.row.is_baseline):
        name = base[0].name
        yield Choice(
            "safest", base[0], (), None, "",
            f"{name} itself: no other variant is shown to keep its quality",
        )  # fmt: skip


def _choice(
    purpose: Purpose,
    first: VariantSummary,
    ties: Sequence[VariantSummary],
    ahead: tuple[VariantSummary, str] | None,
    untested: str,
    words: str,
    amount: str,
) -> Choice:
    """Says it: who, how much, with whom it ties, how sure, and who might be better."""
    among = " of those known to keep quality" if ahead else ""
    told = f"{first.name}: {words}{among}, {amount}"
    if ties:
        same = "the same as" if purpose == "memory" else "no difference found to"
        told += f"; {same} {_names(ties)}"
    if untested:
        told += f"; {untested}"
    if ahead is not None:
        one, how = ahead
        needs = one.quality.needs("its quality") if one.quality else ""
        told += f". {one.name} is {how}; {needs or 'its quality is not decided'}"
    return Choice(purpose, first, tuple(ties), ahead[0] if ahead else None, untested, told)


def _names(of: Sequence[VariantSummary]) -> str:
    names = [each.name for each in of]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

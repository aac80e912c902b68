"""What a cell shows: a value with its interval, a load, a variant, a record, a test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from bench.records.pace import Pace
from report import numbers, rates
from report.differences.families import Verdicts
from report.differences.pair import Difference, more_than_there_are
from report.numbers import Form
from report.pages.tables import Cell, Column, Tone
from report.rows.rows import QualityRow, Result, SpeedRow, Unit
from report.stats import Estimate
from report.stats.recovery import Kept

VARIANT = Column("variant", "Variant", numeric=False)
_DIFFERENCE = Column(
    "difference", "Against baseline", "pp", title="Difference, tested; interval below"
)
TESTED = (
    _DIFFERENCE,
    Column("more", "Would decide", "more documents", title="In all, four times out of five"),
    Column("flips", "Flips", "lost / gained", title="Documents only one of the two got right"),
    Column("changed", "Answers changed", "%", title="Documents answered with another choice"),
    Column("shift", "Likelihood shift", "nats per byte", title="Mean absolute difference"),
)


def tested(unit: Unit) -> tuple[Column, ...]:
    """The columns of TESTED for scores of a unit."""
    return TESTED if unit == "share" else (replace(_DIFFERENCE, unit=""), *TESTED[1:])


four_digits: Form = partial(numbers.number, digits=4)
whole_percent: Form = partial(numbers.share, decimals=0)
_TONES: dict[str, Tone] = {
    "faster": "better",
    "better": "better",
    "slower": "worse",
    "worse": "worse",
    "loses": "worse",
}
DECIDED: dict[str, Tone] = {"keeps": "better", "loses": "worse"}


def measured(estimate: Estimate | None, form: Form = numbers.number, note: str = "") -> Cell:
    """An estimate: its value, and under it the interval."""
    if estimate is None:
        return unknown(note)
    value, ends = estimate.value, estimate.interval
    if ends is None:
        return Cell(form(value), value, note=note)
    shown = numbers.interval(ends.low, ends.high, form)
    return Cell(form(value), value, shown, note, ends=(ends.low, ends.high))


def kept(found: Kept | None, *, in_points: bool, note: str = "") -> Cell:
    """What was kept of a baseline's score: a share of it, or a difference in points."""
    if found is None:
        return unknown(note)
    form = partial(numbers.points if in_points else numbers.share, decimals=1)
    if found.interval is None:
        return Cell(form(found.estimate), found.estimate, note=note)
    low, high = found.interval.low, found.interval.high
    shown = numbers.interval(low, high, form)
    return Cell(form(found.estimate), found.estimate, shown, note, ends=(low, high))


def amount(value: float | None, form: Form = numbers.number, note: str = "") -> Cell:
    """A number without an interval."""
    return unknown(note) if value is None else Cell(form(value), float(value), "", note)


def gpus(row: Result) -> str:
    """Over how many GPUs a model is spread, where it is more than one."""
    return f"on {row.served.gpus} GPUs" if row.served.gpus > 1 else ""


def text(value: str | None, note: str = "") -> Cell:
    """A word."""
    return Cell(value, note=note) if value else unknown()


def unknown(note: str = "") -> Cell:
    """What was not measured or not reported."""
    return Cell(numbers.UNKNOWN, None, "", note, tone="unknown")


def load(pace: Pace) -> Cell:
    """What a load offers."""
    return Cell(rates.short(pace), value=rates.sort_value(pace))


def head(row: Result) -> Cell:
    """A row's variant: its name, where that leads, what marks it, and its record."""
    served, method = row.served, row.served.quantization
    known = (served.kernel, "not quantized" if method == "none" else method)
    marks = ["baseline"] if row.is_baseline else []
    marks += ["random weights"] if served.random_weights else []
    title = [word for word in dict.fromkeys(known) if word is not None]
    if row.source == "published":
        marks.append("published")
        once = "published: one run"
        title.append(once if isinstance(row, QualityRow) else f"{once}, no interval")
    return Cell(
        row.variant_name,
        href=row.page,
        tag=", ".join(marks),
        title=", ".join(title),
        more="; ".join(_caveats(row)),
        records=(("JSON", row.record_page),),
    )


def _caveats(row: Result) -> Iterator[str]:
    """What a reader should mind of one row."""
    if isinstance(row, SpeedRow):
        if row.throttled:
            reasons = ", ".join(row.throttle_reasons)
            yield f"clocks limited: {reasons}" if reasons else "clocks limited"
        if row.shared:
            yield "another process shared the GPU"


def settings(row: QualityRow) -> str:
    """How a task was asked, beyond its documents and examples, where that is not the plain way."""
    told = ["in the model's chat template"] if row.apply_chat_template else []
    generation = json.loads(row.generation) if row.generation else {}
    told += [
        f"{name.replace('_', ' ')} {generation[name]}"
        for name in ("temperature", "top_p", "top_k", "min_p", "max_gen_toks")
        if generation.get(name)
    ]
    told += [f"{row.sampling_seeds} seeds"] if row.sampling_seeds else []
    return "".join(f", {each}" for each in told)


def against(found: Difference) -> Cell:
    """A difference with its interval and, in words, what the test says."""
    form: Form = numbers.score_gap(found.unit) if found.unit else numbers.change
    verdict = found.verdict
    if verdict.estimate is None:
        return unknown(found.word)
    ends = verdict.interval
    return Cell(
        form(verdict.estimate),
        verdict.estimate - verdict.null,
        f"{form(ends.low)} to {form(ends.high)}" if ends else "",
        tone=tone(found),
        word=_word(found),
        more="; ".join([*found.caveats, *_both(found), *_kept_in_words(found)]),
    )


def answered(row: QualityRow, found: Difference | None) -> Cell:
    """How many documents a score is of, and of how many the difference to the baseline's is."""
    both = found.documents if found is not None else None
    note = f"{both:,} paired" if both is not None and both != row.n else ""
    return amount(row.n, numbers.whole, note)


def _both(found: Difference) -> Iterator[str]:
    """Why the difference of two scores is not that of what stands beside them."""
    rows = [row for row in (found.a, found.b) if isinstance(row, QualityRow)]
    if found.documents is not None and any(row.n != found.documents for row in rows):
        yield f"on the {found.documents:,} documents that both answered"


def _kept_in_words(found: Difference) -> Iterator[str]:
    """What a decision on one task rests on: the share of the baseline's score that was kept."""
    cell = kept(found.kept, in_points=False)
    if found.decision is not None and found.kept is not None and found.kept.equal and cell.interval:
        yield f"{cell.text} % of the baseline's score kept, {cell.interval}"


def _word(found: Difference) -> str:
    """The verdict in a word or two."""
    word = "no difference" if found.word == "no difference found" else found.word
    if found.decision is not None and found.decision.outcome != "unknown":
        word = found.decision.outcome
    return f"{word}, unpaired" if found.unpaired else word


def tone(found: Difference) -> Tone:
    """Whether a verdict is good or bad news."""
    return _TONES.get(found.word, "")


def against_baseline(row: Result, found: Difference | None) -> Cell:
    """What the test against a row's baseline says, or why there is none."""
    if found is not None:
        return against(found)
    return Cell("baseline" if row.is_baseline else "no baseline here", tone="unknown")


def score_tests(row: QualityRow, verdicts: Verdicts) -> Sequence[Cell]:
    """The cells of TESTED: difference, what would decide, flips, how answers changed."""
    found = verdicts.quality(row)
    if found is None:
        return [against_baseline(row, None), *(Cell("") for _ in TESTED[1:])]
    flips = unknown()
    if found.lost is not None and found.gained is not None:
        flips = Cell(f"{found.lost:,} / {found.gained:,}", found.lost + found.gained)
    needed = found.decision.more_documents if found.decision else None
    more = Cell("")
    if needed:
        note = "task has fewer" if more_than_there_are(needed, [found]) else ""
        more = Cell(numbers.whole(needed), needed, note=note)
    changed = _without_ends(found.changed_answers, numbers.share)
    return [against(found), more, flips, changed, _without_ends(found.shift, numbers.number)]


def _without_ends(estimate: Estimate | None, form: Form) -> Cell:
    """An estimate whose interval is shown and not drawn."""
    cell = measured(estimate, form)
    return Cell(cell.text, cell.value, cell.interval, tone=cell.tone)

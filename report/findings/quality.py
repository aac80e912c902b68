"""Take-aways about quality: what is kept, what is lost, what is no better than guessing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from report import numbers, stats
from report.decisions.summary import retention
from report.differences import pair
from report.differences.families import Quality
from report.differences.pair import Difference
from report.findings import words
from report.findings.finding import (
    Caution,
    Certainty,
    Finding,
    Place,
    baseline_of,
    compared,
    primary,
)
from report.rows.rows import QualityRow

# Families are compared with the next lower one, from the best down, at most this many.
_FAMILIES = 8
_OUTCOMES: dict[str, Certainty] = {"keeps": "shown", "loses": "shown", "undecided": "undecided"}


def chance(here: Place) -> Iterator[Finding]:
    """What answers no better than guessing; "collapsed" where another of its family is better."""
    for task, variants in here.tasks():
        best = max((rows[0] for rows in variants), key=lambda r: (r.value.value, r.variant))
        for rows in variants:
            row, verdict = rows[0], _against_chance(rows[0])
            if verdict is None or not guesses(rows):
                continue
            gap = None if row is best else here.verdicts.between_scores(row, best).verdict
            collapsed = _is_lost(gap)
            name, score = row.variant_name, numbers.share(row.value.value)
            headline = (
                f"{name} {'has collapsed' if collapsed else 'cannot be told from guessing'} on"
                f" {task}: {score} %, guessing gives {numbers.share(row.chance)} %"
            )
            start = "That"
            if gap is not None and collapsed:
                top = numbers.share(best.value.value)
                lost = words.loss(gap)
                start = f"{best.variant_name} reaches {top} %: a loss of {lost}. What is left"
            detail = (
                f"{start} is what guessing would give over {row.n} documents (exact binomial p"
                f" {numbers.p_value(verdict.p)})."
            )
            # A collapse is a loss that a test shows; only the guessing itself is no difference.
            sure: Certainty = "shown" if collapsed else "noise"
            yield compared(
                "chance", 22, here.scope, sure, headline, detail, row, best,
                caution=Caution("answers no better than guessing", (name,)),
            )  # fmt: skip


def below_chance(here: Place) -> Iterator[Finding]:
    """What answers worse than guessing, which points to a wrong prompt or layout."""
    for task, variants in here.tasks():
        for rows in variants:
            row, verdict = rows[0], _against_chance(rows[0])
            if verdict is None or verdict.outcome != "lower":
                continue
            headline = (
                f"{row.variant_name} answers worse than guessing on {task}:"
                f" {numbers.share(row.value.value)} %, guessing gives {numbers.share(row.chance)} %"
            )
            detail = (
                f"Over {row.n} documents (exact binomial p {numbers.p_value(verdict.p)}). A model"
                " that merely lost its quality guesses: look at the prompt and the file."
            )
            yield compared(
                "chance", 22, here.scope, "shown", headline, detail, row,
                caution=Caution("answers worse than guessing", (row.variant_name,)),
            )  # fmt: skip


def kept(here: Place) -> Iterator[Finding]:
    """Who keeps the baseline's quality, who loses it, and what would decide the others."""
    rows = {row.variant: row for row in here.quality}
    told: dict[str, list[tuple[QualityRow, Quality]]] = {}
    for row in rows.values():
        if (found := here.verdicts.decision(row.who)) is not None:
            told.setdefault(found.decision.outcome, []).append((row, found))
    for outcome, sure in _OUTCOMES.items():
        if not (own := told.get(outcome, [])):
            continue
        own.sort(key=lambda each: each[0].variant)
        base = own[0][1].tasks[0].b
        names = words.names([row.variant_name for row, _ in own])
        one = len(own) == 1
        headline = {
            "keeps": f"{names} {'keeps' if one else 'keep'} {base.variant_name}'s quality",
            "loses": f"{names} {'loses' if one else 'lose'} quality against {base.variant_name}",
            "undecided": f"Whether {names} {'keeps' if one else 'keep'} {base.variant_name}'s"
            " quality is undecided",
        }[outcome]
        detail = "; ".join(f"{row.variant_name}: {_kept_text(found)}" for row, found in own)
        tests = [test.a for _, found in own for test in found.tasks]
        yield compared("kept", 14, here.scope, sure, headline, f"{detail}.", *tests, base)


def sensitive(here: Place) -> Iterator[Finding]:
    """Where the probability of the right choice moved, long before an answer flips."""
    for row in here.quality:
        test = here.verdicts.quality(row)
        change = test.right_probability if test else None
        if test is None or change is None or change.outcome not in ("higher", "lower"):
            continue
        ends = change.estimate.interval
        assert ends
        side = "less" if change.outcome == "lower" else "more"
        headline = (
            f"{row.variant_name} gives right answers {side} probability than"
            f" {test.b.variant_name} on {row.task}: {numbers.points(change.estimate.value)} points"
        )
        detail = (
            f"95 % interval {numbers.points(ends.low)} to {numbers.points(ends.high)}, paired over"
            f" {test.documents} documents, p {numbers.p_value(change.p)}. Probabilities move long"
            " before an answer flips."
        )
        yield compared("sensitive", 23, here.scope, "interval", headline, detail, row, test.b)


def own_text(here: Place) -> Iterator[Finding]:
    """Where the answers do not decide, and the documents' own text shows a difference."""
    for row in {row.variant: row for row in here.quality}.values():
        found, told = here.verdicts.decision(row.who), here.verdicts.own_text(row.who)
        if found is None or found.decision.outcome != "undecided" or told is None or not told.tells:
            continue
        base, change, apart = found.tasks[0].b, told.logprob, told.divergence.estimate
        ends, form = change.estimate.interval, numbers.score_gap("score")
        assert ends
        side = "less" if change.outcome == "lower" else "more"
        headline = (
            f"{row.variant_name} expects the documents' own text {side} than {base.variant_name}:"
            f" {form(change.estimate.value)} nats per token"
        )
        detail = (
            f"95 % interval {form(ends.low)} to {form(ends.high)}, over {told.documents} documents,"
            f" p {numbers.p_value(change.p)}; the divergence is {numbers.number(apart.value)} or"
            f" more. Whether {row.variant_name} keeps quality is undecided: what a model expects"
            " moves long before an answer flips."
        )
        tests = [test.a for test in found.tasks]
        yield compared("sensitive", 23, here.scope, "interval", headline, detail, *tests, base)


def quality_noise(here: Place) -> Iterator[Finding]:
    """Variants that no metric of a task tells from the baseline, and what could have been told."""
    for task, variants in here.tasks():
        base = baseline_of([rows[0] for rows in variants])
        told = [(rows[0], [t for t in here.gaps(rows) if t.verdict.interval]) for rows in variants]
        noise = [
            (row, tests)
            for row, tests in told
            if tests and all(test.verdict.outcome == "noise" for test in tests)
        ]
        if base is None or not noise:
            continue
        noise.sort(key=lambda each: (-each[0].value.value, each[0].variant))
        gaps = [test for _, tests in noise for test in tests]
        rows_told = [row for row, _ in noise]
        variants_told = words.names([row.variant_name for row in rows_told])
        headline = (
            f"No difference in quality found on {task}: {variants_told} against {base.variant_name}"
        )
        detail = "; ".join(f"{test.a.variant_name}: {words.tested(test)}" for test in gaps) + ". "
        alone = max((t.detectable_alone for t in gaps if t.detectable_alone), default=None)
        if alone:
            n = min(row.n for row in rows_told)
            detail += (
                f"{'Paired' if all(test.paired for test in gaps) else 'Unpaired'}, {n} documents"
                f" show 80 % of the time only differences of {numbers.share(alone, 1)} pp or more"
            )
            tests = max(test.verdict.tests for test in gaps)
            corrected = max((t.detectable for t in gaps if t.detectable), default=None)
            if tests > 1 and corrected:
                least = numbers.share(corrected, 1)
                detail += f", {least} pp after the correction for {tests} tests"
            detail += "."
        blind = [
            f"{test.a.variant_name}, {test.metric}" for test in gaps if test.detectable is None
        ]
        if blind:
            detail += (
                " Too few answers flipped to show any difference so often, even were all flips"
                f" one way: {'; '.join(blind)}."
            )
        yield compared(
            "quality_noise", 23, here.scope, "noise", headline, detail.strip(), base, *rows_told
        )


def quality_change(here: Place) -> Iterator[Finding]:
    """Variants that a metric of a task tells from the baseline; guessing ones are in `chance`."""
    for task, variants in here.tasks():
        base = baseline_of([rows[0] for rows in variants])
        for rows in variants:
            tests = here.gaps(rows)
            shown = [test for test in tests if test.verdict.significant]
            if base is None or not shown or guesses(rows):
                continue
            better = sum(test.word == "better" for test in shown)
            verb = "is better than" if better else "is worse than"
            verb = "differs from" if 0 < better < len(shown) else verb
            headline = (
                f"{rows[0].variant_name} {verb} {base.variant_name} on {task}:"
                f" {', '.join(map(words.gap, shown))}"
            )
            flips = [
                f", {test.gained} gained and {test.lost} lost" if test.paired else ""
                for test in tests
            ]
            told = [words.tested(test) + more for test, more in zip(tests, flips, strict=True)]
            detail = f"Of {rows[0].n} documents: {'; '.join(told)}."
            metrics = {test.metric for test in shown}
            rests_on = [row for row in rows if row.metric in metrics]
            yield compared(
                "quality_change", 23, here.scope, "shown", headline, detail, *rests_on, base
            )


def families(here: Place) -> Iterator[Finding]:
    """Whether one family answers better than the next, every variant against every other."""
    for task in sorted({row.task for row in here.quality}):
        groups: dict[str, list[QualityRow]] = {}
        for row in primary([row for row in here.quality if row.task == task]):
            if row.unit == "share":
                groups.setdefault(row.family, []).append(row)
        able = {name: _above_chance(rows) for name, rows in sorted(groups.items())}
        ranked = sorted(
            (name for name, rows in able.items() if rows),
            key=lambda name: -max(row.value.value for row in able[name]),
        )
        for upper, lower in pairwise(ranked[:_FAMILIES]):
            both = [*groups[upper], *groups[lower]]
            left_out = [row for row in both if row not in able[row.family]]
            yield _families(here, able[upper], able[lower], left_out)


def _families(
    here: Place, upper: list[QualityRow], lower: list[QualityRow], left_out: list[QualityRow]
) -> Finding:
    results, task = here.verdicts.results, upper[0].task
    tests = [_judged(pair.quality(results, a, b, fidelity=False)) for a in upper for b in lower]
    verdicts = stats.correct([test.verdict for test in tests])
    against = sum(verdict.outcome == "lower" for verdict in verdicts)
    held = sum(verdict.outcome == "higher" for verdict in verdicts)
    single = sum(test.verdict.outcome == "higher" for test in tests)
    gaps = [verdict.estimate or 0.0 for verdict in verdicts]
    adjusted = [verdict.p_adjusted or 0.0 for verdict in verdicts]
    one, other = upper[0].family, lower[0].family
    holding = f"{held} of {len(tests)} comparisons hold after correction"
    certainty: Certainty = "undecided" if held or against else "noise"
    headline = f"{one} and {other} cannot be ordered on {task}: {holding}"
    if held == len(tests):
        certainty = "shown"
        headline = f"{one} is above {other} on {task} in each of {held} comparisons"
    elif min(gaps) > 0 and (held or single):
        certainty = "likely"
        headline = f"{one} is likely above {other} on {task}: {holding}"
    elif held and held + against == len(tests):
        certainty = "shown"
        headline = (
            f"Whether {one} is above {other} on {task} depends on the variant: above in {held}"
            f" comparisons, below in {against}"
        )
    detail = (
        f"By {upper[0].metric}: gaps of {numbers.points(min(gaps), 1)} to"
        f" {numbers.points(max(gaps), 1)} pp, {single} of {len(tests)} with p below 0.05 one by"
        f" one; after Holm's correction the smallest p {numbers.p_value(min(adjusted))}, the"
        f" largest {numbers.p_value(max(adjusted))}."
    )
    if left_out:
        names = words.names(sorted(row.variant_name for row in left_out))
        detail += f" Left out, being no better than guessing: {names}."
    if held < len(tests) and not all(test.paired for test in tests):
        detail += " A paired test on the same documents would be sharper."
    return compared("families", 24, here.scope, certainty, headline, detail, *upper, *lower)


def _judged(test: Difference) -> Difference:
    """Two families have no decision on what was kept: their difference is tested."""
    return replace(test, verdict=replace(test.verdict, judged=True))


def _is_lost(gap: stats.Verdict | None) -> bool:
    return gap is not None and gap.interval is not None and gap.interval.high < 0


def _kept_text(found: Quality) -> str:
    kept = found.kept
    if kept is None or kept.interval is None:
        return "unknown"
    text = retention(kept.estimate, kept.interval, in_points=found.in_points)
    tasks = ", ".join(test.series for test in found.tasks)
    needs = f"; {more}" if (more := found.needs()) else ""
    return f"{text} of {tasks} over {kept.documents:,} documents{needs}"


def _against_chance(row: QualityRow) -> stats.Verdict | None:
    if row.chance is None or not row.counted:
        return None
    return stats.compare_with_chance(round(row.value.value * row.n), row.n, row.chance)


def guesses(rows: Sequence[QualityRow]) -> bool:
    """Whether no metric of one variant on one task tells it from guessing."""
    verdicts = [verdict for row in rows if (verdict := _against_chance(row)) is not None]
    return bool(verdicts) and all(verdict.outcome == "noise" for verdict in verdicts)


def _above_chance(rows: Sequence[QualityRow]) -> list[QualityRow]:
    """Those a test shows above guessing, or for which guessing is not defined."""
    verdicts = [(row, _against_chance(row)) for row in rows]
    return [row for row, verdict in verdicts if verdict is None or verdict.outcome == "higher"]

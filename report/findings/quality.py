"""Take-aways about quality: what is noise, what is loss, what is no better than guessing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from report import stats
from report.differences import pair
from report.findings.finding import (
    Certainty,
    Facts,
    Finding,
    Scope,
    baseline_of,
    by_task,
    compared,
    machines,
    primary,
)
from report.rows.rows import Row, is_share

# Families are compared with the next lower one, from the best down, at most this many.
_FAMILIES = 8


def chance(facts: Facts) -> Iterator[Finding]:
    """What answers no better than guessing; "collapsed" where another of its family is better."""
    for scope, task, variants in by_task(facts):
        best = max((rows[0] for rows in variants), key=lambda r: (r["value"], r["variant"]))
        for rows in variants:
            row, verdict = rows[0], _against_chance(rows[0])
            if verdict is None or not guesses(rows):
                continue
            gap = None if row is best else facts.between(row, best, row["metric"])
            collapsed = gap is not None and gap.outcome == "lower"
            params = {
                "name": row["variant_name"],
                "task": task,
                "value": row["value"],
                "chance": row["chance"],
                "n": row["n"],
                "p": verdict.p,
                "collapsed": collapsed,
                "loss": gap,
                "best": best["variant_name"],
                "top": best["value"],
            }
            # A collapse is a loss that a test shows; only the guessing itself is no difference.
            certainty: Certainty = "shown" if collapsed else "noise"
            yield compared("chance", 22, scope, certainty, params, row, best)


def quality_noise(facts: Facts) -> Iterator[Finding]:
    """Variants that no metric of a task tells from the baseline, and what could have been told."""
    for scope, task, variants in by_task(facts):
        base = baseline_of([rows[0] for rows in variants])
        told = [(rows[0], [t for t in facts.gaps(rows) if t.verdict.interval]) for rows in variants]
        noise = [
            (row, tests)
            for row, tests in told
            if tests and all(test.verdict.outcome == "noise" for test in tests)
        ]
        if base is None or not noise:
            continue
        noise.sort(key=lambda each: (-each[0]["value"], each[0]["variant"]))
        gaps = [test for _, tests in noise for test in tests]
        params = {
            "family": scope.family,
            "task": task,
            "baseline": base["variant_name"],
            "variants": [row["variant_name"] for row, _ in noise],
            "gaps": gaps,
            "detectable": max((t.detectable for t in gaps if t.detectable), default=None),
            "alone": max((t.detectable_alone for t in gaps if t.detectable_alone), default=None),
            "tests": max(test.verdict.tests for test in gaps),
            "blind": [test for test in gaps if test.detectable is None],
            "n": min(row["n"] for row, _ in noise),
            "paired": all(test.paired for test in gaps),
        }
        shown = [row for row, _ in noise]
        yield compared("quality_noise", 23, scope, "noise", params, base, *shown)


def quality_change(facts: Facts) -> Iterator[Finding]:
    """Variants that a metric of a task tells from the baseline; guessing ones are in `chance`."""
    for scope, task, variants in by_task(facts):
        base = baseline_of([rows[0] for rows in variants])
        for rows in variants:
            tests = facts.gaps(rows)
            shown = [test for test in tests if test.verdict.significant]
            if base is None or not shown or guesses(rows):
                continue
            params = {
                "name": rows[0]["variant_name"],
                "baseline": base["variant_name"],
                "task": task,
                "shown": shown,
                "better": sum(test.verdict.outcome == "higher" for test in shown),
                "gaps": tests,
                "n": rows[0]["n"],
            }
            metrics = {test.metric for test in shown}
            rests_on = [row for row in rows if row["metric"] in metrics]
            yield compared("quality_change", 23, scope, "shown", params, *rests_on, base)


def families(facts: Facts) -> Iterator[Finding]:
    """Whether one family answers better than the next, every variant against every other."""
    for scope, everything in machines(facts.quality):
        for task in sorted({row["task"] for row in everything}):
            groups: dict[str, list[Row]] = {}
            for row in primary([row for row in everything if row["task"] == task]):
                if is_share(row["metric"]) and row["value"] is not None:
                    groups.setdefault(row["family"], []).append(row)
            able = {name: _above_chance(rows) for name, rows in sorted(groups.items())}
            ranked = sorted(
                (name for name, rows in able.items() if rows),
                key=lambda name: -max(row["value"] for row in able[name]),
            )
            for upper, lower in pairwise(ranked[:_FAMILIES]):
                left_out = [r for name in (upper, lower) for r in groups[name]]
                left_out = [r for r in left_out if r not in able[r["family"]]]
                yield _families(facts, scope, task, (able[upper], able[lower]), left_out)


def _families(
    facts: Facts, scope: Scope, task: str, able: tuple[list[Row], list[Row]], left_out: list[Row]
) -> Finding:
    upper, lower = able
    tests = [_gap(facts, a, b) for a in upper for b in lower]
    verdicts = stats.correct([test.verdict for test in tests])
    held = sum(verdict.outcome == "higher" for verdict in verdicts)
    single = sum(test.verdict.outcome == "higher" for test in tests)
    gaps = [verdict.estimate or 0.0 for verdict in verdicts]
    adjusted = [verdict.p_adjusted or 0.0 for verdict in verdicts]
    certainty: Certainty = "noise"
    if held == len(tests):
        certainty = "shown"
    elif min(gaps) > 0 and (held or single):
        certainty = "likely"
    params = {
        "upper": upper[0]["family"],
        "lower": lower[0]["family"],
        "task": task,
        "metric": upper[0]["metric"],
        "tests": len(tests),
        "held": held,
        "single": single,
        "ordered": min(gaps) > 0,
        "low": min(gaps),
        "high": max(gaps),
        "p_low": min(adjusted),
        "p_high": max(adjusted),
        "paired": all(test.paired for test in tests),
        "left_out": sorted(row["variant_name"] for row in left_out),
    }
    return compared("families", 24, scope, certainty, params, *upper, *lower)


def _gap(facts: Facts, a: Row, b: Row) -> pair.Difference:
    return pair.quality(facts.answers, a, b, fidelity=False)


def _against_chance(row: Row) -> stats.Verdict | None:
    if row["chance"] is None or not is_share(row["metric"]):
        return None
    return stats.compare_with_chance(round(row["value"] * row["n"]), row["n"], row["chance"])


def guesses(rows: Sequence[Row]) -> bool:
    """Whether no metric of one variant on one task tells it from guessing."""
    verdicts = [verdict for row in rows if (verdict := _against_chance(row)) is not None]
    return bool(verdicts) and all(verdict.outcome == "noise" for verdict in verdicts)


def _above_chance(rows: Sequence[Row]) -> list[Row]:
    """Those a test shows above guessing, or for which guessing is not defined."""
    verdicts = [(row, _against_chance(row)) for row in rows]
    return [row for row, verdict in verdicts if verdict is None or verdict.outcome == "higher"]

"""Take-aways that frame the others: what failed, what disturbs, what noise there is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby

from report import rates
from report.differences.compare import metric_text
from report.findings.finding import Certainty, Evidence, Facts, Finding, Scope, evidence, machines
from report.rows.drift import Again
from report.rows.rows import Row


def mixed_machines(facts: Facts) -> Iterator[Finding]:
    """Whether one hardware id stands for more than one kind of machine."""
    for scope, rows in machines(facts.speed + facts.quality):
        found: dict[str, dict[str, None]] = {}
        for row in rows:
            found.setdefault(row["machine"], {})[row["variant_name"]] = None
        if len(found) < 2:
            continue
        listed = [(machine, sorted(names)) for machine, names in sorted(found.items())]
        params = {"hardware": scope.hardware_name, "found": listed}
        yield Finding("mixed_machines", 5, scope, "fact", params, evidence(*rows))


def disturbed(facts: Facts) -> Iterator[Finding]:
    """Speed results taken while the clocks were limited or the processor was shared, and why."""
    for scope, rows in machines(facts.speed):
        marked = [row for row in rows if row["throttled"] or row["shared"]]
        if not marked:
            continue
        named = (row["throttle_reasons"] for row in marked if row["throttled"])
        reasons = sorted({reason for text in named if text for reason in text.split(", ")})
        params = {
            "variants": list(dict.fromkeys(row["variant_name"] for row in marked)),
            "throttled": any(row["throttled"] for row in marked),
            "shared": any(row["shared"] for row in marked),
            "reasons": reasons,
        }
        yield Finding("disturbed", 6, scope, "fact", params, evidence(*marked))


def random_weights(facts: Facts) -> Iterator[Finding]:
    """Speed results of weights that were drawn, not trained."""
    for scope, rows in machines(facts.speed):
        yield from _marked(scope, [r for r in rows if r["random_weights"]], "random_weights", 35)


def failed(facts: Facts) -> Iterator[Finding]:
    """Stages whose newest run failed; an older result, if any, is still shown."""
    newest = {(run["hardware"], run["variant"], run["stage"]): run for run in facts.runs}
    broken = [run for run in newest.values() if run["status"] == "failed"]
    for hardware, group in groupby(broken, key=lambda run: str(run["hardware"])):
        runs = list(group)
        scope = Scope("measured", hardware, runs[0]["hardware_name"])
        listed = [
            {"name": run["variant_name"], "stage": run["stage"], "error": run["error"]}
            for run in runs
        ]
        names = list(dict.fromkeys(run["variant_name"] for run in runs))
        params = {"count": len(runs), "variants": names, "runs": listed}
        shown = tuple(Evidence("", run["record"], run["variant_name"]) for run in runs)
        yield Finding("failed", 16, scope, "fact", params, shown)


def drift(facts: Facts) -> Iterator[Finding]:
    """How far two results of the very same thing on one machine lie apart; unstable if shown."""
    places: dict[tuple[str, str], list[Again]] = {}
    for again in facts.results.drift.repeated:
        place = (str(again.new["hardware"]), str(again.new["machine"]))
        places.setdefault(place, []).append(again)
    for _, own in sorted(places.items()):
        shown = [again for again in own if again.verdict.significant]
        widest = max(shown or own, key=_width)
        old, new = widest.old, widest.new
        params = {
            "machine": new["hardware_name"],
            "name": new["variant_name"],
            "metric": metric_text(new["metric"]),
            "load": rates.full(float(new["series"])),
            "floor": _width(widest)[0],
            "ratio": widest.verdict,
            "apart": _apart(old, new),
            "pairs": len({(again.old["record"], again.new["record"]) for again in own}),
        }
        scope = Scope("measured", new["hardware"], new["hardware_name"])
        rests_on = tuple(Evidence("", row["record"], row["variant_name"]) for row in (old, new))
        kind, rank = ("unstable", 4) if shown else ("noise_floor", 40)
        certainty: Certainty = "shown" if shown else "fact"
        yield Finding(kind, rank, scope, certainty, params, rests_on)


def unrepeated(facts: Facts) -> Iterator[Finding]:
    """Machines on which no variant was measured twice, so that their drift is unknown."""
    repeated = {again.new["hardware"] for again in facts.results.drift.repeated}
    for scope, rows in machines(facts.speed):
        if scope.source != "measured" or scope.hardware in repeated:
            continue
        best = next((row for row in rows if row["is_baseline"]), rows[0])
        params = {
            "machine": scope.hardware_name,
            "hardware": scope.hardware,
            "variant": best["variant"],
            "name": best["variant_name"],
        }
        yield Finding("unrepeated", 36, scope, "fact", params, evidence(best))


def _marked(scope: Scope, rows: list[Row], kind: str, rank: int) -> Iterator[Finding]:
    if rows:
        names = list(dict.fromkeys(row["variant_name"] for row in rows))
        yield Finding(kind, rank, scope, "fact", {"variants": names}, evidence(*rows))


def _width(again: Again) -> tuple[float, str, str]:
    ratio = again.verdict.estimate or 1.0
    return max(ratio, 1 / ratio), again.new["variant"], again.new["record"]


def _apart(old: Row, new: Row) -> str:
    """The time between two results in words, in the largest unit that counts two or more."""
    first, second = (datetime.fromisoformat(row["finished_at"]) for row in (old, new))
    minutes = round((second - first).total_seconds() / 60)
    for unit, size in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * size:
            return f"{minutes // size} {unit}"
    return f"{minutes} minutes"

"""Take-aways that frame the others: what failed, what disturbs, what noise there is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from report import stats
from report.finding import Evidence, Facts, Finding, Scope, evidence, machines
from report.load import rows_of
from report.rows import Row, estimate


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
    """Speed results taken while the processor was throttled or shared."""
    for scope, rows in machines(facts.speed):
        yield from _marked(
            scope, [r for r in rows if r["throttled"] or r["shared"]], "disturbed", 6
        )


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


def noise_floor(facts: Facts) -> Iterator[Finding]:
    """How far the two newest results of the very same thing on the same machine lie apart."""
    history = facts.results.history
    rows = rows_of(history[(history["stage"] == "speed") & (history["metric"] == "tpot_mean_ms")])
    widest: dict[str, tuple[float, stats.Verdict, Row, Row]] = {}
    pairs: dict[str, int] = {}
    same = ("hardware", "variant", "series", "key", "machine")
    ordered = sorted(rows, key=lambda row: [str(row[k]) for k in (*same, "finished_at", "record")])
    for _, group in groupby(ordered, key=lambda row: [row[k] for k in same]):
        *_, old, new = [None, None, *group]
        if old is None or new is None:
            continue
        verdict = stats.ratio(_repeats(new), _repeats(old))
        floor = stats.noise_floor(verdict)
        if floor is None:
            continue
        hardware = new["hardware"]
        pairs[hardware] = pairs.get(hardware, 0) + 1
        if hardware not in widest or floor > widest[hardware][0]:
            widest[hardware] = (floor, verdict, old, new)
    for hardware, (floor, verdict, old, new) in sorted(widest.items()):
        params = {
            "floor": floor,
            "ratio": verdict,
            "pairs": pairs[hardware],
            "name": new["variant_name"],
            "load": "unthrottled load" if new["series"] == "inf" else f"{new['series']} requests/s",
        }
        scope = Scope("measured", hardware, new["hardware_name"])
        shown = tuple(Evidence("", row["record"], row["variant_name"]) for row in (old, new))
        yield Finding("noise_floor", 40, scope, "fact", params, shown)


def _marked(scope: Scope, rows: list[Row], kind: str, rank: int) -> Iterator[Finding]:
    if rows:
        names = list(dict.fromkeys(row["variant_name"] for row in rows))
        yield Finding(kind, rank, scope, "fact", {"variants": names}, evidence(*rows))


def _repeats(row: Row) -> stats.Estimate | None:
    return estimate(row, "value", "n")

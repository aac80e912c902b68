"""Take-aways that frame the others: what failed, what disturbs, what noise there is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby

from report import numbers, rates
from report.differences.compare import metric_text
from report.findings import words
from report.findings.finding import Caution, Finding, Place, Scope, evidence
from report.rows.drift import Again
from report.rows.results import Results
from report.rows.rows import HistoryRow, Result


def mixed_machines(here: Place) -> Iterator[Finding]:
    """Whether one hardware id stands for more than one kind of machine."""
    rows: list[Result] = [*here.speed, *here.quality]
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        found.setdefault(row.machine, {})[row.variant_name] = None
    if len(found) < 2:
        return
    listed = [f"{machine}: {words.names(sorted(own))}" for machine, own in sorted(found.items())]
    headline = (
        f"The results under {here.scope.hardware_name} come from {len(found)} different machines"
    )
    detail = f"{'; '.join(listed)}. Differences between them are partly the machines'."
    yield Finding("mixed_machines", 5, here.scope, "fact", headline, detail, evidence(*rows))


def disturbed(here: Place) -> Iterator[Finding]:
    """Speed results taken while the clocks were limited or the processor was shared, and why."""
    marked = [row for row in here.speed if row.throttled or row.shared]
    if not marked:
        return
    reasons = sorted({why for row in marked if row.throttled for why in row.throttle_reasons})
    throttled = any(row.throttled for row in marked)
    shared = any(row.shared for row in marked)
    names = tuple(dict.fromkeys(row.variant_name for row in marked))
    headline, detail = f"{words.names(names)} ran", ""
    if throttled:
        headline += " with limited clocks"
        headline += f" ({', '.join(reasons)})" if reasons else ""
    if "power cap" in reasons:
        detail += (
            "A power cap is normal for a GPU at full load, but it holds the clocks down: under"
            " another limit the same card gives other numbers."
        )
    if throttled and reasons != ["power cap"]:
        detail += (
            " Clocks limited by heat or hardware make a result too slow: measure again on a"
            " cool machine."
        )
    if shared:
        headline += f"{' and' if throttled else ''} beside another process"
        detail += " Another process took part of the GPU: measure again on an idle one."
    yield Finding(
        "disturbed", 6, here.scope, "fact", headline, detail.strip(), evidence(*marked),
        caution=Caution("limited clocks or a shared GPU", names, of_speed=True),
    )  # fmt: skip


def random_weights(here: Place) -> Iterator[Finding]:
    """Speed results of weights that were drawn, not trained."""
    drawn = [row for row in here.speed if row.served.random_weights]
    if drawn:
        names = words.names(list(dict.fromkeys(row.variant_name for row in drawn)))
        headline = f"{names} ran with random weights: speed only"
        detail = "Random weights take the same memory and time; what they answer means nothing."
        yield Finding("random_weights", 35, here.scope, "fact", headline, detail, evidence(*drawn))


def failed(results: Results) -> Iterator[Finding]:
    """Stages whose newest run failed; an older result, if any, is still shown."""
    newest = {(run.hardware, run.variant, run.stage): run for run in results.runs}
    broken = [run for run in newest.values() if run.status == "failed"]
    for hardware, group in groupby(broken, key=lambda run: run.hardware):
        runs = list(group)
        scope = Scope("measured", hardware, runs[0].hardware_name)
        names = words.names(list(dict.fromkeys(run.variant_name for run in runs)))
        headline = f"{len(runs)} newest {'run' if len(runs) == 1 else 'runs'} failed: {names}"
        listed = [f"{run.variant_name}, {run.stage}: {run.error or 'no message'}" for run in runs]
        yield Finding("failed", 16, scope, "fact", headline, f"{'; '.join(listed)}.", tuple(runs))


def drift(results: Results) -> Iterator[Finding]:
    """How far two results of the very same thing on one machine lie apart; unstable if shown."""
    places: dict[tuple[str, str], list[Again]] = {}
    for again in results.drift.repeated:
        places.setdefault((again.new.hardware, again.new.machine), []).append(again)
    for _, own in sorted(places.items()):
        shown = [again for again in own if again.verdict.significant]
        widest = max(shown or own, key=_width)
        old, new = widest.old, widest.new
        machine, name, apart = new.hardware_name, new.variant_name, _apart(old, new)
        by = numbers.share(_width(widest)[0] - 1, 1)
        load = rates.full(new.request_rate_rps or 0.0)
        measured = f"{metric_text(new.metric)}, {load}"
        scope = Scope("measured", new.hardware, machine)
        if shown:
            headline = (
                f"{machine} is not stable: the same variant measured twice, {apart} apart,"
                f" differed by {by} %"
            )
            ratio = widest.verdict
            detail = (
                f"{name}, {measured}: {numbers.change(ratio.estimate)}{words.ends(ratio)}, p"
                f" {numbers.p_value(ratio.p_adjusted)} after correction. Repeats share one server"
                " session, so their intervals do not cover this; a difference between variants"
                " inside what its load and metric drifted is called noise here."
            )
            yield Finding("unstable", 4, scope, "shown", headline, detail, (old, new))
            continue
        pairs = len({(again.old.record, again.new.record) for again in own})
        headline = f"Measured again on {machine}, the same variant differed by at most {by} %"
        detail = (
            f"The widest of {pairs} {'measurement' if pairs == 1 else 'measurements'} taken twice:"
            f" {measured}, {name}, {apart} apart. No difference between variants inside what its"
            " load and metric drifted is called a finding."
        )
        yield Finding("noise_floor", 40, scope, "fact", headline, detail, (old, new))


def unrepeated(here: Place) -> Iterator[Finding]:
    """Whether no variant was measured twice on a machine, so that its drift is unknown."""
    repeated = {again.new.hardware for again in here.verdicts.results.drift.repeated}
    scope = here.scope
    if not here.speed or scope.source != "measured" or scope.hardware in repeated:
        return
    best = next((row for row in here.speed if row.is_baseline), here.speed[0])
    headline = (
        f"Nothing was measured twice on {scope.hardware_name}: intervals cover repeats within one"
        " server session only"
    )
    detail = (
        "How far sessions lie apart is unknown there, and a small difference may be that. To know,"
        f" measure {best.variant_name} again: bench run --force --stages speed --variants"
        f" {best.variant} --hardware {scope.hardware}."
    )
    yield Finding("unrepeated", 36, scope, "fact", headline, detail, evidence(best))


def _width(again: Again) -> tuple[float, str, str]:
    ratio = again.verdict.estimate or 1.0
    return max(ratio, 1 / ratio), again.new.variant, again.new.record


def _apart(old: HistoryRow, new: HistoryRow) -> str:
    """The time between two results in words, in the largest unit that counts two or more."""
    first, second = (datetime.fromisoformat(row.finished_at or "") for row in (old, new))
    minutes = round((second - first).total_seconds() / 60)
    for unit, size in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * size:
            return f"{minutes // size} {unit}"
    return f"{minutes} minutes"

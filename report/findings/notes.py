"""Take-aways that frame the others: what failed, what disturbs, what noise there is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby

from report import numbers, rates
from report.findings import words
from report.findings.finding import Caution, Finding, Place, Scope, evidence
from report.rows.results import Results
from report.rows.rows import Result


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
    yield Finding("mixed_machines", 26, here.scope, "fact", headline, detail, evidence(*rows))


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
        "disturbed", 27, here.scope, "fact", headline, detail.strip(), evidence(*marked),
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
        stages: dict[str, dict[str, list[str]]] = {}  # by reason: one often stops several
        for run in runs:
            of_reason = stages.setdefault(run.error or "no message", {})
            of_reason.setdefault(run.variant_name, []).append(run.stage)
        listed = [
            f"{words.names([f'{name} ({words.names(own)})' for name, own in each.items()])}: {why}"
            for why, each in stages.items()
        ]
        yield Finding("failed", 28, scope, "fact", headline, f"{'; '.join(listed)}.", tuple(runs))


def one_session(here: Place) -> Iterator[Finding]:
    """Variants whose speed rests on one session of the server: shown, and not judged."""
    if here.scope.source != "measured":
        return
    most = {row.variant: 0 for row in here.speed}
    for row in here.speed:
        most[row.variant] = max(most[row.variant], row.sessions)
    alone = [row for row in here.speed if most[row.variant] == 1]
    if not alone:
        return
    names = words.names(sorted({row.variant_name for row in alone}))
    headline = f"One session only, so no verdict on speed: {names}"
    detail = (
        "Whenever a server starts, its memory layout, clocks and neighbours are others. How much"
        f" that matters on {here.scope.hardware_name} shows in two sessions or more: bench run"
        f" --hardware {here.scope.hardware} measures what is missing."
    )
    yield Finding("one_session", 36, here.scope, "one run", headline, detail, evidence(*alone))


def session_spread(results: Results) -> Iterator[Finding]:
    """How far sessions of the same variant scatter on a machine, in the metrics judged."""
    for place, machine in sorted(results.machines.items()):
        asked = dict.fromkeys(each for own in machine.judged.values() for each in own)
        known = [(machine.pools[each].variance, each) for each in asked if each in machine.pools]
        known = [(variance, each) for variance, each in known if variance > 0]
        if not known:
            continue
        variance, (metric, workload) = max(known)
        own = [row for row in results.speed if row.source == "measured" and row.place == place]
        rows = [row for row in own if row.workload == workload and row.sessions > 1]
        scatter = numbers.share(math.expm1(math.sqrt(variance)), 1)
        scope = Scope("measured", rows[0].hardware, rows[0].hardware_name)
        headline = (
            f"Sessions of the same variant scatter by {scatter} % (standard deviation) on"
            f" {scope.hardware_name}"
        )
        detail = (
            f"Pooled over variants, where it is largest: {metric.label} at"
            f" {rates.load(workload[0])}. Every interval of a speed rests on it."
        )
        yield Finding("session_spread", 40, scope, "measured", headline, detail, evidence(*rows))

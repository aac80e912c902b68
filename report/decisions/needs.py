"""How much evidence a decision needs, for `bench plan`: sessions of speed, documents of quality.

From how far sessions lie apart and how many answers flip so far. Where nobody has seen that yet, a
guess stands in for it, and is told as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bench.config import Experiment, Family, Hardware, Variant
from report.differences.families import Verdicts
from report.differences.pair import least
from report.rows.results import Results
from report.rows.rows import Kin
from report.stats import recovery
from report.stats.planning import Design, sessions_needed

GUESSED_SPREAD = 0.03
"""Of sessions, where no variant on the machine has two."""
GUESSED_FLIPS = 0.05
"""The share of answers that flip, where no variant and its baseline answered the same documents."""
GUESSED_SCORE = 0.7
"""Of the baseline, of which a variant must keep a share."""

Key = tuple[str, str, str]  # hardware, variant, stage


@dataclass(frozen=True, slots=True)
class Need:
    """How many sessions or documents, all in all, and whether that rests on a guess."""

    count: int
    guessed: bool


def kin(experiment: Experiment, results: Results) -> set[Kin]:
    """The families whose measured answers say what an experiment needs."""
    asked = {(hardware.id, variant.id) for variant, hardware in experiment.pairs()}
    return {
        row.kin
        for row in results.quality
        if row.source == "measured" and (row.hardware, row.variant) in asked
    }


def needs(experiment: Experiment, verdicts: Verdicts) -> dict[Key, Need]:
    """What each variant of a family needs on each kind of hardware; not what nothing decides.

    A baseline needs what the neediest of its variants does: every difference is one from it.
    A variant alone has nothing to be set against.
    """
    found: dict[Key, Need] = {}
    on: dict[str, list[Variant]] = {hardware.id: [] for hardware in experiment.hardware}
    for variant, where in experiment.pairs():
        on[where.id].append(variant)
    for hardware in experiment.hardware:
        here = on[hardware.id]
        for family in experiment.family:
            own = [variant for variant in here if variant.family == family.name]
            timed = [variant for variant in own if "speed" in variant.stages]
            if len(timed) > 1:
                speed = _sessions(experiment, verdicts, hardware, timed, len(here))
                found |= {(hardware.id, variant.id, "speed"): speed for variant in timed if speed}
            found |= {
                (hardware.id, variant.id, "quality"): need
                for variant, need in _documents(experiment, verdicts, hardware, family, own)
            }
    return found


def _sessions(
    experiment: Experiment,
    verdicts: Verdicts,
    hardware: Hardware,
    family: list[Variant],
    pooled: int,
) -> Need | None:
    """Sessions that show the difference asked for in all three metrics; None beyond a hundred."""
    spreads = list(_spreads(verdicts, hardware, family[0].family))
    design = Design(max(spreads, default=GUESSED_SPREAD), len(family), pooled)
    count = sessions_needed(design, 1 + experiment.decision.speed_difference)
    return None if count is None else Need(count, guessed=not spreads)


def _spreads(verdicts: Verdicts, hardware: Hardware, family: str) -> Iterator[float]:
    """How far sessions lie apart in a family's judged metrics, of logarithms, where known."""
    for (where, _), machine in verdicts.results.machines.items():
        if where != hardware.id:
            continue
        for measure in machine.judged.get(family, ()):
            pool = machine.pools.get(measure)
            if pool is not None and pool.variance > 0:
                yield math.sqrt(pool.variance)


def _documents(
    experiment: Experiment,
    verdicts: Verdicts,
    hardware: Hardware,
    family: Family,
    variants: list[Variant],
) -> Iterator[tuple[Variant, Need]]:
    """Documents of each variant that is set against the baseline, and of that the most."""
    asked = {
        variant.id: _of_variant(experiment, verdicts, hardware, variant)
        for variant in variants
        if variant.name != family.baseline and "quality" in variant.stages
    }
    yield from ((variant, asked[variant.id]) for variant in variants if variant.id in asked)
    if asked:
        most = max(asked.values(), key=lambda need: need.count)
        yield from ((variant, most) for variant in variants if variant.name == family.baseline)


def _of_variant(
    experiment: Experiment, verdicts: Verdicts, hardware: Hardware, variant: Variant
) -> Need:
    judged = verdicts.decision(("measured", hardware.id, variant.id))
    if judged is not None and judged.kept is not None:
        return Need(judged.kept.documents + (judged.decision.more_documents or 0), guessed=False)
    margin = experiment.decision.asked()
    if "points" in margin:
        return Need(recovery.documents_needed(GUESSED_FLIPS, -least(margin)), guessed=True)
    scatter = GUESSED_FLIPS / GUESSED_SCORE**2
    return Need(recovery.documents_needed(scatter, 1 - least(margin)), guessed=True)

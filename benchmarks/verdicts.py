"""Do the verdicts hold? Reports on simulated truths, and how often they are wrong.

    ./run python benchmarks/verdicts.py [--experiments N] [--quick]

This prints the tables of `verdicts.md`; what stands below them there is written by hand. Each cell
is one truth. Its experiments are drawn with a fixed seed, judged by the product's own
functions, and the verdicts compared with the truth. `judge_speed` and `judge_quality` are all that
stands between a simulated experiment and its verdicts.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import numpy.typing as npt
from tabulate import tabulate

from report.stats import probabilities, recovery, sessions
from report.stats.recovery import Decision, Kept
from report.stats.sessions import Comparison, Spread

Floats = npt.NDArray[np.float64]
Measurements = dict[str, dict[str, list[float]]]  # by metric and variant: one for each session
# The variant's and the baseline's score of each document, and the documents' weights.
Task = tuple[Floats, Floats, Floats | None]

METRICS = {"ttft": False, "tpot": False, "throughput": True}  # whether higher is faster
BASELINE = "variant 0"
LEAST = 0.99  # the recovery that counts as kept
JUST_LOST = LEAST - 1e-6
SCORE = 0.64  # of the baseline, in right answers
ALL_ALIKE = Spread({}, {}, {}, likeness=0.0)  # no moderation: one variance for all variants


# -- What is simulated, and how it is judged -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """How the sessions of one machine come about.

    A session's number is the truth times the luck of its session and of its one repeat, which
    together have the standard deviation `apart` (for each metric) times `relative` (of the
    variant); `shared` is the part of their variance that is the same for all metrics. `faster` is
    how much faster each variant is, in every metric; the first one is the baseline.
    """

    apart: tuple[float, float, float] = (0.05, 0.05, 0.05)
    relative: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    shuffled: bool = False  # which variant has which spread differs from experiment to experiment
    in_one_metric: bool = False  # only there is it not 1
    shared: float = 0.0
    heavy: bool = False
    faster: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)


def simulate_speed(machine: Machine, count: int, random: np.random.Generator) -> Measurements:
    """One number for each of so many sessions."""

    def luck(*shape: int) -> Floats:
        if machine.heavy:
            return random.standard_t(3, shape) / math.sqrt(3)
        return random.standard_normal(shape)

    variants = len(machine.relative)
    relative = np.array(machine.relative)
    if machine.shuffled:
        relative = random.permutation(relative)
    alike = luck(1, variants, count) * math.sqrt(machine.shared)
    own = luck(len(METRICS), variants, count) * math.sqrt(1 - machine.shared)
    logs = (alike + own) * np.array(machine.apart)[:, None, None]
    logs[: 1 if machine.in_one_metric else None] *= relative[:, None]
    logs += np.log(machine.faster)[:, None]
    return {
        metric: {
            f"variant {n}": np.exp(each if higher_is_faster else -each).tolist()
            for n, each in enumerate(logs_of_metric)
        }
        for (metric, higher_is_faster), logs_of_metric in zip(METRICS.items(), logs, strict=True)
    }


def judge_speed(measured: Measurements, spread: Spread | None = None) -> tuple[Comparison, ...]:
    """The verdicts of a report on one family."""
    pools = {metric: sessions.pool(values) for metric, values in measured.items()}
    spread = sessions.find_spread(measured) if spread is None else spread
    family = list(measured["ttft"])
    return sessions.compare_family(pools, spread, family, BASELINE)


def judge_quality(tasks: Sequence[Task]) -> tuple[Kept | None, Decision]:
    """The recovery of one variant over all tasks, and the decision on it."""
    kept = recovery.average([recovery.recovery(*sides, weights=w) for *sides, w in tasks])
    return kept, recovery.decide(kept, LEAST)


def answers(
    random: np.random.Generator, documents: int, score: float, flips: float, kept: float
) -> Task:
    """Right and wrong answers, of which so many flip and the variant keeps so much."""
    loss = (1 - kept) * score
    gained, lost = (flips - loss) / 2, (flips + loss) / 2
    shares = [score - lost, gained, lost, 1 - score - gained]
    counts = random.multinomial(documents, shares)
    variant, baseline = np.repeat([1.0, 1.0, 0.0, 0.0], counts), np.repeat([1.0, 0, 1, 0], counts)
    return variant, baseline, None


def generated(random: np.random.Generator, documents: int, kept: float) -> Task:
    """Generated answers: each document's mean over three seeds, which sample anew."""
    chance = random.beta(1.2, 0.8, documents)
    return random.binomial(3, chance * kept) / 3, random.binomial(3, chance) / 3, None


def subjects(random: np.random.Generator, kept: float, *, alike: bool) -> Task:
    """57 subtasks, easy and hard, small and large, pooled; `alike` if each counts the same."""
    sizes = np.linspace(60, 180, 57).astype(int)
    scores = np.linspace(0.35, 0.93, 57)
    parts = [answers(random, n, s, 0.06, kept) for n, s in zip(sizes, scores, strict=True)]
    variant, baseline = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    return variant, baseline, np.repeat(1 / sizes, sizes) if alike else None


# -- What is counted -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bound:
    """A promise about a share: it lies between the two."""

    low: float
    high: float

    def holds(self, share: float, experiments: int, errors: float = 0.0) -> bool:
        """Whether a measured share keeps it, give or take so many Monte-Carlo standard errors."""
        return all(
            sign * (share - end) <= errors * math.sqrt(end * (1 - end) / experiments)
            for sign, end in ((-1, self.low), (1, self.high))
        )

    def __str__(self) -> str:
        if self.low == 0:
            return f"≤ {100 * self.high:g}"
        if self.high == 1:
            return f"≥ {100 * self.low:g}"
        return f"{100 * self.low:g}–{100 * self.high:g}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One share of one cell; without a bound it is told, not promised."""

    section: str
    cell: str
    column: str
    bound: Bound | None
    share: float
    experiments: int

    def __str__(self) -> str:
        digits = 2 if self.share < 0.01 else 1
        kept = self.bound is None or self.bound.holds(self.share, self.experiments)
        return f"{100 * self.share:.{digits}f}{'' if kept else ' ✗'}"


@dataclass(frozen=True, slots=True)
class SpeedShares:
    """Shares of reports with a false verdict, with all truths covered, with a wrong sign.

    `shown` is a share of single verdicts: those of the first variant that is no baseline.
    """

    false: float
    covered: float
    wrong_sign: float
    shown: float


def speed_shares(
    machine: Machine,
    count: int,
    experiments: int,
    seed: Sequence[int],
    spread: Spread | None = None,
) -> SpeedShares:
    """Judges so many reports, each on so many sessions of every variant."""
    random = np.random.default_rng(seed)
    truth = {f"variant {n}": faster for n, faster in enumerate(machine.faster)}
    totals = np.zeros(4)
    for _ in range(experiments):
        false = wrong = covered = shown = 0
        verdicts = judge_speed(simulate_speed(machine, count, random), spread)
        for each in verdicts:
            higher_is_faster = METRICS[each.metric]
            faster = truth[each.variant] / truth[each.baseline]
            right = "faster" if faster > 1 else "slower" if faster < 1 else None
            told = each.speed(higher_is_faster=higher_is_faster)
            if told in ("faster", "slower") and told != right:
                false += 1
                wrong += right is not None
            true_ratio = faster if higher_is_faster else 1 / faster
            covered += each.interval is not None and true_ratio in each.interval
            shown += told == right and (each.variant, each.baseline) == ("variant 1", BASELINE)
        totals += (false > 0, covered == len(verdicts), wrong > 0, shown / len(METRICS))
    return SpeedShares(*(totals / experiments).tolist())


def quality_shares(
    simulate: Callable[[np.random.Generator], Sequence[Task]],
    truth: float,
    experiments: int,
    seed: Sequence[int],
) -> dict[str, float]:
    """Shares of experiments that end in each outcome, and whose interval covers the truth."""
    random = np.random.default_rng(seed)
    counts = dict.fromkeys(("keeps", "loses", "undecided", "unknown", "covered"), 0)
    for _ in range(experiments):
        kept, decision = judge_quality(simulate(random))
        counts[decision.outcome] += 1
        interval = None if kept is None else kept.interval
        counts["covered"] += interval is not None and truth in interval
    return {name: count / experiments for name, count in counts.items()}


# -- The cells -------------------------------------------------------------------------------------

NEVER, FALSE, UNEQUAL, HEAVY = (Bound(0, high) for high in (0.001, 0.05, 0.07, 0.06))
ONE_NOISY, RISING = (4.0, 1.0, 1.0, 1.0), (1.0, 4 ** (1 / 3), 4 ** (2 / 3), 4.0)
SLOW_ALIKE = "a slow session is as slow in all metrics"
# Repeats of the committed H100 records lie so far apart (median of ten servers); sessions, of
# which they have one each, are taken to lie 5 % apart beside that.
RECORDED = tuple(math.hypot(repeats, 0.05) for repeats in (0.068, 0.056, 0.050))
NOTHING_DIFFERS: dict[str, tuple[Machine, Bound]] = {
    "sessions alike, repeats 1 % apart": (Machine((0.01,) * 3), FALSE),
    "sessions 1 % apart, repeats 1 %": (Machine((0.01414,) * 3, shared=0.5), FALSE),
    "sessions 5 % apart": (Machine(), FALSE),
    f"5 %, {SLOW_ALIKE}": (Machine(shared=0.96), FALSE),
    "as far apart as the committed H100 records": (Machine(RECORDED), FALSE),  # type: ignore[arg-type]
    "heavy tails (t with 3 degrees of freedom)": (Machine(heavy=True), HEAVY),
    f"heavy tails, {SLOW_ALIKE}": (Machine(heavy=True, shared=0.96), HEAVY),
    "one variant four times as far apart": (Machine(relative=ONE_NOISY, shuffled=True), UNEQUAL),
    "two variants four times": (Machine(relative=(4, 4, 1, 1), shuffled=True), UNEQUAL),
    "spreads from one to four times": (Machine(relative=RISING, shuffled=True), UNEQUAL),
    f"one variant four times, {SLOW_ALIKE}": (
        Machine(relative=ONE_NOISY, shuffled=True, shared=0.96),
        UNEQUAL,
    ),
    "worst case: always the baseline four times": (Machine(relative=ONE_NOISY), UNEQUAL),
    "worst case: one variant four times, in one metric only": (
        Machine(relative=ONE_NOISY, shuffled=True, in_one_metric=True),
        UNEQUAL,
    ),
}
SOMETHING = (1.0, 1.2, 1.05, 0.9)
DIFFERENT: dict[str, Machine] = {
    "sessions 1 % apart": Machine((0.01,) * 3, faster=SOMETHING),
    "sessions 5 % apart": Machine(faster=SOMETHING),
    f"5 %, {SLOW_ALIKE}": Machine(shared=0.96, faster=SOMETHING),
    "heavy tails": Machine(heavy=True, faster=SOMETHING),
    "one variant four times as far apart": Machine(
        relative=ONE_NOISY, shuffled=True, faster=SOMETHING
    ),
}
SHOWN: tuple[tuple[str, Machine, Bound | None], ...] = (
    ("+5 %, sessions 1 % apart", Machine((0.01,) * 3, faster=(1, 1.05, 1, 1)), Bound(0.9, 1)),
    ("+20 %, sessions 5 % apart", Machine(faster=(1, 1.2, 1, 1)), Bound(0.7, 1)),
    (f"+20 %, 5 %, {SLOW_ALIKE}", Machine(shared=0.96, faster=(1, 1.2, 1, 1)), Bound(0.7, 1)),
    (
        "+5 %, sessions 1 % apart and repeats 1 % on top",
        Machine((0.01414,) * 3, shared=0.5, faster=(1, 1.05, 1, 1)),
        None,
    ),
)
Truth = Callable[[np.random.Generator, float], list[Task]]  # with what the variant keeps
QUALITY: dict[str, Truth] = {
    "400 documents, 5 % of answers flip": lambda r, kept: [answers(r, 400, SCORE, 0.05, kept)],
    "2,000 documents, 5 %": lambda r, kept: [answers(r, 2000, SCORE, 0.05, kept)],
    "2,000 documents, 2 %": lambda r, kept: [answers(r, 2000, SCORE, 0.02, kept)],
    "10,000 documents, 10 %": lambda r, kept: [answers(r, 10_000, SCORE, 0.10, kept)],
    "57 subtasks, pooled by their documents": lambda r, kept: [subjects(r, kept, alike=False)],
    "57 subtasks, each counts alike": lambda r, kept: [subjects(r, kept, alike=True)],
    "1,000 generated answers, mean of three seeds": lambda r, kept: [generated(r, 1000, kept)],
    "mean over four tasks": lambda r, kept: [
        answers(r, 1300, 0.55, 0.05, kept),
        answers(r, 2500, 0.80, 0.04, kept),
        answers(r, 1200, 0.35, 0.08, kept),
        generated(r, 500, kept),
    ],
}
COVERS, RECOVERY_COVERS = Bound(0.94, 0.98), Bound(0.93, 0.97)
FALSE_LOSS, FALSE_KEEP, POWER = Bound(0, 0.025), Bound(0, 0.05), Bound(0.77, 0.85)
NOISY = ("sessions 5 % apart", "one variant four times as far apart", *list(NOTHING_DIFFERS)[-2:])
# Of the cells, those that break first.
QUICK_SPEED = (
    ("worst case: always the baseline four times", 2),
    ("sessions 5 % apart", 3),
    (f"one variant four times, {SLOW_ALIKE}", 3),
    ("sessions 5 % apart", 5),
)
QUICK_QUALITY = ("2,000 documents, 5 %", "57 subtasks, pooled by their documents")

FALSE_VERDICTS = "Speed: nothing differs. Reports with any false verdict, %"
UNMODERATED = "The same without moderation: one variance for all variants, %"
INTERVALS = (
    "Speed: three variants are 20 and 5 % faster and 10 % slower, three sessions. Reports, %"
)
DIFFERENCES = "Speed: a true difference is shown, %"
DECISIONS = (
    "Quality: a variant keeps all, or just less than 99 %, of the baseline's score. Reports, %"
)
BESIDES = "Quality: what is told besides, %"


def run(experiments: int, *, quick: bool = False) -> Iterator[Measured]:
    """All cells; or, quick, those that break first."""
    yield from _run_speed(experiments, quick=quick)
    yield from _run_quality(experiments, quick=quick)


def _run_speed(experiments: int, *, quick: bool) -> Iterator[Measured]:
    every = [(name, count) for name in NOTHING_DIFFERS for count in (2, 3, 5)]
    for name, count in QUICK_SPEED if quick else every:
        machine, bound = NOTHING_DIFFERS[name]
        shares = speed_shares(machine, count, experiments, _seed(name, count))
        column = f"{count} sessions"
        yield Measured(FALSE_VERDICTS, name, column, bound, shares.false, experiments)
    for name in () if quick else NOISY:
        machine, _ = NOTHING_DIFFERS[name]
        shares = speed_shares(machine, 3, experiments, _seed(name, 3), ALL_ALIKE)
        yield Measured(UNMODERATED, name, "3 sessions", None, shares.false, experiments)
    for name, machine in DIFFERENT.items():
        if quick and name != "sessions 5 % apart":
            continue
        shares = speed_shares(machine, 3, experiments, _seed("different", name))
        for column, bound, share in (
            (f"all intervals cover ({COVERS})", COVERS, shares.covered),
            (f"wrong sign ({NEVER})", NEVER, shares.wrong_sign),
        ):
            yield Measured(INTERVALS, name, column, bound, share, experiments)
    for name, machine, promise in SHOWN:
        if quick and promise is None:
            continue
        for count in (3,) if quick else (2, 3, 5):
            shares = speed_shares(machine, count, experiments, _seed("shown", name, count))
            promised = promise if count == 3 else None
            column = f"{count} sessions"
            yield Measured(DIFFERENCES, name, column, promised, shares.shown, experiments)


def _keeping(truth: Truth, kept: float) -> Callable[[np.random.Generator], list[Task]]:
    return lambda random: truth(random, kept)


def _one_task(documents: int, flips: float, random: np.random.Generator) -> list[Task]:
    return [answers(random, documents, SCORE, flips, 1.0)]


def _run_quality(experiments: int, *, quick: bool) -> Iterator[Measured]:
    for name, truth in QUALITY.items():
        if quick and name not in QUICK_QUALITY:
            continue
        equal, lost = (
            quality_shares(_keeping(truth, kept), kept, experiments, _seed(name, kept))
            for kept in (1.0, JUST_LOST)
        )
        for column, bound, share in (
            (f"all kept: “loses” ({FALSE_LOSS})", FALSE_LOSS, equal["loses"]),
            ("all kept: “keeps”", None, equal["keeps"]),
            (f"all kept: covered ({RECOVERY_COVERS})", RECOVERY_COVERS, equal["covered"]),
            (f"just lost: “keeps” ({FALSE_KEEP})", FALSE_KEEP, lost["keeps"]),
            (f"just lost: covered ({RECOVERY_COVERS})", RECOVERY_COVERS, lost["covered"]),
        ):
            yield Measured(DECISIONS, name, column, bound, share, experiments)
    for flips in (0.02,) if quick else (0.02, 0.10):
        documents = recovery.documents_needed(flips / SCORE**2, 1 - LEAST)
        name = f"{100 * flips:g} % flip, the {documents:,} documents asked for: “keeps”"
        shares = quality_shares(
            partial(_one_task, documents, flips),
            1.0, experiments, _seed(name),
        )  # fmt: skip
        yield Measured(BESIDES, name, "measured", POWER, shares["keeps"], experiments)
    random = np.random.default_rng(_seed("three variants"))
    any_kept = sum(
        any(
            judge_quality([answers(random, 2000, SCORE, 0.05, JUST_LOST)])[1].outcome == "keeps"
            for _ in range(3)
        )
        for _ in range(experiments)
    )
    name = "three variants, all just lost: any “keeps”"
    yield Measured(BESIDES, name, "measured", None, any_kept / experiments, experiments)
    yield from _run_probabilities(experiments)


def _run_probabilities(experiments: int) -> Iterator[Measured]:
    """Perplexity as a recovery, and the probabilities beside the answers they lead to."""
    random = np.random.default_rng(_seed("probabilities"))
    covered = kept_falsely = moved_falsely = moved = flipped = 0
    for _ in range(experiments):
        lengths = np.ceil(random.lognormal(5.5, 0.7, 60))
        before = random.normal(-3.0, 0.3, 60) * lengths
        after = before + random.normal(math.log(JUST_LOST), 0.06, 60) * lengths
        kept = recovery.recovery_of_perplexity(after, before, lengths)
        assert kept is not None and kept.interval is not None
        covered += JUST_LOST in kept.interval
        kept_falsely += recovery.decide(kept, LEAST).outcome == "keeps"
        base = random.beta(1.2, 0.8, 400)
        equal, lower = (base + random.normal(mean, 0.05, 400) for mean in (0.0, -0.01))
        change = probabilities.compare_right_probabilities(equal, base)
        moved_falsely += change is not None and change.outcome != "no difference found"
        change = probabilities.compare_right_probabilities(lower, base)
        moved += change is not None and change.outcome == "lower"
        by_answers = recovery.difference((lower > 0.5).astype(float), (base > 0.5).astype(float))
        assert by_answers is not None and by_answers.interval is not None
        flipped += by_answers.interval.high < 0
    for name, bound, count in (
        ("perplexity of 60 texts, just lost: covered", RECOVERY_COVERS, covered),
        ("perplexity of 60 texts, just lost: “keeps”", FALSE_KEEP, kept_falsely),
        ("probability of the right choice, 400 documents, alike: told", FALSE, moved_falsely),
        ("the same, one percentage point lower: told", None, moved),
        ("by the answers that this flips: told", None, flipped),
    ):
        yield Measured(BESIDES, name, "measured", bound, count / experiments, experiments)


def _seed(*names: object) -> list[int]:
    """The same for the same cell, whatever other cells there are."""
    return [ord(letter) for letter in "/".join(map(str, names))]


# -- What is printed -------------------------------------------------------------------------------

ABOUT = """\
# Do the verdicts hold?

`./run python benchmarks/verdicts.py`, {experiments:,} experiments a cell: a measured 5 % has a
standard error of {error:.1f} points. Each experiment is a simulated report: a baseline and three
variants, three metrics, one repeat in each session; judged by the functions that judge real
records. ✗ marks a promise that is not kept. "Apart" is a standard deviation, of everything that
makes a session's number differ from the truth.
"""


def tables(measured: Sequence[Measured]) -> Iterator[str]:
    """A Markdown table for each section: cells down, what is measured across."""
    for section in dict.fromkeys(each.section for each in measured):
        here = [each for each in measured if each.section == section]
        columns = list(dict.fromkeys(each.column for each in here))
        by_place = {(each.cell, each.column): str(each) for each in here}
        bounds = {each.cell: str(each.bound) for each in here if each.bound}
        promised_by_row = bool(bounds) and section not in (INTERVALS, DECISIONS)
        rows = [
            [
                cell,
                *([bounds.get(cell, "–")] if promised_by_row else []),
                *(by_place.get((cell, column), "") for column in columns),
            ]
            for cell in dict.fromkeys(each.cell for each in here)
        ]
        headers = ["truth", *(["promise"] if promised_by_row else []), *columns]
        table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
        yield f"## {section}\n\n{table}\n"


def main() -> None:
    """Prints the tables, and each cell on the way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=4000)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    measured = []
    for each in run(asked.experiments, quick=asked.quick):
        measured.append(each)
        print(f"{each.cell} | {each.column}: {each} ({each.bound})", file=sys.stderr, flush=True)
    error = 100 * math.sqrt(0.05 * 0.95 / asked.experiments)
    print(ABOUT.format(experiments=asked.experiments, error=error))
    print("\n".join(tables(measured)))


if __name__ == "__main__":
    main()

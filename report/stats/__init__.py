"""The only place where intervals, ratios and verdicts are computed; from plain numbers alone.

What the data do not carry is None, "unknown": never NaN, and never a guess. Everywhere `value`
or `a` is compared with `baseline` or `b`: a ratio is a / b, a difference a − b.
"""

from report.stats.accuracy import (
    PairedComparison,
    compare_counts,
    compare_paired,
    compare_with_chance,
    detectable_paired,
    detectable_unpaired,
    flipped_answers,
    loglikelihood_shift,
    proportion,
)
from report.stats.repeats import changes, mean
from report.stats.verdict import (
    Estimate,
    Interval,
    Outcome,
    Speed,
    Verdict,
    correct,
    holm,
    invert,
    speed,
)

__all__ = [
    "Estimate",
    "Interval",
    "Outcome",
    "PairedComparison",
    "Speed",
    "Verdict",
    "changes",
    "compare_counts",
    "compare_paired",
    "compare_with_chance",
    "correct",
    "detectable_paired",
    "detectable_unpaired",
    "flipped_answers",
    "holm",
    "invert",
    "loglikelihood_shift",
    "mean",
    "proportion",
    "speed",
]

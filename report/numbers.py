"""Numbers as a reader sees them: rounded once, here; what is missing is the word "unknown"."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

UNKNOWN = "unknown"
MINUS = "−"
Form = Callable[[float | None], str]


def number(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits, never fewer than all of the whole part: 1,053 and 0.0432."""
    if value is None:
        return UNKNOWN
    if value == 0 or isinstance(value, int):
        return f"{value:,.0f}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(decimals, 6)}f}".replace("-", MINUS)


def whole(value: float | None) -> str:
    """A count."""
    return UNKNOWN if value is None else f"{int(value):,}"


def share(value: float | None, decimals: int = 2) -> str:
    """A proportion in percent, without the sign: 63.75."""
    return UNKNOWN if value is None else f"{100 * value:.{decimals}f}".replace("-", MINUS)


def points(value: float | None, decimals: int = 2) -> str:
    """A difference of proportions in percentage points, always signed: −1.25."""
    return UNKNOWN if value is None else signed(100 * value, decimals)


def signed(value: float, decimals: int = 1) -> str:
    """A number with its sign in text; zero has none."""
    text = f"{abs(value):.{decimals}f}"
    if float(text) == 0:
        return text
    return f"{MINUS if value < 0 else '+'}{text}"


def score(unit: str) -> Form:
    """How a score of a unit is told: a share in percent, anything else as a number."""
    return share if unit == "share" else partial(number, digits=4)


def score_gap(unit: str) -> Form:
    """How a difference of scores of a unit is told, with its sign."""
    return points if unit == "share" else _signed_number


def _signed_number(value: float | None) -> str:
    if value is None or value == 0:
        return number(value)
    return f"{MINUS if value < 0 else '+'}{number(abs(value))}"


def change(ratio: float | None) -> str:
    """A ratio as a change in percent: 0.658 is −34.2 %."""
    return UNKNOWN if ratio is None else f"{signed(100 * (ratio - 1))} %"


def interval(low: float, high: float, form: Form = number) -> str:
    """Both ends of an interval."""
    return f"{form(low)} – {form(high)}"


def p_value(p: float | None, equals: str = "= ") -> str:
    """A p-value with its relation, two significant digits: = 0.42, < 0.001."""
    if p is None:
        return UNKNOWN
    return "< 0.001" if p < 0.001 else f"{equals}{p:.{2 if p >= 0.095 else 3}f}"


def bytes_(value: float | None) -> str:
    """A size in the binary unit that fits it."""
    if value is None:
        return UNKNOWN
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value} bytes"


def moment(stamp: str | None) -> str:
    """An ISO 8601 time in UTC to the second, as a table has it."""
    return str(stamp).replace("T", " ").removesuffix("Z")


def date(stamp: str | None) -> str:
    """The day of an ISO 8601 time, or as much of it as is known."""
    return UNKNOWN if not stamp else str(stamp)[:10]

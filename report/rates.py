"""A request rate in words: every form that the report has of it.

A rate counts requests per second and is infinite where they are not throttled.
"""

from __future__ import annotations

import math


def name(rate: float) -> str:
    """10, 2.5 or inf: in ids and in exported texts."""
    return _text(rate, "", "inf")


def short(rate: float) -> str:
    """10/s or unthrottled: in a table."""
    return _text(rate, "/s", "unthrottled")


def full(rate: float) -> str:
    """10 requests/s or unthrottled: where no heading tells the unit."""
    return _text(rate, " requests/s", "unthrottled")


def load(rate: float) -> str:
    """10 requests/s or unthrottled load: in a sentence, after "at"."""
    return _text(rate, " requests/s", "unthrottled load")


def short_load(rate: float) -> str:
    """10/s or unthrottled load: after "at" where room is short."""
    return _text(rate, "/s", "unthrottled load")


def note(rate: float) -> str:
    """At 10/s or unthrottled: under a number."""
    return short(rate) if math.isinf(rate) else f"at {short(rate)}"


def sort_value(rate: float) -> float:
    """A finite number that sorts as the rate does."""
    return min(rate, 1e12)


def _text(rate: float, unit: str, unthrottled: str) -> str:
    return unthrottled if math.isinf(rate) else f"{rate:g}{unit}"

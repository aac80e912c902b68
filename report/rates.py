"""A load's pace in words: every form that the report has of a rate, and of a closed loop."""

from __future__ import annotations

import math

from bench.records.pace import Pace

_ENDLESS = 1e12  # stands for no limit where a finite number must


def name(pace: Pace) -> str:
    """10, 2.5, c8 or inf: in ids and in exported texts; c8 is eight requests at a time."""
    if pace.is_closed:
        return f"c{pace.concurrency:g}"
    return f"{pace.rate_rps:g}"


def short(pace: Pace) -> str:
    """10/s, 8 at a time or unthrottled: in a table."""
    return pace.short


def full(pace: Pace) -> str:
    """10 requests/s, 8 at a time or unthrottled: where no heading tells the unit."""
    return pace.full


def load(pace: Pace) -> str:
    """10 requests/s, 8 requests at a time or unthrottled load: in a sentence, after "at"."""
    if pace.is_closed:
        requests = "request" if pace.concurrency == 1 else "requests"
        return f"{pace.concurrency:g} {requests} at a time"
    return "unthrottled load" if pace.is_unthrottled else pace.full


def short_load(pace: Pace) -> str:
    """10/s, 8 at a time or unthrottled load: after "at" where room is short."""
    return "unthrottled load" if pace.is_unthrottled else pace.short


def note(pace: Pace) -> str:
    """At 10/s, 8 at a time or unthrottled: under a number."""
    return pace.short if math.isinf(pace.rate_rps) else f"at {pace.short}"


def sort_value(pace: Pace) -> float:
    """A finite number that sorts as the pace does: rates, then closed loops, then no limit."""
    if pace.is_unthrottled:
        return _ENDLESS
    return _ENDLESS / 1e5 + pace.concurrency if pace.is_closed else min(pace.rate_rps, 1e6)

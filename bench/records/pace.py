"""How hard a load presses the server: so many requests a second, or so many at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.config import SpeedOptions
from bench.records.record import Load


@dataclass(frozen=True, order=True, slots=True)
class Pace:
    """What a load offers; the order is from the gentlest to the hardest.

    Attributes:
        rate_rps: requests per second; infinite where none is waited for.
        concurrency: requests under way at once, each followed by the next when it is answered: a
            closed loop. Infinite where nothing holds them back.
    """

    rate_rps: float = math.inf
    concurrency: float = math.inf

    @property
    def is_closed(self) -> bool:
        """Whether it is a closed loop."""
        return math.isfinite(self.concurrency)

    @property
    def is_unthrottled(self) -> bool:
        """Whether all requests are sent at once."""
        return math.isinf(self.rate_rps) and not self.is_closed

    @property
    def short(self) -> str:
        """10/s, 8 at a time or unthrottled: where room is short."""
        if self.is_closed:
            return f"{self.concurrency:g} at a time"
        return "unthrottled" if self.is_unthrottled else f"{self.rate_rps:g}/s"

    @property
    def full(self) -> str:
        """10 requests/s, 8 at a time or unthrottled: where no heading tells the unit."""
        return self.short if math.isinf(self.rate_rps) else f"{self.rate_rps:g} requests/s"


def of_load(load: Load) -> Pace:
    """That of a record's load."""
    return Pace(float(load.request_rate_rps), load.concurrency or math.inf)


def paces(options: SpeedOptions) -> tuple[Pace, ...]:
    """Those that are asked for, in the order of the file: rates, then closed loops."""
    rates = tuple(Pace(rate) for rate in options.request_rates)
    return rates + tuple(Pace(concurrency=count) for count in options.concurrency)


def of_spec(speed: Mapping[str, Any]) -> tuple[Pace, ...]:
    """Those that a record's spec asks for, from its table of speed options."""
    rates = tuple(Pace(float(rate)) for rate in speed["request_rates"])
    return rates + tuple(Pace(concurrency=count) for count in speed.get("concurrency", ()))


def prompts(options: SpeedOptions, pace: Pace) -> int:
    """How many requests one repeat of a load sends."""
    if pace.is_closed:
        return options.prompts_each * int(pace.concurrency)
    return options.prompts

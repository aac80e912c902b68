"""What GitHub would end without a word is said when it is planned."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import hostile
import pytest

from bench.config import Experiment, parse
from bench.github import limits
from bench.plan import forecast
from bench.plan.jobs import find_jobs

OWN = hostile.HARDWARE_TABLE.replace('["ubuntu-latest"]', '["self-hosted"]')


def told(hardware: str, minutes: float | None = None, **event: Any) -> list[str]:
    """What is said of a plan of two stages that take so long each."""
    text = hostile.models('repo = "a/b"', hardware)
    jobs = find_jobs(parse(Experiment, tomllib.loads(text)), Path("/nowhere"))
    forecasts = forecast.for_jobs(jobs, Path("/nowhere"))
    timed = [replace(one, expected_minutes=minutes) for one in forecasts]
    return list(limits.find(event, jobs, timed))


def test_nothing_is_said_of_a_plan_within_all_limits() -> None:
    assert told(f"{hostile.HARDWARE_TABLE}timeout_minutes = 330\n", 100.0) == []
    assert told(f"{OWN}timeout_minutes = 7170\n", 700.0, commits=[{}] * 999) == []


@pytest.mark.parametrize(
    ("hardware", "minutes", "most"), [(hostile.HARDWARE_TABLE, 331, 330), (OWN, 7171, 7170)]
)
def test_a_time_out_beyond_the_jobs_limit(hardware: str, minutes: int, most: int) -> None:
    (line,) = told(f"{hardware}timeout_minutes = {minutes}\n")
    assert line.startswith(f"h: a job may take {minutes:,} minutes and 30 to upload")
    assert line.endswith(f"set timeout_minutes to {most:,} or less")


def test_a_queue_longer_than_a_day() -> None:
    (line,) = told(OWN, 721.0)
    assert line.startswith("h: what is planned takes 24 hours or more")
    assert told(f"{hostile.HARDWARE_TABLE}timeout_minutes = 330\n", 721.0) == [], "no queue there"


def test_a_push_of_more_commits_than_github_tells() -> None:
    (line,) = told(OWN, commits=[{}] * 1000)
    assert line.startswith("a push of 1,000 commits or more")

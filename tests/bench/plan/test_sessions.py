"""The sessions that are missing, and in which order they run."""

from __future__ import annotations

from pathlib import Path

import pytest
from models_texts import LAYERS
from plans import EXPERIMENT, changed, measured

from bench.config import Experiment
from bench.plan.jobs import find_jobs
from bench.plan.sessions import Session, in_rounds
from bench.records import store
from bench.records.pace import Pace

THREE = changed(LAYERS, "sessions = 1", "sessions = 3")


def rounds(experiment: Experiment, results: Path, **asked: object) -> list[tuple[int, str, str]]:
    """Number, server and stages of every session, as they run."""
    return [told(one) for one in in_rounds(find_jobs(experiment, results, **asked))]  # type: ignore[arg-type]


def told(session: Session) -> tuple[int, str, str]:
    server = f"{session.variant.id}/{session.hardware.id}"
    return session.number, server, " ".join(job.stage for job in session.jobs)


def test_every_variant_has_its_first_session_before_any_has_its_second(tmp_path: Path) -> None:
    planned = rounds(THREE, tmp_path)
    assert [number for number, *_ in planned] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    for number in (1, 2, 3):
        of_round = {server: stages for which, server, stages in planned if which == number}
        assert set(of_round) == {"v/a", "v/b", "only-b/b"}
        assert set(of_round.values()) == {"speed quality" if number == 1 else "speed"}


def order(experiment: Experiment, results: Path, number: int) -> list[str]:
    return [server for which, server, _ in rounds(experiment, results) if which == number]


def test_the_seed_changes_the_order_from_round_to_round(tmp_path: Path) -> None:
    """The same seed gives the same order on every machine; this is the one of seed 0."""
    many = LAYERS + "".join(
        f'[[variant]]\nname = "N{n}"\nfamily = "F"\nrepo = "x/n{n}"\nhardware = ["b"]\n'
        for n in range(3)
    )
    experiment = changed(many, "sessions = 1", "sessions = 3")
    other = changed(many, "sessions = 1", "sessions = 3\nseed = 1")
    orders = [order(experiment, tmp_path, number) for number in (1, 2, 3)]
    assert orders[0] == order(experiment, tmp_path, 1)
    assert len(set(map(tuple, orders))) == 3
    assert {tuple(sorted(one)) for one in orders} == {tuple(sorted(orders[0]))}
    assert [order(other, tmp_path, number) for number in (1, 2, 3)] != orders


def test_what_is_measured_leaves_the_order_of_the_rest_as_it_was(tmp_path: Path) -> None:
    before = [entry for entry in rounds(THREE, tmp_path) if entry[:2] != (2, "v/b")]
    (job,) = find_jobs(THREE, tmp_path, variants=["v"], hardware=["b"], stages=["speed"])
    store.write(tmp_path, measured(job, session=2))
    assert rounds(THREE, tmp_path) == before


def test_quality_is_measured_in_the_first_session_there_is(tmp_path: Path) -> None:
    jobs = find_jobs(THREE, tmp_path, variants=["v"], hardware=["a"])
    for number in (1, 2):
        store.write(tmp_path, measured(jobs[0], session=number, minutes=number))
    assert rounds(THREE, tmp_path, variants=["v"], hardware=["a"]) == [(3, "v/a", "speed quality")]
    store.write(tmp_path, measured(jobs[0], session=3, minutes=3))
    assert rounds(THREE, tmp_path, variants=["v"], hardware=["a"]) == [(1, "v/a", "quality")]
    store.write(tmp_path, measured(jobs[1]))
    assert rounds(THREE, tmp_path, variants=["v"], hardware=["a"]) == []


def test_a_load_that_came_later_is_measured_alone(tmp_path: Path) -> None:
    """In sessions of its own, each of the number that it lacks; the others are not repeated."""
    asked = {"variants": ["v"], "hardware": ["a"], "stages": ["speed"]}
    (job,) = find_jobs(THREE, tmp_path, **asked)  # type: ignore[arg-type]
    for number in (1, 2):
        store.write(tmp_path, measured(job, session=number, minutes=number))
    more = changed(
        LAYERS, "prompts = 50\nsessions = 1", "prompts = 50\nsessions = 3\n"
        "request_rates = [5.0, 10.0, inf]",
    )  # fmt: skip
    (job,) = find_jobs(more, tmp_path, **asked)  # type: ignore[arg-type]
    assert job.reason == "0 of 3 sessions at 5 requests/s"
    assert (job.measured, job.asked, job.left) == (0, 3, 3)
    planned = in_rounds([job])
    assert [(one.number, one.paces) for one in planned] == [
        (1, (Pace(5.0),)),
        (2, (Pace(5.0),)),
        (3, (Pace(5.0), Pace(10.0), Pace())),
    ]


def test_closed_loops_that_came_later_are_measured_alone(tmp_path: Path) -> None:
    asked = {"variants": ["v"], "hardware": ["a"], "stages": ["speed"]}
    (job,) = find_jobs(THREE, tmp_path, **asked)  # type: ignore[arg-type]
    for number in (1, 2, 3):
        store.write(tmp_path, measured(job, session=number, minutes=number))
    more = changed(
        LAYERS, "prompts = 50\nsessions = 1", "prompts = 50\nsessions = 3\nconcurrency = [1, 8]"
    )
    (job,) = find_jobs(more, tmp_path, **asked)  # type: ignore[arg-type]
    assert job.reason == "0 of 3 sessions at 1 at a time, 8 at a time"
    assert job.left == 3
    loops = (Pace(concurrency=1), Pace(concurrency=8))
    assert job.missing == {1: loops, 2: loops, 3: loops}
    store.write(tmp_path, measured(job, session=1, minutes=4))
    (job,) = find_jobs(more, tmp_path, **asked)  # type: ignore[arg-type]
    assert job.missing == {2: loops, 3: loops}


def test_one_session_alone_may_be_asked_for(tmp_path: Path) -> None:
    """As a workflow's job does; it measures what this one lacks, or all of it by force."""
    asked = {"variants": ["v"], "hardware": ["a"], "stages": ["speed"]}
    (job,) = find_jobs(THREE, tmp_path, session=2, **asked)  # type: ignore[arg-type]
    assert [(one.number, one.paces) for one in in_rounds([job])] == [(2, (Pace(10.0), Pace()))]
    store.write(tmp_path, measured(job, session=2))
    (job,) = find_jobs(THREE, tmp_path, session=2, **asked)  # type: ignore[arg-type]
    assert not job.needed
    (job,) = find_jobs(THREE, tmp_path, session=2, force=True, **asked)  # type: ignore[arg-type]
    assert [one.number for one in in_rounds([job])] == [2]


@pytest.mark.parametrize("had", [0, 1, 2])
def test_force_adds_a_session_where_none_is_missing(had: int, tmp_path: Path) -> None:
    asked = {"variants": ["v"], "hardware": ["a"]}
    jobs = find_jobs(EXPERIMENT, tmp_path, **asked)  # type: ignore[arg-type]
    for number in range(1, had + 1):
        store.write(tmp_path, measured(jobs[0], session=number, minutes=number))
    store.write(tmp_path, measured(jobs[1]))
    assert rounds(EXPERIMENT, tmp_path, force=True, **asked) == [(had + 1, "v/a", "speed quality")]

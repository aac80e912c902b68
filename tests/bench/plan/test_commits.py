"""What a plan's repositories stand at is what is fetched, and no other question is asked."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import hostile
import pytest

from bench.config import Experiment, parse
from bench.errors import ConfigError
from bench.plan import commits, forecast
from bench.plan.jobs import Job, find_jobs

OLD, NEW = "a" * 40, "b" * 40
MODELS = hostile.models('repo = "a/b"\nfile = "c.gguf"\ntokenizer = "a/t"\nrevision = "main"')


def jobs_of(text: str) -> list[Job]:
    return find_jobs(parse(Experiment, tomllib.loads(text)), Path("/nowhere"))


def plan_of(jobs: list[Job], folder: Path, **known: str) -> Path:
    """The plan of these jobs, with the commits that somebody looked up."""
    rows = [
        replace(
            one,
            repositories=tuple(
                replace(each, commit=known.get(each.key, each.commit)) for each in one.repositories
            ),
        )
        for one in forecast.for_jobs(jobs, folder)
    ]
    path = folder / "plan.json"
    path.write_text(json.dumps([asdict(row) for row in rows]))
    return path


def test_a_variant_names_what_it_fetches() -> None:
    (variant,) = {job.variant.id: job.variant for job in jobs_of(MODELS)}.values()
    weights, tokenizer = commits.repositories(variant)
    assert weights == commits.Repository("repo", "a/b", "main", None, "c.gguf")
    assert tokenizer == commits.Repository("tokenizer", "a/t", None, None)
    pinned = variant.model_copy(update={"revision": OLD, "tokenizer_revision": NEW})
    assert [each.commit for each in commits.repositories(pinned)] == [OLD, NEW]
    bundled = variant.model_copy(update={"repo": None, "tokenizer": None})
    assert commits.repositories(bundled) == ()


def test_what_was_looked_up_is_fetched_under_the_same_key(tmp_path: Path) -> None:
    jobs = jobs_of(MODELS)
    fixed = commits.pin(jobs, plan_of(jobs, tmp_path, repo=OLD, tokenizer=NEW))
    assert {(job.variant.revision, job.variant.tokenizer_revision) for job in fixed} == {(OLD, NEW)}
    assert [(job.key, job.spec) for job in fixed] == [(job.key, job.spec) for job in jobs]


def test_what_nobody_looked_up_stays_as_it_is_asked(tmp_path: Path) -> None:
    jobs = jobs_of(MODELS)
    assert commits.pin(jobs, plan_of(jobs, tmp_path)) == jobs
    assert commits.pin(jobs, plan_of([], tmp_path)) == jobs


@pytest.mark.parametrize("text", ["", "{}", '[{"variant": "v"}]', '[{"repositories": [{}]}]'])
def test_what_is_no_plan_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ConfigError, match="not a plan"):
        commits.pin(jobs_of(MODELS), tmp_path / "plan.json")

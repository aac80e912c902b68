"""The commits of a plan's repositories, so that what was planned and approved is what is measured.

A models.toml may name a branch, or no revision at all, and either may move while a job waits. The
key of what is asked keeps the file's own words, so that what was measured stays current.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from bench.config import Variant, is_commit
from bench.errors import ConfigError
from bench.plan.jobs import Job
from bench.records.record import Commit


@dataclass(frozen=True)
class Repository:
    """What a variant takes from one repository on the Hub.

    Attributes:
        key: of the variant's table, which names it.
        revision: as it is asked for; None for the newest.
        commit: what that is; None until the Hub was asked.
    """

    key: Literal["repo", "tokenizer"]
    name: str
    revision: str | None
    commit: str | None
    file: str | None = None


def repositories(variant: Variant) -> tuple[Repository, ...]:
    """A variant's, the weights first; a revision that is a commit is known without asking."""
    return tuple(
        Repository(
            key=key,
            name=name,
            revision=revision,
            commit=revision if is_commit(revision) else None,
            file=variant.file if key == "repo" else None,
        )
        for key, name, revision in variant.repositories()
    )


class _Planned(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    key: Literal["repo", "tokenizer"]
    commit: Commit | None


class _PlanRow(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    variant: str
    repositories: tuple[_Planned, ...]


_PLAN = TypeAdapter(tuple[_PlanRow, ...])


def pin(jobs: list[Job], plan: Path) -> list[Job]:
    """The jobs with what they fetch at the commits of a plan, and their questions as they are.

    Args:
        plan: `bench plan --json`, or what a workflow made of it.

    Raises:
        ConfigError: it is not a plan.
    """
    try:
        rows = _PLAN.validate_json(plan.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{plan}: not a plan: {error}", "make it with `bench plan --json`"
        ) from error
    names = {"repo": "revision", "tokenizer": "tokenizer_revision"}
    known = {
        row.variant: {names[each.key]: each.commit for each in row.repositories if each.commit}
        for row in rows
    }
    return [
        replace(job, variant=job.variant.model_copy(update=known.get(job.variant.id, {})))
        for job in jobs
    ]

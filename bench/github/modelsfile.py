"""The models.toml that a run is to measure, where it is not simply main's."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit

from bench.errors import ConfigError, RefusedError
from bench.github.api import Api, NotFoundError, is_sha
from bench.github.approval import read_models
from bench.modelsfile import problems
from bench.plan.jobs import Job, find_jobs


def keep_mains_hardware(theirs: Path, main: Path) -> None:
    """Rewrites a pull request's file with main's [[hardware]] in place of its own.

    Which runner a job goes to, and for how long, is main's to say.

    Raises:
        ConfigError: the file has problems.
        RefusedError: it names hardware that main does not have.
    """
    asked = [entry.id for entry in problems.load_experiment(theirs).hardware]
    ours = {entry["id"]: entry for entry in tomllib.loads(main.read_text())["hardware"]}
    if unknown := [name for name in asked if name not in ours]:
        raise RefusedError(
            f"main has no [[hardware]] {', '.join(unknown)}",
            "merge the hardware first, without the label: only main decides what runs where",
        )
    document = tomllib.loads(theirs.read_text())
    document["hardware"] = [ours[name] for name in asked]
    theirs.write_text(tomlkit.dumps(document))


def changed(jobs: list[Job], main: Path, results: Path) -> list[Job]:
    """What a pull request adds or changes: the jobs that main does not ask for in these words.

    Nor as many sessions of: more of them are no other words.
    """
    mains = find_jobs(problems.load_experiment(main), results)
    asked = {(job.variant.id, job.key): job.speed.sessions for job in mains}
    return [
        job
        for job in jobs
        if (job.variant.id, job.key) not in asked
        or (job.stage == "speed" and job.speed.sessions > asked[job.variant.id, job.key])
    ]


def before_push(event: Mapping[str, Any], api: Api, path: Path) -> Path | None:
    """Writes the models.toml that a push found; None where it found none that can be used.

    What a merge may adopt is what it brings: the records of a pull request are of nothing else.
    """
    commit = str(event.get("before", ""))
    if not is_sha(commit) or not commit.strip("0"):  # the push made the branch
        return None
    try:
        path.write_bytes(read_models(commit, api, problems.MAX_BYTES))
        problems.load_experiment(path)
    except (RefusedError, ConfigError, NotFoundError):
        return None
    return path


def set_sessions(models: Path, sessions: str) -> None:
    """Writes [speed] sessions into the file.

    Raises:
        ConfigError: not a whole number.
    """
    if not sessions.isascii() or not sessions.isdigit():
        raise ConfigError(f"sessions is {sessions!r}", "write a whole number")
    document = tomlkit.parse(models.read_text())
    document.setdefault("speed", tomlkit.table())["sessions"] = int(sessions)
    models.write_text(tomlkit.dumps(document))

"""Records into the repository: one commit, pushed onto whatever main has become meanwhile.

A rejected push is answered by starting over from the newest main, so that what is added is always
decided against it.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import MachineError

BOT = "github-actions[bot]"
BOT_EMAIL = "41898282+github-actions[bot]@users.noreply.github.com"


def commit_and_push(
    repository: Path,
    branch: str,
    add: Callable[[], tuple[Sequence[Path], str]],
    *,
    attempts: int = 12,
    delay_s: float = 1.0,
) -> str:
    """Commits on top of origin's newest `branch` as the Actions bot and pushes.

    Args:
        add: writes what the working tree lacks; the paths it wrote, absolute, and the commit's
            message. Called again for every newer `branch`.

    Returns:
        The hash of the `branch` that has it all: of the new commit, if there was need of one.

    Raises:
        MachineError: git refused, or main moved faster than `attempts` pushes.
    """
    for attempt in range(attempts):
        answer = _try(repository, "fetch", "--quiet", "origin", f"refs/heads/{branch}")
        if answer.returncode == 0:
            git(repository, "reset", "--quiet", "--hard", "FETCH_HEAD")
            paths, message = add()
            if paths:
                git(repository, "add", "--", *map(str, paths))
                git(repository, "commit", "--quiet", "--no-verify", "--message", message)
                answer = _try(repository, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        if answer.returncode == 0:
            return git(repository, "rev-parse", "HEAD").strip()
        print(f"push {attempt + 1} of {attempts} was rejected; starting over", flush=True)
        # Spread out, so that jobs that collided once do not do so again.
        time.sleep(delay_s * random.uniform(0.5, 1.5) * min(attempt + 1, 10))  # noqa: S311
    raise MachineError(
        f"could not push to {branch}: {answer.stderr.strip()[-800:]}",
        "run the job again: it needs contents: write, and no rule that forbids the bot's push",
    )


def git(repository: Path, *arguments: str) -> str:
    """Runs git as the bot, without hooks; its output.

    Raises:
        MachineError: with git's own words.
    """
    answer = _try(repository, *arguments)
    if answer.returncode:
        said = answer.stderr.strip()[-300:]
        raise MachineError(f"git {arguments[0]} failed: {said}", "see the job's log")
    return answer.stdout


def _try(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    identity = ("-c", f"user.name={BOT}", "-c", f"user.email={BOT_EMAIL}")
    return subprocess.run(
        ["git", *identity, "-c", "core.hooksPath=/dev/null", *arguments],
        cwd=repository,
        text=True,
        capture_output=True,
        check=False,
    )

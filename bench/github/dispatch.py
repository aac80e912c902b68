"""What a run by hand measures when nobody typed what.

In a repository that has measured nothing yet, the jobs of a runner that is not there would wait a
day; so GitHub's own machines measure the demo. Everywhere else it is what models.toml lacks. The
records of a copy's first commit are the template's: see `bench.setup.template`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.github.api import Api
from bench.modelsfile import problems
from bench.places import CODE

AUTOMATIC = "automatic"
_DEMO = CODE / "bench" / "demo" / "models.toml"


@dataclass(frozen=True)
class Asked:
    """A file, its hardware by id (all where empty), and a line that says why these."""

    models: Path
    hardware: tuple[str, ...] = ()
    why: str = ""


def choose(models: Path, results: Path, api: Callable[[], Api] = Api.from_environment) -> Asked:
    """What to measure for a run by hand; what was named is taken as it is.

    Args:
        models: the file that was named, or, beside models.toml, one of the name `automatic`.
        api: asked where there are records, for the commits that brought them.

    Raises:
        MachineError: GitHub does not answer.
    """
    if models.name != AUTOMATIC:
        return Asked(models)
    ours = models.with_name("models.toml")
    hardware = problems.load_experiment(ours).hardware
    measured = [entry.id for entry in hardware if any((results / entry.id).glob("*/*.json"))]
    if any(_is_own(name, api()) for name in measured):
        return Asked(ours, why="what models.toml lacks is measured")
    if all(entry.is_hosted for entry in hardware):
        return Asked(ours, why="models.toml is measured, on GitHub's machines")
    hosted = tuple(h.id for h in problems.load_experiment(_DEMO).hardware if h.is_hosted)
    names = ", ".join(entry.id for entry in hardware)
    return Asked(
        _DEMO,
        hosted,
        f"this repository has measured nothing on {names} yet, so GitHub's machines measure the "
        "demo; once your runner is online, choose models.toml",
    )


def _is_own(hardware: str, api: Api) -> bool:
    """Whether records of this hardware came after the first commit."""
    commits = api.get("commits", path=f"bench/results/{hardware}", per_page=2)
    return any(commit["parents"] for commit in commits)

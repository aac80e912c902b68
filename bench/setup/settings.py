"""What has to be set on GitHub: one table for the guide, the checklists and the doctor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.github.approval import ENVIRONMENT, LABEL
from bench.setup.remote import Repository

MAIN_ENVIRONMENT = "benchmark"
SECRET = "HF_TOKEN"  # noqa: S105  (its name)


@dataclass(frozen=True)
class Setting:
    """One thing to set in a repository.

    Args:
        id: what the doctor's check of it is called by.
        where: the way through GitHub's menus.
        what: what to set there; Markdown.
        why: what it is for; Markdown.
        page: the page's path below the repository.
        token: what a token needs so that the API tells its state; empty if it tells everybody.
        for_runner: whether it matters only where a machine of one's own measures.
        step: the step of the checklist that it is part of; empty if no step of its own.
        optional: whether a repository may well do without.
    """

    id: str
    where: str
    what: str
    why: str
    page: str
    step: str
    token: str = ""
    for_runner: bool = True
    optional: bool = False


_ADMINISTRATION = "Administration: read"
_GENERAL = (
    "Actions → General: approval for all external contributors; GitHub's own actions only, "
    "pinned; workflows read"
)
_ENVIRONMENTS = (
    f"Environments: `{MAIN_ENVIRONMENT}` and `{ENVIRONMENT}`, both for main only, you as required "
    "reviewer of the second"
)
SETTINGS = (
    Setting(
        "pages",
        "Pages → Source",
        "GitHub Actions",
        "a workflow deploys the site",
        "settings/pages",
        "Pages → Source: GitHub Actions",
        for_runner=False,
    ),
    Setting(
        "label",
        "Issues → Labels",
        f"create `{LABEL}`",
        "it asks for a pull request to be measured",
        "labels",
        f"Issues → Labels: create `{LABEL}`",
    ),
    Setting(
        "fork approval",
        "Actions → General → Approval for running fork pull request workflows",
        "*Require approval for all external contributors*",
        "an approved run is of the fork's own workflow files, and they may ask for your machine: "
        "look at its `.github/` first. [The gate](runner.md#the-gate) refuses it there",
        "settings/actions",
        _GENERAL,
        _ADMINISTRATION,
    ),
    Setting(
        "allowed actions",
        "Actions → General → Actions permissions",
        "allow GitHub's own actions only, and *Require actions to be pinned to a full-length "
        "commit SHA*",
        "all actions used are GitHub's own",
        "settings/actions",
        _GENERAL,
        _ADMINISTRATION,
    ),
    Setting(
        "workflow token",
        "Actions → General → Workflow permissions",
        "*Read repository contents*; pull requests by Actions not allowed",
        "every job asks for what it needs by itself",
        "settings/actions",
        _GENERAL,
        _ADMINISTRATION,
    ),
    Setting(
        "environment",
        f"Environments → `{MAIN_ENVIRONMENT}`",
        "deployment branches: `main` only; reviewers if a push to main should not measure at once",
        "GitHub refuses a measuring job of another branch, and gives it no secret",
        "settings/environments",
        _ENVIRONMENTS,
    ),
    Setting(
        "reviewers",
        f"Environments → `{ENVIRONMENT}`",
        "**required reviewers**; deployment branches: `main` only",
        "the second yes; without reviewers the workflow refuses to measure a pull request",
        "settings/environments",
        _ENVIRONMENTS,
    ),
    Setting(
        "secret",
        "Environments → both",
        f"secret `{SECRET}` (read-only), if gated models are measured",
        "it reaches no other job",
        "settings/environments",
        "",
        "Environments: read",
        optional=True,
    ),
    Setting(
        "rules",
        "Rules → Rulesets → `main`",
        "*Restrict deletions*, *Block force pushes*; see below",
        "history stays, and the bot can push its results",
        "settings/rules",
        "Rules → New branch ruleset for main: Restrict deletions, Block force pushes",
    ),
    Setting(
        "runner",
        "Actions → Runners",
        "one that is online for the labels of each `[[hardware]]`",
        "a job waits for its runner a day, then it fails",
        "settings/actions/runners",
        "",
        _ADMINISTRATION,
    ),
)


@dataclass(frozen=True)
class Step:
    """One thing that is left for a person: what to do, and the page or the command."""

    what: str
    where: str


def to_a_page(repository: Repository, commit: str) -> list[Step]:
    """The steps from a clone that was made one's own to a page that GitHub's machines measured."""
    return [
        *_clicks(repository, for_runner=False),
        Step("Commit and push: that measures, then publishes", commit),
    ]


def to_a_runner(repository: Repository, hardware: str, commit: str) -> list[Step]:
    """The steps to a page that a machine of one's own measures for, pull requests included."""
    token = f"{repository.server}/settings/personal-access-tokens/new"
    return [
        *_clicks(repository, for_runner=True),
        Step(
            "Make a fine-grained token: this repository only, Administration: read and write", token
        ),
        Step(
            "On the machine that measures, as root, with that token",
            f"./run bench runner setup --repository {repository.name} --hardware {hardware}",
        ),
        Step("Commit and push: that measures, then publishes", commit),
    ]


def _clicks(repository: Repository, *, for_runner: bool) -> list[Step]:
    chosen = [entry for entry in SETTINGS if entry.step and (for_runner or not entry.for_runner)]
    pages = {entry.step: repository.page(entry.page) for entry in chosen}  # one step, one page
    prefix = {step: "" if step.startswith("Issues") else "Settings → " for step in pages}
    return [Step(prefix[step] + step, page) for step, page in pages.items()]


def checklist(steps: Sequence[Step]) -> str:
    """The steps, numbered, each with its page or command below."""
    return "\n".join(f"  {n}. {step.what}\n     {step.where}" for n, step in enumerate(steps, 1))


def table(settings: Iterable[Setting] = SETTINGS) -> str:
    """The guide's table, as Markdown."""
    rows = [f"| {entry.where} | {entry.what} | {entry.why} |" for entry in settings]
    return "\n".join(["| Where | Set | Why |", "|---|---|---|", *rows])

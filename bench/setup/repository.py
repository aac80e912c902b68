"""`bench doctor --github`: what a repository lacks, held against the guide's table.

With a token it asks all; without one what is public, and says of the rest which token would tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config import Experiment, Hardware
from bench.doctor import Check
from bench.errors import MachineError
from bench.github.api import Api, ForbiddenError, NotFoundError, quote
from bench.github.approval import ENVIRONMENT, LABEL
from bench.setup.remote import Repository
from bench.setup.settings import MAIN_ENVIRONMENT, SECRET, SETTINGS, Setting

_USES = re.compile(r"^\s*(?:-\s+)?uses:\s*[\"']?(?P<action>[^\s\"'#]+)", re.MULTILINE)
_PINNED = re.compile(r".+@[0-9a-f]{40}")
_REFUSING = {"pull_request", "required_status_checks", "merge_queue", "required_deployments"}
_OWNERS = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")  # GitHub reads the first
# What decides which code runs on the maintainer's machines.
_OWNED = ("/.github/", "/bench/engine/", "/requirements/")


@dataclass(frozen=True)
class Found:
    """What the API says of one setting; `ok` is None where it is only worth knowing."""

    ok: bool | None
    words: str


@dataclass(frozen=True)
class Subject:
    """What is looked at: the repository's API, its default branch, the machines of one's own."""

    api: Api
    branch: str
    own: Sequence[Hardware]


_TRIGGERED = "main"  # what `on: push: branches:` names, where no expression can stand
Look = Callable[[Subject], Found]


def examine(
    api: Api, repository: Repository, experiment: Experiment, folder: Path
) -> Iterator[Check]:
    """Looks at every setting of the guide's table, then at the supply chain in the files.

    Args:
        experiment: whose hardware is to have runners.
        folder: the clone.

    Raises:
        MachineError: GitHub does not answer, refuses the token, or knows no such repository.
    """
    own = [entry for entry in experiment.hardware if not entry.is_hosted]
    subject = Subject(api, _default_branch(api), own)
    for setting in SETTINGS:
        matters = bool(own) or not setting.for_runner
        try:
            found = _LOOK[setting.id](subject)
        except ForbiddenError as error:
            found = Found(None, _unknown(setting, error))
        yield _check(setting, found, repository, matters=matters)
    yield Check(
        "default branch",
        subject.branch == _TRIGGERED,
        subject.branch,
        f"rename it to {_TRIGGERED}, which a push to starts the workflows; by hand they run anyhow"
        f"\n{'':30}{repository.page('settings/branches')}",
        required=True,
    )
    yield from supply_chain(folder, repository)


def _check(setting: Setting, found: Found, repository: Repository, *, matters: bool) -> Check:
    ok = found.ok
    if ok is False and (setting.optional or not matters):
        ok = None
    unneeded = "" if matters else " (no runner of your own: not needed)"
    what = setting.what.replace("*", "").replace("`", "")
    fix = f"{setting.where.replace('`', '')}: {what}\n{'':30}{repository.page(setting.page)}"
    required = matters and not setting.optional
    return Check(setting.id, ok, found.words + unneeded, fix, required)


def _unknown(setting: Setting, error: ForbiddenError) -> str:
    if "rate limit" in error.message.lower():
        return "unknown: GitHub's limit of requests is used up; wait an hour, or use a token"
    if setting.token:
        return f"unknown: needs a token with {setting.token} (GITHUB_TOKEN or GH_TOKEN)"
    return "unknown: needs a token that may read this repository (GITHUB_TOKEN or GH_TOKEN)"


def _default_branch(api: Api) -> str:
    try:
        return str(api.get("")["default_branch"])
    except NotFoundError as error:
        raise MachineError(
            f"GitHub shows no repository {api.repository}"
            + ("" if api.token else " to those without a token"),
            "set GITHUB_TOKEN if it is private; else check the name (--repository)",
        ) from error
    except ForbiddenError as error:
        if "rate limit" in error.message.lower():
            raise
        raise MachineError(
            f"GitHub does not take this token: {error.message}", "make a new one, or unset it"
        ) from error


def _administration(api: Api, path: str) -> Any:
    """An answer for administrators only; GitHub says 404 to others where it hides what is there."""
    try:
        return api.get(path)
    except NotFoundError as error:
        raise ForbiddenError(error.message, error.fix) from error


# -- the settings, each by its id -----------------------------------------------------------------


def _pages(on: Subject) -> Found:
    try:
        site = on.api.get("pages")
    except NotFoundError:
        return Found(False, "Pages is off")
    kind = site.get("build_type")
    if kind == "workflow":
        return Found(True, str(site.get("html_url") or "GitHub Actions"))
    return Found(False, "Pages is built from a branch")


def _label(on: Subject) -> Found:
    try:
        on.api.get(f"labels/{quote(LABEL)}")
    except NotFoundError:
        return Found(False, f"no label {LABEL}")
    return Found(True, LABEL)


def _fork_approval(on: Subject) -> Found:
    path = "actions/permissions/fork-pr-contributor-approval"
    policy = str(_administration(on.api, path)["approval_policy"])
    return Found(policy == "all_external_contributors", policy.replace("_", " "))


def _allowed_actions(on: Subject) -> Found:
    permissions = _administration(on.api, "actions/permissions")
    lacking = []
    if permissions.get("allowed_actions") == "selected":
        chosen = _administration(on.api, "actions/permissions/selected-actions")
        if chosen.get("verified_allowed") or chosen.get("patterns_allowed"):
            lacking.append("others than GitHub's are allowed")
    elif permissions.get("allowed_actions") != "local_only":
        lacking.append("all actions are allowed")
    if not permissions.get("sha_pinning_required"):
        lacking.append("pinning is not required")
    return Found(not lacking, ", ".join(lacking) or "GitHub's own, pinned")


def _workflow_token(on: Subject) -> Found:
    permissions = _administration(on.api, "actions/permissions/workflow")
    lacking = []
    if permissions["default_workflow_permissions"] != "read":
        lacking.append("a workflow may write unless it says otherwise")
    if permissions["can_approve_pull_request_reviews"]:
        lacking.append("Actions may make and approve pull requests")
    return Found(not lacking, ", ".join(lacking) or "read")


def _environment(name: str, *, reviewers: bool) -> Look:
    def look(on: Subject) -> Found:
        try:
            environment = on.api.get(f"environments/{quote(name)}")
        except NotFoundError:
            return Found(False, "no such environment")
        rules = environment.get("protection_rules") or []
        people = [
            str(entry.get("reviewer", {}).get("login") or entry.get("reviewer", {}).get("slug"))
            for rule in rules
            if rule.get("type") == "required_reviewers"
            for entry in rule.get("reviewers") or []
        ]
        lacking = ["no required reviewers"] if reviewers and not people else []
        branches = _deployment_branches(on.api, name, environment)
        if branches != [on.branch]:
            allowed = ", ".join(branches) if branches else "all"
            lacking.append(f"deployment branches: {allowed}, not {on.branch} alone")
        told = f"{on.branch} only" + (
            f", reviewers: {', '.join(map(str, people))}" if people else ""
        )
        return Found(not lacking, ", ".join(lacking) or told)

    return look


def _deployment_branches(api: Api, name: str, environment: dict[str, Any]) -> list[str]:
    """The names that may deploy; none where every branch may."""
    policy = environment.get("deployment_branch_policy")
    if not policy:
        return []
    if policy.get("protected_branches"):
        return ["protected branches"]
    return [
        str(entry["name"])
        for entry in api.pages(f"environments/{quote(name)}/deployment-branch-policies")
    ]


def _secret(on: Subject) -> Found:
    """By its name; what it holds nobody can read."""
    having = []
    for name in (MAIN_ENVIRONMENT, ENVIRONMENT):
        try:
            secrets = {
                entry["name"] for entry in on.api.pages(f"environments/{quote(name)}/secrets")
            }
        except NotFoundError:
            continue
        having += [name] if SECRET in secrets else []
    return Found(True if having else None, f"in {', '.join(having)}" if having else "none")


def _rules(on: Subject) -> Found:
    kinds = {str(rule["type"]) for rule in on.api.pages(f"rules/branches/{quote(on.branch)}")}
    missing = [
        words
        for kind, words in (("deletion", "deletion"), ("non_fast_forward", "force pushes"))
        if kind not in kinds
    ]
    lacking = [f"{on.branch} is open to {' and '.join(missing)}"] if missing else []
    if refusing := sorted(kinds & _REFUSING):
        # Only an organization's ruleset can let the bot pass, and the API does not say who may.
        words = ", ".join(kind.replace("_", " ") for kind in refusing)
        lacking.append(f"a rule ({words}) may refuse the bot's push")
    return Found(not lacking, "; ".join(lacking) or f"{on.branch}: no deletion, no force pushes")


def _runner(on: Subject) -> Found:
    """GitHub's own machines need no runner; of an organization's runners this does not tell."""
    if not on.own:
        return Found(True, "GitHub's own machines measure")
    try:
        runners = list(on.api.pages("actions/runners"))
    except NotFoundError as error:
        raise ForbiddenError(error.message, error.fix) from error
    lacking = []
    for entry in on.own:
        wanted = {label.lower() for label in entry.runner}
        fitting = [r for r in runners if wanted <= {e["name"].lower() for e in r["labels"]}]
        if not any(runner["status"] == "online" for runner in fitting):
            state = "offline" if fitting else "none"
            lacking.append(f"{entry.id}: {state} ({', '.join(entry.runner)})")
    online = ", ".join(entry.id for entry in on.own)
    return Found(not lacking, "; ".join(lacking) or f"online for {online}")


_LOOK: dict[str, Look] = {
    "pages": _pages,
    "label": _label,
    "fork approval": _fork_approval,
    "allowed actions": _allowed_actions,
    "workflow token": _workflow_token,
    "environment": _environment(MAIN_ENVIRONMENT, reviewers=False),
    "reviewers": _environment(ENVIRONMENT, reviewers=True),
    "secret": _secret,
    "rules": _rules,
    "runner": _runner,
}


# -- the supply chain, as far as the files of the clone tell --------------------------------------


def supply_chain(folder: Path, repository: Repository) -> Iterator[Check]:
    """What a scorecard would ask of the files: pins, token permissions, updates, owners."""
    workflows = sorted((folder / ".github").glob("workflows/*.y*ml"))
    texts = {path: path.read_text() for path in workflows}
    actions = sorted((folder / ".github").glob("actions/*/action.y*ml"))
    used = _uses([*texts.values(), *(path.read_text() for path in actions)])
    loose = [action for action in used if not _PINNED.fullmatch(action)]
    yield Check(
        "pinned actions",
        not loose,
        f"not by commit: {', '.join(loose)}" if loose else f"{len(used)}, by commit",
        "pin each to the commit of its release, with the version in a comment",
    )
    open_ = [p.name for p, text in texts.items() if not re.search("^permissions:", text, re.M)]
    yield Check(
        "permissions",
        not open_,
        f"none stated by {', '.join(open_)}" if open_ else "stated by every workflow",
        "begin each workflow with `permissions: {}`, and grant each job what it needs",
    )
    updates = [name for name in ("dependabot.yml", "renovate.json")
               if (folder / ".github" / name).is_file()]  # fmt: skip
    fix = "add .github/dependabot.yml: pins without updates grow old"
    yield Check("updates", bool(updates), ", ".join(updates) or "nothing proposes them", fix)
    yield _code_owners(folder, repository.name.partition("/")[0])


def _code_owners(folder: Path, owner: str) -> Check:
    name = next((name for name in _OWNERS if (folder / name).is_file()), None)
    lines = (folder / name).read_text().splitlines() if name else []
    patterns = [line.split()[0] for line in lines if not line.startswith("#") and "@" in line]
    needed = [place for place in _OWNED if (folder / place.strip("/")).is_dir()]
    free = [place for place in needed if not any(_covers(pattern, place) for pattern in patterns)]
    return Check(
        "code owners",
        name is not None and not free,
        f"{name}, without {', '.join(free)}" if name and free else name or "no CODEOWNERS",
        f"write into .github/CODEOWNERS: {'; '.join(f'{place} @{owner}' for place in free)}",
    )


def _covers(pattern: str, folder: str) -> bool:
    """Whether a line of CODEOWNERS gives all of a folder to somebody."""
    whole = pattern.rstrip("*").strip("/")
    return whole == "" or f"{folder.strip('/')}/".startswith(f"{whole}/")


def _uses(texts: Iterable[str]) -> list[str]:
    """The actions and workflows of other repositories that are used, once each."""
    found = {match["action"] for text in texts for match in _USES.finditer(text)}
    return sorted(action for action in found if not action.startswith(("./", "docker://")))

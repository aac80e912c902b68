"""`bench run`: for each variant one server, both stages, and a record the moment a stage ends.

The measuring programs import for half a minute; they are started first, once, and warm up while
the first server loads. The next variant's weights are downloaded while a server loads and while a
quality stage runs. Nothing but the measurement runs while a speed stage does.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path

from bench import places, process
from bench.config import Experiment
from bench.demo import inputs
from bench.engine import launch
from bench.engine.server import Server, check_port, serving
from bench.errors import BenchError, ConfigError, MachineError, ServerError, WeightsError
from bench.measure import checkpoint, fidelity, quality, speed, telemetry
from bench.measure.checkpoint import Checkpoint
from bench.measure.client import Client
from bench.measure.session import Outcome, Part, Session, Settings, now
from bench.measure.speed import Target
from bench.measure.telemetry import Watch
from bench.modelsfile import problems
from bench.plan.jobs import Job, find_jobs
from bench.progress import Step, say, step
from bench.records import store
from bench.records.record import Load, Record
from bench.weights import prefetch
from bench.weights.prefetch import Prefetch

Measured = tuple[Record, list[bytes], BenchError | None]  # the error made the record partial


def measure(
    models: Path,
    results: Path,
    logs: Path | None,
    *,
    variants: Collection[str] = (),
    stages: Collection[str] = (),
    hardware: str | None = None,
    force: bool = False,
    repeats: int | None = None,
    port: int | None = None,
    server_timeout: float = 1800.0,
) -> Outcome:
    """Plans a models.toml for one hardware entry, runs what is needed, says where the time went.

    Args:
        logs: where the logs are kept; a folder in the cache by default.
        hardware: an id; may be left out where the file has only one.

    Raises:
        ConfigError: an invalid file, or a name that is not in it.
        MachineError: as `run`.
    """
    experiment = problems.load_experiment(models)
    if repeats is not None:
        experiment = experiment.with_repeats(repeats)
    known = [entry.id for entry in experiment.hardware]
    if hardware is None and len(known) > 1:
        fix = f"--hardware {'|'.join(known)}"
        raise ConfigError(f"{models} has {len(known)} kinds of hardware", fix)
    jobs = find_jobs(
        experiment,
        results,
        variants=variants,
        stages=stages,
        hardware=[hardware or known[0]],
        force=force,
    )
    needed = sum(job.needed for job in jobs)
    say(f"{needed} of {len(jobs)} stages to measure; {len(jobs) - needed} current")
    if not needed:
        return Outcome()
    folder = logs or places.new_run_folder()
    outcome = run(experiment, jobs, Settings(results, folder, port, server_timeout))
    say(outcome.summary())
    return outcome


def run(experiment: Experiment, jobs: list[Job], settings: Settings) -> Outcome:
    """Measures every needed job; a failed stage is recorded as such and the next one goes on.

    Args:
        jobs: of one hardware entry, as `find_jobs` gives them.

    Raises:
        MachineError: this machine cannot run it at all, or can store nothing: seen before anything
            is started where that is possible.
        ServerError: the port asked for is taken.
    """
    began = time.monotonic()
    needed = [job for job in jobs if job.needed]
    if not needed:
        return Outcome()
    with process.stoppable(), places.only_one("measuring"), ExitStack() as stack:
        inputs.clean_up()
        wanted = dict.fromkeys((job.hardware.id, job.variant.id) for job in needed)
        store.prepare(settings.results, wanted)
        if settings.port is not None:
            check_port(settings.port)
        settings.folder.mkdir(parents=True, exist_ok=True)
        session = Session(stack, experiment, needed, settings)
        groups = [list(group) for _, group in groupby(needed, lambda job: job.variant)]
        for number, group in enumerate(groups, 1):
            later = (other[0].variant for other in groups[number:])
            following = prefetch.following(group[0].variant, later)
            with Prefetch(following, settings.folder) as ahead:
                _measure_variant(session, group, ahead)
    session.outcome.total_s = time.monotonic() - began
    return session.outcome


def _measure_variant(session: Session, jobs: list[Job], ahead: Prefetch) -> None:
    """One server and the variant's stages, until one of them ends with the server's failure."""
    began, variant, hardware = now(), jobs[0].variant, jobs[0].hardware
    options = session.experiment.serve_options(variant, hardware)
    try:
        session.warm_up()
        with step(f"{variant.name}: checkpoint") as current:
            ready = checkpoint.prepare(variant, session.engine, session.bundled, current.note)
        ahead.start()
        with serving(
            launch.command(session.engine, ready, options, variant.id),
            environment=launch.environment(session.engine.build),
            folder=session.settings.folder / variant.id,
            port=session.settings.port,
            limit_s=session.settings.server_timeout_s,
            title=f"{variant.name}: server",
        ) as server:
            session.outcome.server_s += server.startup_s
            launch.check_quantized(server)
            for job in jobs:
                if isinstance(_measure_stage(session, job, ready, server, ahead), ServerError):
                    break  # the other stages were not attempted: the next run measures them
    except MachineError:
        raise
    except BenchError as error:  # no stage can be measured
        session.outcome.errors.append(error)
        say(f"{variant.name}: {error}")
        for job in jobs if not isinstance(error, WeightsError) else ():  # nothing was run
            _store(session, Part(session, job, began=began).record(error=error), [])


def _measure_stage(
    session: Session, job: Job, ready: Checkpoint, server: Server, ahead: Prefetch
) -> BenchError | None:
    """One stage and its record, which has the error that is returned."""
    part = Part(session, job, ready)
    if job.stage == "speed":
        ahead.stop()
    else:
        ahead.start()
    try:
        part = replace(part, engine=launch.facts(session.engine, server, ready))
        client = session.client(job.stage, server)
        part = replace(part, began=now())
        with session.outcome.measuring(), step(f"{job.variant.name}: {job.stage}") as current:
            measure = _speed if job.stage == "speed" else _quality
            record, sidecars, error = measure(part, ready, client, server, current)
    except MachineError:
        raise
    except BenchError as failure:
        error = failure if isinstance(failure, ServerError) else server.explain(failure)
        record, sidecars = part.record(error=error), []
    if error is not None:
        session.outcome.errors.append(error)
        say(f"{job.variant.name}: {error}")
    _store(session, record, sidecars)
    return error


def _speed(
    part: Part, ready: Checkpoint, client: Client, server: Server, current: Step
) -> Measured:
    result, sidecar, error = speed.measure(
        client,
        Target.of(server, part.job.variant.id, str(ready.tokenizer)),
        part.session.speed(part.job),
        random_weights=ready.facts.source == "random",
        watch=partial(_watch, server, part.session.experiment, part.job),
        note=current.note,
    )
    result = result.model_copy(
        update={"loads": tuple(_public(ready, load) for load in result.loads)}
    )
    return part.record(speed=result, error=error), [sidecar], error


def _public(ready: Checkpoint, load: Load) -> Load:
    return load.model_copy(update={"argv": launch.public(load.argv, ready)})


def _quality(
    part: Part, ready: Checkpoint, client: Client, server: Server, current: Step
) -> Measured:
    options = part.session.quality(part.job)
    target = Target.of(server, part.job.variant.id, str(ready.tokenizer))
    part.session.tasks.load(options)
    current.note(f"{options.documents} documents of {', '.join(options.tasks)}")
    result, sidecars = quality.measure(
        client,
        target,
        options,
        part.session.tasks.wait(server.check),
        max_model_len=launch.max_model_len(server),
        watch=partial(_watch, server, part.session.experiment, part.job),
    )
    current.note("log-probabilities of the fixed text")
    try:
        expected, data = fidelity.measure(target)
    except BenchError as failure:  # what lm-eval measured stands without it
        error = server.explain(failure)
        if isinstance(error, ServerError):
            return part.record(quality=result, error=error), sidecars, error
        say(f"{part.job.variant.name}: recorded without fidelity: {error}")
        return part.record(quality=result), sidecars, None
    result = result.model_copy(update={"fidelity": expected})
    return part.record(quality=result), [*sidecars, data], None


def _watch(server: Server, experiment: Experiment, job: Job) -> AbstractContextManager[Watch]:
    gpus: list[int] = []
    if job.hardware.engine == "cuda":
        options = experiment.serve_options(job.variant, job.hardware)
        gpus = telemetry.gpu_indices(telemetry.gpus_used(options, job.hardware.nodes))
    return telemetry.watch(server.process.pid, gpus)


def _store(session: Session, record: Record, sidecars: list[bytes]) -> None:
    path = store.write(session.settings.results, record, sidecars)
    session.outcome.written.append(path)
    say(f"{record.variant_name}: {record.stage} {record.status}: {path}")

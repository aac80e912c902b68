"""`bench run`: in rounds, for each variant one server, and a record the moment a stage ends.

A round has one session of every variant's server (see `plan.sessions`), in the first with quality.
The measuring programs import for half a minute; they are started first, once, and warm up while
the first server loads. The next variant's weights are downloaded while a server loads and while a
quality stage runs. Nothing but the measurement runs while a speed stage does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from bench import places, process
from bench.config import GGUF, STAGES, Experiment, Variant
from bench.demo import inputs, shapes
from bench.engine import installed, launch, processor
from bench.engine.installed import Engine
from bench.engine.server import HOST, Server, check_port, serving
from bench.errors import (
    BenchError,
    ConfigError,
    MachineError,
    MeasurementError,
    ServerError,
    UnsupportedError,
    WeightsError,
)
from bench.measure import fidelity, machine, prompts, quality, speed, telemetry
from bench.measure.client import Client, Target
from bench.measure.tasks import Tasks
from bench.measure.telemetry import Watch
from bench.modelsfile import problems
from bench.plan import commits
from bench.plan.jobs import Job, find_jobs
from bench.plan.sessions import Session, in_rounds
from bench.progress import Step, say, step
from bench.records import store
from bench.records.record import EngineFacts, Failure, QualityResult, Record, SpeedResult
from bench.weights import prefetch
from bench.weights.checkpoint import Checkpoint
from bench.weights.prefetch import Prefetch

Measured = tuple[Record, list[bytes], BenchError | None]  # the error made the record partial


@dataclass(frozen=True)
class RunSettings:
    """How to run.

    Attributes:
        results: the store's root.
        folder: for logs and temporary files.
        port: where servers listen; a free port if None.
        server_timeout_s: how long a server may take to become healthy.
    """

    results: Path
    folder: Path
    port: int | None
    server_timeout_s: float


@dataclass
class RunOutcome:
    """What a run did.

    Attributes:
        written: the records' paths.
        errors: of stages that failed; each has a record that says so.
        server_s, measuring_s, total_s: where the wall time went.
    """

    written: list[Path] = field(default_factory=list)
    errors: list[BenchError] = field(default_factory=list)
    server_s: float = 0.0
    measuring_s: float = 0.0
    total_s: float = 0.0

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Counts the block's time as measurement."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.measuring_s += time.monotonic() - began

    def summary(self) -> str:
        """Where the time went, for a person: what is neither loading nor measuring is ours."""
        own_s = self.total_s - self.server_s - self.measuring_s
        return (
            f"{self.total_s:.0f} s: {self.server_s:.0f} s loading servers, "
            f"{self.measuring_s:.0f} s measuring, {own_s:.0f} s everything else"
        )


def measure(
    models: Path,
    results: Path,
    logs: Path | None,
    *,
    variants: Collection[str] = (),
    stages: Collection[str] = (),
    hardware: str | None = None,
    force: bool = False,
    sessions: int | None = None,
    session: int | None = None,
    elsewhere: Path | None = None,
    plan: Path | None = None,
    port: int | None = None,
    server_timeout_s: float = 1800.0,
    after_round: Callable[[int, int], None] = lambda *_: None,
) -> RunOutcome:
    """Measures what is missing of what a models.toml asks for on one kind of hardware.

    A failed stage is recorded as such and the next one goes on.

    Args:
        logs: where the logs are kept; a folder in the cache by default.
        hardware: an id; may be left out where the file has only one.
        force: adds a session, and asks every document once more, also where nothing is missing.
        sessions: how many each load shall have, in place of the file's.
        session: only this one, whether or not more are missing.
        elsewhere: another store whose records count too.
        plan: has the commits to fetch, whatever branches are at by now.
        after_round: is told how many rounds are done and how many are left.

    Raises:
        ConfigError: an invalid file, or a name that is not in it.
        MachineError: this machine cannot run it at all, or can store nothing: seen before anything
            is started where that is possible.
        ServerError: the port asked for is taken.
    """
    experiment = problems.load_experiment(models)
    if sessions is not None:
        experiment = experiment.with_sessions(sessions)
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
        session=session,
        elsewhere=elsewhere,
    )
    if plan is not None:
        jobs = commits.pin(jobs, plan)
    needed = [job for job in jobs if job.needed]
    planned = in_rounds(jobs)
    told = f"{len(needed)} of {len(jobs)} stages to measure"
    told += f" in {len(planned)} session{'s' if len(planned) > 1 else ''}" if planned else ""
    say(f"{told}; {len(jobs) - len(needed)} current")
    if not needed:
        return RunOutcome()
    settings = RunSettings(results, logs or places.new_run_folder(), port, server_timeout_s)
    outcome = _measure_all(experiment, planned, settings, after_round)
    say(outcome.summary())
    return outcome


def _measure_all(
    experiment: Experiment,
    planned: Sequence[Session],
    settings: RunSettings,
    after_round: Callable[[int, int], None],
) -> RunOutcome:
    began = time.monotonic()
    needed = [job for session in planned for job in session.jobs]
    with process.stoppable(), places.only_one("measuring"), ExitStack() as stack:
        inputs.clean_up()
        store.prepare(
            settings.results,
            dict.fromkeys((job.hardware.id, job.variant.id) for job in needed),
        )
        if settings.port is not None:
            check_port(settings.port)
        settings.folder.mkdir(parents=True, exist_ok=True)
        run = Run(stack, experiment, needed, settings)
        firsts = {one.variant.id: one for one in reversed(planned)}  # of each variant
        for first in reversed(firsts.values()):
            if not _can_be_computed(run, first):
                run.give_up(first.variant)
        planned = [one for one in planned if (one.variant.id, one.jobs[0].stage) not in run.failed]
        run.bundled = [one.variant.bundled for one in planned if one.variant.bundled]
        rounds = [list(group) for _, group in groupby(planned, lambda one: one.number)]
        fetched: list[Variant] = []
        for done, sessions in enumerate(rounds, 1):
            for session in sessions:
                fetched.append(session.variant)
                later = (one.variant for one in planned if one.variant not in fetched)
                following = prefetch.following(session.variant, later)
                with Prefetch(following, settings.folder) as ahead:
                    _measure_session(run, session, ahead)
            after_round(done, len(rounds) - done)
    run.outcome.total_s = time.monotonic() - began
    return run.outcome


def _can_be_computed(run: Run, session: Session) -> bool:
    """Whether this processor has the variant's kernels; if not, its stages fail in words, now.

    Before anything is downloaded, made or measured, and without a record where there is one: it
    would say the same, or is of a machine that could.
    """
    variant, began_s = session.variant, time.monotonic()
    if processor.serves_four_bits(run.engine.build):
        return True
    try:
        processor.check(run.engine.build, _stated_quantization(variant))
    except WeightsError:  # the variant's own turn meets it again
        return True
    except UnsupportedError as error:
        run.outcome.errors.append(error)
        say(f"{variant.name}: {error}")
        root = run.settings.results
        for job in session.jobs:
            if not store.of_stage([root], job.hardware.id, variant.id, job.stage):
                record = Attempt(run, job, session, began_s=began_s).record(error=error)
                run.outcome.written.append(store.write_finished(root, record))
        return False
    return True


def _measure_session(run: Run, session: Session, ahead: Prefetch) -> None:
    """One server and what is measured of it, until a stage ends with the server's failure.

    What failed in this run is not tried again in its later rounds: it failed for a reason, which
    is said and recorded once. The next run tries it again.
    """
    began_s, variant = time.monotonic(), session.variant
    jobs = [job for job in session.jobs if (variant.id, job.stage) not in run.failed]
    if not jobs:
        return
    try:
        run.warm_up()
        with step(f"{variant.name}: checkpoint") as current:
            checkpoint = prepare_checkpoint(variant, run.engine, run.bundled, current.note)
        ahead.start()
        with serving(
            launch.command(run.engine, checkpoint, jobs[0].serve, variant.id),
            environment=launch.environment(run.engine, checkpoint),
            folder=run.settings.folder / variant.id / f"session-{session.number}",
            port=run.settings.port,
            limit_s=run.settings.server_timeout_s,
            title=f"{variant.name}: server",
        ) as server:
            run.outcome.server_s += server.startup_s
            launch.check_quantized(server)
            launch.check_gguf(server, checkpoint)
            for job in jobs:
                attempt = Attempt(run, job, session, Target(server, variant.id, checkpoint))
                error = _measure_stage(attempt, ahead)
                if isinstance(error, ServerError):
                    run.give_up(variant)
                    break  # the other stages were not attempted: the next run measures them
                if error is not None:
                    run.failed.add((variant.id, job.stage))
    except MachineError:
        raise
    except BenchError as error:  # no stage can be measured
        run.outcome.errors.append(error)
        run.give_up(variant)
        say(f"{variant.name}: {error}")
        for job in jobs if not isinstance(error, WeightsError) else ():  # nothing was run
            run.store(Attempt(run, job, session, began_s=began_s).record(error=error), [])


def _stated_quantization(variant: Variant) -> dict[str, Any]:
    """What a variant's checkpoint says of its quantization, before it is downloaded or made.

    Raises:
        WeightsError: the Hub.
    """
    if variant.bundled in shapes.SHAPES:
        return dict(shapes.SHAPES[variant.bundled].get("quantization_config", {}))
    if variant.bundled is not None:
        bits = inputs.WEIGHT_BITS.get(variant.bundled)
        return {"bits": bits} if bits else {}
    from bench.weights import hub, snapshot

    return snapshot.read_quantization(variant, hub.default_cache())


def prepare_checkpoint(
    variant: Variant, engine: Engine, all_bundled: Iterable[str], note: Callable[[str], None]
) -> Checkpoint:
    """The variant's checkpoint on this machine: the Hub's, or made of what the demo brings.

    Args:
        all_bundled: every bundled checkpoint this run will need; they are made together.
        note: is told about progress.

    Raises:
        WeightsError: the Hub, a download, or the making of a bundled checkpoint.
        MachineError: the disk is full.
    """
    if variant.bundled in shapes.SHAPES:
        return shapes.checkpoint(engine, variant.bundled)
    if variant.bundled in GGUF:
        return inputs.gguf_checkpoint(engine, variant.bundled)
    if variant.bundled is not None:
        wanted = [name for name in all_bundled if name not in (*shapes.SHAPES, *GGUF)]
        return inputs.checkpoints(engine, wanted)[variant.bundled]
    from bench.weights import gguf, hub, snapshot

    def progress(done: int, total: int, per_second: float) -> None:
        note(f"{done / 2**30:.2f} of {total / 2**30:.2f} GiB, {per_second / 2**20:.0f} MiB/s")

    found = snapshot.resolve(variant, hub.default_cache(), progress)
    return gguf.checked(found) if found.is_gguf else found


def _measure_stage(attempt: Attempt, ahead: Prefetch) -> BenchError | None:
    """One stage and its record, which has the error that is returned."""
    run, job, target = attempt.run, attempt.job, attempt.target
    assert target
    if job.stage == "speed":
        ahead.stop()
    else:
        ahead.start()
    try:
        facts = launch.facts(run.engine, target.server, target.checkpoint)
        client = run.client(job.stage, target.server)
        attempt = replace(attempt, engine=facts, began_s=time.monotonic())
        with run.outcome.measuring(), step(f"{job.variant.name}: {attempt.title}") as current:
            measure_it = _speed if job.stage == "speed" else _quality
            record, sidecars, error = measure_it(attempt, target, client, current)
    except MachineError:
        raise
    except BenchError as failure:
        error = failure if isinstance(failure, ServerError) else target.server.explain(failure)
        record, sidecars = attempt.record(error=error), []
    if error is not None:
        run.outcome.errors.append(error)
        say(f"{job.variant.name}: {error}")
    run.store(record, sidecars)
    return error


def _speed(attempt: Attempt, target: Target, client: Client, current: Step) -> Measured:
    _check_numbers(target)
    result, sidecar, error = speed.measure(
        client,
        target,
        attempt.job.speed,
        session=attempt.session.number,
        paces=attempt.session.paces,
        watch=partial(_watch, target.server, attempt.job),
        note=current.note,
    )
    if error is None:  # a kernel that leaves memory unwritten is right until the memory was used
        _check_numbers(target)
    return attempt.record(speed=result, error=error), [sidecar], error


def _check_numbers(target: Target) -> None:
    if target.checkpoint.facts.source != "random":  # only their shape matters
        fidelity.check_numbers(target.server.url, target.served_name)


def _quality(attempt: Attempt, target: Target, client: Client, current: Step) -> Measured:
    job, tasks = attempt.job, attempt.run.tasks
    options = job.quality
    fidelity.check_numbers(target.server.url, target.served_name)
    tasks.load(options)
    count = "all" if job.left is None else f"{job.left:,}"
    current.note(f"{count} documents of {', '.join(table.name for table in options.asked())}")
    result, sidecars = quality.measure(
        client,
        target,
        options,
        tasks.wait(target.server.check),
        answered=job.answered,
        max_model_len=launch.max_model_len(target.server),
        watch=partial(_watch, target.server, attempt.job),
        note=current.note,
    )
    current.note("log-probabilities of the fixed text")
    try:
        expected, data = fidelity.measure(target.server.url, target.served_name)
    except prompts.AbsurdError:  # what lm-eval measured is not what the checkpoint is worth
        raise
    except BenchError as failure:  # what lm-eval measured stands without it
        error = target.server.explain(failure)
        if isinstance(error, ServerError):
            return attempt.record(quality=result, error=error), sidecars, error
        say(f"{attempt.job.variant.name}: recorded without fidelity: {error}")
        return attempt.record(quality=result), sidecars, None
    result = result.model_copy(update={"fidelity": expected})
    return attempt.record(quality=result), [*sidecars, data], None


def _watch(server: Server, job: Job) -> AbstractContextManager[Watch]:
    gpus: list[int] = []
    if job.hardware.engine == "cuda":
        gpus = telemetry.gpu_indices(telemetry.gpus_used(job.serve, job.hardware.nodes))
    return telemetry.watch(server.process.pid, gpus)


def _now() -> datetime:
    """The time to the second, in UTC, as records have it."""
    return datetime.now(UTC).replace(microsecond=0)


class Run:
    """What all variants of one run share: the engine, the machine, the warm measuring programs."""

    def __init__(
        self, stack: ExitStack, experiment: Experiment, needed: list[Job], settings: RunSettings
    ) -> None:
        self.experiment = experiment
        self.settings = settings
        self.outcome = RunOutcome()
        self.bundled: list[str] = []  # the checkpoints it makes, all together
        self.failed: set[tuple[str, str]] = set()  # variant and stage, not tried again
        machine.check(needed[0].hardware.engine)
        self.engine = installed.ensure(needed[0].hardware.engine)
        self._clients: dict[str, Client] = {}
        self._first = {job.stage: job for job in reversed(needed)}
        # No proxy between the clients and the server, whatever this machine reaches the Hub by.
        direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        direct = f"{direct},{HOST}".lstrip(",")
        self._environment = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        self._environment |= {"no_proxy": direct, "NO_PROXY": direct} | launch.downloaded_code()
        if all(job.quality.data == "bundled" for job in needed if job.stage == "quality"):
            self._environment["HF_HUB_OFFLINE"] = "1"
        stack.callback(self._stop_clients)
        for stage in self._first:
            self._log(stage).unlink(missing_ok=True)
        self.warm_up()
        self.machine = machine.describe(self.engine.python, self.engine.build)

    def warm_up(self) -> None:
        """Starts the measuring programs that are not there, or not any more, and their imports."""
        for stage, job in self._first.items():
            if stage in self._clients:
                if self._clients[stage].usable:
                    continue
                self._clients[stage].stop()
            client = Client(self.engine, self._environment, self._log(stage))
            self._clients[stage] = client
            if stage == "quality":
                self.tasks = Tasks(client)
                self.tasks.load(job.quality)
            else:
                client.send("prepare_speed")

    def client(self, stage: str, server: Server) -> Client:
        """A stage's client, once nothing is being imported or prepared any more.

        Raises:
            MeasurementError: it cannot be prepared, or died.
            ServerError: the server died meanwhile.
        """
        self.warm_up()
        for name, client in self._clients.items():
            try:
                if name == "quality":
                    self.tasks.wait(server.check)
                else:
                    client.settle(server.check)
            except MeasurementError:
                if name == stage:  # the other one's turn will come
                    raise
        return self._clients[stage]

    def give_up(self, variant: Variant) -> None:
        """Measures no more of a variant in this run."""
        self.failed |= {(variant.id, stage) for stage in STAGES}

    def store(self, record: Record, sidecars: list[bytes]) -> None:
        """Writes a record, and says where."""
        path = store.write_finished(self.settings.results, record, sidecars)
        self.outcome.written.append(path)
        say(f"{record.variant_name}: {record.stage} {record.status}: {path}")

    def _log(self, stage: str) -> Path:
        return self.settings.folder / f"{stage}-client.log"

    def _stop_clients(self) -> None:
        with ExitStack() as stack:  # each, whatever comes in between
            for client in self._clients.values():
                stack.callback(client.stop)


@dataclass(frozen=True)
class Attempt:
    """One try at a stage: what is known before it is measured; `record` adds what came of it."""

    run: Run
    job: Job
    session: Session
    target: Target | None = None  # None where the server did not come so far
    engine: EngineFacts | None = None
    began_s: float = field(default_factory=time.monotonic)

    @property
    def title(self) -> str:
        """What is tried, for a person."""
        return f"speed, session {self.number}" if self.number else self.job.stage

    @property
    def number(self) -> int | None:
        """Which session of speed it is."""
        return self.session.number if self.job.stage == "speed" else None

    def record(
        self,
        *,
        speed: SpeedResult | None = None,
        quality: QualityResult | None = None,
        error: BenchError | None = None,
    ) -> Record:
        """The stage's record; with an error and a result it is partial, with an error failed."""
        job = self.job
        # By the clock at the end, which may have been put right or back since the beginning.
        finished = _now()
        took = timedelta(seconds=round(time.monotonic() - self.began_s))
        return Record(
            key=job.key,
            stage=job.stage,
            status="ok" if error is None else "partial" if speed or quality else "failed",
            session=self.number,
            error=None if error is None else describe_failure(error, self.run.settings.folder),
            variant=job.variant.id,
            hardware=job.hardware.id,
            **asdict(job.description),
            spec=job.spec,
            model=self.target.checkpoint.facts if self.target else None,
            engine=self.engine,
            speed=speed,
            quality=quality,
            environment=self.run.machine,
            provenance=machine.provenance(finished - took, finished),
        )


def describe_failure(error: BenchError, folder: Path) -> Failure:
    """The error without this machine's folders: records are published."""
    text = error.message
    for place, name in ((folder, "RUN"), (places.cached(), "CACHE"), (Path.home(), "HOME")):
        text = text.replace(str(place), name)
    return Failure(kind=type(error).__name__, message=text)

"""What the variants of one run share, and what is known of a stage before it is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench import places
from bench.config import Experiment, QualityOptions, SpeedOptions
from bench.engine import installed as engines
from bench.engine.installed import Engine
from bench.engine.server import HOST, Server
from bench.errors import BenchError, MeasurementError
from bench.measure import machine
from bench.measure.checkpoint import Checkpoint
from bench.measure.client import Client
from bench.measure.tasks import Tasks
from bench.plan.jobs import Job
from bench.records.record import (
    EngineFacts,
    Environment,
    Failure,
    QualityResult,
    Record,
    SpeedResult,
)


def now() -> datetime:
    """The time to the second, in UTC, as records have it."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass
class Outcome:
    """What a run did.

    Attributes:
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


@dataclass(frozen=True)
class Settings:
    """How to run.

    Attributes:
        results: the store's root.
        folder: for logs and temporary files.
        port: where servers listen; a free port if None.
        server_timeout_s: how long a server may take to become healthy.
    """

    results: Path
    folder: Path
    port: int | None = None
    server_timeout_s: float = 1800.0


class Session:
    """What all variants of one run share: the engine, the machine, the warm clients."""

    def __init__(
        self, stack: ExitStack, experiment: Experiment, needed: list[Job], settings: Settings
    ) -> None:
        self.experiment = experiment
        self.settings = settings
        self.outcome = Outcome()
        self.bundled = [job.variant.bundled for job in needed if job.variant.bundled]
        self.engine: Engine = engines.ensure(needed[0].hardware.engine)
        self._clients: dict[str, Client] = {}
        self._first = {job.stage: job for job in reversed(needed)}
        # No proxy between the clients and the server, whatever this machine reaches the Hub by.
        direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        direct = f"{direct},{HOST}".lstrip(",")
        self._environment = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        self._environment |= {"no_proxy": direct, "NO_PROXY": direct}
        if all(self.quality(job).data == "bundled" for job in needed if job.stage == "quality"):
            self._environment["HF_HUB_OFFLINE"] = "1"
        stack.callback(self._stop_clients)
        for stage in self._first:
            self._log(stage).unlink(missing_ok=True)
        self.warm_up()
        self.machine: Environment = machine.describe(self.engine.python, self.engine.build)

    def speed(self, job: Job) -> SpeedOptions:
        """The speed stage's options for a job."""
        return self.experiment.speed_options(job.variant, job.hardware)

    def quality(self, job: Job) -> QualityOptions:
        """The quality stage's options for a job."""
        return self.experiment.quality_options(job.variant, job.hardware)

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
                self.tasks.load(self.quality(job))
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

    def _log(self, stage: str) -> Path:
        return self.settings.folder / f"{stage}-client.log"

    def _stop_clients(self) -> None:
        with ExitStack() as stack:  # each, whatever comes in between
            for client in self._clients.values():
                stack.callback(client.stop)


@dataclass(frozen=True)
class Part:
    """What is known of a stage before it is measured; `record` adds what came of it."""

    session: Session
    job: Job
    ready: Checkpoint | None = None
    engine: EngineFacts | None = None
    began: datetime = field(default_factory=now)

    def record(
        self,
        *,
        speed: SpeedResult | None = None,
        quality: QualityResult | None = None,
        error: BenchError | None = None,
    ) -> Record:
        """The stage's record; with an error and a result it is partial, with an error failed."""
        job, experiment = self.job, self.session.experiment
        family = next(entry for entry in experiment.family if entry.name == job.variant.family)
        finished = now()
        return Record(
            key=job.key,
            stage=job.stage,
            status="ok" if error is None else "partial" if speed or quality else "failed",
            error=None if error is None else _failure(error, self.session.settings.folder),
            variant=job.variant.id,
            variant_name=job.variant.name,
            family=family.name,
            baseline=family.baseline == job.variant.name,
            hardware=job.hardware.id,
            hardware_name=job.hardware.name,
            price_per_hour_usd=job.hardware.price_per_hour_usd,
            service_level=experiment.service_level.model_dump(),
            reproduces=job.variant.reproduces,
            spec=job.spec,
            model=self.ready.facts if self.ready else None,
            engine=self.engine,
            speed=speed,
            quality=quality,
            environment=self.session.machine,
            provenance=machine.provenance(self.began, finished),
        )


def _failure(error: BenchError, folder: Path) -> Failure:
    """The error without this machine's folders: records are published."""
    text = error.message
    for place, name in ((folder, "RUN"), (places.cache(), "CACHE"), (Path.home(), "HOME")):
        text = text.replace(str(place), name)
    return Failure(kind=type(error).__name__, message=text)

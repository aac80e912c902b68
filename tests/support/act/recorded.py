"""The command `bench` under act, with its two slow programs recorded at their process boundary.

`bench run` writes what the engine's run would leave: one record per stage, the moment it ends.
`bench report` leaves a page per record, `bench engine` a newer lock. Everything else is the command
itself.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.plan.jobs import Job

sys.path.insert(0, os.environ["RECORDED"])
STATE = Path(os.environ["STANDIN"])


def run() -> int:
    """Measures nothing. Files in $STANDIN make it fail after its first stage, or send more."""
    import synthetic
    from synthetic_parts import Machine, Variant

    from bench.modelsfile import problems
    from bench.plan.jobs import find_jobs
    from bench.records import store

    parser = argparse.ArgumentParser()
    parser.add_argument("--session", type=int)  # all that are missing, where it is left out
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--plan", type=Path)
    for name in ("models", "results", "hardware"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--logs", default=STATE / "logs")
    parser.add_argument("--variants", action="append", required=True)
    parser.add_argument("--stages", action="append", default=[])
    asked = parser.parse_args(sys.argv[2:])
    logs = Path(asked.logs)
    logs.mkdir(exist_ok=True)
    (logs / "server.log").write_text("recorded\n")
    experiment = problems.load_experiment(Path(asked.models))
    jobs = find_jobs(
        experiment,
        Path(asked.results),
        variants=asked.variants,
        stages=asked.stages,
        hardware=[asked.hardware],
        session=asked.session,
        elsewhere=asked.beside,
    )
    for job, session in planned(jobs, asked.session):
        family = next(f for f in experiment.family if f.name == job.variant.family)
        variant = Variant(
            job.variant.name, family.name, family.baseline == job.variant.name,
            tpot_ms=50 - 10 * len(job.variant.name) % 30,
        )  # fmt: skip
        machine = Machine(job.hardware.id, job.hardware.name)
        record, sidecars = (
            synthetic.speed_record(
                variant, machine, rates=job.speed.request_rates,
                prompts=job.speed.prompts, repeats=job.speed.repeats,
                lengths=(job.speed.input_tokens, job.speed.output_tokens),
            )
            if job.stage == "speed"
            else synthetic.quality_record(variant, machine, documents=40, split=40)
        )  # fmt: skip
        now = datetime.now(UTC)
        times = {"started_at": now - timedelta(minutes=3), "finished_at": now}
        record = synthetic.of_job(record, job).model_copy(
            update={
                "session": session,
                "provenance": record.provenance.model_copy(update=times),
            }
        )
        print(store.write(Path(asked.results), record, sidecars), flush=True)
        if (STATE / f"evil-{job.variant.id}").exists():
            (Path(asked.results) / "workflows.yml").write_text("on: push")
        if (STATE / "swap-plan").exists():
            _replace_plan()
        with (STATE / "measured.log").open("a") as log:
            log.write(f"{job.hardware.id}/{job.variant.id}/{job.stage}\n")
        if (STATE / f"fail-{job.variant.id}").exists():
            (STATE / f"fail-{job.variant.id}").unlink()
            print("error: the server died: out of memory", file=sys.stderr)
            return 5
    return 0


def planned(jobs: list[Job], session: int | None) -> Iterator[tuple[Job, int | None]]:
    """Each stage that is measured, speed with the number of its session."""
    for job in jobs:
        if not job.needed:
            continue
        if job.stage == "quality":
            yield job, None
        else:
            yield from ((job, n) for n in ([session] if session else sorted(job.missing)))


def _replace_plan() -> None:
    """What a runner can do with its job's token: another artifact of the plan's name."""
    artifact = STATE / "artifacts" / os.environ["GITHUB_RUN_ID"] / "plan.zip"
    artifact.with_suffix(".id").write_text("1")


def engine() -> int:
    """A newer engine without the registries: a version, and a lock with it."""
    what, *options = sys.argv[2:]
    if what == "newest":
        with Path(os.environ["GITHUB_OUTPUT"]).open("a") as output:
            output.write("version=9.9.9\n")
    else:
        lock = Path("bench/engine/locks/cpu.in")
        lock.write_text(lock.read_text().replace("lm-eval", "# newer\nlm-eval"))
        summary = Path(options[options.index("--summary") + 1])
        summary.parent.mkdir(parents=True, exist_ok=True)
        summary.write_text("## vLLM 0.32.0 → 9.9.9\n")
    return 0


def report() -> int:
    """A page per record, so that a test sees which records a deployment showed."""
    arguments = sys.argv[2:]
    results = Path("bench/results")
    if "--results" in arguments:
        results = Path(arguments[arguments.index("--results") + 1])
    out = Path(arguments[arguments.index("--out") + 1])
    out.mkdir(parents=True, exist_ok=True)
    for record in results.glob("*/*/*.json"):
        (out / f"{record.stem}.html").write_text(record.read_text())
    (out / "index.html").write_text(json.dumps(arguments))
    return 1 if (STATE / "broken-report").exists() else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"] and not (STATE / "real-engine").exists():
        sys.exit(run())
    if sys.argv[1:2] == ["report"]:
        sys.exit(report())
    if sys.argv[1:2] == ["engine"] and sys.argv[2:3] != ["compare"]:
        sys.exit(engine())
    from bench.cli import main

    main()

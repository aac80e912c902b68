"""How long does one variant take with `bench run`, and how long the way it was published?

The published way: start a server, `vllm bench serve` for every rate and repeat, stop the server;
then `lm_eval --model vllm`, which loads the model a second time. Both ways here use the same
engine, checkpoint, server options, loads, seeds and documents on the same machine. `bench run` does
it with one session, as the published way has one server, and with three, as a verdict wants them.
The ways take turns (AB, BA, …), with everything they read in the page cache beforehand, and their
answers are compared, document by document. Nothing is asserted about time: this reports.

    ./run python benchmarks/one_variant.py [--repeats N]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bench.engine import installed, launch, processor
from bench.engine.server import serving
from bench.measure import fidelity, run, speed, tasks, texts
from bench.measure import machine as environment
from bench.measure.client import Client, Target
from bench.modelsfile import problems
from bench.plan import documents
from bench.process import Supervised
from bench.progress import say
from bench.records import store
from bench.records.pace import Pace
from bench.weights.checkpoint import Checkpoint

MODELS = Path(__file__).parent.parent / "bench" / "demo" / "models.toml"
TOLERANCE = 1e-3  # of a log-likelihood, as in tests/test_real_engine.py
EXPERIMENT = problems.load_experiment(MODELS)
VARIANT = EXPERIMENT.variant[0]
_ENTRY = "cpu" if processor.has_avx512() else "cpu-avx2"  # as the demo chooses
HARDWARE = next(entry for entry in EXPERIMENT.hardware if entry.id == _ENTRY)
OPTIONS = EXPERIMENT.serve_options(VARIANT, HARDWARE)
LOAD, MEASURE = "server load", "measurement"
FIDELITY = "numbers, texts: measured by ours only"
WAIT = "waiting for imports and lm-eval's preparation"
STOP, PACK, REST = "stopping server and clients", "packing sidecars", "everything else"
PUBLISHED, ONE, THREE = "published way", "bench run, one session", "bench run, three sessions"
OURSELVES = (WAIT, STOP, PACK, REST)
SPENT: defaultdict[str, float] = defaultdict(float)

Rows = list[dict[str, Any]]
Seconds = dict[str, float]


@dataclass
class Way:
    """One way, done once: its answers, the seconds of its parts, the machine's load before."""

    rows: Rows
    seconds: Seconds
    load_before: float = 0.0

    @property
    def total_s(self) -> float:
        """The whole wall time."""
        return sum(self.seconds.values())


def main() -> None:
    """Runs both ways in turn and prints the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=2, help="of each way; every second is BA")
    repeats = parser.parse_args().repeats
    cpu = installed.ensure("cpu")
    ready = run.prepare_checkpoint(VARIANT, cpu, [str(VARIANT.bundled)], say)
    ways: dict[str, Callable[[Path, installed.Engine, Checkpoint], Way]] = {
        PUBLISHED: published_way,
        ONE: functools.partial(bench_run, sessions=1),
        THREE: functools.partial(bench_run, sessions=3),
    }
    done: dict[str, list[Way]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as name:
        warm_up(Path(name), cpu, ready)
        count_seconds()
        for number in range(repeats):
            turns = list(ways.items())
            for title, way in turns if number % 2 == 0 else reversed(turns):
                folder = Path(name, f"{title}-{number}".replace(" ", "-"))
                folder.mkdir()
                load_before = os.getloadavg()[0]
                done[title].append(replace(way(folder, cpu, ready), load_before=load_before))
    machine = environment.describe(cpu.python, cpu.build)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine.cpu_model}, {machine.cpu_count} cores")
    print(table(done))
    for other, own in zip(done[PUBLISHED], done[ONE], strict=True):
        print(same_answers(other.rows, own.rows))


def warm_up(folder: Path, cpu: installed.Engine, ready: Checkpoint) -> None:
    """Reads what both ways read, and has lm-eval's documents prepared once."""
    say("warming the page cache")
    for place in (ready.path, cpu.python.parent.parent):
        for path in place.rglob("*"):
            if path.is_file():
                path.read_bytes()
    with Client(cpu, launch.environment(cpu, ready), folder / "warm-up.log") as client:
        client.send("prepare_speed")
        client.receive()
        prepared = tasks.Tasks(client)
        prepared.load(EXPERIMENT.quality)
        prepared.wait()


def bench_run(folder: Path, _cpu: installed.Engine, _ready: Checkpoint, sessions: int) -> Way:
    """`bench run` of both stages, and where its time went."""
    SPENT.clear()
    began = time.monotonic()
    outcome = run.measure(
        MODELS,
        folder / "results",
        folder / "logs",
        variants=[VARIANT.id],
        hardware=HARDWARE.id,
        sessions=sessions,
    )
    total_s = time.monotonic() - began
    parts = (MEASURE, FIDELITY, WAIT, STOP, PACK)
    seconds = {LOAD: outcome.server_s, **{part: SPENT[part] for part in parts}}
    seconds[REST] = total_s - sum(seconds.values())
    path = next(path for path in outcome.written if path.name.startswith("quality"))
    result = store.read(path).quality
    assert result
    return Way(store.read_sidecar(path, result.tasks[0].samples), seconds)


def count_seconds() -> None:
    """From now on parts of `bench run` add what they take to SPENT, without the parts they call."""

    def count(owner: Any, function: str, part: Callable[..., str]) -> None:
        original = getattr(owner, function)

        def timed(*values: Any, **more: Any) -> Any:
            name, inner_s, began = part(*values), sum(SPENT.values()), time.monotonic()
            try:
                return original(*values, **more)
            finally:
                SPENT[name] += time.monotonic() - began - (sum(SPENT.values()) - inner_s)

        setattr(owner, function, timed)

    def asked(client: Client, *_: object) -> str:
        return MEASURE if client._waiting in ("speed", "quality") else WAIT

    count(Client, "receive", asked)
    for owner, name in ((fidelity, "measure"), (fidelity, "check_numbers"), (texts, "measure")):
        count(owner, name, lambda *_: FIDELITY)
    count(store, "pack_sidecar", lambda *_: PACK)
    count(Supervised, "stop", lambda *_: STOP)


def published_way(folder: Path, cpu: installed.Engine, ready: Checkpoint) -> Way:
    """The programs that were called by hand, one after the other."""
    began = time.monotonic()
    load_s = serve(folder, cpu, ready)
    served = time.monotonic()
    rows = lm_eval(folder, cpu, ready)
    ended = time.monotonic()
    seconds = {
        LOAD: load_s,
        "vllm bench serve, each with its imports": served - began - load_s,
        "lm_eval, which loads the model again": ended - served,
    }
    return Way(rows, seconds)


def serve(folder: Path, cpu: installed.Engine, ready: Checkpoint) -> float:
    """A server and `vllm bench serve` against it; the seconds that the server took to start."""
    load = EXPERIMENT.speed
    with serving(
        launch.command(cpu, ready, OPTIONS, VARIANT.id),
        environment=launch.environment(cpu, ready),
        folder=folder,
        limit_s=600,
        title="published way: server",
    ) as server:
        target = Target(server, VARIANT.id, ready)
        warmup = (Pace(), load.seed, load.warmup_prompts)
        repeats = [(pace, n, load.prompts) for pace, seeds in speed.seeds(load, 1) for n in seeds]
        for pace, seed, prompts in (warmup, *repeats):
            say(f"published way: vllm bench serve, {pace.short}, seed {seed}")
            argv = speed.arguments(target, load, pace, seed, prompts)
            finish(cpu.command("bench", "serve", *argv), folder, cpu, ready)
    return server.startup_s


def lm_eval(folder: Path, cpu: installed.Engine, ready: Checkpoint) -> Rows:
    """`lm_eval --model vllm`; each document's answers."""
    say("published way: lm_eval --model vllm")
    model_args = (
        f"pretrained={ready.path},dtype={OPTIONS.dtype},max_model_len={OPTIONS.max_model_len}"
    )
    model_args += f",max_num_seqs={OPTIONS.max_num_seqs},enforce_eager=True"
    model_args += ",enable_prefix_caching=False"
    chosen = {"hellaswag": documents.choose(10_042, EXPERIMENT.quality)}
    argv = ["--model", "vllm", "--model_args", model_args, "--tasks", str(task(folder, cpu))]
    argv += ["--batch_size", "auto", "--samples", json.dumps(chosen), "--log_samples"]
    argv += ["--output_path", str(folder / "lm_eval")]
    wanted = len(chosen["hellaswag"])
    # vLLM's threads may abort lm_eval as it ends (seen once): its answers are written by then.
    finish(
        [str(cpu.python), "-m", "lm_eval", *argv],
        folder, cpu, ready, there=lambda: len(samples(folder)) == wanted,
    )  # fmt: skip
    rows = sorted(map(json.loads, samples(folder)), key=lambda row: int(row["doc_id"]))
    for row in rows:
        row["loglikelihoods"] = [float(value) for value, _ in row["filtered_resps"]]
    return rows


def samples(folder: Path) -> list[str]:
    """What lm_eval has written of each document, a line of JSON each."""
    files = (folder / "lm_eval").rglob("samples_*.jsonl")
    return [line for file in files for line in file.read_text().splitlines()]


def task(folder: Path, cpu: installed.Engine) -> Path:
    """lm-eval's HellaSwag with the bundled documents."""
    own = next(cpu.python.parent.parent.glob("lib/*/site-packages/lm_eval/tasks/hellaswag"))
    files = tasks.requests(EXPERIMENT.quality)["hellaswag"]["files"]["hellaswag"]
    config = {
        "include": str(own / "hellaswag.yaml"),
        "task": "hellaswag",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        **{f"{split}_split": None for split in ("training", "test") if split not in files},
    }
    path = folder / "hellaswag.yaml"
    path.write_text(json.dumps(config))
    return path


def finish(
    argv: list[str],
    folder: Path,
    cpu: installed.Engine,
    ready: Checkpoint,
    there: Callable[[], bool] = lambda: False,
) -> None:
    """Runs a program to its end; what it said is shown where it failed.

    Args:
        there: whether all that is wanted of it is there, however it ended.
    """
    with (folder / "published.log").open("ab") as log:
        process = Supervised(
            argv,
            environment={**launch.environment(cpu, ready), "TMPDIR": str(folder)},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        try:
            status = process.popen.wait()
            if status and not there():
                sys.exit((folder / "published.log").read_text()[-3000:])
            if status:
                say(f"it ended with status {status}, and all that is wanted of it is there")
        finally:
            process.stop()


def table(done: dict[str, list[Way]]) -> str:
    """Mean seconds of each way and of its parts, every round's, and the ratios."""

    def row(name: str, seconds: Sequence[float], whole: float) -> list[str]:
        mean = statistics.mean(seconds)
        rounds = " ".join(f"{each:.1f}" for each in seconds)
        return [name, f"{mean:.1f}", f"{mean / whole:.1%}", rounds]

    rows, ratios = [], []
    for title, way in done.items():
        totals = [each.total_s for each in way]
        whole = statistics.mean(totals)
        rows.append(row(title, totals, whole))
        loads = " ".join(f"{each.load_before:.2f}" for each in way)
        rows.append(["- load average before", "", "", loads])
        rows += [
            row(f"- {part}", [each.seconds[part] for each in way], whole) for part in way[0].seconds
        ]
        if title == PUBLISHED:
            continue
        own = [sum(each.seconds[part] for part in OURSELVES) for each in way]
        rows.append(row("- ourselves: the four parts before", own, whole))
        pairs = zip(way, done[PUBLISHED], strict=True)
        ratio = statistics.mean(own.total_s / other.total_s for own, other in pairs)
        ratios.append(f"{title}: {ratio:.2f} of the published way")
    headers = ["", "seconds", "share", "each round"]
    return "\n".join([tabulate(rows, headers=headers, disable_numparse=True), "", *ratios])


def same_answers(published: Rows, ours: Rows) -> str:
    """How many documents have the same outcome, and how far log-likelihoods are apart."""
    pairs = list(zip(published, ours, strict=True))
    same = [sum(a[key] == b[key] for a, b in pairs) for key in ("acc", "acc_norm")]
    furthest = max(
        abs(x - y)
        for a, b in pairs
        for x, y in zip(a["loglikelihoods"], b["loglikelihoods"], strict=True)
    )
    within = "within" if furthest <= TOLERANCE else "NOT within"
    return (
        f"of {len(pairs)} documents the same acc: {same[0]}, acc_norm: {same[1]}; log-likelihoods "
        f"at most {furthest:g} apart, {within} {TOLERANCE:g}"
    )


if __name__ == "__main__":
    main()

"""How long does one variant take with `bench run`, and how long the way it was published?

The published way: start a server, `vllm bench serve` for every rate and repeat, stop the server;
then `lm_eval --model vllm`, which loads the model a second time. Both sides here use the same
engine, checkpoint, server options, loads, seeds and documents, one after the other on the same
idle machine, and their answers are compared. Nothing is asserted about time: this reports.

    ./run python benchmarks/one_variant.py
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tabulate import tabulate

from bench import checkpoint, engine, launch, plan, problems, quality, run, speed, store, tasks
from bench.process import Supervised
from bench.progress import say
from bench.server import serving
from bench.session import Settings
from bench.speed import Target

MODELS = Path(__file__).parent.parent / "bench" / "demo" / "models.toml"
VARIANT = "smollm2-135m-bf16"


def main() -> None:
    """Runs both ways and prints the comparison."""
    experiment = problems.load_experiment(MODELS)
    variant = next(entry for entry in experiment.variant if entry.id == VARIANT)
    cpu = engine.ensure("cpu")
    ready = checkpoint.prepare(variant, cpu, [str(variant.bundled)], say)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        published_s, published_right = _published(folder, cpu, ready)
        jobs = plan.jobs(experiment, folder / "results", variants=[VARIANT], hardware=["cpu"])
        outcome = run.run(experiment, jobs, Settings(folder / "results", folder / "logs"))
        rows = _rows_of(outcome.written)
    right = [bool(row["acc"]) for row in rows]
    own_s = outcome.total_s - outcome.server_s - outcome.measuring_s
    print(
        tabulate(
            [
                ["published way", f"{published_s:.0f}", "1.00"],
                ["bench run", f"{outcome.total_s:.0f}", f"{outcome.total_s / published_s:.2f}"],
                ["  of which server load", f"{outcome.server_s:.0f}", ""],
                ["  of which measurement", f"{outcome.measuring_s:.0f}", ""],
                ["  of which ourselves", f"{own_s:.0f}", f"{own_s / outcome.total_s:.1%} of ours"],
            ],
            headers=["", "seconds", "ratio"],
        )
    )
    same = sum(a == b for a, b in zip(right, published_right, strict=True))
    print(f"same answers: {same} of {len(right)} documents")


def _rows_of(written: list[Path]) -> list[dict[str, float]]:
    path = next(path for path in written if path.name.startswith("quality"))
    result = store.read(path).quality
    assert result
    return store.read_sidecar(path, result.tasks[0].samples)


def _published(
    folder: Path, cpu: engine.Engine, ready: checkpoint.Checkpoint
) -> tuple[float, list[bool]]:
    """Seconds, and for each document whether it was answered rightly."""
    experiment = problems.load_experiment(MODELS)
    variant, hardware = next(pair for pair in experiment.pairs() if pair[0].id == VARIANT)
    options = experiment.serve_options(variant, hardware)
    began = time.monotonic()
    with serving(
        launch.command(cpu, ready, options, VARIANT),
        environment=launch.environment("cpu"),
        folder=folder / "published",
        limit_s=600,
        title="published way: server",
    ) as server:
        target = Target.of(server, VARIANT, str(ready.tokenizer))
        load = experiment.speed
        runs = [(float("inf"), load.seed, load.warmup_prompts)]
        runs += [(rate, seed, load.prompts) for rate, seeds in speed.seeds(load) for seed in seeds]
        for rate, seed, prompts in runs:
            say(f"published way: vllm bench serve, rate {rate}, seed {seed}")
            argv = speed.arguments(target, load, rate, seed, prompts)
            _wait(cpu.command("bench", "serve", *argv), folder)
    say("published way: lm_eval --model vllm")
    chosen = {"hellaswag": quality.choose(10_042, experiment.quality)}
    task = folder / "hellaswag.yaml"
    own = cpu.python.parent.parent / "lib/python3.11/site-packages/lm_eval/tasks/hellaswag"
    change = tasks.requests(experiment.quality)["hellaswag"]
    include = {"include": str(own / "hellaswag.yaml"), "task": "hellaswag", **change}
    task.write_text(json.dumps(include))
    model_args = f"pretrained={ready.path},dtype=bfloat16,max_model_len={options.max_model_len}"
    model_args += f",max_num_seqs={options.max_num_seqs},enforce_eager=True"
    model_args += ",enable_prefix_caching=False"
    argv = ["--model", "vllm", "--model_args", model_args, "--tasks", str(task)]
    argv += ["--batch_size", "auto", "--samples", json.dumps(chosen), "--log_samples"]
    argv += ["--output_path", str(folder / "lm_eval")]
    _wait([str(cpu.python), "-m", "lm_eval", *argv], folder)
    took_s = time.monotonic() - began
    samples = next((folder / "lm_eval").rglob("samples_*.jsonl")).read_text().splitlines()
    rows = sorted((json.loads(line) for line in samples), key=lambda row: int(row["doc_id"]))
    return took_s, [bool(row["acc"]) for row in rows]


def _wait(argv: list[str], folder: Path) -> None:
    with (folder / "published.log").open("ab") as log, ExitStack() as stack:
        process = Supervised(
            argv,
            environment={**launch.environment("cpu"), "TMPDIR": str(folder)},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
        stack.callback(process.stop)
        if process.popen.wait():
            sys.exit((folder / "published.log").read_text()[-3000:])


if __name__ == "__main__":
    main()

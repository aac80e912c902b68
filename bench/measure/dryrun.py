"""The exact command lines a variant would run, without running them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection
from pathlib import Path

from bench.config import Experiment, Hardware, QualityOptions, SpeedOptions, Stage, Variant
from bench.engine import launch
from bench.engine.installed import Engine
from bench.engine.server import HOST
from bench.measure import quality, speed
from bench.measure.checkpoint import Checkpoint
from bench.measure.speed import Endpoint
from bench.records.record import ModelFacts


def commands(
    experiment: Experiment, variant: Variant, hardware: Hardware, stages: Collection[Stage]
) -> list[list[str]]:
    """`vllm serve`; for speed every `vllm bench serve`, the warm-up first; for quality `lm_eval`.

    Where a run names a folder of this machine, the repository is named; the port is a free one,
    chosen when the server starts, and stands here as 0, as does a context length that the server
    is left to choose.
    """
    model = Path(variant.repo or str(variant.bundled))
    path = model / variant.file if variant.file else model
    ready = Checkpoint(path, Path(variant.tokenizer or path), ModelFacts(source="hub"))
    engine = Engine(hardware.engine, Path("python"), "", "", "")
    options = experiment.serve_options(variant, hardware)
    serve = launch.command(engine, ready, options, variant.id)
    lines = [["vllm", *serve[3:], "--host", HOST, "--port", "0"]]
    endpoint = Endpoint(f"http://{HOST}:0", variant.id, str(ready.tokenizer))
    if "speed" in stages:
        asked = experiment.speed_options(variant, hardware)
        for rate, seed, prompts in client_runs(asked):
            argv = speed.arguments(endpoint, asked, rate, seed, prompts)
            lines.append(["vllm", "bench", "serve", *argv])
    if "quality" in stages:
        tasks = experiment.quality_options(variant, hardware)
        lines.append(lm_eval(endpoint, tasks, options.max_model_len or 0))
    return lines


def client_runs(options: SpeedOptions) -> list[tuple[float, int, int]]:
    """Rate, seed and number of prompts of every `vllm bench serve` of a stage, in their order."""
    warmup = (math.inf, options.seed, options.warmup_prompts)
    repeats = [
        (rate, seed, options.prompts) for rate, seeds in speed.seeds(options) for seed in seeds
    ]
    return [warmup, *repeats]


def lm_eval(endpoint: Endpoint, options: QualityOptions, max_model_len: int) -> list[str]:
    """The command line that asks lm-eval what a run asks its `simple_evaluate`.

    Without the documents, where they are drawn: that takes the size of the task's split.
    """
    asked = quality.request(endpoint, options, {}, max_model_len)
    model_args = ",".join(f"{key}={value}" for key, value in asked["model_args"].items())
    first = options.selection == "first" and options.documents != "all"
    return [
        *("lm_eval", "run", "--model", asked["model"], "--model_args", model_args),
        *("--tasks", ",".join(options.tasks), "--num_fewshot", str(asked["num_fewshot"])),
        *(("--apply_chat_template",) if asked["apply_chat_template"] else ()),
        *(("--limit", str(options.documents)) if first else ()),
        *("--log_samples", "--output_path", "lm_eval"),
    ]


def script(
    experiment: Experiment, variant: Variant, hardware: Hardware, stages: Collection[Stage]
) -> str:
    """The command lines for a shell, with a comment on what an `lm_eval` line cannot say."""
    lines = []
    for argv in commands(experiment, variant, hardware, stages):
        if argv[0] == "lm_eval":
            lines.append(_comment(experiment.quality_options(variant, hardware)))
        lines.append(shlex.join(argv))
    return "\n".join(lines)


def _comment(options: QualityOptions) -> str:
    which = f"{options.documents} documents of each task"
    if options.documents != "all":
        drawn = f"drawn with seed {options.seed} from its whole split, as samples"
        which += f", {drawn if options.selection == 'random' else 'the first'}"
    source = "the bundled data" if options.data == "bundled" else "each data set at one commit"
    return f"# bench calls lm_eval.simple_evaluate with these arguments, on {which}; {source}"

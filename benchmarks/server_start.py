"""How long does a server take to start, and to work, with what `bench` does about it and without?

The demo's baseline is served with the environment that `bench` gives a server, with every piece of
it left out in turn, and with none. All of them take turns, in a random order in each round, with
the weights in the page cache. A server's first start with an empty folder for compiled kernels is
not like its later ones, so "kept kernels" starts once before the first round, unseen. After a start
it is asked for a log-probability, as before every stage, and then the same prompts are sent, all at
once. Nothing is asserted about time: this reports.

    ./run python benchmarks/server_start.py [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tabulate import tabulate

from bench.engine import installed, launch
from bench.engine import server as served
from bench.measure import fidelity, run
from bench.modelsfile import problems
from bench.progress import say
from bench.weights.checkpoint import Checkpoint

MODELS = Path(__file__).parent.parent / "bench" / "demo" / "models.toml"
EXPERIMENT = problems.load_experiment(MODELS)
VARIANT, HARDWARE = next(iter(EXPERIMENT.pairs()))
OPTIONS = EXPERIMENT.serve_options(VARIANT, HARDWARE)
COMPILED = ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
CORES, OPENMP = "VLLM_CPU_NUM_OF_RESERVED_CPU", "LD_PRELOAD"
HEADERS = "TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS"
PROMPTS, PROMPT_TOKENS, TOKENS = 16, 64, 16

Environment = Mapping[str, str]
Seconds = tuple[float, float, float]


def main() -> None:
    """Starts every kind of server in turn and prints what each took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    cpu = installed.ensure("cpu")
    checkpoint = run.prepare_checkpoint(VARIANT, cpu, [str(VARIANT.bundled)], say)
    whole = launch.environment(cpu, checkpoint)
    ways: dict[str, Callable[[Path], Environment]] = {
        "as `bench` starts it": lambda _: whole,
        "without kept kernels": lambda fresh: whole | {n: str(fresh / n) for n in COMPILED},
        "without Intel's OpenMP": lambda _: without(whole, OPENMP),
        "with a core kept for the front end": lambda _: without(whole, CORES),
        "with headers compiled ahead": lambda _: without(whole, HEADERS),
        "with none of them": lambda fresh: (
            without(whole, OPENMP, CORES, HEADERS) | {n: str(fresh / n) for n in COMPILED}
        ),
    }
    seconds: defaultdict[str, list[Seconds]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        once(cpu, checkpoint, whole, Path(folder) / "first")
        for number in range(rounds):
            for name in random.sample(list(ways), len(ways)):
                place = Path(folder) / f"{number}-{list(ways).index(name)}"
                seconds[name].append(once(cpu, checkpoint, ways[name](place / "fresh"), place))
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, {rounds} rounds")
    base = medians(seconds["with none of them"])
    rows = []
    for name in ways:
        found = zip(medians(seconds[name]), base, strict=True)
        rows.append([name, *(each for own, other in found for each in (own, own / other))])
    headers = ["server", "start, s", "ratio", "first log-probability, s", "ratio"]
    print(tabulate(rows, headers=[*headers, "the prompts, s", "ratio"], floatfmt=".2f"))


def medians(rounds: Sequence[Seconds]) -> Seconds:
    """Of the rounds, each part by itself."""
    start, first, work = (statistics.median(part) for part in zip(*rounds, strict=True))
    return start, first, work


def without(environment: Environment, *names: str) -> dict[str, str]:
    """The environment without some of its variables."""
    return {name: value for name, value in environment.items() if name not in names}


def once(
    cpu: installed.Engine, checkpoint: Checkpoint, environment: Environment, folder: Path
) -> Seconds:
    """Seconds to the first healthy answer, of a log-probability, and until prompts are answered."""
    command = launch.command(cpu, checkpoint, OPTIONS, "model")
    with served.serving(
        command, environment=environment, folder=folder, limit_s=900, title="server"
    ) as server:
        began = time.monotonic()
        fidelity.check_numbers(server.url, "model")
        sent = time.monotonic()
        with ThreadPoolExecutor(PROMPTS) as pool:
            list(pool.map(lambda n: complete(server, n), range(PROMPTS)))
        return server.startup_s, sent - began, time.monotonic() - sent


def complete(server: served.Server, number: int) -> None:
    """One prompt of its own and what the server writes after it."""
    tokens = [1000 + 97 * number + place for place in range(PROMPT_TOKENS)]
    body = {"model": "model", "prompt": tokens, "max_tokens": TOKENS, "ignore_eos": True}
    served.ask(f"{server.url}/v1/completions", 600, body)


if __name__ == "__main__":
    main()

"""What waiting for records costs: report, plan and compare of 160, 1,000 and 10,000 of them.

    python benchmarks/records.py [--before CHECKOUT] [RECORDS ...]

Each command runs without what is kept in the cache, with it, and after one new record. It runs as a
person's does, start of the program included; of the report, our part alone, without Quarto or
Pandoc. CPU seconds are those of all its processes: where others use the machine, look at these, and
at the ratios, which are within one run. Then what the pages of each size weigh, and the commands
that start without records: the plan of 660 variants on three machines, validate and --help.

With a checkout of an earlier commit, whatever needs no report runs there too, turn by turn with
this one.
"""

from __future__ import annotations

import argparse
import gzip
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "support")]

import synthetic  # noqa: E402 - found through the line above
from synthetic_parts import Machine, Variant  # noqa: E402
from tabulate import tabulate  # noqa: E402

from bench.errors import BenchError  # noqa: E402
from bench.records import store  # noqa: E402

Line = tuple[str, ...]
SIZES = (160, 1_000, 10_000)
REPORT = """
import sys
from pathlib import Path
from report.pages import all_pages
from report.places import REFERENCE
from report.rows.results import load, seldom_collected
from report.site import build
results, kept, out = map(Path, sys.argv[1:])
with seldom_collected():
    loaded = load(results, REFERENCE, kept)
    made, drawn, _ = all_pages.make(loaded)
    build.write_project(made, out / "project")
    (out / "site").mkdir()
    build.add_files(loaded, drawn, REFERENCE, out / "site", None)
"""


@dataclass(frozen=True)
class Cost:
    """What a command took: on the clock, of processors, and of memory (its largest process)."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def run(command: Sequence[str], cache: Path, checkout: Path = HERE.parent) -> Cost:
    """Runs it to its end, with the code of a checkout."""
    paths = [str(checkout), str(checkout / "tests" / "support")]
    environment = os.environ | {"BENCH_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(paths)}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, env=environment, cwd=checkout, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchError(f"{' '.join(command[:5])} failed", "see what it said above")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(time.perf_counter() - began, cpu_s, used.ru_maxrss / 1024)


def least(command: Sequence[str], cache: Path, before: Path | None) -> tuple[Cost, Cost | None]:
    """What it costs here, and in another checkout, turn by turn: the least of three."""
    here, there = [], []
    for _ in range(3):
        here.append(run(command, cache))
        if before:
            there.append(run(command, cache.with_name(f"{cache.name}-before"), before))
    return min(here, key=cpu), min(there, key=cpu) if there else None


def cpu(cost: Cost) -> float:
    """What to go by where others use the machine."""
    return cost.cpu_s


def commands(results: Path, models: Path) -> Mapping[str, list[str]]:
    """By name, what a person waits for."""
    bench, places = [sys.executable, "-m", "bench"], ["--results", str(results)]
    pair = ["gpu-0/variant-0", "gpu-0/variant-1"]
    return {
        "compare": [*bench, "compare", *pair, *places],
        "plan": [*bench, "plan", "--models", str(models), *places],
    }


def measure(records: int, before: Path | None) -> tuple[list[Line], Line]:
    """A line for each command, and one for what the report's pages weigh."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results, models = folder / "results", folder / "models.toml"
        synthetic.write_many(results, records)
        models.write_text(experiment(families=1, each=5, machines=4))
        count = f"{sum(1 for _ in results.glob('*/*/*-*.json')):,}"
        lines = []
        for which, command in commands(results, models).items():
            cache = folder / f"cache-{which}"
            first = run(command, cache)
            if before:
                run(command, cache.with_name(f"{cache.name}-before"), before)
            again, earlier = least(command, cache, before)
            add_one(results, which)
            lines.append(line(which, count, first, again, run(command, cache), earlier))
        cache, costs = folder / "cache-report", []
        for turn in ("first", "again", "one more"):
            if turn == "one more":
                add_one(results, "report")
            out = folder / turn
            out.mkdir()
            kept = str(cache / "records.sqlite")
            command = [sys.executable, "-c", REPORT, str(results), kept, str(out)]
            costs.append(run(command, cache))
        first, again, more = costs
        lines.append(line("report", count, first, again, more, None))
        return lines, weigh(count, folder / "first")


def line(which: str, count: str, first: Cost, again: Cost, more: Cost, before: Cost | None) -> Line:
    """As it is printed; and at once, for who waits."""
    told = (
        which, count,
        *(f"{each.cpu_s:.1f} ({each.wall_s:.1f})" for each in (first, again, more)),
        f"{again.cpu_s / first.cpu_s:.2f}", f"{more.cpu_s / first.cpu_s:.2f}",
        *((f"{before.cpu_s:.1f}", f"{again.cpu_s / before.cpu_s:.2f}") if before else ("", "")),
        f"{max(each.peak_mib for each in (first, again, more)):.0f}",
    )  # fmt: skip
    print(*told, sep="  ", file=sys.stderr)
    return told


def weigh(count: str, out: Path) -> Line:
    """What the report's files weigh before a renderer makes pages of them."""
    pages = {path: kilobytes(path) for path in (out / "project").rglob("*.qmd")}
    largest = max(pages, key=lambda path: pages[path])
    every = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return (
        count, str(len(pages)), f"{every / 1e6:.0f}", f"{pages[out / 'project' / 'index.qmd']:.0f}",
        f"{pages[largest]:.0f} ({largest.stem})",
    )  # fmt: skip


def kilobytes(path: Path) -> float:
    """A file as a server sends it."""
    return len(gzip.compress(path.read_bytes())) / 1000


def add_one(results: Path, which: str) -> None:
    """One session more of one variant, at a time of its own for each command."""
    day = ("compare", "plan", "report").index(which) + 1
    finished = synthetic.START.replace(year=2027, day=day)
    variant = Variant("Variant 1", "Family 0", False, tpot_ms=27, accuracy=0.57)
    machine = Machine("gpu-0", "GPU 0", "Example GPU 0")
    made = synthetic.speed_record(variant, machine, finished=finished, seed=day, prompts=200)
    store.write(results, *made)


def experiment(families: int, each: int, machines: int) -> str:
    """A models.toml of so many families of so many variants on so many machines."""
    tables = [
        f'[[hardware]]\nid = "gpu-{n}"\nname = "GPU {n}"\nengine = "cuda"\nrunner = ["gpu"]\n'
        "gpus = 1\ngpu_memory_gib = 80\n"
        for n in range(machines)
    ]
    for family in range(families):
        first = family * each
        tables.append(f'[[family]]\nname = "Family {family}"\nbaseline = "Variant {first}"\n')
        tables += [
            f'[[variant]]\nname = "Variant {n}"\nfamily = "Family {family}"\n'
            f'repo = "org/model-{n}"\nrevision = "{n:040x}"\n'
            for n in range(first, first + each)
        ]
    return "\n".join(tables)


def without_records(before: Path | None) -> Iterator[Line]:
    """A line for each command that has none to read."""
    with tempfile.TemporaryDirectory() as name:
        models = Path(name) / "models.toml"
        models.write_text(experiment(families=132, each=5, machines=3))
        bench = [sys.executable, "-m", "bench"]
        for which, command in {
            "plan of 660 variants on 3 machines": ["plan", "--models", str(models)],
            "validate, of the same": ["validate", str(models)],
            "--help": ["--help"],
        }.items():
            results = ["--results", name] if command[0] == "plan" else []
            cost, earlier = least([*bench, *command, *results], Path(name) / "cache", before)
            ratio = f"{cost.cpu_s / earlier.cpu_s:.2f}" if earlier else ""
            told = (
                f"{cost.cpu_s:.1f} ({cost.wall_s:.1f})",
                f"{earlier.cpu_s:.1f}" if earlier else "",
            )
            yield (which, *told, ratio)


def main(sizes: Sequence[int], before: Path | None) -> None:
    """Measures each size and prints the tables."""
    began = os.getloadavg()[0]
    without = list(without_records(before))
    measured = [measure(size, before) for size in sizes]
    headers = (
        "command", "records", "first, CPU s (s)", "again, CPU s (s)", "after one more, CPU s (s)",
        "again / first", "one more / first", "again before, CPU s", "again / before", "peak MiB",
    )  # fmt: skip
    show([row for lines, _ in measured for row in lines], headers)
    show(without, ("without records", "CPU s (s)", "before, CPU s", "now / before"))
    pages = ("records", "pages", "all files MB", "overview kB gz", "largest page kB gz")
    show([weight for _, weight in measured], pages)
    cores, load = os.cpu_count(), os.getloadavg()[0]
    print(f"{cores} cores; waiting for them, on average: {began:.1f} before, {load:.1f} after")


def show(lines: Sequence[Line], headers: Sequence[str]) -> None:
    """One table."""
    print(tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True), end="\n\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, metavar="RECORDS")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    asked = parser.parse_args()
    main(asked.sizes, asked.before)

"""How the site grows: 1,000 and 10,000 synthetic records, without the renderer.

    python benchmarks/report_scale.py [RECORDS ...]

Reports, for each size, the seconds and peak memory of our part (loading, statistics, pages,
charts, data; everything but Quarto or Pandoc) and what the pages weigh. Each size runs in a
process of its own, so that peaks do not add up.
"""

from __future__ import annotations

import contextlib
import gzip
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "support")]

import psutil  # noqa: E402
import synthetic  # noqa: E402 - found through the line above
from tabulate import tabulate  # noqa: E402

from report.pages import all_pages  # noqa: E402
from report.rows.results import load  # noqa: E402
from report.site import build  # noqa: E402

SIZES = (1_000, 10_000)


class Peak:
    """The most bytes this process and its helpers held together, read 20 times a second."""

    def __init__(self) -> None:
        self._most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return self._most

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.05):
            held = 0
            for process in (me, *me.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
                    held += process.memory_info().rss
            self._most = max(self._most, held)


def measure(records: int) -> None:
    """Builds once and prints one tab-separated line."""
    with tempfile.TemporaryDirectory() as folder:
        results, project, site = (Path(folder) / name for name in ("results", "project", "site"))
        synthetic.write_many(results, records)
        count = sum(1 for _ in results.glob("*/*/*-*.json"))
        peak = Peak()
        marks = [time.perf_counter()]
        loaded = load(results, build.REFERENCE)
        marks.append(time.perf_counter())
        made, drawn = all_pages.make(loaded)
        marks.append(time.perf_counter())
        build.write_project(made, project)
        site.mkdir()
        build.add_files(loaded, drawn, build.REFERENCE, site, None)
        marks.append(time.perf_counter())
        most = peak.stop()
        steps = [later - earlier for earlier, later in pairwise(marks)]
        weight = {page.path: _kilobytes(page.source.encode()) for page in made}
        shared = [build.ASSETS / name for name in ("site.js", "style.css")]
        assets = sum(_kilobytes(path.read_bytes()) for path in shared)
        largest = max(weight, key=lambda path: weight[path])
        row = (
            f"{count:,}", len(made), *(f"{step:.1f}" for step in steps), f"{sum(steps):.1f}",
            f"{most / 2**20:.0f}", f"{weight['index'] + assets:.0f}",
            f"{weight[largest]:.0f} ({largest})",
        )  # fmt: skip
        print(*row, sep="\t")


def _kilobytes(data: bytes) -> float:
    return len(gzip.compress(data)) / 1000


def main(sizes: list[int]) -> None:
    """Measures each size in a process of its own and prints the table."""
    rows = []
    for size in sizes:
        command = [sys.executable, __file__, "--one", str(size)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(done.stdout.strip().split("\t"))
    headers = (
        "records", "pages", "load s", "pages s", "files s", "total s", "peak MiB",
        "overview kB gz", "largest page kB gz",
    )  # fmt: skip
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(int(sys.argv[2]))
    else:
        main([int(size) for size in sys.argv[1:]] or list(SIZES))

"""How long does `bench demo` take: from nothing, with the engine there, and once it is done?

Every call is the command as a newcomer types it, in a process of its own. The first has an empty
cache, the second the first one's cache and no records, the third both. The packages come from
wherever pip and uv are configured to find them. Nothing is asserted about time: this reports.

    ./run python benchmarks/demo.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

FIRST = "a first report"  # what the demo says when each variant was measured once


def main() -> None:
    """Runs the demo three times and prints what each took."""
    rows: list[list[str | float | None]] = []
    whole_s = 0.0  # of the first
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        for name, out in (
            ("from nothing", "one"),
            ("with the engine there", "two"),
            ("again, all is current", "two"),
        ):
            load = os.getloadavg()[0]
            first_s, total_s, parts = run(cache, Path(folder) / out)
            whole_s = whole_s or total_s
            rows.append([name, first_s, total_s, total_s / whole_s, load])
            print(f"{name}: {parts}", flush=True)
    print(f"{os.cpu_count()} cores")
    headers = ["demo", "first report, s", "in all, s", "ratio", "load average before"]
    print(tabulate(rows, headers=headers, floatfmt=".1f"))


def run(cache: Path, out: Path) -> tuple[float | None, float, str]:
    """Seconds to the first report and to the end, and what the demo says of its parts."""
    began, first_s, parts = time.monotonic(), None, ""
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "demo", "--out", str(out)],
        env={**os.environ, "BENCH_CACHE": str(cache)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        for line in process.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            if FIRST in line:
                first_s = time.monotonic() - began
            if "loading servers" in line:
                parts = line.strip()
    if process.returncode:
        sys.exit(process.returncode)
    return first_s, time.monotonic() - began, parts


if __name__ == "__main__":
    main()

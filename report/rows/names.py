"""What `bench compare A B` means by A and B: the rows that a name stands for."""

from __future__ import annotations

import difflib

from bench.errors import ConfigError
from report.rows import rows as build
from report.rows import speed_rows
from report.rows.load import Results, rows_of
from report.rows.rows import Row


def couples(
    results: Results, a: str, b: str, hardware: str | None = None
) -> list[tuple[list[Row], list[Row]]]:
    """The rows of `a` and of `b` on each machine that has both; or of both where each is on one.

    Raises:
        ConfigError: a name stands for nothing, or it is not clear which of several is meant.
    """
    of_a, of_b = (_sides(results, name, hardware) for name in (a, b))
    shared = sorted(set(of_a) & set(of_b))
    if shared:
        return [(of_a[place], of_b[place]) for place in shared]
    if len(of_a) == len(of_b) == 1:
        return list(zip(of_a.values(), of_b.values(), strict=True))
    places = f"{a} is on {', '.join(sorted(of_a))}; {b} on {', '.join(sorted(of_b))}"
    raise ConfigError(f"no machine has both: {places}", "name each as hardware/variant")


def _sides(results: Results, name: str, only: str | None) -> dict[str, list[Row]]:
    """The rows that a name stands for, by hardware; on `only` one if that is given."""
    if name.endswith(".json"):
        return _of_record(results, name)
    rows = rows_of(results.speed) + rows_of(results.quality)
    hardware, _, variant = name.rpartition("/")
    chosen: dict[str, list[Row]] = {}
    for row in rows:
        if row["variant"] == variant and row["hardware"] == (hardware or only or row["hardware"]):
            chosen.setdefault(row["hardware"], []).append(row)
    if not chosen:
        known = sorted({row["variant"] for row in rows})
        close = difflib.get_close_matches(variant, known, n=3, cutoff=0.4) or known[:3]
        raise ConfigError(
            f"no current result is named {name}",
            f"use one of: {', '.join(close)}" if close else "measure something first: bench run",
        )
    return chosen


def _of_record(results: Results, where: str) -> dict[str, list[Row]]:
    path = results.root / where
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such record", "give its path under the results")
    record = results.read(where)
    rows = speed_rows.speed_rows(record, where, path) + build.quality_rows(record, where)
    return {record.hardware: rows}

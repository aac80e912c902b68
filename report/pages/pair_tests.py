"""Every two variants of a family on one machine, tested: the compare page's second table.

A pair has the one verdict that it has everywhere (`families.Verdicts`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from report.differences import pair
from report.differences.families import Verdicts
from report.differences.pair import Difference
from report.pages.tables import Cell, Column, Row, Table, unknown
from report.pages.verdict_cells import against
from report.rows.load import Results

Frame = dict[str, Any]
Key = tuple[str, str, str]  # source, hardware, variant
# Beyond these many pairs a table is no help, and pairing answers takes its time.
MOST_PAIRS = 400
_METRICS = {"TPOT": "tpot_mean_ms", "output": "output_throughput_tps"}


def table(
    results: Results,
    fast: Sequence[Frame],
    good: Sequence[Frame],
    differences: Sequence[Difference],
) -> Table | None:
    """One row per pair: time per token, most output, and every metric of each task.

    `differences` are those of the results, from `compare.differences`.
    """
    rows = _by_result(fast, good)
    couples = list(_couples(rows))
    if not couples or len(couples) > MOST_PAIRS:
        return None
    answers = pair.Answers(results)
    told = Verdicts(results, answers, differences)
    metrics = list(dict.fromkeys(name for a, b in couples for name in _shared(rows, a, b)))
    found: dict[tuple[Key, Key], dict[str, Difference]] = {}
    for a, b in couples:
        shared = _shared(rows, a, b)
        found[a, b] = {name: _test(results, answers, told, name, *x) for name, x in shared.items()}
    columns = (
        Column("a", "A", numeric=False),
        Column("b", "against B", numeric=False),
        Column("machine", "On", numeric=False),
        *(Column(name.replace(" ", "-"), *_heading(name)) for name in metrics),
    )
    body = [_row(a, b, rows, found[a, b], metrics) for a, b in couples]
    return Table("pairs", "Every two of a family on one machine, tested", columns, body)


def identifier(key: Key) -> str:
    """The HTML id of a result's row on the compare page."""
    return ".".join(key)


def _by_result(fast: Sequence[Frame], good: Sequence[Frame]) -> dict[Key, dict[str, Frame]]:
    """The rows each result can be compared by, by the name of the comparison."""
    held: dict[Key, dict[str, Frame]] = {}
    for row in fast:
        own = held.setdefault((row["source"], row["hardware"], row["variant"]), {})
        rate = row["request_rate_rps"]
        if "TPOT" not in own or rate < own["TPOT"]["request_rate_rps"]:
            own["TPOT"] = row
        if "output" not in own or rate > own["output"]["request_rate_rps"]:
            own["output"] = row
    for row in good:
        own = held.setdefault((row["source"], row["hardware"], row["variant"]), {})
        own[f"{row['task']} {row['metric']}"] = row
    return held


def _couples(held: dict[Key, dict[str, Frame]]) -> Iterator[tuple[Key, Key]]:
    """Pairs within a family on a machine, the baseline always as B."""
    groups: dict[tuple[str, str, str], list[Key]] = {}
    for key, own in held.items():
        family = next(iter(own.values()))["family"]
        groups.setdefault((*key[:2], family), []).append(key)
    for keys in groups.values():
        first = {key: not next(iter(held[key].values()))["is_baseline"] for key in keys}
        for b, a in combinations(sorted(keys, key=lambda key: (first[key], key)), 2):
            yield a, b


def _shared(held: dict[Key, dict[str, Frame]], a: Key, b: Key) -> dict[str, tuple[Frame, Frame]]:
    """What both have, at the same load."""
    couples = {name: (held[a][name], held[b][name]) for name in held[a] if name in held[b]}
    return {
        name: (x, y)
        for name, (x, y) in couples.items()
        if x.get("request_rate_rps") == y.get("request_rate_rps")
    }


def _test(
    results: Results, answers: pair.Answers, told: Verdicts, name: str, a: Frame, b: Frame
) -> Difference:
    if "task" in a:
        test = pair.quality(answers, a, b, fidelity=False)
    else:
        test = pair.speed(a, b, _METRICS[name], results.drift)
    return replace(test, verdict=told.of(a, b, test.metric) or test.verdict)


def _heading(name: str) -> tuple[str, str]:
    if name == "TPOT":
        return "TPOT", "%, lowest load"
    if name == "output":
        return "Output", "%, highest load"
    return name, "pp"


def _row(
    a: Key,
    b: Key,
    held: dict[Key, dict[str, Frame]],
    tests: dict[str, Difference],
    metrics: Sequence[str],
) -> Row:
    one, other = (next(iter(held[key].values())) for key in (a, b))
    cells = [against(tests[name]) if name in tests else unknown() for name in metrics]
    return Row(
        Cell(one["variant_name"]),
        [Cell(other["variant_name"]), Cell(one["hardware_name"]), *cells],
        pair=f"{identifier(a)} {identifier(b)}",
        published=a[0] == "published",
    )

"""What Actions shows of problems and plans: annotations on the lines of models.toml, a summary."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.errors import BenchError, ConfigError
from bench.github.comment import SERVER, Document, Table, links, render
from bench.modelsfile.problems import Problem
from bench.plan.forecast import Forecast

MAX_ANNOTATIONS = 10  # Actions shows no more of one step


def annotate(file: str, problems: Iterable[Problem]) -> list[str]:
    """One workflow command per problem, at its line of `file`; the rest in one more."""
    commands = [
        f"::error file={_property(file)},line={problem.line},title={_property(problem.key)}::"
        + _data(f"{problem.message}\nfix: {problem.fix}")
        for problem in problems
    ]
    if len(commands) > MAX_ANNOTATIONS:
        more = len(commands) - MAX_ANNOTATIONS + 1
        return [*commands[: MAX_ANNOTATIONS - 1], f"::error::and {more} more: see the job summary"]
    return commands


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def describe_problems(head_sha: str, problems: list[Problem]) -> Document:
    """The comment's plan section where there is no plan, because models.toml has problems."""
    rows = tuple((str(p.line), p.key, p.message, p.fix) for p in problems[:100])
    table = Table("", ("Line", "Key", "Problem", "Fix"), rows)
    count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
    return Document(
        "plan", head_sha, f"models.toml has {count}: nothing can be measured.", (table,)
    )


def describe_plan(
    head_sha: str, forecasts: Sequence[Forecast], remarks: Sequence[str] = ()
) -> Document:
    """What would be measured as text: where, whether it fits, how long, how large, and why.

    Args:
        remarks: lines to add below the table.
    """
    needed = [one for one in forecasts if one.needed]
    current = f"{len(forecasts) - len(needed)} are current"
    if not needed:
        return Document("plan", head_sha, f"Nothing would be measured: {current}.")
    columns = ("Variant", "Hardware", "Stage", "Why", "Fits", "Download", "Time")
    table = Table("", columns, (*(_plan_row(one) for one in needed[:100]), _total_row(needed)))
    notes = [
        "Fits is an estimate. Time is that of the last such measurement, or the least it can be.",
        "A machine downloads each checkpoint once, whatever its stages.",
        *remarks,
    ]
    if len(needed) > 100:
        notes.append(f"and {len(needed) - 100} more stages")
    headline = f"{len(needed)} of {len(forecasts)} stages would be measured, {current}."
    tables = (table, *_fetched(needed))
    return Document("plan", head_sha, headline, tables, tuple(notes))


def _fetched(needed: Sequence[Forecast]) -> list[Table]:
    """What an approval lets a machine fetch: which state of what, and how much it is."""
    rows: dict[tuple[str, ...], None] = {}
    for one in needed:
        for each in one.repositories:
            at = each.commit[:12] if each.commit else "unknown"
            if each.commit is None or each.revision != each.commit:
                at += f" ({each.revision or 'newest'})"
            size = _sum([one.download_gib], "GiB") if each.key == "repo" else "a tokenizer"
            rows[each.name, at, each.file or "all", size] = None
    columns = ("Repository", "Commit", "File", "Download")
    return [Table("What is fetched", columns, tuple(rows)[:100])] if rows else []


def _plan_row(one: Forecast) -> tuple[str, ...]:
    return (
        one.variant,
        one.hardware,
        one.stage,
        one.state,
        {True: "yes", False: "no", None: "unknown"}[one.fits],
        _sum([one.download_gib], "GiB"),
        _time([one]),
    )


def _total_row(needed: Sequence[Forecast]) -> tuple[str, ...]:
    downloads = {(one.hardware, one.checkpoint): one.download_gib for one in needed}
    return ("Total", "", "", "", "", _sum([*downloads.values()], "GiB"), _time(needed))


def _time(forecasts: Sequence[Forecast]) -> str:
    ranges = [
        (one.expected_minutes, one.expected_minutes) if one.expected_minutes else one.likely_minutes
        for one in forecasts
    ]
    if any(one.likely_minutes for one in forecasts) and all(ranges):
        low, high = (sum(row[end] or 0.0 for row in ranges if row) for end in (0, 1))
        return f"{low:,.1f} to {high:,.1f} min"
    expected = [one.expected_minutes for one in forecasts]
    least = [one.least_minutes for one in forecasts if one.expected_minutes is None]
    known = [minutes for minutes in (*expected, *least) if minutes is not None]
    return _sum(known, "min", is_floor=bool(least))


def _sum(amounts: Sequence[float | None], unit: str, *, is_floor: bool = False) -> str:
    """The amounts that are known, together: the least it can be, if one of them is not."""
    known = [amount for amount in amounts if amount is not None]
    if not known:
        return "unknown"
    is_floor = is_floor or len(known) < len(amounts)
    return f"{'at least ' if is_floor else ''}{sum(known):,.1f} {unit}"


def summarize(document: Document, environment: Mapping[str, str] = os.environ) -> None:
    """Adds the document to the job's summary page, or prints it where there is none."""
    run = environment.get("GITHUB_RUN_ID")
    more = None
    if run and document.section == "results":
        server = environment.get("GITHUB_SERVER_URL", SERVER)
        more = links(server, environment["GITHUB_REPOSITORY"], int(run))
    text = render(document, more) + "\n"
    path = environment.get("GITHUB_STEP_SUMMARY")
    if path is None:
        print(text)
    else:
        with Path(path).open("a") as file:
            file.write(text)


def set_outputs(environment: Mapping[str, str] = os.environ, **outputs: str) -> None:
    """Step outputs, one line each.

    Raises:
        ConfigError: this is no step of a workflow.
        ValueError: a value has a line break, with which it could set other outputs.
    """
    path = environment.get("GITHUB_OUTPUT")
    if not path:
        raise ConfigError(
            "GITHUB_OUTPUT is not set: there is nowhere to write a workflow step's outputs",
            "leave --github-output out; only GitHub Actions reads it",
        )
    for name, value in outputs.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"the output {name} has a line break")
    with Path(path).open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in outputs.items())


def annotate_refused(artifact: str, error: BenchError) -> str:
    """One workflow command for an artifact that was not taken."""
    return f"::error title=refused {_property(artifact)}::{_data(str(error))}"

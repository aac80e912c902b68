"""The page of one variant: how to run it again, what ran, every repeat, every record."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

from markupsafe import Markup

from bench.records.pace import of_load
from bench.records.record import ModelFacts, Record
from report import escape, numbers, rates
from report.differences.families import Verdicts
from report.exports import every_eval_ever
from report.numbers import Form
from report.pages import cells, tables
from report.pages.speed import LOAD, SESSIONS, latency
from report.pages.tables import Cell, Column, Row, Table
from report.rows import measured
from report.rows.results import Folder
from report.rows.rows import (
    EVENTS,
    HistoryRow,
    Metric,
    QualityRow,
    RepeatRow,
    RunRow,
    SpeedRow,
    Stage,
)

ROOT = "../"
Own = TypeVar("Own", SpeedRow, QualityRow, RunRow)


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything of one variant on one machine; what was not measured there is None or empty."""

    id: str
    title: str
    speed: Table | None
    quality: Table | None
    commands: Sequence[escape.Markdown]
    facts: Sequence[tuple[str, escape.Markdown]]
    documents: Sequence[str]  # those of Every Eval Ever, below their folder
    repeats: escape.Markdown | None
    earlier: Sequence[escape.Markdown]
    runs: escape.Markdown


@dataclass(frozen=True, slots=True)
class Alone:
    """The part of a machine's section that its own records say, in words of a page."""

    commands: list[str]
    facts: list[tuple[str, str]]
    documents: list[str]
    repeats: str | None
    earlier: list[str]
    runs: str


def alone(folder: Folder) -> str:
    """Them as JSON."""
    hardware, records = folder.name.partition("/")[0], folder.current()
    repeats = _repeats(hardware, folder.repeats)
    return json.dumps(
        asdict(
            Alone(
                commands=list({_asked(each): commands(each) for each in records}.values()),
                facts=facts(records),
                documents=[path for record in records if (path := every_eval_ever.path(record))],
                repeats=tables.render(repeats) if repeats else None,
                earlier=[tables.render(each) for each in _earlier(hardware, folder.history)],
                runs=tables.render(_runs(hardware, folder.runs)),
            )
        )
    )


def variants(
    verdicts: Verdicts, speed: Sequence[SpeedRow], quality: Sequence[QualityRow]
) -> Iterator[tuple[RunRow, list[Machine]]]:
    """The newest run of every variant, and each machine it ran on.

    The rows are in the order in which pages show them.
    """
    results = verdicts.results
    told = results.of_folders("page", alone, many=300)
    loads = _by_machine([row for row in speed if row.source == "measured"])
    scores = _by_machine([row for row in quality if row.source == "measured"])
    for variant, machines in _by_machine(results.runs).items():
        made = []
        for hardware, own in machines.items():
            its = Alone(**json.loads(told(f"{hardware}/{variant}")))
            made.append(
                Machine(
                    hardware,
                    own[0].hardware_name,
                    speed=_speed(hardware, loads[variant][hardware], verdicts),
                    quality=_quality(hardware, scores[variant][hardware], verdicts),
                    commands=[escape.Markdown(each) for each in its.commands],
                    facts=[(title, escape.Markdown(text)) for title, text in its.facts],
                    documents=its.documents,
                    repeats=escape.Markdown(its.repeats) if its.repeats else None,
                    earlier=[escape.Markdown(each) for each in its.earlier],
                    runs=escape.Markdown(its.runs),
                )
            )
        every = [run for own in machines.values() for run in own]
        yield max(every, key=lambda run: (run.finished_at or "", run.record)), made


def _by_machine(rows: Iterable[Own]) -> dict[str, dict[str, list[Own]]]:
    """Rows by variant, then by hardware."""
    found: dict[str, dict[str, list[Own]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row.variant][row.hardware].append(row)
    return found


def _speed(hardware: str, rows: Sequence[SpeedRow], verdicts: Verdicts) -> Table | None:
    """The newest speeds: a row per load."""
    shown = [*latency(verdicts), SESSIONS]
    columns = (LOAD, *(column for column, _ in shown))
    body = [
        Row(_leading_to(cells.load(row.pace), row), [fill(row) for _, fill in shown], id=row.anchor)
        for row in rows
    ]
    return Table(f"speed-{hardware}", "Speed, all sessions", columns, body) if body else None


def _leading_to(head: Cell, row: SpeedRow | QualityRow) -> Cell:
    """A row's head that leads to its record, with what is to be minded of it."""
    told = cells.head(row)
    more = "; ".join(text for text in (head.more, told.more) if text)
    return replace(head, more=more, records=[(name, f"{ROOT}{to}") for name, to in told.records])


def _quality(hardware: str, rows: Sequence[QualityRow], verdicts: Verdicts) -> Table | None:
    """The newest scores: a row per task and metric."""
    columns = (
        Column("task", "Task, metric", numeric=False),
        Column("value", "Score", "%"),
        *cells.TESTED,
        Column("n", "Documents"),
    )
    body = [
        Row(
            _leading_to(
                Cell(", ".join(row.asked), more=cells.settings(row).removeprefix(", ")), row
            ),
            [
                cells.measured(row.value, numbers.score(row.unit)),
                *cells.score_tests(row, verdicts),
                cells.answered(row, verdicts.quality(row)),
            ],
            id=row.anchor,
        )
        for row in rows
    ]
    return Table(f"quality-{hardware}", "Quality, all documents", columns, body) if body else None


def _repeats(hardware: str, rows: Sequence[RepeatRow]) -> Table | None:
    """Every repeat as it was measured, nothing averaged."""
    means = (Metric.TTFT_MEAN, Metric.TPOT_MEAN, Metric.ITL_MEAN, Metric.E2E_MEAN)
    columns = (
        Column("load", "Load, repeat", "requests", numeric=False),
        Column("seed", "Seed"),
        Column("done", "Completed", "of asked"),
        Column("s", "Duration", "s"),
        Column("tps", "Output", "tokens/s"),
        *(Column(name, mean.label, mean.unit) for name, mean in zip(EVENTS, means, strict=True)),
        Column("e2e99", "E2E p99", "ms"),
        Column("hits", "Cache hits", "tokens", title="Of the prefix cache"),
    )
    body = [
        Row(
            Cell(
                f"{rates.short(row.pace)}, no. {row.repeat}",
                records=(("JSON", f"{ROOT}records/{row.record}"),),
            ),
            [
                Cell(str(row.seed), value=row.seed),
                Cell(f"{row.completed:,} / {row.asked:,}", value=row.completed),
                cells.amount(row.duration_s),
                cells.amount(row.metrics[Metric.OUTPUT], cells.four_digits),
                *(cells.amount(row.metrics[metric]) for metric in (*means, Metric.E2E_P99)),
                cells.amount(row.prefix_cache_hits, numbers.whole),
            ],
        )
        for row in rows
    ]
    return Table(f"repeats-{hardware}", "Every repeat", columns, body, quiet=True) if body else None


def _earlier(hardware: str, rows: Sequence[HistoryRow]) -> list[Table]:
    """What every record of a stage said, newest first, where there is more than one."""
    made = []
    asked: dict[Stage, str] = {"speed": "Load", "quality": "Task"}
    for stage, title in asked.items():
        own = [row for row in rows if row.stage == stage]
        if len({row.record for row in own}) < 2:
            continue
        metrics = {row.metric: row for row in own}
        found: dict[tuple[str, str, str], dict[str, HistoryRow]] = {}
        for row in own:
            line = (row.finished_at or "", row.record, row.series)
            found.setdefault(line, {})[row.metric] = row
        columns = (
            Column("when", "Finished", "UTC", numeric=False),
            Column("series", title, numeric=False),
            Column("engine", "vLLM", numeric=False),
            *(Column(name.replace("_", "-"), *_heading(row)) for name, row in metrics.items()),
            Column("record", "Record", numeric=False),
        )
        body = [
            _earlier_row(values, [*metrics]) for _, values in sorted(found.items(), reverse=True)
        ]
        caption = f"{stage.capitalize()}, every record"
        made.append(Table(f"earlier-{stage}-{hardware}", caption, columns, body))
    return made


def _earlier_row(values: Mapping[str, HistoryRow], metrics: Sequence[str]) -> Row:
    one = next(iter(values.values()))
    return Row(
        Cell(numbers.moment(one.finished_at), tag="shown" if one.current else ""),
        [
            Cell(one.series if one.pace is None else rates.short(one.pace)),
            cells.text(one.engine_version),
            *(
                cells.measured(values[name].value, _form(values[name]))
                if name in values
                else Cell("")
                for name in metrics
            ),
            Cell("JSON", href=f"{ROOT}records/{one.record}"),
        ],
    )


def _form(row: HistoryRow) -> Form:
    return numbers.score(row.unit) if row.stage == "quality" else numbers.number


def _heading(row: HistoryRow) -> tuple[str, str]:
    if row.stage == "speed":
        metric = Metric(row.metric)
        return metric.label, metric.unit
    return row.metric, "%" if row.unit == "share" else ""


def _runs(hardware: str, rows: Sequence[RunRow]) -> Table:
    """Every record there is, newest first, failed and superseded ones too."""
    columns = (
        Column("when", "Finished", "UTC", numeric=False),
        Column("stage", "Stage", numeric=False),
        Column("status", "Status", numeric=False),
        Column("engine", "vLLM", numeric=False),
        Column("commit", "Commit", numeric=False),
        Column("record", "Record", numeric=False),
    )
    newest_first = sorted(rows, key=lambda row: (row.finished_at or "", row.record), reverse=True)
    body = [
        Row(
            Cell(numbers.moment(row.finished_at)),
            [
                cells.text(row.stage),
                Cell(row.status, tag="shown" if row.current else "", more=row.error or ""),
                cells.text(row.engine_version),
                cells.text((row.commit or "")[:10], "with local changes" if row.dirty else ""),
                Cell("JSON", href=f"{ROOT}records/{row.record}"),
            ],
        )
        for row in newest_first
    ]
    return Table(f"runs-{hardware}", "Every record", columns, body, quiet=True)


def _asked(record: Record) -> tuple[str, ...]:
    """What one command measures again: sessions and documents of the same differ in their seeds."""
    loads = record.speed.loads if record.speed else ()
    return (record.stage, *(rates.short(of_load(load)) for load in loads))


def commands(record: Record) -> escape.Markdown:
    """What to type to measure this again, and what the tool itself started."""
    engine = record.engine
    which = f"--variants {record.variant} --hardware {record.hardware} --stages {record.stage}"
    lines = [f"bench run {which} --force"]
    if engine:
        settings = [
            f"{name}={shlex.quote(value)}" for name, value in sorted(engine.environment.items())
        ]
        lines += ["", "# the server", " ".join([*settings, shlex.join(engine.argv)])]
    for load in record.speed.loads if record.speed else ():
        lines += [
            "",
            f"# the load, {rates.short(of_load(load))}, once for each seed",
            shlex.join(load.argv),
        ]
    return code(lines)


def code(lines: Sequence[str]) -> escape.Markdown:
    """Lines to copy, as they are but for unseen characters."""
    shown = "\n".join(escape.clean(line) for line in lines)
    return escape.html_block(Markup('<pre tabindex="0"><code>{}</code></pre>').format(shown))


def facts(records: Sequence[Record]) -> list[tuple[str, str]]:
    """What was served by what on what; once where both stages agree, else for each stage."""
    made: list[tuple[str, str]] = []
    newest = {record.stage: record for record in records}  # the oldest come first
    for title, tell in (("Checkpoint", served), ("Engine", engine), ("Machine", environment)):
        told = {stage: tell(record) for stage, record in newest.items()}
        if len(set(told.values())) == 1:
            made.append((title, next(iter(told.values()))))
        else:
            made += [(f"{title}, {stage} stage", text) for stage, text in told.items()]
    return made


def served(record: Record) -> escape.Markdown:
    """The checkpoint, pinned."""
    model = record.model
    if model is None:
        return tables.facts([("Checkpoint", None)])
    size = numbers.bytes_(sum(file.size_bytes for file in model.files))
    return tables.facts(
        [
            ("Source", _SOURCES[model.source]),
            ("Repository", model.repo or model.bundled),
            ("Revision", model.revision),
            *([("File", model.file)] if model.file else []),
            *([("Made from", model.derivation)] if model.derivation else []),
            ("Files", f"{len(model.files)}, {size}" if model.files else None),
            *([("Tensors", tensors)] if (tensors := _tensors(model)) else []),
            ("Parameters", numbers.whole(model.parameters)),
            ("License", model.license),
        ]
    )


def engine(record: Record) -> escape.Markdown:
    """What the server said it chose and where its memory went."""
    facts = record.engine
    if facts is None:
        return tables.facts([("Engine", None)])
    gpus = measured.gpus_of(record)
    there = record.environment.gpu_count
    on_each = f"GiB on each of {gpus} GPUs" if gpus > 1 else "GiB"
    return tables.facts(
        [
            ("vLLM", f"{facts.version}, {facts.build} build"),
            *([("Loaded by", loader)] if (loader := _gguf_loader(record)) else []),
            ("lm-eval", facts.lm_eval_version),
            *(
                [("GPUs", f"{gpus} of {there}")]
                if (there := record.environment.gpu_count) > 1
                else []
            ),
            ("Quantization", facts.quantization),
            ("Linear kernel", facts.linear_kernel),
            ("Attention back-end", facts.attention_backend),
            ("Weights in memory", _with_unit(facts.weights_gib, on_each)),
            ("KV cache", _with_unit(facts.kv_cache_gib, "GiB")),
            ("KV cache room", _with_unit(facts.kv_cache_tokens, "tokens")),
            ("Graphs", _with_unit(facts.graph_memory_gib, "GiB")),
            ("Requests at full length", _with_unit(facts.max_concurrency, "at once")),
            ("Loading the weights", _with_unit(facts.load_s, "s")),
            ("Compiling", _with_unit(facts.compile_s, "s")),
            ("Start to first answer", _with_unit(facts.startup_s, "s")),
        ]
    )


def _tensors(model: ModelFacts) -> str | None:
    """How many tensors of which type a GGUF file holds, as its header says."""
    held = (model.quantization_config or {}).get("tensors")
    if not isinstance(held, dict):
        return None
    return ", ".join(f"{count} {kind}" for kind, count in sorted(held.items()))


def _gguf_loader(record: Record) -> str | None:
    """What loaded a GGUF file, with its version."""
    loaders = record.spec.get("engine", {}).get("gguf")
    if not isinstance(loaders, dict):
        return None
    return ", ".join(f"{name} {version}" for name, version in sorted(loaders.items()))


def environment(record: Record) -> escape.Markdown:
    """The machine and the software."""
    facts, source = record.environment, record.provenance
    driver, cuda = facts.driver or numbers.UNKNOWN, facts.cuda or numbers.UNKNOWN
    on_gpu = [
        ("GPU memory", _with_unit(facts.gpu_memory_gib, "GiB")),
        ("Power limit", _with_unit(facts.gpu_power_limit_w, "W")),
        ("Driver, CUDA", f"{driver}, {cuda}"),
    ]
    tool = f"{source.tool_version}, commit {(source.commit or numbers.UNKNOWN)[:12]}"
    packages = ", ".join(f"{name} {version}" for name, version in sorted(facts.packages.items()))
    return tables.facts(
        [
            ("Processor", f"{facts.cpu_model}, {facts.cpu_count} CPUs"),
            ("Memory", _with_unit(facts.memory_gib, "GiB")),
            ("GPU", f"{facts.gpu_count} × {facts.gpu_name}" if facts.gpu_name else "none"),
            *(on_gpu if facts.gpu_name else []),
            ("System", f"{facts.os}, kernel {facts.kernel}, Python {facts.python}"),
            ("Packages", packages),
            ("Tool", f"{tool}, with local changes" if source.dirty else tool),
            ("Workflow run", source.run_id),
        ]
    )


def _with_unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{numbers.number(value, 4)} {unit}"


_SOURCES = {
    "hub": "Hugging Face Hub",
    "bundled": "bundled with the demo",
    "random": "random weights: speed only",
}

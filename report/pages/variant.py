"""The page of one variant: how to run it again, what ran, every repeat, every record."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from bench.records.record import ModelFacts, Record
from report import escape, numbers, rates
from report.exports import every_eval_ever
from report.pages import tables
from report.pages.quality import TESTED
from report.pages.speed import LATENCY, latency, record_cell
from report.pages.tables import Cell, Column, Row, Table, amount, measured, text
from report.pages.verdict_cells import Tests
from report.rows.rows import is_share

Frame = dict[str, Any]
ROOT = "../"
_GIB = 2**30


def results(
    hardware: str, speed: Sequence[Frame], quality: Sequence[Frame], tests: Tests
) -> dict[str, tables.Table | None]:
    """The newest numbers of one variant on one machine: a row per load, a row per metric."""
    loads = [
        Row(
            Cell(
                rates.short(row["request_rate_rps"]),
                value=rates.sort_value(row["request_rate_rps"]),
            ),
            [*latency(row, tests.speed), record_cell(row, ROOT)],
            id=row["anchor"],
        )
        for row in speed
    ]
    scores = [
        Row(
            Cell(f"{row['task']}, {row['metric']}"),
            [
                measured(row, "value", numbers.share),
                *tests.quality(row),
                amount(row["chance"], lambda v: numbers.share(v, 0)),
                amount(row["n"], numbers.whole),
                record_cell(row, ROOT),
            ],
            id=row["anchor"],
        )
        for row in quality
    ]
    columns = (Column("load", "Load", "requests", numeric=False), *LATENCY[2:])
    scored = (
        Column("task", "Task, metric", numeric=False),
        Column("value", "Score", "%"),
        *TESTED,
        Column("chance", "Guessing", "%"),
        Column("n", "Documents"),
        Column("record", "Record", numeric=False),
    )
    return {
        "speed": Table(f"speed-{hardware}", "Speed, newest record", columns, loads)
        if loads
        else None,
        "quality": Table(f"quality-{hardware}", "Quality, newest record", scored, scores)
        if scores
        else None,
    }


def repeats(hardware: str, rows: Sequence[Frame]) -> tables.Table | None:
    """Every repeat as it was measured, nothing averaged."""
    columns = (
        Column("load", "Load, repeat", "requests", numeric=False),
        Column("seed", "Seed"),
        Column("done", "Completed", "of asked"),
        Column("s", "Duration", "s"),
        Column("tps", "Output", "tokens/s"),
        *(Column(name, f"{name.upper()} mean", "ms") for name in ("ttft", "tpot", "itl", "e2e")),
        Column("e2e99", "E2E p99", "ms"),
        Column("hits", "Prefix-cache hits", "tokens"),
        Column("record", "Record", numeric=False),
    )
    body = [
        Row(
            Cell(f"{rates.short(row['request_rate_rps'])}, no. {row['repeat']}"),
            [
                Cell(str(row["seed"]), value=row["seed"]),
                Cell(f"{row['completed']:,} / {row['asked']:,}", value=row["completed"]),
                amount(row["duration_s"]),
                amount(row["output_throughput_tps"], lambda v: numbers.number(v, 4)),
                *(amount(row[f"{name}_mean_ms"]) for name in ("ttft", "tpot", "itl", "e2e")),
                amount(row["e2e_p99_ms"]),
                amount(row["prefix_cache_hits"], numbers.whole),
                Cell("JSON", href=f"{ROOT}records/{row['record']}"),
            ],
        )
        for row in rows
    ]
    return Table(f"repeats-{hardware}", "Every repeat", columns, body, quiet=True) if body else None


def earlier(hardware: str, rows: Sequence[Frame]) -> list[tables.Table]:
    """What every record of a stage said, newest first, where there is more than one."""
    made = []
    for stage, asked in (("speed", "Load"), ("quality", "Task")):
        own = [row for row in rows if row["stage"] == stage]
        if len({row["record"] for row in own}) < 2:
            continue
        metrics = list(dict.fromkeys(row["metric"] for row in own))
        found: dict[tuple[str, str, str], dict[str, Frame]] = {}
        for row in own:
            found.setdefault((row["finished_at"], row["record"], row["series"]), {})[
                row["metric"]
            ] = row
        columns = (
            Column("when", "Finished", "UTC", numeric=False),
            Column("series", asked, numeric=False),
            Column("engine", "vLLM", numeric=False),
            *(Column(name.replace("_", "-"), *_metric_heading(stage, name)) for name in metrics),
            Column("record", "Record", numeric=False),
        )
        body = [
            _earlier_row(key, values, metrics)
            for key, values in sorted(found.items(), reverse=True)
        ]
        caption = f"{stage.capitalize()}, every record"
        made.append(Table(f"earlier-{stage}-{hardware}", caption, columns, body))
    return made


def _earlier_row(
    key: tuple[str, str, str], values: dict[str, Frame], metrics: Sequence[str]
) -> Row:
    when, record, series = key
    one = next(iter(values.values()))
    shown = [
        measured(values[name], "value", numbers.share if is_share(name) else numbers.number)
        if name in values
        else Cell("")
        for name in metrics
    ]
    return Row(
        Cell(numbers.moment(when), tag="shown" if one["current"] else ""),
        [
            Cell(rates.short(float(series)) if one["stage"] == "speed" else series),
            text(one["engine_version"]),
            *shown,
            Cell("JSON", href=f"{ROOT}records/{record}"),
        ],
    )


def _metric_heading(stage: str, metric: str) -> tuple[str, str]:
    if stage == "quality":
        return metric, "%" if is_share(metric) else ""
    name, unit = metric.rsplit("_", 1)
    words = {"output_throughput": "Output"}.get(name, name.replace("_", " ").upper())
    return words.replace("MEAN", "mean"), {"tps": "tokens/s"}.get(unit, unit)


def runs(hardware: str, rows: Sequence[Frame]) -> tables.Table:
    """Every record there is, newest first, failed and superseded ones too."""
    columns = (
        Column("when", "Finished", "UTC", numeric=False),
        Column("stage", "Stage", numeric=False),
        Column("status", "Status", numeric=False),
        Column("engine", "vLLM", numeric=False),
        Column("commit", "Commit", numeric=False),
        Column("record", "Record", numeric=False),
    )
    body = [
        Row(
            Cell(numbers.moment(row["finished_at"])),
            [
                text(row["stage"]),
                Cell(row["status"], note=row["error"] or "", tag="shown" if row["current"] else ""),
                text(row["engine_version"]),
                text((row["commit"] or "")[:10], note="with local changes" if row["dirty"] else ""),
                Cell("JSON", href=f"{ROOT}records/{row['record']}"),
            ],
        )
        for row in sorted(rows, key=lambda row: (row["finished_at"], row["record"]), reverse=True)
    ]
    return Table(f"runs-{hardware}", "Every record", columns, body, quiet=True)


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
            f"# the load, {rates.short(float(load.request_rate_rps))}, once for each seed",
            shlex.join(load.argv),
        ]
    return code(lines)


def code(lines: Sequence[str]) -> escape.Markdown:
    """Lines to copy, as they are but for unseen characters."""
    shown = "\n".join(escape.clean(line) for line in lines)
    return escape.html_block(Markup('<pre tabindex="0"><code>{}</code></pre>').format(shown))


def facts(records: Sequence[Record]) -> list[tuple[str, escape.Markdown]]:
    """What was served by what on what; once where both stages agree, else for each stage."""
    made = []
    for title, tell in (("Checkpoint", served), ("Engine", engine), ("Machine", environment)):
        told = {record.stage: tell(record) for record in records}
        if len(set(told.values())) == 1:
            made.append((title, next(iter(told.values()))))
        else:
            made += [(f"{title}, {stage} stage", text) for stage, text in told.items()]
    return made


def documents(record: Record) -> list[str]:
    """Where the record's Every Eval Ever documents are, below their folder."""
    return [path for path, _ in every_eval_ever.documents(record)]


def served(record: Record) -> escape.Markdown:
    """The checkpoint, pinned."""
    model = record.model
    if model is None:
        return tables.facts([("Checkpoint", None)])
    size = sum(file.size_bytes for file in model.files)
    return tables.facts(
        [
            (
                "Source",
                {
                    "hub": "Hugging Face Hub",
                    "bundled": "bundled with the demo",
                    "random": "random weights: speed only",
                }[model.source],
            ),
            ("Repository", model.repo or model.bundled),
            ("Revision", model.revision),
            *([("File", model.file)] if model.file else []),
            *([("Made from", model.derivation)] if model.derivation else []),
            ("Files", f"{len(model.files)}, {numbers.bytes_(size)}" if model.files else None),
            *([("Tensors", tensors)] if (tensors := _tensors(model)) else []),
            ("Parameters", None if model.parameters is None else numbers.whole(model.parameters)),
            ("License", model.license),
        ]
    )


def engine(record: Record) -> escape.Markdown:
    """What the server said it chose and where its memory went."""
    facts = record.engine
    if facts is None:
        return tables.facts([("Engine", None)])
    return tables.facts(
        [
            ("vLLM", f"{facts.version}, {facts.build} build"),
            *([("Loaded by", loader)] if (loader := _gguf_loader(record)) else []),
            ("lm-eval", facts.lm_eval_version),
            ("Quantization", facts.quantization),
            ("Linear kernel", facts.linear_kernel),
            ("Attention back-end", facts.attention_backend),
            ("Weights in memory", _with_unit(facts.weights_gib, "GiB")),
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
    gpu = f"{facts.gpu_count} × {facts.gpu_name}" if facts.gpu_name else "none"
    packages = ", ".join(f"{name} {version}" for name, version in sorted(facts.packages.items()))
    return tables.facts(
        [
            ("Processor", f"{facts.cpu_model}, {facts.cpu_count} CPUs"),
            ("Memory", _with_unit(facts.memory_gib, "GiB")),
            ("GPU", gpu),
            *(
                [
                    ("GPU memory", _with_unit(facts.gpu_memory_gib, "GiB")),
                    ("Power limit", _with_unit(facts.gpu_power_limit_w, "W")),
                    (
                        "Driver, CUDA",
                        f"{facts.driver or numbers.UNKNOWN}, {facts.cuda or numbers.UNKNOWN}",
                    ),
                ]
                if facts.gpu_name
                else []
            ),
            ("System", f"{facts.os}, kernel {facts.kernel}, Python {facts.python}"),
            ("Packages", packages),
            (
                "Tool",
                f"{source.tool_version}, commit {source.commit or numbers.UNKNOWN}"
                + (", with local changes" if source.dirty else ""),
            ),
            ("Workflow run", source.run_id),
        ]
    )


def _with_unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{numbers.number(value, 4)} {unit}"

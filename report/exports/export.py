"""The same numbers for other programs: tables, badges, feeds, model-card metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.records.record import Record, canonical_json
from report import escape, numbers, rates
from report.exports import every_eval_ever, feeds
from report.rows.load import Results, rows_of

Frame = dict[str, Any]
FRAMES = {
    "runs": "one row per record, failed and superseded ones too",
    "speed": "one row per current speed record and load, and per published row",
    "quality": "one row per current quality record, task and metric, and per published row",
    "repeats": "one row per repeat of the current speed records",
    "history": "one row per record, load or task and metric",
}
FORMATS = ("csv", "parquet", "json")


def write(results: Results, folder: Path, site_url: str | None) -> None:
    """Writes everything of the data page below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FRAMES:
        _write_frame(getattr(results, name), folder / name)
    runs, speed, quality = (rows_of(getattr(results, n)) for n in ("runs", "speed", "quality"))
    for path, value in _badges(runs, speed, quality):
        _write_json(folder / "badges" / path, value)
    entries = feeds.entries(runs, site_url)
    (folder / "feed.xml").write_text(feeds.atom(entries, site_url), encoding="utf-8")
    _write_json(folder / "feed.json", feeds.json_feed(entries, site_url))
    measured = [
        r for r in runs if r["current"] and r["stage"] == "quality" and not r["random_weights"]
    ]
    for row in measured:
        record = results.read(row["record"])
        _write_model_card(folder / "model-cards", record)
        for path, document in every_eval_ever.documents(record):
            _write_json(folder / "every-eval-ever" / path, document)


def _write_frame(frame: pd.DataFrame, path: Path) -> None:
    """A frame three times; a text no spreadsheet takes for a formula; infinity as vLLM's "inf"."""
    texts = frame.select_dtypes(include=["str"]).columns
    safe = frame.assign(
        **{name: frame[name].map(_no_formula, na_action="ignore") for name in texts}
    )
    safe.to_csv(path.with_suffix(".csv"), index=False, lineterminator="\n")
    frame.to_parquet(path.with_suffix(".parquet"), index=False)
    rows = [{key: _finite(value) for key, value in row.items()} for row in rows_of(frame)]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    path.with_suffix(".json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _finite(value: Any) -> Any:
    return "inf" if isinstance(value, float) and math.isinf(value) else value


def _badges(
    runs: Sequence[Frame], speed: Sequence[Frame], quality: Sequence[Frame]
) -> Iterator[tuple[str, Frame]]:
    """Endpoint badges: one of the whole site, one per variant and machine."""
    current = [row for row in runs if row["current"]]
    count = len({row["variant"] for row in current})
    newest = max((numbers.date(row["finished_at"]) for row in current), default=None)
    message = f"{count} measured, {newest}" if newest else "nothing measured yet"
    yield "all.json", _badge("quantized variants", message, bool(newest))
    for where in dict.fromkeys((row["hardware"], row["variant"]) for row in current):
        told = [*_told(where, quality, "value"), *_told(where, speed, "tpot_mean_ms")]
        name = next(
            row["variant_name"] for row in current if (row["hardware"], row["variant"]) == where
        )
        yield (
            f"{where[0]}/{where[1]}.json",
            _badge(name, ", ".join(told) or "no result", bool(told)),
        )


def _told(where: tuple[str, str], rows: Sequence[Frame], column: str) -> list[str]:
    """The first value of a variant on a machine, with its unit, if it is known."""
    for row in rows:
        mine = (row["hardware"], row["variant"]) == where and row["source"] == "measured"
        if mine and not numbers.is_missing(row[column]):
            if column == "value":
                return [f"{row['task']} {row['metric']} {numbers.share(row['value'], 1)} %"]
            load = rates.short(row["request_rate_rps"])
            return [f"{numbers.number(row[column])} ms per token at {load}"]
    return []


def _badge(label: str, message: str, known: bool) -> Frame:
    colour = "0072b2" if known else "lightgrey"
    label, message = escape.clean(label), escape.clean(message)
    return {"schemaVersion": 1, "label": label, "message": message, "color": colour}


def _write_model_card(folder: Path, record: Record) -> None:
    """A model card's `model-index`, written by the Hub's own library."""
    from huggingface_hub import EvalResult, ModelCardData

    if record.quality is None:
        return
    results = [
        EvalResult(
            task_type="text-generation",
            task_name="multiple choice, log-likelihood",
            dataset_type=task.dataset,
            dataset_name=task.name,
            dataset_revision=task.dataset_revision,
            dataset_args={"num_few_shot": task.num_fewshot, "documents": task.documents_effective},
            metric_type=metric.name,
            metric_name=metric.name,
            metric_value=metric.value,
        )
        for task in record.quality.tasks
        for metric in task.metrics
    ]
    name = escape.clean(record.variant_name)
    card = ModelCardData(model_name=name, eval_results=results)
    path = folder / record.hardware / f"{record.variant}.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(card.to_yaml() + "\n", encoding="utf-8", newline="\n")


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(canonical_json(value), encoding="utf-8", newline="\n")

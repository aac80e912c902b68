"""The same numbers for other programs: tables, badges, a feed, model-card metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bench.records.record import Record, canonical_json
from report import escape, numbers, rates
from report.exports import every_eval_ever, feeds, frames
from report.rows import loads
from report.rows.measured import is_random
from report.rows.results import Folder, Results
from report.rows.rows import Metric


def write(results: Results, folder: Path, site_url: str | None) -> None:
    """Writes everything of the data page below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    frames.write(results, folder)
    for path, badge in _badges(results):
        _write(folder / "badges" / path, badge)
    entries = feeds.entries(results.runs, site_url)
    (folder / "feed.xml").write_text(feeds.atom(entries, site_url), encoding="utf-8")
    told = results.of_folders("exports", of_folder, many=1_500)
    for name in results.packed:
        documents, card = json.loads(told(name))
        for path, document in documents:
            _write(folder / "every-eval-ever" / path, document)
        if card:
            _write(folder / "model-cards" / f"{name}.yml", card)


def of_folder(folder: Folder) -> str:
    """As JSON, what other programs read of a variant's own quality: documents, a model card."""
    records = [record for record in folder.current("quality") if not is_random(record)]
    documents = [each for record in records for each in every_eval_ever.documents(record)]
    return json.dumps([documents, _model_card(records[-1]) if records else None])


def _badges(results: Results) -> Iterator[tuple[str, str]]:
    """Endpoint badges: one of the whole site, one per variant and machine."""
    current = [run for run in results.runs if run.current]
    count = len({run.variant for run in current})
    newest = max((numbers.date(run.finished_at) for run in current), default=None)
    message = f"{count} measured, {newest}" if newest else "nothing measured yet"
    yield "all.json", _badge("quantized variants", message, bool(newest))
    scores, speeds = _scores(results), _speeds(results)
    for run in {(run.hardware, run.variant): run for run in reversed(current)}.values():
        where = (run.hardware, run.variant)
        told = [text[where] for text in (scores, speeds) if where in text]
        message = ", ".join(told) or "no result"
        yield f"{run.hardware}/{run.variant}.json", _badge(run.variant_name, message, bool(told))


def _scores(results: Results) -> dict[tuple[str, str], str]:
    """The first score of each variant on each machine."""
    return {
        (row.hardware, row.variant): (
            f"{row.task} {row.metric} {numbers.share(row.value.value, 1)} %"
            if row.unit == "share"
            else f"{row.task} {row.metric} {numbers.score(row.unit)(row.value.value)}"
        )
        for row in reversed(results.quality)
        if row.source == "measured"
    }


def _speeds(results: Results) -> dict[tuple[str, str], str]:
    """The time per token of each variant on each machine, at its lowest load."""
    known = [
        row for row in results.speed if row.source == "measured" and Metric.TPOT_MEAN in row.metrics
    ]
    return {
        (row.hardware, row.variant): (
            f"{numbers.number(row.metrics[Metric.TPOT_MEAN].value)} ms per token at"
            f" {rates.short(row.pace)}"
        )
        for row in loads.lowest(known).values()
    }


def _badge(label: str, message: str, known: bool) -> str:
    colour = "0072b2" if known else "lightgrey"
    label, message = escape.clean(label), escape.clean(message)
    return canonical_json({"schemaVersion": 1, "label": label, "message": message, "color": colour})


def _model_card(record: Record) -> str | None:
    """A model card's `model-index`, written by the Hub's own library."""
    from huggingface_hub import EvalResult, ModelCardData

    if record.quality is None:
        return None
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
    return f"{ModelCardData(model_name=name, eval_results=results).to_yaml()}\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")

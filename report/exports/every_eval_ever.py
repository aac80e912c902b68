"""Quality records in the schema of Every Eval Ever 0.3, one document per record.

Source: the package `every-eval-ever`, whose `validate` command accepts what is written here; it
needs Python 3.12 and older libraries than ours, so it stays outside this environment.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator
from typing import Any

from bench.records.record import Metric, Record, TaskResult, canonical_json
from report import escape, stats
from report.rows.measured import is_random
from report.rows.rows import unit_of

SCHEMA_VERSION = "0.3.0"
_DESCRIPTION = {
    "acc": "Share of documents whose right choice has the highest log-likelihood",
    "acc_norm": "Share of documents whose right choice has the highest log-likelihood per byte",
}


def path(record: Record) -> str | None:
    """Where the datastore expects the document of a quality record; None for others."""
    if record.quality is None or is_random(record) or record.model is None or record.engine is None:
        return None
    identity = f"{record.hardware}/{record.variant}/{record.key}/{_seconds(record)}"
    name = uuid.UUID(bytes=hashlib.sha256(identity.encode()).digest()[:16], version=4)
    return f"data/quantbench/{_model_id(record)}/{name}.json"


def documents(record: Record) -> Iterator[tuple[str, str]]:
    """The path and the document of a quality record; none for others."""
    where = path(record)
    if where is None or record.quality is None or record.engine is None:
        return
    seconds = _seconds(record)
    model_id = _model_id(record)
    document = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"quantbench/{model_id}/{record.hardware}.{record.variant}/{seconds}",
        "evaluation_timestamp": seconds,
        "retrieved_timestamp": seconds,
        "source_metadata": {
            "source_name": "quantbench",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "third_party",
            "additional_details": {"record_key": record.key, "hardware": record.hardware_name},
        },
        "eval_library": {"name": "lm_eval", "version": record.engine.lm_eval_version},
        "model_info": _model_info(record, model_id),
        "evaluation_results": [
            _result(task, metric) for task in record.quality.tasks for metric in task.metrics
        ],
    }
    yield where, canonical_json(document)


def _seconds(record: Record) -> str:
    """When it finished, as the schema tells time."""
    return f"{record.provenance.finished_at.timestamp():.0f}"


def _model_id(record: Record) -> str:
    """owner/name as on the Hub; what was bundled or drawn at random belongs to nobody there."""
    model = record.model
    named = (model.repo if model else None) or f"quantbench/{record.variant}"
    owner, _, name = named.partition("/")
    return "/".join(
        re.sub(r"[^A-Za-z0-9._-]", "-", part).strip(".-") or "unknown" for part in (owner, name)
    )


def _model_info(record: Record, model_id: str) -> dict[str, Any]:
    model, engine = record.model, record.engine
    details = {
        "variant": record.variant_name,
        "revision": model.revision if model else None,
        "file": model.file if model else None,
        "quantization": engine.quantization if engine else None,
        "linear_kernel": engine.linear_kernel if engine else None,
    }
    return {
        "name": escape.clean(record.variant_name),
        "id": model_id,
        "developer": model_id.partition("/")[0],
        "inference_engine": {"name": "vllm", "version": engine.version if engine else "unknown"},
        "additional_details": {
            "deployment_type": "self_deployed",
            "model_availability": "open_weights",
            **{key: escape.clean(value) for key, value in details.items() if value},
        },
    }


def _result(task: TaskResult, metric: Metric) -> dict[str, Any]:
    on_hub = "/" in task.dataset
    asked = {
        "num_fewshot": str(task.num_fewshot),
        "selection": task.selection,
        "documents_sha256": task.documents_sha256,
        **({"dataset_revision": task.dataset_revision} if task.dataset_revision else {}),
    }
    source = {
        "dataset_name": task.dataset,
        "source_type": "hf_dataset" if on_hub else "other",
        **({"hf_repo": task.dataset, "samples_number": task.documents_effective} if on_hub else {}),
        "additional_details": asked,
    }
    unit = metric.unit or unit_of(metric.name)
    share, better = unit == "share", metric.higher_is_better
    return {
        "evaluation_result_id": f"{task.name}.{metric.name}",
        "evaluation_name": task.name,
        "source_data": source,
        "metric_config": {
            "evaluation_description": _DESCRIPTION.get(metric.name, metric.name),
            "metric_id": metric.name,
            "metric_name": metric.name,
            "metric_kind": "accuracy" if share else metric.name,
            "metric_unit": {"share": "proportion", "score": "unknown"}.get(unit, unit),
            "lower_is_better": unit == "perplexity" if better is None else not better,
            "score_type": "continuous",
            "min_score": 0.0 if share else "-Infinity",
            "max_score": 1.0 if share else "Infinity",
        },
        "score_details": {"score": metric.value, "uncertainty": _uncertainty(task, metric, share)},
    }


def _uncertainty(task: TaskResult, metric: Metric, share: bool) -> dict[str, Any]:
    n = task.documents_effective
    known: dict[str, Any] = {"num_samples": n}
    if metric.stderr is not None:
        known["standard_error"] = {"value": metric.stderr, "method": "analytic"}
    estimate = stats.proportion(round(metric.value * n), n) if share else None
    if estimate and estimate.interval:
        known["confidence_interval"] = {
            "lower": estimate.interval.low,
            "upper": estimate.interval.high,
            "confidence_level": estimate.interval.level,
            "method": "Wilson score",
        }
    return known

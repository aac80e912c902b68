"""The columns of every frame with their pandas types; units are in the names.

Missing is NaN or <NA>, whichever the type has, and means "unknown", never zero.
"""

from __future__ import annotations

from report.rows.rows import LATENCY_COLUMNS, THROUGHPUTS

TEXT, REAL, WHOLE, FLAG = "str", "float64", "Int64", "boolean"


def _spread(name: str) -> dict[str, str]:
    return {name: REAL, f"{name}_low": REAL, f"{name}_high": REAL, f"{name}_se": REAL}


_IDENTITY = {
    "hardware": TEXT,
    "hardware_name": TEXT,
    "variant": TEXT,
    "variant_name": TEXT,
    "family": TEXT,
    "is_baseline": FLAG,
    "machine": TEXT,
    "engine_version": TEXT,
    "finished_at": TEXT,
    "key": TEXT,
}
_CONTEXT = {
    "source": TEXT,
    "record": TEXT,
    "anchor": TEXT,
    **_IDENTITY,
    "date": TEXT,
    "status": TEXT,
    "reproduces": TEXT,
    "engine_build": TEXT,
    "quantization": TEXT,
    "kernel": TEXT,
    "attention_backend": TEXT,
    "weights": TEXT,
    "parameters": WHOLE,
    "checkpoint_gib": REAL,
    "weights_gib": REAL,
    "kv_cache_tokens": WHOLE,
    "kv_cache_gib": REAL,
    "load_s": REAL,
    "startup_s": REAL,
    "gpu_memory_gib": REAL,
    "memory_gib": REAL,
    "price_per_hour_usd": REAL,
    "random_weights": FLAG,
}
RUNS = {
    "record": TEXT,
    "stage": TEXT,
    "status": TEXT,
    "current": FLAG,
    "error_kind": TEXT,
    "error": TEXT,
    **_IDENTITY,
    "commit": TEXT,
    "dirty": FLAG,
    "workflow": TEXT,
    "run_id": TEXT,
    "started_at": TEXT,
    "random_weights": FLAG,
}
SPEED = {
    **_CONTEXT,
    "input_tokens": WHOLE,
    "output_tokens": WHOLE,
    "prompts": WHOLE,
    "request_rate_rps": REAL,
    "repeats": WHOLE,
    **{key: kind for name in LATENCY_COLUMNS for key, kind in _spread(name).items()},
    **{key: kind for name in THROUGHPUTS for key, kind in _spread(name).items()},
    **_spread("goodput_rps"),
    "limit_ttft_p90_ms": REAL,
    "limit_tpot_p90_ms": REAL,
    "sustained": TEXT,
    "usd_per_million_output_tokens": REAL,
    "peak_memory_gib": REAL,
    "memory_kind": TEXT,
    "mean_power_w": REAL,
    "energy_per_output_token_j": REAL,
    "throttled": FLAG,
    "throttle_reasons": TEXT,
    "shared": FLAG,
}
QUALITY = {
    **_CONTEXT,
    "task": TEXT,
    "metric": TEXT,
    **_spread("value"),
    "stderr": REAL,
    "n": WHOLE,
    "chance": REAL,
    "task_version": TEXT,
    "config_sha256": TEXT,
    "documents_sha256": TEXT,
    "dataset": TEXT,
    "dataset_revision": TEXT,
    "documents_original": WHOLE,
    "selection": TEXT,
    "num_fewshot": WHOLE,
    "requests_per_s": REAL,
    "samples": TEXT,
}
REPEATS = {
    "record": TEXT,
    "anchor": TEXT,
    "hardware": TEXT,
    "variant": TEXT,
    "request_rate_rps": REAL,
    "repeat": WHOLE,
    "seed": WHOLE,
    "started_at": TEXT,
    "duration_s": REAL,
    "asked": WHOLE,
    "completed": WHOLE,
    "failed": WHOLE,
    "input_tokens": WHOLE,
    "output_tokens": WHOLE,
    "server_input_tokens": WHOLE,
    "server_output_tokens": WHOLE,
    "prefix_cache_queries": WHOLE,
    "prefix_cache_hits": WHOLE,
    **dict.fromkeys(THROUGHPUTS, REAL),
    **dict.fromkeys(LATENCY_COLUMNS, REAL),
}
HISTORY = {
    "record": TEXT,
    "stage": TEXT,
    "current": FLAG,
    **_IDENTITY,
    "asked": TEXT,
    "series": TEXT,
    "metric": TEXT,
    "n": WHOLE,
    **_spread("value"),
}

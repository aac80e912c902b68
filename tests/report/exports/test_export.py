"""The site's data: the same numbers in every format, and documents other programs accept."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sites
import synthetic
import yaml
from folders import REFERENCE
from huggingface_hub import ModelCardData
from hypothesis import given
from hypothesis import strategies as st

from bench.records import store
from report.exports import every_eval_ever, export, frames
from report.rows.results import Results, load
from report.rows.rows import HistoryRow, Metric, QualityRow, SpeedRow
from report.stats import Estimate, Interval

ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    root = tmp_path_factory.mktemp("export")
    synthetic.write_demo(root)
    return load(root, REFERENCE)


@pytest.fixture(scope="module")
def folder(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    export.write(results, made, "https://x.example/y/")
    return made


@pytest.mark.parametrize("name", list(frames.FRAMES))
def test_every_format_holds_the_same_frame(results: Results, folder: Path, name: str) -> None:
    frame = frames.frame(frames.FRAMES[name][0], frames.rows(results, name))
    assert len(frame) > 0
    pd.testing.assert_frame_equal(pd.read_parquet(folder / f"{name}.parquet"), frame)
    table = pd.read_csv(folder / f"{name}.csv")
    assert list(table.columns) == list(frame.columns)
    rows = json.loads((folder / f"{name}.json").read_text())
    assert len(table) == len(rows) == len(frame)
    numbers = frame.select_dtypes("number").columns
    for column in numbers:
        as_json = [float("nan") if row[column] is None else float(row[column]) for row in rows]
        wanted = frame[column].astype("float64")
        pd.testing.assert_series_equal(pd.Series(as_json, name=column), wanted)
        pd.testing.assert_series_equal(table[column].astype("float64"), wanted)


def test_without_records_every_table_has_its_columns_and_their_types(tmp_path: Path) -> None:
    results = load(tmp_path / "none", None)
    for name, (kind, _) in frames.FRAMES.items():
        frame = frames.frame(kind, frames.rows(results, name))
        wanted = {column.name: column.kind for column in frames.columns(kind)}
        assert frame.empty
        assert frame.dtypes.astype(str).to_dict() == wanted
        assert len(wanted) == len(frames.columns(kind))


def test_the_columns_are_the_fields_of_the_row_in_their_order() -> None:
    names = [column.name for column in frames.columns(SpeedRow)]
    assert names[:5] == ["source", "record", "anchor", "hardware", "hardware_name"]
    metrics = [f"{metric}{end}" for metric in Metric for end in ("", "_low", "_high", "_se")]
    first = names.index("repeats") + 1
    assert names[first : first + len(metrics)] == metrics
    history = [column.name for column in frames.columns(HistoryRow)]
    assert "request_rate_rps" not in history
    kinds = {column.name: column.kind for column in frames.columns(QualityRow)}
    told = ("task", "value", "n", "is_baseline", "kv_cache_tokens")
    assert [kinds[name] for name in told] == ["str", "float64", "Int64", "boolean", "Int64"]


finite = st.floats(-1e9, 1e9)


@given(finite, st.none() | st.tuples(finite, finite), st.none() | finite)
def test_an_estimate_fills_four_columns(
    results: Results, value: float, ends: tuple[float, float] | None, error: float | None
) -> None:
    interval = Interval(*ends, 0.95) if ends else None
    row = replace(results.history[0], value=Estimate(value, interval, error, 3))
    [cells] = frames.frame(HistoryRow, [row])[
        ["value", "value_low", "value_high", "value_se"]
    ].values
    wanted = [value, *(ends or (math.nan, math.nan)), math.nan if error is None else error]
    np.testing.assert_array_equal(cells, wanted)


def test_an_unthrottled_rate_is_a_word_in_json_which_has_no_infinity(folder: Path) -> None:
    rows = json.loads((folder / "speed.json").read_text())
    assert {row["request_rate_rps"] for row in rows} == {10.0, "inf"}


def test_no_spreadsheet_takes_a_text_for_a_formula(tmp_path: Path) -> None:
    record = synthetic.failed_record(synthetic.FP8)
    assert record.error is not None
    error = record.error.model_copy(update={"message": '=HYPERLINK("https://x.example")'})
    store.write(tmp_path / "r", record.model_copy(update={"error": error}), [])
    export.write(load(tmp_path / "r", None), tmp_path / "data", None)
    (cell,) = pd.read_csv(tmp_path / "data" / "runs.csv")["error"]
    assert cell == '\'=HYPERLINK("https://x.example")'


def test_a_badge_says_what_shields_expects(folder: Path) -> None:
    badge = json.loads((folder / "badges" / "l40" / "qwen3-8b-fp8.json").read_text())
    assert badge["schemaVersion"] == 1
    assert badge["label"] == "Qwen3-8B FP8"
    assert "hellaswag acc" in badge["message"] and "ms per token" in badge["message"]
    everything = json.loads((folder / "badges" / "all.json").read_text())
    assert everything["message"] == "7 measured, 2026-03-22"


def test_the_feed_tells_the_newest_finished_results_first(folder: Path) -> None:
    feed = ET.fromstring((folder / "feed.xml").read_text())  # noqa: S314 - our own file
    titles = [entry.findtext(f"{ATOM}title") for entry in feed.iter(f"{ATOM}entry")]
    assert titles[0] == "Llama-70B random, speed, on NVIDIA L40"
    assert len(titles) == 41
    assert feed.findtext(f"{ATOM}updated") == "2026-03-22T12:00:00Z"
    ids = [entry.findtext(f"{ATOM}id") for entry in feed.iter(f"{ATOM}entry")]
    assert len(set(ids)) == len(ids)
    link = feed.find(f"{ATOM}entry/{ATOM}link")
    assert link is not None
    assert link.get("href") == "https://x.example/y/variants/llama-70b-random.html"


def test_model_card_metadata_is_read_back_by_the_hub_library(
    results: Results, folder: Path
) -> None:
    text = (folder / "model-cards" / "l40" / "qwen3-8b-fp8.yml").read_text()
    card = ModelCardData(**yaml.safe_load(text))
    assert card.eval_results is not None
    read = {each.metric_type: each.metric_value for each in card.eval_results}
    rows = [
        row for row in results.quality if (row.hardware, row.variant) == ("l40", "qwen3-8b-fp8")
    ]
    assert read == {row.metric: row.value.value for row in rows}
    assert not (folder / "model-cards" / "l40" / "llama-70b-random.yml").exists()


def test_every_eval_ever_documents_hold_what_the_record_holds(folder: Path) -> None:
    paths = sorted((folder / "every-eval-ever").rglob("*.json"))
    assert len(paths) == 20  # one for each record whose documents count
    for path in paths:
        document = json.loads(path.read_text())
        where = path.relative_to(folder / "every-eval-ever").parts
        assert "/".join(where[2:4]) == document["model_info"]["id"]
        for result in document["evaluation_results"]:
            score = result["score_details"]
            ends = score["uncertainty"]["confidence_interval"]
            assert ends["lower"] <= score["score"] <= ends["upper"]


@pytest.mark.engine  # fetches the package, which this project's own environment cannot hold
def test_every_eval_ever_documents_pass_its_own_validation(folder: Path, tmp_path: Path) -> None:
    packages = ("every-eval-ever==0.3.0", "requests", "urllib3", "certifi", "charset-normalizer")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(tmp_path),
    ]
    subprocess.run([*pip, "--ignore-requires-python", *packages], check=True)
    root = folder / "every-eval-ever"
    paths = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.json"))]
    done = subprocess.run(
        [sys.executable, "-m", "every_eval_ever", "validate", "--format", "json", *paths],
        cwd=root, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert len(told) == len(paths) == 20
    assert not [each for each in told if each["errors"] or each["warnings"]]


def test_random_weights_and_speed_records_have_no_document() -> None:
    record, _ = synthetic.speed_record(synthetic.BF16)
    assert list(every_eval_ever.documents(record)) == []


def test_hostile_text_leaves_every_file_well_formed(tmp_path: Path) -> None:
    sites.hostile(tmp_path / "r")
    export.write(load(tmp_path / "r", None), tmp_path / "data", None)
    feed = ET.fromstring((tmp_path / "data" / "feed.xml").read_text())  # noqa: S314 - our own file
    shown = " ".join(sites.HOSTILE.split())
    assert all(
        shown in (entry.findtext(f"{ATOM}title") or "") for entry in feed.iter(f"{ATOM}entry")
    )
    (card,) = (tmp_path / "data" / "model-cards").rglob("*.yml")
    assert yaml.safe_load(card.read_text())["model-index"][0]["name"] == shown
    for path in (tmp_path / "data").rglob("*"):
        assert path.resolve().is_relative_to((tmp_path / "data").resolve())

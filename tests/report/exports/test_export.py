"""The site's data: the same numbers in every format, and documents other programs accept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest
import sites
import synthetic
import yaml
from huggingface_hub import ModelCardData

from bench.records import store
from report.exports import every_eval_ever, export
from report.places import REFERENCE
from report.rows import load

ATOM = "{http://www.w3.org/2005/Atom}"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> load.Results:
    root = tmp_path_factory.mktemp("export")
    synthetic.write_demo(root)
    return load.load(root, REFERENCE)


@pytest.fixture(scope="module")
def folder(results: load.Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    export.write(results, made, "https://x.example/y/")
    return made


@pytest.mark.parametrize("name", list(export.FRAMES))
def test_every_format_holds_the_same_frame(results: load.Results, folder: Path, name: str) -> None:
    frame = getattr(results, name)
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


def test_an_unthrottled_rate_is_a_word_in_json_which_has_no_infinity(folder: Path) -> None:
    rows = json.loads((folder / "speed.json").read_text())
    assert {row["request_rate_rps"] for row in rows} == {10.0, "inf"}


def test_no_spreadsheet_takes_a_text_for_a_formula(tmp_path: Path) -> None:
    record = synthetic.failed_record(synthetic.FP8)
    assert record.error is not None
    error = record.error.model_copy(update={"message": '=HYPERLINK("https://x.example")'})
    store.write(tmp_path / "r", record.model_copy(update={"error": error}), [])
    export.write(load.load(tmp_path / "r", None), tmp_path / "data", None)
    (cell,) = pd.read_csv(tmp_path / "data" / "runs.csv")["error"]
    assert cell == '\'=HYPERLINK("https://x.example")'


def test_a_badge_says_what_shields_expects(folder: Path) -> None:
    badge = json.loads((folder / "badges" / "l40" / "qwen3-8b-fp8.json").read_text())
    assert badge["schemaVersion"] == 1
    assert badge["label"] == "Qwen3-8B FP8"
    assert "hellaswag acc" in badge["message"] and "ms per token" in badge["message"]
    everything = json.loads((folder / "badges" / "all.json").read_text())
    assert everything["message"] == "7 measured, 2026-03-22"


def test_the_feeds_tell_the_newest_finished_results_first(folder: Path) -> None:
    feed = ET.fromstring((folder / "feed.xml").read_text())  # noqa: S314 - our own file
    titles = [entry.findtext(f"{ATOM}title") for entry in feed.iter(f"{ATOM}entry")]
    assert titles[0] == "Llama-70B random, speed, on NVIDIA L40"
    assert len(titles) == 41
    assert feed.findtext(f"{ATOM}updated") == "2026-03-22T12:00:00Z"
    ids = [entry.findtext(f"{ATOM}id") for entry in feed.iter(f"{ATOM}entry")]
    assert len(set(ids)) == len(ids)
    items = json.loads((folder / "feed.json").read_text())["items"]
    assert [item["title"] for item in items] == titles
    assert items[0]["url"] == "https://x.example/y/variants/llama-70b-random.html"


def test_model_card_metadata_is_read_back_by_the_hub_library(
    results: load.Results, folder: Path
) -> None:
    text = (folder / "model-cards" / "l40" / "qwen3-8b-fp8.yml").read_text()
    card = ModelCardData(**yaml.safe_load(text))
    assert card.eval_results is not None
    read = {each.metric_type: each.metric_value for each in card.eval_results}
    rows = results.quality.query("variant == 'qwen3-8b-fp8' and hardware == 'l40'")
    assert read == dict(zip(rows["metric"], rows["value"], strict=True))
    assert not (folder / "model-cards" / "l40" / "llama-70b-random.yml").exists()


def test_every_eval_ever_documents_hold_what_the_record_holds(folder: Path) -> None:
    paths = sorted((folder / "every-eval-ever").rglob("*.json"))
    assert len(paths) == 8
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
    assert len(told) == len(paths) == 8
    assert not [each for each in told if each["errors"] or each["warnings"]]


def test_random_weights_and_speed_records_have_no_document() -> None:
    record, _ = synthetic.speed_record(synthetic.BF16)
    assert list(every_eval_ever.documents(record)) == []


def test_hostile_text_leaves_every_file_well_formed(tmp_path: Path) -> None:
    sites.hostile(tmp_path / "r")
    export.write(load.load(tmp_path / "r", None), tmp_path / "data", None)
    feed = ET.fromstring((tmp_path / "data" / "feed.xml").read_text())  # noqa: S314 - our own file
    shown = " ".join(sites.HOSTILE.split())
    assert all(
        shown in (entry.findtext(f"{ATOM}title") or "") for entry in feed.iter(f"{ATOM}entry")
    )
    (card,) = (tmp_path / "data" / "model-cards").rglob("*.yml")
    assert yaml.safe_load(card.read_text())["model-index"][0]["name"] == shown
    for path in (tmp_path / "data").rglob("*"):
        assert path.resolve().is_relative_to((tmp_path / "data").resolve())

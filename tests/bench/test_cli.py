"""The command line: help with examples, quick to start, its exit codes, never a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytest
import synthetic
from folders import ROOT
from models_texts import VALID
from synthetic_parts import Variant

from bench import cli, errors
from bench.modelsfile import problems
from bench.plan.jobs import find_jobs
from bench.records import store
from bench.records.record import SCHEMA_VERSION
from bench.weights import sizes

HEAVY = {"huggingface_hub", "jinja2", "numpy", "pandas", "psutil", "rich", "scipy", "vl_convert"}
KINDS: list[type[errors.BenchError]] = [
    kind for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.BenchError) and kind.exit_code != 1
]  # fmt: skip
COMMANDS = [name for name, found in cli.cli.commands.items() if not found.hidden]


def bench_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(argv, cwd=ROOT, text=True, check=False, **options)


@pytest.mark.parametrize(
    "statement",
    [
        "import bench.cli",
        *(
            f"import sys; sys.argv = ['bench', {argument!r}]\nimport bench.__main__"
            for argument in ("--help", "validate")
        ),
    ],
)
def test_help_and_validate_need_nothing_heavy(statement: str) -> None:
    program = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program + statement],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = json.loads(ran.stderr.splitlines()[-1])
    assert "bench.cli" in loaded
    assert HEAVY.isdisjoint(loaded)
    assert not [name for name in loaded if name.split(".")[0] == "report"]


def test_the_commands_are_those_of_the_design_in_a_newcomers_order() -> None:
    assert COMMANDS == [
        "demo", "init", "validate", "plan", "run", "ingest", "report", "archive", "compare", "add",
        "pin",
        "doctor", "runner", "engine", "schema", "completion",
    ]  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_commands_help_has_an_example_that_it_accepts(name: str, bench: Any) -> None:
    ran = bench(name, "--help")
    assert (ran.code, ran.err) == (0, "")
    _, _, example = ran.out.partition("\nExample:\n")
    lines = [line.strip() for line in example.splitlines()]
    assert any(line.startswith(f"bench {name}") for line in lines)
    for line in lines:
        assert line.startswith("bench ")
        _, command_name, *arguments = line.partition(" > ")[0].split()
        found = cli.cli.commands[command_name]
        found.make_context(command_name, arguments)  # parses, and runs nothing


def test_every_help_says_a_default_plainly(bench: Any) -> None:
    assert [name for name in COMMANDS if "[default: (" in bench(name, "--help").out] == []
    assert "bench/results by default." in bench("compare", "--help").out


def test_compares_examples_work_with_the_committed_records(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    _, _, example = bench("compare", "--help").out.partition("\nExample:\n")
    lines = [line.split()[1:] for line in example.splitlines() if line.strip()]
    assert len(lines) == 2
    for arguments in lines:
        ran = bench(*arguments)
        assert (ran.code, ran.err) == (0, "")
        assert all(name in ran.out for name in arguments[1:] if not name.startswith("--"))


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_a_terminal_of_80_columns_cuts_no_help_off(
    name: str, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told, _, _ = bench(*filter(None, [name]), "--help").out.partition("\nExample:\n")
    assert re.findall(r".*[^\]]\.\.\.$", told, re.MULTILINE) == []  # [ARGS]... is the usage
    to_copy = re.compile(r"  (bash|zsh|fish): ")
    assert [n for n in told.splitlines() if len(n) > 80 and not to_copy.match(n)] == []


def test_bench_alone_says_the_three_things_that_people_do(bench: Any) -> None:
    ran = bench()
    assert (ran.code, ran.err) == (0, "")
    named = re.findall(r"\bbench ([a-z]+)", ran.out)
    assert named == ["demo", "add", "plan", "run", "init"]
    assert set(named) <= set(COMMANDS)
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "bench --help" in ran.out


def test_the_changes_begin_with_this_version_and_say_what_a_records_schema_is() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(r"^## (\S+) · \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert versions[0] == project["version"]
    assert versions == sorted(versions, reverse=True)
    assert f"**`schema_version`** in each record, {SCHEMA_VERSION} since" in text


def test_the_help_of_the_whole_has_the_exit_codes_and_the_version(bench: Any) -> None:
    ran = bench("-h")
    assert ran.code == 0
    told = " ".join(ran.out.split())
    for code in (
        "0 done",
        "2 wrong usage",
        "3 this machine",
        "4 Hub",
        "5 the server",
        "6 the me",
        "130 and 143",
    ):
        assert code in told
    assert f"bench, version {version('quantbench')}" in bench("--version").out


def test_each_kind_of_error_has_its_exit_code() -> None:
    assert {kind.__name__: kind.exit_code for kind in KINDS} == {
        "ConfigError": 2,
        "MachineError": 3,
        "UnsupportedError": 3,
        "WeightsError": 4,
        "ServerError": 5,
        "MeasurementError": 6,
        "RefusedError": 7,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_one_message_its_fix_and_its_exit_code(
    kind: type[errors.BenchError], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    @click.group()
    def group() -> None: ...

    @group.command()
    def fail() -> None:
        raise kind("what went wrong", "what to do")

    monkeypatch.setattr(sys, "argv", ["bench", "fail"])
    with pytest.raises(SystemExit) as end:
        cli.invoke(group)
    assert end.value.code == kind.exit_code
    assert capsys.readouterr().err == "error: what went wrong\n  fix: what to do\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nope"], "No such command 'nope'"),
        (["plan", "--nope"], "No such option"),
        (["run", "--sessions", "0"], "0 is not in the range"),
        (["run", "--port", "80"], "80 is not in the range"),
        (["run", "--stages", "speed,quality"], "'speed,quality' is not one of"),
        (["plan", "--variants", "a,b"], "error: unknown variant 'a,b'"),
        (["schema", "x"], "'x' is not one of"),
        (["plan", "--models", "/"], "is a directory"),
        (["plan", "--github-output"], "GITHUB_OUTPUT is not set"),
        (["plan", "--models", "/nowhere/models.toml"], "/nowhere/models.toml has 1 problem(s)"),
        (["compare", "a", "b", "--results", "/nowhere"], "/nowhere does not exist"),
        (["plan", "--results", "/nowhere"], "/nowhere does not exist"),
        (["report", "--results", "/nowhere"], "/nowhere does not exist"),
        (["archive", "a.tar", "--results", "/nowhere"], "/nowhere does not exist"),
        (["ingest", "/", "--results", "/nowhere"], "/nowhere does not exist"),
        (["ingest", "/nowhere"], "error: /nowhere does not exist"),
    ],
)
def test_wrong_usage_is_two(
    arguments: list[str], told: str, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_OUTPUT", raising=False)
    ran = bench(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err
    assert "Traceback" not in ran.err


def test_which_machine_must_be_said_where_there_are_several(tmp_path: Path, bench: Any) -> None:
    models = tmp_path / "models.toml"
    models.write_text(VALID.replace('id = "l40"', 'id = "h100"') + VALID[: VALID.index("\n\n") + 1])
    assert len(tomllib.loads(models.read_text())["hardware"]) == 2
    ran = bench("run", "--models", models, "--results", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"error: {models} has 2 kinds of hardware\n  fix: --hardware h100|l40\n"


def test_a_run_with_nothing_to_do_says_so_and_is_done(tmp_path: Path, bench: Any) -> None:
    models = tmp_path / "models.toml"
    models.write_text("speed = { sessions = 1 }\n" + VALID)
    where = ("--models", models, "--results", tmp_path / "results")
    (tmp_path / "results").mkdir()
    for row in json.loads(bench("plan", *where, "--json").out):
        record, _ = (synthetic.speed_record if row["stage"] == "speed" else _quality)(
            synthetic.BF16
        )
        (job,) = find_jobs(
            problems.load_experiment(models),
            tmp_path / "none",
            variants=[row["variant"]],
            stages=[row["stage"]],
        )
        kept = {"key": row["key"], "variant": row["variant"], "hardware": row["hardware"]}
        store.write(tmp_path / "results", record.model_copy(update={**kept, "spec": job.spec}))
    ran = bench("run", *where)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.endswith("0 of 4 stages to measure; 4 current\n")


def _quality(variant: Variant) -> Any:
    return synthetic.quality_record(variant, documents=2, split=2)


@pytest.mark.parametrize("content", ["{", '{"schema_version": 2}'])
def test_a_broken_record_is_named(content: str, tmp_path: Path, bench: Any) -> None:
    models = tmp_path / "models.toml"
    models.write_text(VALID)
    key = json.loads(bench("plan", "--models", models, "--results", tmp_path, "--json").out)[0]
    path = tmp_path / "l40" / "qwen3-8b-bf16" / f"speed-20260101T000000Z-{key['key'][:8]}.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    ran = bench("plan", "--models", models, "--results", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {path}: ")
    assert "fix: " in ran.err


def test_a_reader_that_has_seen_enough_ends_it_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = bench_process("schema", "models", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (1, "")


def test_a_full_disk_under_the_output_is_this_machines_lack() -> None:
    with Path("/dev/full").open("w") as full:
        ran = bench_process("schema", "models", stdout=full, stderr=subprocess.PIPE)
    assert ran.returncode == 3
    assert ran.stderr == (
        "error: No space left on device\n"
        "  fix: check that it is there, may be read and written, and that the disk has space\n"
    )


def test_a_file_that_cannot_be_read_is_named_without_a_traceback(
    tmp_path: Path, bench: Any
) -> None:
    ran = bench("ingest", tmp_path, "--plan", tmp_path / "missing.json")
    assert ran.code in (2, 3, 7)
    assert ran.err.startswith("error: ")
    assert str(tmp_path / "missing.json") in ran.err


def test_the_projects_own_records_need_not_be_there_yet(
    tmp_path: Path, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor those that a run is to make."""
    (tmp_path / "models.toml").write_text(VALID)
    monkeypatch.chdir(tmp_path)
    assert "4 of 4 stages to measure" in bench("plan").out
    said = bench("compare", "a", "b")
    assert said.err.startswith("error: no current result is named a")
    bench("plan", "--results", tmp_path)
    unknown = bench("run", "--results", "new", "--variant", "nobody")
    assert unknown.err.startswith("error: unknown variant 'nobody'")


def test_an_interrupt_says_that_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    @click.group()
    def group() -> None: ...

    @group.command()
    def wait() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["bench", "wait"])
    with pytest.raises(SystemExit) as end:
        cli.invoke(group)
    assert end.value.code == 130
    assert "the same command continues" in capsys.readouterr().err


# -- questions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("ended", [EOFError, KeyboardInterrupt])
def test_a_question_that_nobody_answers_is_no_interruption(
    ended: type[BaseException],
    hidden: bool,
    bench: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def end(*_: object) -> str:
        raise ended

    monkeypatch.setattr("click.termui.visible_prompt_func", end)
    monkeypatch.setattr("click.termui.hidden_prompt_func", end)

    @cli.cli.command("question", hidden=True)
    def ask() -> None:
        cli._answered(lambda: click.prompt("Which", hide_input=hidden), "--this says it")

    try:
        ran = bench("question")
    finally:
        del cli.cli.commands["question"]
    assert "nothing was changed" in ran.err
    assert "finished stages" not in ran.err
    assert ran.code == (2 if ended is EOFError else 130)
    assert ("--this says it" in ran.err) == (ended is EOFError)


def test_what_writes_two_files_names_both() -> None:
    for name in ("add", "pin"):
        text = " ".join(str(cli.cli.commands[name].help).split())
        assert "models.toml" in text
        assert "bench/weights/checkpoints.json" in text
    assert sizes.KNOWN.as_posix().endswith("/bench/weights/checkpoints.json")

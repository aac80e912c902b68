"""`bench init`: only the template's own goes, every other byte stays, and twice is once."""

from __future__ import annotations

import difflib
from pathlib import Path

import copies
import pytest
from nvml_fakes import Gpus, NoNvml

from bench.config import Hardware
from bench.errors import ConfigError
from bench.modelsfile import problems
from bench.setup import hardware, template

CPU = hardware.this_machine(NoNvml())
H100 = hardware.this_machine(Gpus(("NVIDIA H100 80GB HBM3", 79.65)))
L40 = hardware.this_machine(Gpus(("NVIDIA L40", 44.99)))
# What the committed file may look like, whatever became of it.
MODELS = """\
# What is measured.
#:schema is not the first line here

[speed]
repeats = 3   # three

[[hardware]]
id = "l40"
name = "NVIDIA L40, 46 GB"
engine = "cuda"
runner = [
  "self-hosted",   # ours
  "gpu-l40",
]
gpu_memory_gib = 44.5
# A price_per_hour_usd here shows cost.

# -- Qwen3-8B ----

[[family]]
name = "Qwen3-8B"
baseline = "Qwen3-8B BF16"

[[hardware]]
id = "far"
name = "Another"
engine = "cuda"
runner = ["self-hosted", "gpu-far"]
gpu_memory_gib = 24
  [hardware.serve]
  dtype = "half"

[[variant]]
name = "Qwen3-8B BF16"
family = "Qwen3-8B"
repo = "Qwen/Qwen3-8B"
reproduces = "l40-2025-qwen3-8b-bf16"   # as published
note = "kept"

# -- the end --
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copies.fresh(tmp_path / "copy")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A copy whose models.toml is MODELS."""
    folder = copies.fresh(tmp_path / "copy")
    (folder / "models.toml").write_text(MODELS)
    copies.git(folder, "add", "--all")
    copies.git(folder, "commit", "--quiet", "--amend", "--message", "Initial commit")
    return folder


def files(folder: Path, *tops: str) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for top in tops
        for path in (folder / top).rglob("*")
        if path.is_file()
    )


def edits(folder: Path) -> tuple[list[str], list[str]]:
    """The rows of MODELS that went, and those that came."""
    rows = difflib.ndiff(MODELS.splitlines(), (folder / "models.toml").read_text().splitlines())
    changed = [row for row in rows if row[:2] in ("- ", "+ ")]
    return [r[2:] for r in changed if r[0] == "-"], [r[2:] for r in changed if r[0] == "+"]


def test_records_and_references_go_and_git_has_them(copy: Path) -> None:
    before = files(copy, "bench/results", "report/reference")
    assert before
    change = template.plan(copy, H100)
    assert [path.relative_to(copy).as_posix() for path in change.removed] == before
    assert files(copy, "bench/results", "report/reference") == before  # planned, not done
    template.apply(change, copy)
    assert files(copy, "bench/results", "report/reference") == []
    assert not (copy / "bench/results/theirs").exists()
    assert any("records, of " in words and "theirs" in words for words in change.words)
    copies.git(copy, "checkout", "HEAD", "--", "bench/results")


@pytest.mark.parametrize("machine", [hardware.HOSTED, CPU, H100, L40], ids=lambda m: m.id)
def test_the_result_is_valid_and_a_second_time_changes_nothing(
    machine: Hardware, copy: Path
) -> None:
    template.apply(template.plan(copy, machine), copy)
    experiment = problems.load_experiment(copy / "models.toml")
    (only,) = experiment.hardware
    assert hardware.is_same(only, machine)
    after = (copy / "models.toml").read_bytes()
    for _ in range(2):  # before and after it is committed
        again = template.plan(copy, machine)
        assert again == template.Change((), None, ())
        template.apply(again, copy)
        assert (copy / "models.toml").read_bytes() == after
        copies.git(copy, "commit", "--quiet", "--all", "--allow-empty", "--message", "ours")


def test_what_was_measured_here_stays(copy: Path) -> None:
    template.apply(template.plan(copy, H100), copy)
    own = copy / "bench/results/h100/mine/speed-20270101T000000Z-00000000.json"
    own.parent.mkdir(parents=True)
    own.write_text("{}")
    copies.commit(copy, "Add 1 results")
    assert template.plan(copy, H100).removed == ()
    assert own.exists()


@pytest.mark.parametrize("name", ["models.toml", "report/reference", "bench/results"])
def test_what_git_does_not_have_as_it_is_does_not_go(name: str, copy: Path) -> None:
    path = next(p for p in ((copy / name), *sorted((copy / name).rglob("*.json"))) if p.is_file())
    edited = path.read_text() + "\n"
    path.write_text(edited)
    said = path.relative_to(copy).as_posix()
    with pytest.raises(ConfigError, match=f"{said} would go") as error:
        template.plan(copy, hardware.HOSTED)
    assert "commit" in error.value.fix
    copies.git(copy, "rm", "--quiet", "--cached", said)  # neither, where it is not known any more
    with pytest.raises(ConfigError, match=f"{said} would go"):
        template.plan(copy, hardware.HOSTED)
    copies.commit(copy, "ours")
    template.apply(template.plan(copy, hardware.HOSTED, "demo"), copy)
    assert copies.git(copy, "show", f"HEAD:{said}") == edited.strip()


def test_an_edit_that_stays_need_not_be_committed(copy: Path) -> None:
    template.apply(template.plan(copy, H100), copy)
    copies.commit(copy, "ours")
    models = copy / "models.toml"
    models.write_text(models.read_text() + "# mine\n")
    assert template.plan(copy, H100) == template.Change((), None, ())


def fork(copy: Path) -> Path:
    """The same files with a history before them, as a clone of the template has."""
    nothing = copies.git(copy, "hash-object", "-t", "tree", "-w", "/dev/null")
    begin = copies.git(copy, "commit-tree", "-m", "begin", nothing)
    whole = copies.git(copy, "commit-tree", "-m", "then", "-p", begin, "HEAD^{tree}")
    copies.git(copy, "reset", "--quiet", "--soft", whole)
    return copy


def test_a_clone_with_the_templates_history_keeps_all_records_and_says_so(copy: Path) -> None:
    before = files(fork(copy), "bench/results", "report/reference")
    with pytest.raises(ConfigError, match="would have") as error:  # GGUF, on GitHub's machines
        template.plan(copy, hardware.HOSTED)
    assert "counts as your own" in error.value.message
    assert "--experiment demo" in error.value.fix
    change = template.plan(copy, hardware.HOSTED, "demo")
    assert not change.removed
    (said,) = change.stays
    assert "not made with 'Use this template'" in said
    template.apply(change, copy)
    assert files(copy, "bench/results", "report/reference") == before
    again = template.plan(copy, hardware.HOSTED, "demo")
    assert (again.words, again.stays) == ((), (said,))


def test_a_record_of_ones_own_beside_the_templates_stays(copy: Path) -> None:
    own = copy / "bench/results/theirs/their-variant/speed-20270101T000000Z-11111111.json"
    own.write_text("{}")
    copies.commit(copy, "measured before init")
    change = template.plan(copy, H100)
    assert change.stays == ("1 records stay: they came after the first commit",)
    template.apply(change, copy)
    assert files(copy, "bench/results") == [own.relative_to(copy).as_posix()]


def test_another_gpu_takes_the_tables_place_and_every_other_line_stays(written: Path) -> None:
    template.apply(template.plan(written, H100), written)
    gone, came = edits(written)
    assert 'reproduces = "l40-2025-qwen3-8b-bf16"   # as published' in gone
    kept = (written / "models.toml").read_text()
    for line in (
        "repeats = 3   # three",
        "# A price_per_hour_usd here shows cost.",
        'note = "kept"',
        "# -- Qwen3-8B ----",
        "# -- the end --",
    ):
        assert line in kept
    assert 'id = "h100"' in came
    assert not [line for line in came if line.startswith("#")]
    assert "[hardware.serve]" not in kept


def test_a_machine_that_is_there_already_keeps_its_table_as_it_is(written: Path) -> None:
    change = template.plan(written, L40)
    template.apply(change, written)
    gone, came = edits(written)
    assert came == []
    assert "  [hardware.serve]" in gone  # of the other machine, which is the template's
    assert '  "self-hosted",   # ours' in (written / "models.toml").read_text()
    assert [entry.id for entry in problems.load_experiment(written / "models.toml").hardware] == [
        "l40"
    ]


def test_a_second_machine_is_added_to_a_file_of_ones_own(written: Path) -> None:
    template.apply(template.plan(written, H100), written)
    copies.commit(written, "ours")
    change = template.plan(written, L40)
    template.apply(change, written)
    experiment = problems.load_experiment(written / "models.toml")
    assert [entry.id for entry in experiment.hardware] == ["h100", "l40"]
    assert change.words == ("models.toml: [[hardware]] h100, l40 in place of h100",)


def test_two_machines_whose_cards_share_a_name_get_two_ids(written: Path) -> None:
    large, small = (hardware.this_machine(Gpus(("NVIDIA A100-SXM4", m))) for m in (79.2, 39.4))
    for machine in (large, small):
        template.apply(template.plan(written, machine), written)
        copies.git(written, "commit", "--quiet", "--all", "--message", "ours")
    experiment = problems.load_experiment(written / "models.toml")
    assert [entry.id for entry in experiment.hardware] == ["a100", "a100-39gb"]


def test_the_variants_are_kept_or_the_demos(copy: Path) -> None:
    shipped = problems.load_experiment(copy / "models.toml").variant
    demo = problems.load_experiment(copy / "bench/demo/models.toml").variant
    gpu = problems.load_experiment(copy / "bench/demo/gpu.toml").variant

    def variants(machine: Hardware, choice: template.Choice | None) -> list[str]:
        change = template.plan(copy, machine, choice)
        (copy / "new.toml").write_text(change.models or (copy / "models.toml").read_text())
        return [v.name for v in problems.load_experiment(copy / "new.toml").variant]

    assert variants(H100, None) == [v.name for v in shipped]
    assert variants(hardware.HOSTED, None) == [v.name for v in demo]
    assert variants(CPU, None) == [v.name for v in demo]
    assert variants(H100, "demo") == [v.name for v in gpu]


@pytest.mark.parametrize("machine", [hardware.HOSTED, CPU], ids=lambda m: m.id)
def test_what_is_said_of_another_machine_goes_with_it(machine: Hardware, copy: Path) -> None:
    template.apply(template.plan(copy, machine), copy)
    text = (copy / "models.toml").read_text()
    assert "AVX-512" not in text
    assert ("GitHub's own machines" in text) == machine.is_hosted


def test_variants_that_name_a_machine_that_goes_are_refused_and_nothing_changes(
    written: Path,
) -> None:
    text = MODELS.replace('note = "kept"', 'hardware = ["far"]')
    (written / "models.toml").write_text(text)
    copies.git(written, "commit", "--quiet", "--all", "--amend", "--no-edit")
    with pytest.raises(ConfigError, match="is unchanged") as error:
        template.plan(written, H100)
    assert "unknown hardware 'far'" in error.value.message
    assert "--experiment demo" in error.value.fix
    assert (written / "models.toml").read_text() == text


def test_a_layout_without_a_line_for_it_is_refused(written: Path) -> None:
    text = MODELS.partition("[[hardware]]")[0]
    text = (
        'hardware = [{ id = "x", name = "X", engine = "cpu", runner = ["x"], gpus = 0 }]\n' + text
    )
    rest = MODELS.partition("[[family]]")[2].partition("[[hardware]]")[0]
    rest += "[[variant]]" + MODELS.partition("[[variant]]")[2]
    (written / "models.toml").write_text(text + "[[family]]" + rest)
    with pytest.raises(ConfigError, match="leaves no line"):
        template.plan(written, H100)


def test_without_the_whole_history_nothing_can_be_told(copy: Path, tmp_path: Path) -> None:
    (copy / "a").write_text("a")
    copies.commit(copy, "a second commit")
    shallow = tmp_path / "shallow"
    copies.git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{copy}", str(shallow))
    with pytest.raises(ConfigError, match="not all of its history"):
        template.plan(shallow, H100)
    bare = tmp_path / "downloaded"
    bare.mkdir()
    (bare / "models.toml").write_text(MODELS)
    with pytest.raises(ConfigError, match="no git history"):
        template.plan(bare, H100)


def test_the_command_asks_says_and_counts(copy: Path, tmp_path: Path) -> None:
    whole = copies.fresh(tmp_path / "whole", whole=True)
    asked = copies.bench(whole, "init", "--measure-on", "github")
    assert asked.returncode == 2  # nobody answers
    assert "Change it? git keeps what goes." in asked.stdout
    assert "nobody is there" in asked.stderr
    assert "--yes" in asked.stderr
    assert "interrupted" not in asked.stderr
    assert copies.git(whole, "status", "--porcelain") == ""
    done = copies.bench(whole, "init", "--measure-on", "github", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{copies.NAME}: removes the template's " in done.stdout
    steps = [line for line in done.stdout.splitlines() if line[:4].strip(" .").isdigit()]
    assert len(steps) <= 3
    assert f"Left for you, {len(steps)} steps to https://someone.github.io/their-bench/:" in (
        done.stdout
    )
    assert f"https://github.com/{copies.NAME}/settings/pages" in done.stdout
    again = copies.bench(whole, "init", "--measure-on", "github")
    assert "nothing to change" in again.stdout
    assert again.returncode == 0

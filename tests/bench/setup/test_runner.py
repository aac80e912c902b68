"""`bench runner setup`: the files work as they are written, and every step is taken once."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import github_server
import pytest
from folders import ROOT
from nvml_fakes import Gpus, NoNvml

from bench.config import Hardware
from bench.errors import BenchError, ConfigError, MachineError
from bench.github.api import Api
from bench.setup import hardware, runner
from bench.setup.remote import Repository
from bench.setup.runner import Runner

OURS = Repository("https://github.com", "octo/bench")
L40 = hardware.this_machine(Gpus(("NVIDIA L40", 44.99)))
CPU = hardware.this_machine(NoNvml())
IMAGE = f"vllm/vllm-openai@sha256:{'ab' * 32}"
PLAIN = runner.make(OURS, [L40], None, "github_pat_1")
CONTAINER = runner.make(OURS, [L40], None, "github_pat_1", IMAGE)
BOTH = pytest.mark.parametrize("made", [PLAIN, CONTAINER], ids=["plain", "container"])


def text_of(path: str, made: Runner) -> str:
    return next(file.text for file in runner.files(made) if file.path == path)


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


# -- which runner ----------------------------------------------------------------------------------


def test_the_labels_are_those_that_not_every_runner_has() -> None:
    assert PLAIN.labels == ("gpu-l40",)
    bare = L40.model_copy(update={"runner": ("self-hosted", "Linux", "X64")})
    made = runner.make(OURS, [bare], None)
    assert made.labels == ()
    assert "--labels" not in runner.register_script(made)


def test_the_entry_is_the_only_own_one_or_named() -> None:
    entries = [hardware.HOSTED, L40, CPU]
    assert runner.make(OURS, [hardware.HOSTED, L40], None) == runner.make(OURS, entries, "l40")
    assert not runner.make(OURS, entries, "cpu").has_gpu
    for entry, chosen in ((entries, None), (entries, "h100"), (entries, "github-hosted")):
        with pytest.raises(ConfigError) as error:
            runner.make(OURS, entry, chosen)
        assert "l40, cpu" in error.value.fix
    with pytest.raises(ConfigError) as error:
        runner.make(OURS, [hardware.HOSTED], None)
    assert "bench init" in error.value.fix


@pytest.mark.parametrize("image", ["vllm/vllm-openai:v0.32.0", "a@sha256:12", f"{IMAGE}; id"])
def test_an_image_has_a_digest(image: str) -> None:
    with pytest.raises(ConfigError, match="names no digest"):
        runner.make(OURS, [L40], None, image=image)


def test_a_token_cannot_end_the_line_that_it_stands_on() -> None:
    with pytest.raises(ConfigError, match="token"):
        runner.make(OURS, [L40], None, 'x"\nurl = "https://example.org')


# -- the files -------------------------------------------------------------------------------------


def test_the_curl_configuration_is_one_that_curl_reads(tmp_path: Path) -> None:
    written = text_of(runner.CURL, PLAIN)
    with github_server.serving(github_server.State()) as state:
        made = Runner(OURS, (), github_server.TOKEN)
        config = tmp_path / "curl"
        config.write_text(
            runner.curl_configuration(made).replace("https://api.github.com", state.url)
        )
        answer = subprocess.run(
            ["curl", "-fsS", "-K", config], capture_output=True, text=True, check=True
        )
    assert '"token"' in answer.stdout
    assert state.requests == ["POST /repos/octo/bench/actions/runners/registration-token"]
    assert "Bearer github_pat_1" in written


def test_an_enterprise_server_has_its_own_addresses() -> None:
    made = Runner(Repository("https://git.acme.com", "octo/bench"), ())
    assert "https://git.acme.com/api/v3/repos/octo/bench/" in runner.curl_configuration(made)
    assert "--url https://git.acme.com/octo/bench " in runner.register_script(made)


def test_the_register_script_leaves_nothing_of_the_last_job_and_registers_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, unpacked = tmp_path / "home", tmp_path / "opt"
    for name in (".hidden", "_work/repo/file", "old"):
        left = home / name
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_text("left")
    program(unpacked / "config.sh", f'echo "$@" >{tmp_path}/asked')
    program(unpacked / "run.sh", "exit 0")
    programs = tmp_path / "bin"
    program(programs / "runuser", f'echo "$@" >>{tmp_path}/as; shift 3; exec "$@"')
    program(programs / "curl", f'echo "$@" >{tmp_path}/curl; echo \'{{"token": "ONCE"}}\'')
    program(programs / "hostname", "echo box")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    script = text_of(runner.REGISTER, PLAIN)
    script = script.replace(runner.HOME, str(home)).replace(runner.UNPACKED, str(unpacked))
    subprocess.run(["sh", "-c", script], check=True)
    assert sorted(path.name for path in home.iterdir()) == ["config.sh", "run.sh"]
    assert (tmp_path / "curl").read_text() == f"-fsS -K {runner.CURL}\n"
    assert (tmp_path / "asked").read_text().split() == [
        "--unattended", "--ephemeral", "--replace", "--name", "box",
        "--labels", "gpu-l40", "--url", "https://github.com/octo/bench", "--token", "ONCE",
    ]  # fmt: skip
    # The job's user gets the registration token; the other one stays with root.
    assert "github_pat" not in script
    assert set((tmp_path / "as").read_text().splitlines()[0].split()[:2]) == {"-u", runner.USER}


def test_a_registration_that_fails_starts_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "curl", "exit 22")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    script = text_of(runner.REGISTER, PLAIN).replace(runner.HOME, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    assert done.returncode != 0


# -- which jobs may run ----------------------------------------------------------------------------

WORKFLOWS = "octo/bench/.github/workflows"
REFUSED = {
    "a fork's pull request": f"{WORKFLOWS}/review.yml@refs/pull/7/merge",
    "a workflow that a fork adds": f"{WORKFLOWS}/x@refs/heads/main.yml@refs/pull/7/merge",
    "a branch": f"{WORKFLOWS}/benchmark.yml@refs/heads/try",
    "a branch with an odd name": f"{WORKFLOWS}/benchmark.yml@refs/heads/x@refs/heads/main",
    "a tag": f"{WORKFLOWS}/benchmark.yml@refs/tags/main",
    "a merge queue": f"{WORKFLOWS}/review.yml@refs/heads/gh-readonly-queue/main/pr-7",
    "a fork's own run": "mallory/bench/.github/workflows/benchmark.yml@refs/heads/main",
    "nothing": "",
}


def job(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    reference: str | None,
    made: Runner = PLAIN,
    shell: str = "sh -e",
) -> subprocess.CompletedProcess[str]:
    """A job as GitHub's runner runs it: the hook first, then, whatever came of it, `always()`."""
    (folder / "gate.sh").write_text(text_of(runner.GATE, made))
    program(folder / "bin" / "sleep", f'echo "$@" >{folder}/slept')
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("GITHUB_WORKFLOW_REF", raising=False)
    if reference is not None:
        monkeypatch.setenv("GITHUB_WORKFLOW_REF", reference)
    return subprocess.run(
        ["sh", "-c", f"{shell} {folder}/gate.sh; echo steps run"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def triggers(workflow: str) -> str:
    text = (ROOT / ".github" / "workflows" / workflow).read_text()
    return text.partition("\non:\n")[2].partition("\npermissions:")[0]


def test_the_workflow_that_measures_may_run_for_each_of_its_triggers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GitHub takes the workflow of all four from main; of workflow_call it names the caller's.
    events = set(re.findall(r"^  (\w+):", triggers("benchmark.yml"), re.MULTILINE))
    assert events == {"push", "workflow_dispatch", "pull_request_target", "workflow_call"}
    ran = job(tmp_path, monkeypatch, f"{WORKFLOWS}/benchmark.yml@refs/heads/main")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "steps run\n", "")
    assert not (tmp_path / "slept").exists()


def test_no_workflow_that_a_fork_can_change_asks_for_a_machine_of_ones_own() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        machines = set(re.findall(r"runs-on: (.*)", path.read_text()))
        own = {each for each in machines if not each.startswith("ubuntu-")}
        assert own == ({"${{ matrix.runner }}"} if path.name == "benchmark.yml" else set())


@pytest.mark.parametrize("shell", ["sh -e", "bash --noprofile --norc -e -o pipefail"])
@pytest.mark.parametrize("reference", [*REFUSED.values(), None], ids=[*REFUSED, "unset"])
def test_a_job_of_any_other_workflow_ends_before_its_first_step(
    reference: str | None, shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = job(tmp_path, monkeypatch, reference, shell=shell)
    assert ran.returncode == -signal.SIGKILL
    assert ran.stdout == (
        "::error::This machine runs only workflows that are on the repository's default branch.\n"
    )
    assert (tmp_path / "slept").exists()


def test_a_branch_and_a_name_are_text_to_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = dataclasses.replace(PLAIN, branch="it's$(touch${IFS}x)*")
    reference = f"{WORKFLOWS}/benchmark.yml@refs/heads/it's$(touch${{IFS}}x)*"
    assert job(tmp_path, monkeypatch, reference, odd).returncode == 0
    assert job(tmp_path, monkeypatch, f"{reference}y", odd).returncode == -signal.SIGKILL
    assert not (tmp_path / "x").exists()


@BOTH
def test_the_runner_is_told_of_the_gate_by_root_alone(made: Runner) -> None:
    text = runner.unit(made)
    assert f"{runner.HOOK}={runner.GATE}" in text
    assert runner.GATE.endswith(".sh")  # else GitHub's runner knows no shell for it
    assert not runner.GATE.startswith((runner.HOME, runner.CACHE))
    if made.image:
        assert f"--volume {runner.GATE}:{runner.GATE}:ro" in text


def test_doctor_says_on_the_machine_that_the_gate_is_missing(
    tmp_path: Path, machine: Path, api: tuple[github_server.State, Api]
) -> None:
    root = machine / "root"
    assert list(runner.gate({}, root)) == []
    assert list(runner.gate({"RUNNER_ENVIRONMENT": "github-hosted"}, root)) == []
    list(runner.set_up(PLAIN, api[1], root))
    unit, script = root / runner.UNIT[1:], root / runner.GATE[1:]
    assert [check.ok for check in runner.gate({}, root)] == [True]
    script.chmod(0o777)
    assert [check.ok for check in runner.gate({}, root)] == [False]
    script.unlink()
    assert [check.ok for check in runner.gate({}, root)] == [False]
    unit.write_text("[Service]\n")  # as it was before there was a gate
    (check,) = runner.gate({}, root)
    assert check.ok is False
    assert "none" in check.found
    assert "bench runner setup" in check.fix


def test_doctor_says_in_a_job_that_the_gate_is_missing(tmp_path: Path) -> None:
    inside = {"RUNNER_ENVIRONMENT": "self-hosted"}
    assert [check.ok for check in runner.gate(inside, tmp_path)] == [False]
    program(tmp_path / "gate.sh", "exit 0")
    found = runner.gate({**inside, runner.HOOK: "/gate.sh"}, tmp_path)
    assert [check.ok for check in found] == [True]


def test_the_gate_knows_the_repository_as_github_writes_it(
    machine: Path, api: tuple[github_server.State, Api]
) -> None:
    api[0].default_branch = "trunk"
    typed = dataclasses.replace(PLAIN, repository=Repository("https://github.com", "Octo/BENCH"))
    list(runner.set_up(typed, api[1], machine / "root"))
    text = (machine / "root" / runner.GATE[1:]).read_text()
    assert "before=octo/bench/.github/workflows/ after=@refs/heads/trunk\n" in text


# -- what systemd and Docker are told --------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
@BOTH
def test_systemd_takes_the_unit(made: Runner, tmp_path: Path) -> None:
    text = runner.unit(made)
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    cache.mkdir()
    for name in ("run.sh", "register"):
        program(home / name, "exit 0")
    text = text.replace(runner.HOME, str(home)).replace(runner.CACHE, str(cache))
    text = text.replace(runner.REGISTER, str(home / "register"))
    text = text.replace(f"User={runner.USER}", "User=root")
    (tmp_path / "docker.service").write_text("[Service]\nExecStart=/bin/true\n")
    (tmp_path / f"{runner.SERVICE}.service").write_text(text)

    def verify(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=one", tmp_path / name],
            capture_output=True, text=True, check=False,
            env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        )  # fmt: skip

    done = verify(f"{runner.SERVICE}.service")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    # It would say so if there were something wrong.
    (tmp_path / "wrong.service").write_text(text.replace("[Service]", "[Service]\nKilMode=mixed"))
    assert "KilMode" in verify("wrong.service").stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_the_job_can_write_to_three_places_only() -> None:
    text = runner.unit(PLAIN)
    for line in ("ProtectSystem=strict", "PrivateTmp=yes", "NoNewPrivileges=yes",
                 f"ReadWritePaths={runner.HOME} {runner.CACHE}"):  # fmt: skip
        assert line in text.splitlines()


def container_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Runner) -> list[str]:
    """What the container unit's ExecStart runs, as systemd hands it to the shell."""
    joined = runner.unit(made).replace("\\\n", " ")
    line = next(row for row in joined.splitlines() if row.startswith("ExecStart="))
    found = re.fullmatch(r"ExecStart=/bin/sh -c '(.*)'", line)
    assert found
    program(tmp_path / "docker", f'for a in "$@"; do echo "$a"; done >{tmp_path}/docker.txt')
    program(tmp_path / "id", "echo 1001")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    subprocess.run(["/bin/sh", "-c", found[1].replace("$$", "$")], check=True)
    return (tmp_path / "docker.txt").read_text().splitlines()


def test_the_container_has_the_gpus_two_folders_the_gate_and_the_images_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = container_call(tmp_path, monkeypatch, CONTAINER)
    pairs = list(itertools.pairwise(called))
    assert called[0] == "run"
    assert called[-2:] == [runner.SERVICE, f"{runner.HOME}/run.sh"]
    assert [b for a, b in pairs if a == "--volume"] == [
        f"{runner.HOME}:{runner.HOME}", f"{runner.CACHE}:{runner.CACHE}",
        f"{runner.GATE}:{runner.GATE}:ro",
    ]  # fmt: skip
    environment = dict(b.split("=", 1) for a, b in pairs if a == "--env")
    assert environment["BENCH_ENGINE_IMAGE"] == IMAGE
    assert environment["BENCH_ENGINE_PYTHON"] == "/opt/bench-engine/bin/python"
    assert ("--user", "1001:1001") in pairs
    assert ("--gpus", "all") in pairs
    assert {"--read-only", "--rm", "no-new-privileges"} <= set(called)
    assert not {"--privileged", "/var/run/docker.sock"} & set(" ".join(called).split())


def test_a_machine_without_a_gpu_asks_docker_for_none() -> None:
    assert "--gpus" not in runner.unit(runner.make(OURS, [CPU], None, image=IMAGE))


def test_the_image_is_the_official_one_and_of_the_version_that_is_planned() -> None:
    text = text_of(runner.DOCKERFILE, CONTAINER)
    assert text.startswith(f"FROM {IMAGE}\n")
    assert "'lm-eval[api,ifeval,math]==" in text
    assert "--constraint image.txt" in text  # none of the image's own packages changes
    assert re.search(r"== '\d+\.\d+\.\d+'", text)
    assert "'vllm==" not in text
    assert runner.DOCKERFILE not in {file.path for file in runner.files(PLAIN)}


# -- what the machine lacks ------------------------------------------------------------------------


def lacking(nvml: Any, made: Runner = PLAIN) -> set[str]:
    return {c.name for c in runner.examine(nvml, made) if c.ok is False and c.required}


def test_what_is_missing_is_named_with_its_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "defpath", str(tmp_path))
    programs = {"systemctl", "git", "curl", "tar", "runuser"}
    assert programs | {"root", "NVIDIA driver"} <= lacking(NoNvml())
    assert "docker" in lacking(NoNvml(), CONTAINER)
    assert "docker" not in lacking(NoNvml())
    assert all(check.fix for check in runner.examine(NoNvml(), CONTAINER) if check.ok is False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "root" not in lacking(NoNvml())


def test_a_cpu_needs_no_driver() -> None:
    assert "NVIDIA driver" not in lacking(NoNvml(), runner.make(OURS, [CPU], None))


# -- doing it --------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root folder, and stand-ins of what changes a machine; each call is noted."""
    programs = tmp_path / "bin"
    for name in ("useradd", "install", "systemctl", "docker"):
        program(programs / name, f'echo {name} "$@" >>{tmp_path}/called')
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(runner, "USER", "nobody-of-this-name")
    (tmp_path / "root").mkdir()
    return tmp_path


@pytest.fixture
def api(tmp_path: Path) -> Iterator[tuple[github_server.State, Api]]:
    """The API, which offers a runner's archive."""
    folder = tmp_path / "archive"
    program(folder / "config.sh", "exit 0")
    program(folder / "bin" / "installdependencies.sh", f"echo dependencies >>{tmp_path}/called")
    archive = tmp_path / "offered.tar.gz"
    subprocess.run(["tar", "-czf", archive, "-C", folder, "."], check=True)
    state = github_server.State()
    state.runner_downloads = [
        {"os": "osx", "architecture": "x64", "download_url": "https://example.org"},
        {
            "os": "linux", "architecture": "x64", "download_url": f"file://{archive}",
            "sha256_checksum": hashlib.sha256(archive.read_bytes()).hexdigest(),
        },
    ]  # fmt: skip
    with github_server.serving(state):
        yield state, Api(state.url, "octo/bench", github_server.TOKEN)


def called(machine: Path) -> list[str]:
    return (machine / "called").read_text().splitlines()


@BOTH
def test_all_is_written_and_started_and_a_second_time_the_archive_stays(
    made: Runner, machine: Path, api: tuple[github_server.State, Api]
) -> None:
    root = machine / "root"
    said = list(runner.set_up(made, api[1], root))
    for file in runner.files(made):
        path = root / file.path[1:]
        assert path.read_text() == file.text
        assert path.stat().st_mode & 0o777 == file.mode
        assert f"{file.path}: {file.why}" in said
    assert (root / runner.UNPACKED[1:] / "config.sh").exists()
    words = [line.split()[0] for line in called(machine)]
    image = ["docker"] if made.image else []
    assert words == ["useradd", "install", "dependencies", *image, *["systemctl"] * 3]
    assert called(machine)[-1] == "systemctl restart bench-runner"  # an older one has no gate
    assert not any("github_pat" in line for line in (*said, *called(machine)))
    (root / runner.ARCHIVE[1:]).unlink()
    list(runner.set_up(made, api[1], root))
    assert not (root / runner.ARCHIVE[1:]).exists()


@pytest.mark.parametrize("fault", ["other bytes", "no checksum", "no such machine"])
def test_an_archive_that_is_not_as_named_is_not_unpacked(
    fault: str, machine: Path, api: tuple[github_server.State, Api]
) -> None:
    entry = api[0].runner_downloads[1]
    if fault == "other bytes":
        entry["sha256_checksum"] = "0" * 64
    elif fault == "no checksum":
        del entry["sha256_checksum"]
    else:
        entry["architecture"] = "arm64"
    with pytest.raises(MachineError, match="SHA-256"):
        list(runner.set_up(PLAIN, api[1], machine / "root"))
    assert not (machine / "root" / runner.UNPACKED[1:] / "config.sh").exists()


def test_a_program_that_fails_is_named_with_its_words(
    machine: Path, api: tuple[github_server.State, Api]
) -> None:
    program(machine / "bin" / "systemctl", "echo no such unit >&2; exit 5")
    with pytest.raises(BenchError, match="systemctl daemon-reload` failed: no such unit"):
        list(runner.set_up(PLAIN, api[1], machine / "root"))


def test_what_was_set_up_is_removed_again(
    machine: Path, api: tuple[github_server.State, Api]
) -> None:
    root = machine / "root"
    assert list(runner.remove(root)) == ["nothing is set up here"]
    list(runner.set_up(CONTAINER, api[1], root))
    said = list(runner.remove(root))
    for file in runner.files(CONTAINER):
        assert not (root / file.path[1:]).exists()
        assert f"removes {file.path}" in said
    assert called(machine)[-2:] == ["systemctl disable --now bench-runner",
                                    "systemctl daemon-reload"]  # fmt: skip


# -- the command -----------------------------------------------------------------------------------


def models(folder: Path, *entries: Hardware) -> Path:
    from models_texts import VALID

    tables = "".join(hardware.table(entry) for entry in entries)
    (folder / "models.toml").write_text(tables + "".join(VALID.partition("[[family]]")[1:]))
    return folder / "models.toml"


def test_a_dry_run_shows_all_but_the_token(tmp_path: Path, bench: Any) -> None:
    (tmp_path / "token").write_text("github_pat_1\n")
    written = models(tmp_path, L40, hardware.HOSTED)
    ran = bench(
        "runner", "setup", "--dry-run", "--token-file", tmp_path / "token", "--models", written,
        "--repository", "octo/bench", "--image", IMAGE,
    )  # fmt: skip
    assert ran.code == 0
    for file in runner.files(Runner(OURS, ("gpu-l40",), image=IMAGE)):
        assert f"# {file.path} ({file.mode:o}): {file.why}\n{file.text}" in ran.out
    for command in runner.commands(IMAGE):
        assert " ".join(command) in ran.out
    assert "github_pat_1" not in ran.out + ran.err


def test_a_machine_that_lacks_something_ends_with_3(
    tmp_path: Path, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ran = bench("runner", "setup", "--models", models(tmp_path, CPU), "--repository", "octo/bench")
    assert ran.code == 3
    assert "run it with sudo" in ran.out

"""`bench runner setup`: a machine that takes one GitHub Actions job after the other.

Everything it writes is made here and nowhere else; the guide shows the same text, by a test.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.config import Hardware
from bench.doctor import Check
from bench.engine import installed
from bench.errors import ConfigError, MachineError
from bench.github.api import Api
from bench.setup.remote import Repository

USER = "runner"
HOME, ARCHIVE, UNPACKED = "/home/runner", "/opt/runner.tar.gz", "/opt/runner"
CACHE = "/srv/bench-cache"
CURL, REGISTER = "/etc/bench-runner.curl", "/usr/local/sbin/bench-runner-register"
GATE = "/usr/local/sbin/bench-runner-gate.sh"  # the ending tells GitHub's runner its shell
HOOK = "ACTIONS_RUNNER_HOOK_JOB_STARTED"
UNIT, DOCKERFILE = "/etc/systemd/system/bench-runner.service", "/etc/bench-runner.Dockerfile"
SERVICE = "bench-runner"
DISK_GIB = 60  # the engine, its download, and checkpoints
GIVEN = {"self-hosted", "linux", "x64"}  # labels that every such runner has by itself
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._/:-]*@(sha256:[0-9a-f]{64})")


@dataclass(frozen=True)
class Runner:
    """What the machine is set up for.

    Args:
        labels: those that are not every runner's.
        token: of the repository, with Administration: write.
        image: the engine's official image with its digest, to run jobs in a container.
        has_gpu: whether it measures on GPUs.
        branch: the repository's default branch, whose workflows alone may use the machine.
    """

    repository: Repository
    labels: tuple[str, ...]
    token: str = "TOKEN"  # noqa: S105  (what the guide shows in its place)
    image: str | None = None
    has_gpu: bool = True
    branch: str = "main"


@dataclass(frozen=True)
class File:
    """A file to write: where, by whom it may be read or run, why it is there, and its text."""

    path: str
    mode: int
    why: str
    text: str


def make(
    repository: Repository,
    hardware: Sequence[Hardware],
    chosen: str | None,
    token: str = "",
    image: str | None = None,
) -> Runner:
    """The runner of a [[hardware]] entry.

    Raises:
        ConfigError: no such entry, one of GitHub's own machines, or an image without a digest.
    """
    own = {entry.id: entry for entry in hardware if not entry.is_hosted}
    if chosen is None and len(own) == 1:
        chosen = next(iter(own))
    if chosen not in own:
        listing = ", ".join(own) or "none; `bench init --measure-on this-machine` adds this one"
        raise ConfigError(
            f"models.toml has no [[hardware]] {chosen!r} that is a machine of your own"
            if chosen
            else "models.toml has not one [[hardware]] that is a machine of your own",
            f"name one with --hardware: {listing}",
        )
    if image and not _IMAGE.fullmatch(image):
        raise ConfigError(
            f"{image!r} names no digest, and a tag may be another image tomorrow",
            "write it as vllm/vllm-openai@sha256:…; `docker buildx imagetools inspect` shows it",
        )
    if not re.fullmatch(r"\w*", token, re.ASCII):
        raise ConfigError("the token has characters that no token of GitHub's has", "copy it again")
    labels = tuple(label for label in own[chosen].runner if label.lower() not in GIVEN)
    has_gpu = own[chosen].engine == "cuda"
    return Runner(repository, labels, token or Runner.token, image, has_gpu)


# -- what is written -----------------------------------------------------------------------------


def files(runner: Runner) -> list[File]:
    """Everything that is written, in the order in which it is explained."""
    found = [
        File(CURL, 0o600, "asks GitHub for the right to register; only root may read it",
             curl_configuration(runner)),
        File(REGISTER, 0o755, "makes the next runner: an empty home, a fresh copy, one job",
             register_script(runner)),
        File(GATE, 0o755, "looks at each job before its first step: only your main's may run",
             gate_script(runner)),
        File(UNIT, 0o644, "runs it, and starts over when the job is done", unit(runner)),
    ]  # fmt: skip
    if runner.image:
        why = "the engine's official image, with what a job needs beside it"
        found.append(File(DOCKERFILE, 0o644, why, dockerfile(runner.image)))
    return found


def curl_configuration(runner: Runner) -> str:
    """How curl asks for a registration token."""
    return (
        'request = "POST"\n'
        f'header = "Authorization: Bearer {runner.token}"\n'
        f'url = "{runner.repository.api_url}/repos/{runner.repository.name}'
        '/actions/runners/registration-token"\n'
    )


def register_script(runner: Runner) -> str:
    """What root does before every job; the job's user sees the registration token only."""
    labels = f"--labels {','.join(runner.labels)} " if runner.labels else ""
    return f"""\
#!/bin/sh
set -eu
find {HOME} -mindepth 1 -delete    # the last job's _work, its caches, its runner
token=$(curl -fsS -K {CURL} |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')
cd {HOME}
runuser -u {USER} -- cp -r {UNPACKED}/. .
runuser -u {USER} -- ./config.sh --unattended --ephemeral --replace --name "$(hostname)" \\
    {labels}--url {runner.repository.url} --token "$token"
"""


def gate_script(runner: Runner) -> str:
    """What GitHub's runner runs before a job's first step, as root wrote it.

    A pull request brings its own workflow files, and any of them may ask for this machine; GitHub
    then says that the workflow is of `refs/pull/…/merge`. It also starts steps with `if: always()`
    when this fails (actions/runner#2811), so the process that would start them is ended.
    """
    before = shlex.quote(f"{runner.repository.name}/.github/workflows/")
    after = shlex.quote(f"@refs/heads/{runner.branch}")
    return f"""\
#!/bin/sh
before={before} after={after}
file=${{GITHUB_WORKFLOW_REF#"$before"}}
file=${{file%"$after"}}
case $file in
*@*) ;;
*) if [ "$GITHUB_WORKFLOW_REF" = "$before$file$after" ]; then exit 0; fi ;;
esac
echo "::error::This machine runs only workflows that are on the repository's default branch."
sleep 5 || :          # until the log has that line
kill -KILL "$PPID"    # the job's process: an exit code alone lets steps with if: always() run
exit 1
"""


def unit(runner: Runner) -> str:
    """The systemd unit: the job may write to its home, a /tmp of its own, and the cache."""
    if runner.image:
        return _container_unit(runner.image, "--gpus all " if runner.has_gpu else "")
    return f"""\
[Unit]
Description=One GitHub Actions job, then the next
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
User={USER}
WorkingDirectory={HOME}
Environment=BENCH_CACHE={CACHE} HF_HOME={CACHE}/huggingface
Environment={HOOK}={GATE}
ExecStartPre=+{REGISTER}
ExecStart={HOME}/run.sh
Restart=always
RestartSec=15
KillMode=mixed
TimeoutStopSec=5min
ProtectSystem=strict
ReadWritePaths={HOME} {CACHE}
PrivateTmp=yes
RemoveIPC=yes
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
"""


def _container_unit(image: str, gpus: str) -> str:
    """The same in a container, which ends with the job and all that the job left running."""
    return f"""\
[Unit]
Description=One GitHub Actions job in a container, then the next
Wants=network-online.target
After=network-online.target docker.service
Requires=docker.service
StartLimitIntervalSec=0

[Service]
ExecStartPre={REGISTER}
ExecStart=/bin/sh -c 'exec docker run --rm --init --name {SERVICE} --pull never \\
    {gpus}--shm-size 16g --read-only --tmpfs /tmp:exec \\
    --cap-drop ALL --security-opt no-new-privileges \\
    --user "$$(id -u {USER}):$$(id -g {USER})" --workdir {HOME} \\
    --volume {HOME}:{HOME} --volume {CACHE}:{CACHE} --env HOME={HOME} \\
    --volume {GATE}:{GATE}:ro --env {HOOK}={GATE} \\
    --env BENCH_CACHE={CACHE} --env HF_HOME={CACHE}/huggingface \\
    --env BENCH_ENGINE_PYTHON=/opt/bench-engine/bin/python \\
    --env BENCH_ENGINE_IMAGE={image} \\
    {SERVICE} {HOME}/run.sh'
ExecStop=/bin/sh -c 'docker stop --time 60 {SERVICE}'
Restart=always
RestartSec=15
TimeoutStopSec=5min

[Install]
WantedBy=multi-user.target
"""


def dockerfile(image: str) -> str:
    """The official image and lm-eval, which may change none of the image's own packages."""
    lines = installed.lock_path("cuda").with_suffix(".in").read_text().splitlines()
    wanted = [line for line in lines if "==" in line and not line.startswith("vllm==")]
    beside = " ".join(f"'{line}'" for line in wanted)
    return f"""\
FROM {image}
ENTRYPOINT []
COPY bin/installdependencies.sh /tmp/
RUN apt-get update && apt-get install --yes --no-install-recommends git curl \\
    && /tmp/installdependencies.sh && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --system-site-packages /opt/bench-engine && cd /opt/bench-engine \\
    && bin/pip list --format=freeze >image.txt \\
    && bin/pip install --no-cache-dir --constraint image.txt {beside}
# The plan asks for this version; records of another would be refused.
RUN /opt/bench-engine/bin/python -c "from importlib.metadata import version; \\
    assert version('vllm').split('+')[0] == '{installed.version("cuda")}', version('vllm')"
"""


def commands(image: str | None = None) -> list[tuple[str, ...]]:
    """What root runs once, in this order; the archive is fetched between the second and third."""
    return [
        ("useradd", "--create-home", USER),
        ("install", "-d", "-o", USER, "-g", USER, CACHE),
        ("mkdir", "-p", UNPACKED),
        ("tar", "-xzf", ARCHIVE, "-C", UNPACKED),
        (f"{UNPACKED}/bin/installdependencies.sh",),
        *([("docker", "build", "--tag", SERVICE, "--file", DOCKERFILE, UNPACKED)] if image else []),
        ("systemctl", "daemon-reload"),
        ("systemctl", "enable", SERVICE),
        ("systemctl", "restart", SERVICE),  # one that waits for a job has no newer gate
    ]


def preview(runner: Runner) -> str:
    """All of it as text: each file with what it is for, and the commands. Shows the token."""
    blocks = [f"# {file.path} ({file.mode:o}): {file.why}\n{file.text}" for file in files(runner)]
    lines = [" ".join(command) for command in commands(runner.image)]
    return "\n".join([*blocks, "# and as root, once:", *lines])


# -- what the machine must have ------------------------------------------------------------------


def examine(nvml: Any, runner: Runner) -> Iterator[Check]:
    """What this machine needs, one by one; nothing is changed."""
    yield Check(
        "root", os.geteuid() == 0, f"user {os.geteuid()}", "run it with sudo", required=True
    )
    on = f"{platform.system()} on {platform.machine()}"
    is_linux = sys.platform == "linux" and platform.machine() == "x86_64"
    yield Check("platform", is_linux, on, "take a Linux machine on x86-64", required=True)
    for name, fix in (
        ("systemctl", "take a distribution with systemd"),
        ("git", "install git"),
        ("curl", "install curl"),
        ("tar", "install tar"),
        ("runuser", "install util-linux"),
        *([("docker", "install Docker and NVIDIA's container toolkit")]
          if runner.image else []),
    ):  # fmt: skip
        found = shutil.which(name)
        yield Check(name, found is not None, found or "not found", fix, required=True)
    yield _python()
    if runner.has_gpu:
        yield _driver(nvml)
    place = next(path for path in (Path(CACHE), *Path(CACHE).parents) if path.exists())
    free_gib = shutil.disk_usage(place).free / 2**30
    room = f"{free_gib:.0f} GiB free for {CACHE}"
    fix = f"mount a volume there: the engine and the checkpoints take {DISK_GIB} GiB and more"
    yield Check("disk space", free_gib >= DISK_GIB, room, fix)


def _python() -> Check:
    """The system's own Python, which the jobs' `./run` makes its environment with."""
    code = "import ensurepip, sys, venv; print('.'.join(map(str, sys.version_info[:3])))"
    done = subprocess.run(
        ["/usr/bin/env", "-i", f"PATH={os.defpath}:/usr/local/bin", "python3", "-c", code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    version = done.stdout.strip()
    ok = bool(version) and tuple(map(int, version.split(".")[:2])) >= (3, 11)
    fix = "install Python 3.11 or newer with venv; on Debian and Ubuntu: apt install python3-venv"
    return Check("Python and venv", ok, version or "not found, or without venv", fix, required=True)


def _driver(nvml: Any) -> Check:
    fix = "install NVIDIA's driver"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Check("NVIDIA driver", False, str(error), fix, required=True)
    try:
        return Check("NVIDIA driver", True, str(nvml.nvmlSystemGetDriverVersion()))
    finally:
        nvml.nvmlShutdown()


def gate(environment: Mapping[str, str] = os.environ, prefix: Path = Path("/")) -> Iterator[Check]:
    """Whether a runner of this machine looks at a job before its first step; else nothing.

    Args:
        environment: of this process, which is a job's where a runner started it.
        prefix: the root of the file system; another one in tests.
    """
    unit_file = prefix / UNIT[1:]
    if unit_file.exists():
        named = f"{HOOK}={GATE}" in unit_file.read_text()
        script = GATE if named else ""
    elif environment.get("RUNNER_ENVIRONMENT") == "self-hosted":
        script = environment.get(HOOK, "")
    else:
        return
    path = prefix / script.lstrip("/")
    yield Check(
        "runner gate",
        bool(script) and path.is_file() and not path.stat().st_mode & 0o022,
        script or "none: a fork's workflow, once approved, can run its code here",
        "as root, run `bench runner setup` again",
    )


# -- doing it ------------------------------------------------------------------------------------


def set_up(runner: Runner, api: Api, prefix: Path = Path("/")) -> Iterator[str]:
    """Does everything, and says each thing before it is done.

    A user, an archive and a cache that are there stay; a runner that runs is started anew.

    Args:
        api: with the runner's token.
        prefix: the root of the file system; another one in tests.

    Raises:
        MachineError: GitHub, a program or the archive is not as it should be.
    """
    facts = api.get("")  # a remote's address may say the name in other letters
    own = replace(runner.repository, name=str(facts["full_name"]))
    runner = replace(runner, repository=own, branch=str(facts["default_branch"]))
    for file in files(runner):
        yield f"{file.path}: {file.why}"
        _write(prefix / file.path[1:], file)
    for command in commands(runner.image):
        if command[0] == "useradd" and _is_user(USER):
            continue
        if command[0] == "tar":
            if (prefix / UNPACKED[1:] / "config.sh").exists():
                yield f"{UNPACKED} is there"
                continue
            yield f"{ARCHIVE}: GitHub's runner, held against its SHA-256"
            _fetch_archive(api, prefix / ARCHIVE[1:])
        yield " ".join(command)
        _run([_below(prefix, part) for part in command])


_WRITTEN = (UNIT, REGISTER, GATE, CURL, DOCKERFILE)


def remove(prefix: Path = Path("/")) -> Iterator[str]:
    """Stops the service and removes the files that `set_up` wrote; says each."""
    present = [path for path in _WRITTEN if (prefix / path[1:]).exists()]
    if UNIT in present:
        yield f"systemctl disable --now {SERVICE}"
        _run(["systemctl", "disable", "--now", SERVICE])
    for path in present:
        yield f"removes {path}"
        (prefix / path[1:]).unlink()
    if UNIT in present:
        _run(["systemctl", "daemon-reload"])
    if not present:
        yield "nothing is set up here"


def _below(prefix: Path, part: str) -> str:
    return str(prefix / part[1:]) if part.startswith("/") else part


def _write(path: Path, file: File) -> None:
    """The file with its mode from the first byte on: one holds a token."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode), "w") as out:
        os.fchmod(out.fileno(), file.mode)  # whatever the umask is
        out.write(file.text)


def _is_user(name: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _fetch_archive(api: Api, target: Path) -> None:
    """GitHub's newest runner for Linux on x86-64, if it has the SHA-256 that the API names."""
    entry = next(
        (e for e in api.get("actions/runners/downloads")
         if (e["os"], e["architecture"]) == ("linux", "x64")), None,
    )  # fmt: skip
    if entry is None or not entry.get("sha256_checksum"):
        raise MachineError(
            "GitHub names no runner for Linux on x86-64 with a SHA-256",
            f"unpack it into {UNPACKED} yourself, from {api.repository}'s page "
            "'New self-hosted runner', and run this again",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    _run(["curl", "-fsSL", "--output", str(target), str(entry["download_url"])])
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    if digest != entry["sha256_checksum"]:
        target.unlink()
        raise MachineError(
            f"the runner's archive has the SHA-256 {digest}, and GitHub names another",
            "run this again; if it stays so, do not use that archive",
        )


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise MachineError(f"{command[0]} does not run: {error.strerror}", "install it") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-500:]
        raise MachineError(
            f"`{' '.join(command)}` failed: {said}", "mend that, then run this again"
        )

"""Completion in the real shells, as far as they are installed, of `bench` and of `./run bench`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bench_runs import PATIENCE_S
from folders import ROOT

from bench.cli import cli
from bench.setup import completion

pytestmark = pytest.mark.process  # every answer is a shell's and a bench's
COMMANDS = {name for name, command in cli.commands.items() if not command.hidden}
# Each asks the shell for the completions of a line, one on each row, as pressing Tab does.
BASH = r"""
source /dev/stdin <<<"$SCRIPT"
read -ra COMP_WORDS <<<"$LINE"
[[ $LINE == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { echo "compopt $*"; }
_quantbench "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}"
printf '%s\n' "${COMPREPLY[@]}"
"""
FISH = 'echo "$SCRIPT" | source; complete -C "$LINE"'
ZSH = r"""
compdef() { :; }
eval "$SCRIPT"
words=(${=LINE})
[[ $LINE == *' ' ]] && words+=('')
CURRENT=$#words
compadd() { if [[ $@[-2] == -a ]]; then print -l -- ${(P)@[-1]}; else print -l -- $@; fi; }
_describe() { local name=$3; print -l -- ${${(P)name}%%:*}; }
_quantbench
"""


def asked(shell: str, line: str, at: Path = ROOT) -> list[str]:
    """What the shell offers for a line."""
    program = {"bash": BASH, "fish": FISH, "zsh": ZSH}[shell]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "LINE": line, "AT": str(at), "TERM": "dumb",
                   "SCRIPT": completion.script(shell)}  # type: ignore[arg-type]  # fmt: skip
    done = subprocess.run(
        [shell, "-c", program], cwd=at, env=environment, capture_output=True, text=True,
        check=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.stderr == ""
    return [word.split("\t")[0].strip() for word in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_a_shell_takes_the_script(shell: str, bench: object, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    (tmp_path / "script").write_text(completion.script(shell))  # type: ignore[arg-type]
    subprocess.run([shell, "-n", tmp_path / "script"], check=True)


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_commands_options_and_choices(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    assert set(asked(shell, "./run bench ")) >= COMMANDS
    assert asked(shell, "bench report --eng") == ["--engine"]
    assert asked(shell, f"{ROOT}/run bench report --engine qu") == ["quarto"]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_what_run_itself_takes_and_what_is_not_ours(shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    assert asked(shell, "./run b") == ["bench"]
    assert [word for word in asked(shell, "./run pytest -") if word] == []


def test_a_shell_that_completes_installs_nothing(tmp_path: Path) -> None:
    for name in ("run", "requirements/tool.txt"):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, target)
    done = subprocess.run(
        [tmp_path / "run", "bench"], capture_output=True, text=True, check=True,
        env={**os.environ, "_BENCH_COMPLETE": "bash_complete"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("", "")
    assert not (tmp_path / ".venv").exists()


def test_the_help_says_how_each_shell_takes_it_up() -> None:
    text = cli.commands["completion"].help or ""
    for shell in completion.SCRIPTS:
        assert f"bench completion {shell}" in text

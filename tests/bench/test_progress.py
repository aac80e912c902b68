"""What a person sees while it runs: lines in a log, a spinner on a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
from bench_runs import wait_until
from folders import ROOT

from bench import progress
from bench.errors import ConfigError

CLOCK = r"^\[\d\d:\d\d\] "


def test_in_a_log_a_step_is_announced_and_its_end_told(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.step("Qwen3 [AWQ]: server") as current:
        current.note("loading weights [1/2]")
        assert current.text() == "Qwen3 [AWQ]: server: loading weights [1/2] (00:00)"
    printed = capsys.readouterr()
    assert printed.out == ""
    first, last = printed.err.splitlines()
    assert re.match(CLOCK + r"Qwen3 \[AWQ\]: server …$", first)
    assert re.match(CLOCK + r"Qwen3 \[AWQ\]: server: done in 00:00$", last)


def test_a_step_that_fails_is_not_said_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="no"), progress.step("server"):
        raise ValueError("no")
    assert "done" not in capsys.readouterr().err


def test_in_a_log_a_long_step_shows_that_it_lives(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_HEARTBEAT_S", 0.01)
    lines: list[str] = []
    with progress.step("server") as current:
        current.note("compiling")

        def told() -> bool:
            lines.extend(capsys.readouterr().err.splitlines())
            return any("compiling" in line for line in lines)

        wait_until(told)
    assert any(re.match(CLOCK + r"server: compiling \(\d\d:\d\d\)$", line) for line in lines)


def test_on_a_terminal_the_step_under_way_is_shown_as_it_is_written() -> None:
    program = (
        "from bench import progress\n"
        "with progress.step('Qwen3 [AWQ] [/]') as step:\n"
        "    step.note('[red]3/7')\n"
        "    input()\n"
    )
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 65536):
            asked = b"[red]3/7" in seen
            seen += data
            if b"[red]3/7" in seen and not asked:
                os.write(ours, b"\n")
    except OSError:  # Linux reports the other end's closing so
        pass
    finally:
        os.close(ours)
    assert child.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())
    assert re.search(r"Qwen3 \[AWQ\] \[/\]: \[red\]3/7 \(\d\d:\d\d\)", text)
    assert re.search(r"Qwen3 \[AWQ\] \[/\]: done in \d\d:\d\d", text)


@pytest.mark.parametrize(("seconds", "shown"), [(0, "00:00"), (59.9, "00:59"), (6000, "100:00")])
def test_the_clock_counts_minutes(seconds: float, shown: str) -> None:
    assert progress._clock(seconds) == shown


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "\x1b]0;owned\x07", "a\rb", "\u202egnp", "\x9b1m"])
def test_nothing_that_is_said_steers_a_terminal(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.say(text)
    with progress.step(text) as current:
        current.note(text)
        told = current.text()
    shown = capsys.readouterr().err + told + str(ConfigError(f"a {text}", f"b {text}"))
    assert "\ufffd" in shown
    assert not set(text) & set("\x1b\x07\r\u202e\x9b") & set(shown)

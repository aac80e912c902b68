"""Programs that end with the tool, whatever ends the tool. See `supervise` for how."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from bench import supervise
from bench.progress import say

_SUPERVISE = Path(supervise.__file__)
GRACE_S = 10.0  # between asking a process to end and killing it


class Supervised:
    """A program and all it starts, stopped together. It gets a TMPDIR of its own, removed after.

    Args:
        argv: the program and its arguments.
        environment: what to set on top of what it inherits.
        inherited: what it gets of this process's own environment; all of it by default.
        stdin, stdout, stderr: as for `subprocess.Popen`.
        cwd: where it runs; a folder of its own, so that it finds none of our modules.
        grace_s: how long it may take to end when it is asked to.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        inherited: Mapping[str, str] = os.environ,
        cwd: Path,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any],
        stderr: int | IO[Any],
        grace_s: float = GRACE_S,
    ) -> None:
        reading, self._lifeline = os.pipe()  # not inheritable: only this process holds the end
        supervisor = [str(_SUPERVISE), str(reading), str(grace_s)]
        try:
            self.popen = subprocess.Popen(
                # -I: neither the folder it runs in nor PYTHON* variables can change what it is.
                [sys.executable, "-I", *supervisor, *argv],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                # Several processes import the same large packages: compiled once, they load faster,
                # also where this variable of the caller's says not to keep what was compiled.
                env={**inherited, "PYTHONDONTWRITEBYTECODE": "", **environment},
                pass_fds=(reading,),
                start_new_session=True,  # a Ctrl-C in the terminal reaches the tool only
                encoding="utf-8",
                errors="replace",
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(reading)

    @property
    def pid(self) -> int:
        """The supervisor's process id: everything the program starts is below it."""
        return self.popen.pid

    def status(self) -> int | None:
        """The program's exit status, 128 + N after signal N, or None while anything of it runs."""
        status = self.popen.poll()
        return 128 - status if status is not None and status < 0 else status

    def stop(self) -> None:
        """Ends the program and all it started; returns when none is left."""
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)
        try:
            self.popen.wait()
        finally:
            self.popen.wait()  # also after a Ctrl-C; only one comes, see `stoppable`
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> tuple[int, list[str]]:
    """Runs a program to its end, with nothing of it left if this process is stopped or killed.

    Args:
        note: is told every line as it comes.

    Returns:
        Its exit status and the lines it wrote to standard output and error.
    """
    said: list[str] = []
    process = Supervised(
        argv,
        environment=environment or {},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert process.popen.stdout
        for line in process.popen.stdout:
            said.append(line.rstrip())
            note(said[-1])
        return process.popen.wait(), said
    finally:
        process.stop()


@contextmanager
def stoppable() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM end the block once: a second one must not cut the clean-up short.

    Raises:
        KeyboardInterrupt: after a Ctrl-C.
        SystemExit: after SIGTERM, so that a cancelled workflow cleans up as well.
    """

    def stop(number: int, _: object) -> None:
        for each in before:
            signal.signal(each, lambda *_: None)
        say("stopping; finished stages are kept")
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

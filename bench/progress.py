"""What a person watching sees: one line per step, with the time, on standard error.

On a terminal the step under way has a spinner with its elapsed time; elsewhere (a log, a workflow)
it is announced, and long steps repeat a plain line so that nobody wonders whether it hangs.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from bench.errors import visible
from bench.streams import silence

if TYPE_CHECKING:
    from rich.console import Console

_HEARTBEAT_S = 60.0
_begin = time.monotonic()


@cache
def _console() -> Console:
    """One that nobody needs to read: rich's own would end the program."""
    from rich.console import Console  # most commands have nothing to say

    class Silenced(Console):
        def on_broken_pipe(self) -> None:
            silence(sys.stderr)

    return Silenced(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """One line, with the time since the program began."""
    line = f"[{_clock(time.monotonic() - _begin)}] {visible(message)}"
    try:
        _console().print(line, markup=False)
    except OSError:  # a full disk: what is measured is worth more than what is said of it
        silence(sys.stderr)


class Step:
    """A step under way; `note` says what it is doing now."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.detail = ""
        self.began = time.monotonic()

    def note(self, detail: str) -> None:
        """Replaces what is said after the title."""
        self.detail = detail

    @property
    def elapsed_s(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self.began

    def text(self) -> str:
        """The title, what it is doing, and for how long."""
        detail = f": {self.detail}" if self.detail else ""
        return f"{visible(self.title + detail)} ({_clock(self.elapsed_s)})"


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Shows a step while its block runs, and how long it took when it ended well."""
    current = Step(title)
    done = threading.Event()
    watcher = threading.Thread(target=_show, args=(current, done), daemon=True)
    if not _console().is_terminal:
        say(f"{title} …")
    watcher.start()
    try:
        yield current
    finally:
        done.set()
        watcher.join()
    say(f"{title}: done in {_clock(current.elapsed_s)}")


def _show(current: Step, done: threading.Event) -> None:
    if _console().is_terminal:
        with _console().status("") as status:
            while not done.wait(0.25):
                status.update(current.text().replace("[", r"\["))
    else:
        while not done.wait(_HEARTBEAT_S):
            say(current.text())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"

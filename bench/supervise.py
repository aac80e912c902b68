"""A small process between the tool and a program it starts, so that nothing is ever left behind.

The tool may be killed with no chance to clean up (`kill -9`, a cancelled workflow, a closed
laptop), and a vLLM server is several processes with memory on a GPU. This process holds the
reading end of a pipe whose writing end only the tool has: when the pipe ends, for whatever reason,
it stops the program and everything the program started. It adopts their orphans (Linux's child
subreaper), so a grandchild whose parent died is found too.

If this process is itself killed, the kernel hangs up the terminal it leads, and with it the
program and all it started, unless that made a session of its own.

Usage: supervise.py LIFELINE_FD GRACE_S PROGRAM [ARGUMENT ...]
Exits as the program did; 128 + N after signal N. Standard library only; imports nothing of bench.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

TEMPORARY = "bench-"  # what the names of our temporary folders begin with
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.1
_LISTENING = "0A"  # in /proc/net
_MAPPED_WITHIN_S = 1.0  # of the moment a segment was made

_told_to_stop = False


def descendants(root: int) -> list[int]:
    """Process ids below `root`, from /proc."""
    children: dict[int, list[int]] = {}
    for pid in processes():
        children.setdefault(parent(pid), []).append(pid)
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def parent(pid: int) -> int:
    """The id of a process's parent; 0 if the process has ended."""
    try:
        # The name in parentheses may hold anything; the parent is the second field after.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def processes() -> list[int]:
    """The ids of all processes."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def cpu_seconds(pids: list[int]) -> float:
    """Processor time that these processes have used; nothing of those that have ended."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def listens(pids: list[int], port: int) -> bool:
    """Whether these processes, and no others, listen on a port of this machine's own address."""
    sockets: set[str] = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                address, _, number = local.partition(":")
                if state == _LISTENING and int(number, 16) == port and _is_local(address):
                    sockets.add(f"socket:[{inode}]")
    held: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    held.add(os.readlink(entry))  # noqa: PTH115  (it leads to no file)
    return bool(sockets) and sockets <= held


def _is_local(address: str) -> bool:
    """Whether 127.0.0.1 reaches what listens on an address, as /proc/net writes it."""
    return not address.strip("0") or address.endswith("0100007F")


def shared_memory(pids: list[int]) -> set[Path]:
    """The files under /dev/shm that these processes have mapped."""
    found: set[Path] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                _, at, name = line.partition(f"{SHARED_MEMORY}/")
                if at and not name.endswith(" (deleted)"):
                    found.add(SHARED_MEMORY / name)
    return found


def end(find: Callable[[], list[int]], grace_s: float) -> None:
    """Ends every process that `find` finds, also those that appear meanwhile.

    Asks, waits for `grace_s`, then kills; one that even SIGKILL does not end within another
    `grace_s` (it hangs in the kernel) is left to the kernel. A process whose parent is among them
    is asked only when that has ended: it may have a way of its own to stop what it started. One
    that was halted (SIGSTOP) is woken to hear it.
    """
    began = time.monotonic()
    asked: set[int] = set()
    while (pids := find()) and (passed_s := time.monotonic() - began) < 2 * grace_s:
        kill = passed_s >= grace_s
        for pid in pids:
            if kill or (pid not in asked and parent(pid) not in pids):
                asked.add(pid)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL if kill else signal.SIGTERM)
                    os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)


def _living() -> list[int]:
    """Descendants that still run; ended ones are reaped on the way."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return descendants(os.getpid())


class _Segments:
    """The shared memory that the program made: seen mapped, or named after one of its processes."""

    def __init__(self) -> None:
        self._is_there = SHARED_MEMORY.is_dir()  # not in every container
        self._changed = SHARED_MEMORY.stat().st_mtime_ns if self._is_there else 0
        self._foreign = set(SHARED_MEMORY.iterdir()) if self._is_there else set()
        self._look_until = 0.0
        self._found: set[Path] = set()

    def look(self, *, now: bool = False) -> None:
        """Looks if anything was made under /dev/shm lately; maps are long and not read for fun."""
        if not self._is_there:
            return
        changed = SHARED_MEMORY.stat().st_mtime_ns
        if changed != self._changed:
            self._changed, self._look_until = changed, time.monotonic() + _MAPPED_WITHIN_S
        if now or time.monotonic() < self._look_until:
            pids = descendants(os.getpid())
            names = set(map(str, pids))
            named = {p for p in SHARED_MEMORY.iterdir() if names & set(re.split(r"\W|_", p.name))}
            self._found |= (shared_memory(pids) | named) - self._foreign

    def remove(self) -> None:
        """Removes what the program left and nobody else uses."""
        for path in self._found and self._found - shared_memory(processes()):
            path.unlink(missing_ok=True)


def _lead_terminal() -> None:
    """Makes this process the leader of a terminal that nobody sees, for as long as it lives.

    When a session's leader ends, however it does, the kernel sends SIGHUP to the processes in the
    terminal's foreground: this group, which is the program and what it starts.
    """
    with contextlib.suppress(OSError):  # a container without terminals: the note alone must do
        _, terminal = os.openpty()  # both ends stay open
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def _wait(child: subprocess.Popen[bytes], lifeline: int, segments: _Segments) -> int | None:
    """Until the program ends (its status), or the tool does or says so (None)."""
    while True:
        readable, _, _ = select.select([lifeline], [], [], _POLL_S)
        segments.look()
        status = child.poll()
        if readable or _told_to_stop or status is not None:
            return status


def _on_signal(*_: object) -> None:
    global _told_to_stop  # noqa: PLW0603  (a signal handler has no other way to speak)
    _told_to_stop = True


def _supervise(lifeline: int, grace_s: float, program: list[str]) -> int:
    segments = _Segments()
    # Not below the folder of the logs: a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, ignore_cleanup_errors=True) as temporary:
        child = subprocess.Popen(program, env={**os.environ, "TMPDIR": temporary})
        try:
            status = _wait(child, lifeline, segments)
        finally:
            segments.look(now=True)
            end(_living, grace_s)
            segments.remove()
    if status is None:
        return 128 + signal.SIGTERM
    return 128 - status if status < 0 else status


def main() -> int:
    """Starts the program, waits for its end or the tool's, and leaves nothing."""
    lifeline, grace_s, *program = sys.argv[1:]
    # Handlers, unlike "ignore", are not inherited: the program has every signal at its default.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _on_signal)
    ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _lead_terminal()
    return _supervise(int(lifeline), float(grace_s), program)


if __name__ == "__main__":
    sys.exit(main())

"""One exception tree: each class is one exit code, each message says what to do."""

from __future__ import annotations

import unicodedata

_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # of Unicode's categories


def visible(text: str) -> str:
    """Text for a terminal: what would steer it, or hide or reorder what is read, is U+FFFD."""
    return "".join(
        "\ufffd" if unicodedata.category(c) in _UNSEEN and c not in "\n\t" else c for c in text
    )


class BenchError(Exception):
    """What went wrong, and the fix; never shown with a traceback.

    Args:
        message: one sentence that names the file, key or program concerned.
        fix: one sentence that says what to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return visible(f"{self.message}\n  fix: {self.fix}" if self.fix else self.message)


class ConfigError(BenchError):
    """Wrong usage, or a models.toml that cannot be used."""

    exit_code = 2


class MachineError(BenchError):
    """This machine lacks something: a program, disk space, a GPU."""

    exit_code = 3


class UnsupportedError(BenchError):
    """This machine's processor cannot compute a checkpoint; it can others."""

    exit_code = 3


class WeightsError(BenchError):
    """The Hub, a download or a checkpoint."""

    exit_code = 4


class ServerError(BenchError):
    """The vLLM server did not start, died, or did not become healthy."""

    exit_code = 5


class MeasurementError(BenchError):
    """A stage ran and its result cannot be trusted."""

    exit_code = 6


class RefusedError(BenchError):
    """An untrusted result broke a rule; nothing of it was stored."""

    exit_code = 7

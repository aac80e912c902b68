"""NVML as its Python binding answers on a machine without a GPU, and on one with some."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

GIB = 2**30


class NoNvml:
    """No driver."""

    class NVMLError(Exception):
        """As `pynvml.NVMLError`."""

    def nvmlInit(self) -> None:  # noqa: N802
        raise self.NVMLError("Driver Not Loaded")


class Gpus(NoNvml):
    """Cards by name, each with so many GiB."""

    def __init__(self, *cards: tuple[str, float]) -> None:
        self.cards = cards

    def nvmlInit(self) -> None: ...  # noqa: N802

    def nvmlShutdown(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, index: int) -> str:  # noqa: N802
        return self.cards[index][0]

    def nvmlDeviceGetMemoryInfo(self, index: int) -> Any:  # noqa: N802
        return SimpleNamespace(total=int(self.cards[index][1] * GIB), free=0)

"""The next variant's weights, downloaded while this one's server loads or lm-eval asks it.

By a process of its own, which can be ended at any moment, also while it hashes 5 GB; what it has
fetched stays (see `download`). Its failure is not told: the variant's own turn meets it again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from bench import config, places
from bench.config import Variant
from bench.process import Supervised

_SOURCE = ("repo", "revision", "file", "tokenizer", "tokenizer_revision")


def following(variant: Variant, later: Iterable[Variant]) -> Variant | None:
    """The first of the later variants whose weights come from the Hub and are others."""
    return next((one for one in later if one.repo and _source(one) != _source(variant)), None)


def _source(variant: Variant) -> list[str | None]:
    return [getattr(variant, key) for key in _SOURCE]


class Prefetch:
    """A download in the background; a context manager that ends it.

    Args:
        variant: whose weights to fetch; nothing is done where it is None, or the Hub forbidden.
        folder: for the log.
    """

    def __init__(self, variant: Variant | None, folder: Path) -> None:
        self._variant = variant
        self._log = folder / "prefetch.log"
        self._process: Supervised | None = None

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Goes on with the download, unless it has ended, well or not."""
        if self._variant is None or self._process is not None:
            return
        from bench.weights import hub

        if hub.is_offline():
            return
        wanted = self._variant.model_dump_json(
            include={"name", "family", "serve", *_SOURCE}, exclude_none=True
        )
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as output:
            self._process = Supervised(
                [sys.executable, "-P", "-m", "bench.weights.prefetch", wanted],
                environment={"PYTHONPATH": str(places.CODE)},
                cwd=self._log.parent,
                stdout=output,
                stderr=output,
            )

    def stop(self) -> None:
        """Ends the process and returns when it has; what it fetched is kept."""
        if self._process is None:
            return
        ended = self._process.status() is not None
        self._process.stop()
        if not ended:
            self._process = None


def main() -> None:
    """Fetches the weights of the variant given as JSON."""
    from bench.weights import hub, snapshot

    snapshot.resolve(config.parse(Variant, json.loads(sys.argv[1])), hub.default_cache())


if __name__ == "__main__":
    main()

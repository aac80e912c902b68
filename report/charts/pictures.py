"""Vega's drawings of specs, each made once: here by several processes, or an earlier time."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.records import pieces

Spec = dict[str, Any]

_MANY = 40  # drawings from which on another process pays for its start
_AT_ONCE = 8  # drawings that a process is given
_LIFE = 256  # and all that it makes: Vega's engine takes 90 MiB for one, 140 for as many as 240
_FONTS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
_drawn: dict[str, str] = {}  # of the report that is being made
_SCRIPT = "window.vegaEmbed = vegaEmbed;"


def svg(spec: Spec) -> str:
    """The drawing of a spec of Vega-Lite."""
    text = _text(spec)
    if text not in _drawn:
        _drawn[text] = _draw(text)
    return _drawn[text]


def draw_ahead(specs: Iterable[Spec], kept: Path | None, root: Path) -> None:
    """Draws all of a report, or takes them from where they are kept.

    Args:
        kept: the file in which they are kept; None keeps nothing.
        root: the records that the report is made of.
    """
    _drawn.clear()
    made_by = _made_by()
    texts = {f"{made_by}\n{text}": text for text in map(_text, specs)}

    def draw(missing: Sequence[str]) -> Iterable[str]:
        return _draw_all([texts[each] for each in missing])

    found = pieces.complete(kept, root, "pictures", texts, draw)
    _drawn.update({texts[each]: drawing for each, drawing in found.items()})


def bundle(kept: Path | None, root: Path) -> str:
    """The Vega, Vega-Lite and Vega-Embed scripts as one file, from the installed package."""
    asked = f"{_made_by()}\n{_SCRIPT}"

    def make(texts: Sequence[str]) -> Iterable[str]:
        # By another process: Vega's engine takes 80 MiB and gives none back.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return list(pool.map(_bundle, texts))

    return pieces.complete(kept, root, "script", [asked], make)[asked]


def _bundle(_: str) -> str:
    import vl_convert

    return str(vl_convert.javascript_bundle(_SCRIPT))


def _text(spec: Spec) -> str:
    return json.dumps(spec, ensure_ascii=False, sort_keys=True)


def _draw_all(texts: Sequence[str]) -> Iterable[str]:
    processes = min(os.cpu_count() or 1, len(texts) // _MANY)
    if processes < 2:
        return map(_draw, texts)
    # Not forked: the caller may hold threads. And a pool of its own for every so many drawings: one
    # that replaces its processes as it goes (`max_tasks_per_child`) may wait for them for ever.
    drawn: list[str] = []
    for first in range(0, len(texts), processes * _LIFE):
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            some = texts[first : first + processes * _LIFE]
            drawn += pool.map(_draw, some, chunksize=_AT_ONCE)
    return drawn


def _draw(text: str) -> str:
    import vl_convert

    return str(vl_convert.vegalite_to_svg(json.loads(text)))  # read here: to the last digit


@cache
def _made_by() -> str:
    """What decides how a spec is drawn: the package, this code, and the fonts that are measured."""
    fonts = sorted(
        f"{path.name} {path.stat().st_size}"
        for folder in _FONTS
        for path in Path(folder).expanduser().rglob("*")
        if path.is_file()
    )
    package = f"vl-convert {metadata.version('vl-convert-python')}"
    return "\n".join([package, Path(__file__).read_text(encoding="utf-8"), *fonts])

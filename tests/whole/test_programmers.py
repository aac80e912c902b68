"""The programmers' page names the rooms and the files that there are."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise

from folders import ROOT

PAGE = (ROOT / "docs" / "programmers.md").read_text()
ROOMS = [
    room.removesuffix("/").removesuffix(".py").replace("/", ".")
    for line in re.findall(r"^\| (`(?:bench|report)/[^|]*) \|", PAGE, re.MULTILINE)
    for room in re.findall(r"`([^`]+)`", line)
]


def layers() -> dict[str, int]:
    """Each room and how far down the import contracts have it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return {
        f"{half}.{room}": depth
        for contract in settings["contracts"]
        if contract["type"] == "layers"
        for half in contract["containers"]
        for depth, layer in enumerate(contract["layers"])
        for room in layer.split(" | ")
    }


def test_every_room_stands_in_the_table_once_in_the_order_of_the_contracts() -> None:
    depths = layers()
    assert sorted(ROOMS) == sorted(depths.keys() - {"bench.__main__"})
    for half in ("bench", "report"):
        own = [depths[room] for room in ROOMS if room.startswith(f"{half}.")]
        assert all(above <= below for above, below in pairwise(own)), half


def test_every_file_it_names_is_there() -> None:
    named = set(re.findall(r"`([\w.-]+(?:/[\w.-]+)*(?:\.(?:py|md|json|toml)|/))`", PAGE))
    roots = (ROOT, ROOT / "bench", ROOT / "report")
    assert len(named) > 40
    missing = {path for path in named if not any((root / path).exists() for root in roots)}
    assert missing == {"utils.py"}  # which it forbids

"""Pictures: drawn once per content, the same by one process, by several and from the cache."""

from pathlib import Path
from typing import Any

import pytest

from report.charts import pictures
from report.charts.pictures import Spec


def specs(count: int) -> list[Spec]:
    encoding: dict[str, Any] = {"x": {"field": "x", "type": "quantitative"}}
    return [
        {"data": {"values": [{"x": 0.1 + n}, {"x": 2.0}]}, "mark": "point", "encoding": encoding}
        for n in range(count)
    ]


def draw(kept: Path | None, root: Path, count: int) -> list[str]:
    pictures.draw_ahead(specs(count), kept, root)
    return [pictures.svg(spec) for spec in specs(count)]


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(text: str) -> str:
        raise AssertionError(f"drawn again: {text}")

    monkeypatch.setattr(pictures, "_draw", refuse)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    file = tmp_path / "records.sqlite"
    draw(file, tmp_path, 2)
    return file


def test_drawn_once_per_content(tmp_path: Path, kept: Path, no_drawing: None) -> None:
    drawn = draw(kept, tmp_path, 2)
    assert len(set(drawn)) == 2 and all(svg.startswith("<svg") for svg in drawn)
    with pytest.raises(AssertionError, match="drawn again"):
        draw(kept, tmp_path, 3)


def test_what_is_kept_is_what_is_drawn(tmp_path: Path, kept: Path) -> None:
    assert draw(kept, tmp_path, 2) == draw(None, tmp_path, 2)


def test_other_code_or_other_fonts_draw_anew(
    tmp_path: Path, kept: Path, no_drawing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "_made_by", lambda: "another package")
    with pytest.raises(AssertionError, match="drawn again"):
        draw(kept, tmp_path, 2)


def test_several_processes_draw_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = draw(None, tmp_path, 5)
    monkeypatch.setattr(pictures, "_MANY", 2)
    monkeypatch.setattr(pictures, "_AT_ONCE", 1)
    monkeypatch.setattr(pictures, "_LIFE", 2)  # so that there are others after the first ones
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert draw(None, tmp_path, 5) == alone

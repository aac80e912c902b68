"""The whole site from records of every kind, rendered by the real Pandoc."""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sites
import synthetic
from folders import GOLDEN, REFERENCE, ROOT
from sites import demo, hostile_site

from bench.errors import ConfigError, MachineError, RefusedError
from bench.records import store
from bench.records.record import canonical_json
from report.pages import all_pages
from report.rows.results import load
from report.site import build, renderers

pytestmark = pytest.mark.process

__all__ = ["demo", "hostile_site"]  # fixtures

PAGES = GOLDEN / "site"
VARIANT = "variants/qwen3-8b-awq-marlin"


def read_all(site: Path) -> dict[str, sites.Page]:
    return {
        path.relative_to(site).as_posix(): sites.read(path) for path in sorted(site.rglob("*.html"))
    }


def test_every_page_is_there_and_every_link_leads_somewhere(demo: Path) -> None:
    read = read_all(demo)
    assert {f"{path}.html" for _, path in all_pages.NAVIGATION} < set(read)
    assert "variants/qwen3-8b-awq-marlin.html" in read
    assert list(sites.broken_links(read, demo)) == []


def test_ids_are_unique_and_nothing_is_loaded_from_elsewhere(demo: Path) -> None:
    for name, page in read_all(demo).items():
        doubled = {each for each in page.ids if page.ids.count(each) > 1}
        assert not doubled, f"{name}: {doubled}"
        assert not [each for each in page.loads if "//" in each], name
        assert page.scripts == [], name
        assert page.tags.count("h1") == 1, name
        assert any(each.endswith("assets/icon.svg") for each in page.loads) or "decisions/" in name


def test_a_decision_is_one_file_that_needs_nothing_else(demo: Path) -> None:
    files = sorted((demo / "decisions").glob("*.html"))
    assert [path.stem for path in files if path.stem == "measured-l40_qwen3-8b"]
    for path in files:
        page = sites.read(path)
        assert page.loads == [] and page.scripts == []
        assert [link for link in page.links if not link.startswith("#")] == []
    text = sites.read(demo / "decisions" / "measured-l40_qwen3-8b.html").text
    assert "Take Qwen3-8B BF16: least time per token" in text
    assert "vllm serve" in text or "bench run --variant" in text


def test_every_row_of_results_links_to_the_record_its_numbers_are_in(demo: Path) -> None:
    for name, least in (("speed", 10), ("quality", 10), ("compare", 10), (VARIANT, 6)):
        page = demo / f"{name}.html"
        rows = re.findall(r"<tr[ >].*?</tr>", page.read_text(), re.DOTALL)
        measured = [row for row in rows if " data-v=" in row and " data-pair=" not in row]
        assert len(measured) >= least, name
        for row in measured:
            links = re.findall(r'href="((?:\.\./)*(?:records|reference)/[^"]+\.json)"', row)
            assert links, row
            for link in links:
                assert json.loads((page.parent / link).read_text())["schema_version"] == 1


def test_a_shown_number_is_the_number_of_the_record_it_links_to(demo: Path) -> None:
    text = (demo / "quality.html").read_text()
    row = re.search(r'<tr id="quality_l40_qwen3-8b-fp8_hellaswag_acc".*?</tr>', text, re.DOTALL)
    assert row
    (link,) = re.findall(r'href="(records/[^"]+\.json)"', row[0])
    task = json.loads((demo / link).read_text())["quality"]["tasks"][0]
    value = next(metric["value"] for metric in task["metrics"] if metric["name"] == "acc")
    assert f">{100 * value:.2f}<" in row[0]


def test_published_random_and_failed_results_are_marked(demo: Path) -> None:
    speed = (demo / "speed.html").read_text()
    assert "published: one run, no interval" in speed
    assert "random weights" in speed
    assert "the server died: out of memory" in (demo / "index.html").read_text()


def test_the_same_records_give_the_same_bytes_wherever_and_in_whatever_order(
    demo: Path, tmp_path: Path
) -> None:
    files = [path for path in (demo.parent / "results").rglob("*") if path.is_file()]
    files.sort(key=lambda path: path.name[::-1])  # another order than any the report sorts by
    for path in files:
        copy = tmp_path / "elsewhere" / path.relative_to(demo.parent / "results")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        os.utime(copy, (1, 1))
    again = tmp_path / "deep" / "site"
    build.build(tmp_path / "elsewhere", again, renderer="pandoc")
    names = [path.relative_to(demo) for path in sorted(demo.rglob("*")) if path.is_file()]
    assert names == [path.relative_to(again) for path in sorted(again.rglob("*")) if path.is_file()]
    _, different, missing = filecmp.cmpfiles(demo, again, map(str, names), shallow=False)
    assert (different, missing) == ([], [])
    places = (str(tmp_path).encode(), str(demo.parent).encode())
    assert not [n for n in names if any(place in (again / n).read_bytes() for place in places)]


def test_two_clones_build_the_same_site_of_the_committed_records(tmp_path: Path) -> None:
    """Two processes with other hash seeds, in two clones: no order of a set can hide."""
    built = []
    for seed in ("1", "2"):
        clone = tmp_path / seed / "clone"
        shutil.copytree(
            ROOT / "bench", clone / "bench", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copytree(ROOT / "report", clone / "report")
        site = tmp_path / seed / "site"
        subprocess.run(
            [sys.executable, "-m", "bench", "report", "--engine", "pandoc", "--out", str(site)],
            cwd=clone, env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
            capture_output=True,
        )  # fmt: skip
        built.append(
            {
                path.relative_to(site).as_posix(): path.read_bytes()
                for path in sorted(site.rglob("*"))
                if path.is_file()
            }
        )
    assert sum(name.startswith("records/") for name in built[0]) > 20
    assert [name for name in built[0] if built[0][name] != built[1].get(name)] == []
    assert built[0].keys() == built[1].keys()


def test_a_site_of_an_older_schema_is_that_of_the_migrated_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites.one(tmp_path / "results")
    (path,) = store.paths(tmp_path / "results")
    raw = json.loads(path.read_text())
    older = {**raw, "schema_version": 0, "title": raw["variant_name"]}
    del older["variant_name"]
    path.write_text(canonical_json(older))

    def migrate(record: dict[str, Any]) -> dict[str, Any]:
        name = record.pop("title")
        return {**record, "schema_version": 1, "variant_name": name}

    monkeypatch.setitem(store.MIGRATIONS, 0, migrate)
    site = build.build(tmp_path / "results", tmp_path / "site", renderer="pandoc", reference=None)
    assert raw["variant_name"] in read_all(site.path)["speed.html"].text


def test_a_site_without_any_record_shows_what_was_published(tmp_path: Path) -> None:
    site = build.build(tmp_path / "none", tmp_path / "site", renderer="pandoc")
    read = read_all(site.path)
    assert list(sites.broken_links(read, site.path)) == []
    assert "Nothing has been measured yet" in read["index.html"].text
    assert "AWQ INT4, Marlin kernel" in read["speed.html"].text


def test_a_site_of_nothing_at_all(tmp_path: Path) -> None:
    site = build.build(tmp_path / "none", tmp_path / "site", renderer="pandoc", reference=None)
    read = read_all(site.path)
    assert list(sites.broken_links(read, site.path)) == []
    assert "No speed has been measured yet" in read["speed.html"].text
    assert "No quality has been measured yet" in read["quality.html"].text


def test_a_site_of_one_record_replaces_the_one_before_and_has_full_addresses(
    tmp_path: Path,
) -> None:
    sites.one(tmp_path / "results")
    (tmp_path / "site").mkdir()
    for name in ("site.json", "stale.html"):
        (tmp_path / "site" / name).write_text("{}")
    address = "https://x.example/y/"
    site = build.build(
        tmp_path / "results", tmp_path / "site", renderer="pandoc", reference=None, site_url=address
    )
    assert not (site.path / "stale.html").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    read = read_all(site.path)
    assert list(sites.broken_links(read, site.path)) == []
    assert "1 variant measured on 1 machine, 1 record" in " ".join(read["index.html"].text.split())
    assert "No quality has been measured yet" in read["quality.html"].text
    for page in site.pages:
        assert f"<loc>{address}{page}</loc>" in (site.path / "sitemap.xml").read_text()
        text = (site.path / page).read_text()
        assert f'<meta property="og:image" content="{address}assets/card.png">' in text
        assert '<meta property="og:description" content="' in text
    assert (site.path / "assets/card.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    [mailed] = (site.path / "decisions").iterdir()
    assert f'href="{address}variants/qwen3-8b-bf16.html"' in mailed.read_text()
    assert f'{address}variants/qwen3-8b-bf16.html"' in (site.path / "data/feed.xml").read_text()


def test_a_site_of_a_failed_record_alone(tmp_path: Path) -> None:
    store.write(tmp_path / "results", synthetic.failed_record(synthetic.FP8), [])
    site = build.build(tmp_path / "results", tmp_path / "site", renderer="pandoc", reference=None)
    read = read_all(site.path)
    assert list(sites.broken_links(read, site.path)) == []
    assert "No stage has finished yet" in read["index.html"].text
    assert "out of memory" in read["variants/qwen3-8b-fp8.html"].text


def test_a_record_of_a_newer_schema_is_refused_and_no_site_is_touched(tmp_path: Path) -> None:
    sites.one(tmp_path / "results")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "site.json").write_text("{}")
    (path,) = store.paths(tmp_path / "results")
    raw = json.loads(path.read_text())
    path.write_text(canonical_json({**raw, "schema_version": 2}))
    with pytest.raises(ConfigError, match=r"schema 2, this program knows 1.*\n.*update"):
        build.build(tmp_path / "results", tmp_path / "site", renderer="pandoc")
    assert (tmp_path / "site" / "site.json").read_text() == "{}"


def test_a_record_that_cannot_be_shown_is_named_and_the_rest_is_built(tmp_path: Path) -> None:
    sites.one(tmp_path / "results")
    (sound,) = store.paths(tmp_path / "results")
    broken = sound.with_name("speed-20270101T000000Z-00000000.json")
    broken.write_text("{}")
    site = build.build(tmp_path / "results", tmp_path / "site", renderer="pandoc", reference=None)
    read = read_all(site.path)
    assert list(sites.broken_links(read, site.path)) == []
    assert "1 record cannot be shown and is left out" in " ".join(read["index.html"].text.split())
    assert f"{broken.name}: schema_version is missing" in read["data.html"].text
    assert len([name for name in read if name.startswith("variants/")]) == 1


def test_hostile_text_is_shown_as_text_on_every_page(hostile_site: Path) -> None:
    read = read_all(hostile_site)
    assert list(sites.broken_links(read, hostile_site)) == []
    shown = " ".join(sites.HOSTILE.split())
    for name, page in read.items():
        assert page.scripts == [], name
        assert "img" not in page.tags, name
        assert not [link for link in page.links if link.startswith("javascript")], name
    for name in ("index", "speed", "quality", "compare", "data", "variants/qwen3-8b-bf16"):
        assert shown in " ".join(read[f"{name}.html"].text.split()), name


def test_only_a_site_of_ours_is_replaced(tmp_path: Path) -> None:
    sites.one(tmp_path / "results")
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter-1.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="not a site built by this program"):
        build.build(tmp_path / "results", mine, renderer="pandoc")
    assert (mine / "chapter-1.txt").read_text() == "years of work"


def test_quarto_asked_for_and_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="quarto"):
        build.build(tmp_path / "none", tmp_path / "site", renderer="quarto")
    assert not (tmp_path / "site").exists()
    assert renderers.choose("auto") == "pandoc"


def test_quarto_is_handed_the_project_and_its_pages_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "quarto"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nset -e\n[ "$1" = render ]\nfor page in *.qmd variants/*.qmd; do\n'
        'mkdir -p "_site/$(dirname "$page")"; cp "$page" "_site/${page%.qmd}.html"; done\n'
        "cp _quarto.yml _site/project.json; cp page.html _site/\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    sites.one(tmp_path / "results")
    site = build.build(tmp_path / "results", tmp_path / "site", site_url="https://x.example/y/")
    assert site.renderer == "quarto"
    assert all((site.path / page).is_file() for page in site.pages)
    project = json.loads((site.path / "project.json").read_text())
    assert project["address"].replace("\\", "") == "https://x.example/y"
    assert project["format"]["html"]["template"] == "page.html"  # Pandoc's too: one look
    assert (site.path / "page.html").read_text() == renderers.PAGE.read_text()
    assert "https://x.example/y/index.html" in (site.path / "sitemap.xml").read_text()


def sources(write: Callable[[Path], object], folder: Path) -> dict[str, str]:
    """The .qmd sources of results, the drawings left out."""
    write(folder)
    made, _, _ = all_pages.make(load(folder, REFERENCE))
    return {
        page.path: re.sub(r"<svg .*?</svg>", "<svg/>", page.source, flags=re.DOTALL)
        for page in made
    }


def test_the_sources_are_the_golden_ones(tmp_path: Path) -> None:
    """To accept a change: `GOLDEN=write pytest tests/report/site`, then read the diff."""
    made = sources(lambda root: synthetic.write(root, synthetic.DEMO[:3]), tmp_path / "results")
    names = ("index", "speed", "quality", "compare", "data", "variants/qwen3-8b-awq")
    if os.environ.get("GOLDEN") == "write":
        for name in names:
            path = PAGES / f"{name}.qmd"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[name], encoding="utf-8")
    for name in names:
        assert made[name] == (PAGES / f"{name}.qmd").read_text(encoding="utf-8"), name


def test_a_store_can_be_asked_what_its_report_would_leave_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic.write(tmp_path, (synthetic.BF16, synthetic.FP8))
    before = sorted(tmp_path.rglob("*"))
    assert build.find_unshown(tmp_path) == {}
    assert sorted(tmp_path.rglob("*")) == before
    path = store.paths(tmp_path)[0]
    path.write_text("{")
    (name, reason) = build.find_unshown(tmp_path).popitem()
    assert (name, "not JSON" in reason) == (path.relative_to(tmp_path).as_posix(), True)

    def fail(_: object) -> None:
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(all_pages, "make", fail)
    with pytest.raises(RefusedError, match="ZeroDivisionError: float division by zero"):
        build.find_unshown(tmp_path)

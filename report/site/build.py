"""From result records to a site: load, prepare, write a Quarto project, render, add the data."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench import config
from bench.errors import BenchError, ConfigError, RefusedError
from report import escape
from report.charts import pictures
from report.charts.drawing import Chart
from report.exports import export
from report.pages import all_pages
from report.pages.all_pages import Page
from report.places import ASSETS, REFERENCE
from report.rows.results import Results, load, seldom_collected
from report.site import renderers, search, sharing
from report.site.renderers import Renderer

_MARKER = "site.json"


@dataclass(frozen=True)
class Site:
    """A built site: where it is, its HTML files below that, and what rendered them."""

    path: Path
    pages: tuple[str, ...]
    renderer: Literal["quarto", "pandoc"]


@seldom_collected()
def build(
    results: Path,
    out: Path,
    *,
    renderer: Renderer = "auto",
    reference: Path | None = REFERENCE,
    site_url: str | None = None,
    kept: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Site:
    """Builds the site of all records under `results` into the folder `out`, replacing a site there.

    Equal records give equal bytes: no time of day, no absolute path and no order of files enters.

    Args:
        kept: the file in which rows are kept from one time to the next (see `bench.records.table`).

    Raises:
        ConfigError: a record cannot be read or is newer than this program; `out` is no site.
        MachineError: no renderer was found.
    """
    tell = progress or (lambda _: None)
    chosen = renderers.choose(renderer)
    _check_replaceable(out)
    tell("reading the records")
    loaded = load(results, reference, kept)
    tell("preparing the pages")
    made, drawn, panels = all_pages.make(loaded)
    card = sharing.card(panels)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        project, site = Path(temporary) / "project", Path(temporary) / "site"
        write_project(made, project, site_url)
        site.mkdir()
        renderers.render(made, project, site, chosen, tell, site_url)
        tell("adding records, data and charts")
        add_files(loaded, drawn, reference, site, site_url)
        (site / sharing.CARD).write_bytes(card)
        for panel in panels:
            _write(site / panel.file, sharing.one_file(panel, site_url))
        if site_url:
            _write(site / "sitemap.xml", renderers.sitemap(made, site_url))
        names = tuple(f"{page.path}.html" for page in made)
        marker = {"engine": chosen, "pages": sorted(names)}
        _write(site / _MARKER, json.dumps(marker, indent=2, sort_keys=True) + "\n")
        missing = [name for name in names if not (site / name).is_file()]
        assert not missing, missing  # a renderer that was content without them
        _replace(site, out)
    return Site(out, names, chosen)


def find_unshown(results: Path) -> dict[str, str]:
    """The records that a report leaves out, by path below the store, with the reason.

    Makes every page and every file of data, and keeps none.

    Raises:
        RefusedError: no report can be made of these records.
    """
    try:
        loaded = load(results, None)
        all_pages.make(loaded)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            export.write(loaded, Path(folder), None)
    except BenchError:
        raise
    except Exception as error:  # whatever it is, it must not be met when the site is built
        raise RefusedError(
            f"no report can be made with these records: {type(error).__name__}: {error}",
            "`bench report` with the artifact's records beside the others shows where",
        ) from error
    return {each.record: each.reason for each in loaded.left_out}


def write_project(made: Iterable[Page], folder: Path, site_url: str | None = None) -> None:
    """Writes the pages and what they need as a Quarto project."""
    made = list(made)
    for page in made:
        _write(folder / f"{page.path}.qmd", page.source)
    shutil.copyfile(renderers.PAGE, folder / "page.html")
    _write(folder / "_quarto.yml", _quarto_project(made, site_url))


def _quarto_project(made: Iterable[Page], site_url: str | None) -> str:
    """Quarto's settings, for the page that Pandoc makes too; JSON is YAML."""
    html = {
        "template": "page.html",
        "theme": "none",
        "minimal": True,
        "html-math-method": "mathml",
        "section-divs": True,
        "html-table-processing": "none",
        "lang": "en",
    }
    settings = {
        "project": {"output-dir": "_site", "render": [f"{page.path}.qmd" for page in made]},
        "format": {"html": html},
        "execute": {"enabled": False},
        **({"address": str(escape.markdown(site_url.rstrip("/")))} if site_url else {}),
    }
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


def add_files(
    loaded: Results,
    drawn: Iterable[Chart],
    reference: Path | None,
    site: Path,
    site_url: str | None,
) -> None:
    """Everything of the site that is not a page: the same whichever rendered it."""
    shutil.copytree(ASSETS, site / "assets", dirs_exist_ok=True)
    _write(site / "assets" / "vega.js", pictures.bundle(loaded.kept, loaded.root))
    _write(site / "assets" / "search.js", search.script(loaded))
    for chart in drawn:
        _write(site / "charts" / f"{chart.name}.js", chart.script)
    export.write(loaded, site / "data", site_url)
    schema = json.dumps(config.schema(), indent=2, sort_keys=True)
    _write(site / "models.schema.json", f"{schema}\n")  # for editors of models.toml
    if loaded.root.is_dir():
        _copy_records(loaded, site / "records")
    if loaded.references and reference:
        shutil.copytree(reference, site / "reference")


def _copy_records(loaded: Results, target: Path) -> None:
    """Records as they are, and the sidecars of what is shown, so that numbers lead to their origin.

    Those of superseded records are in the repository's history, by the names that records say.
    """
    left_out = set(loaded.superseded_sidecars())
    for path in sorted(loaded.root.glob("*/*/*")):
        if path.name.endswith((".json", ".json.gz")) and path.is_file() and path not in left_out:
            copy = target / path.relative_to(loaded.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _check_replaceable(out: Path) -> None:
    """Only a site made by this program is ever replaced."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / _MARKER).exists())):
        raise ConfigError(
            f"{out} exists and is not a site built by this program",
            "name a folder that is empty or does not exist",
        )


def _replace(site: Path, out: Path) -> None:
    if out.exists():
        shutil.rmtree(out)
    site.rename(out)
    out.chmod(0o755)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")

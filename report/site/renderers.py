"""The same .qmd pages to the same HTML paths: by Quarto where it is found, by Pandoc otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from bench.errors import MachineError
from report import escape, places
from report.pages.all_pages import Page

Renderer = Literal["auto", "quarto", "pandoc"]
PAGE = places.TEMPLATES / "page.html"


def choose(renderer: Renderer) -> Literal["quarto", "pandoc"]:
    """The renderer that is there.

    Raises:
        MachineError: Quarto was asked for, or nothing else is there, and it is missing.
    """
    if renderer != "pandoc" and shutil.which("quarto"):
        return "quarto"
    if renderer == "quarto":
        raise MachineError(
            "the program `quarto` is not on PATH",
            "install Quarto, or use --engine pandoc for the same pages",
        )
    _pandoc()
    return "pandoc"


def render(
    pages: Sequence[Page],
    project: Path,
    out: Path,
    renderer: Literal["quarto", "pandoc"],
    progress: Callable[[str], None],
    site_url: str | None = None,
) -> None:
    """Renders a written project into `out`, one HTML file per page."""
    if renderer == "quarto":
        progress(f"Quarto renders {len(pages)} pages")
        _quarto(project, out)
    else:
        progress(f"Pandoc renders {len(pages)} pages")
        _with_pandoc(pages, project, out, site_url)


def _quarto(project: Path, out: Path) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0", "TZ": "UTC"}
    _run(["quarto", "render", ".", "--quiet"], project, environment)
    shutil.copytree(project / "_site", out, dirs_exist_ok=True)


def _with_pandoc(pages: Sequence[Page], project: Path, out: Path, site_url: str | None) -> None:
    program = _pandoc()

    def convert(page: Page) -> None:
        target = out / f"{page.path}.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        _run([program, *_arguments(page, site_url), "-o", str(target)], project, dict(os.environ))

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(convert, pages))


def _arguments(page: Page, site_url: str | None) -> list[str]:
    """Pandoc's command line for one page, without its output."""
    return [
        f"{page.path}.qmd",
        "--from=markdown",
        "--to=html5",
        f"--template={PAGE}",
        "--mathml",
        "--section-divs",
        "--wrap=preserve",
        "--columns=10000",
        *([f"--variable=address:{site_url.rstrip('/')}"] if site_url else []),
    ]


def _pandoc() -> str:
    try:
        import pypandoc

        return str(pypandoc.get_pandoc_path())
    except (ImportError, OSError) as error:
        found = shutil.which("pandoc")
        if found:
            return found
        raise MachineError(
            "neither Quarto nor Pandoc was found, one of them must render the pages",
            "install Quarto or Pandoc, or `pip install pypandoc_binary`",
        ) from error


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(  # noqa: PLW1510 - the message below says more than check=True
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode != 0 or "[WARNING]" in done.stderr:
        lines = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        name = Path(command[0]).name
        raise MachineError(
            f"{name} failed with exit code {done.returncode}:\n{lines}",
            "update it, or choose the other renderer with --engine",
        )


def sitemap(pages: Iterable[Page], site_url: str) -> str:
    """Every page's address, for those who crawl the site."""
    base = site_url.rstrip("/")
    urls = "".join(
        f"  <url><loc>{escape.html(f'{base}/{p.path}.html')}</loc></url>\n" for p in pages
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{urls}</urlset>\n'
    )

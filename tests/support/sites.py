"""What the site's tests share: results of every kind, two built sites, and a reader of pages."""

from __future__ import annotations

import html.parser
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import synthetic
from filelock import FileLock
from synthetic_parts import Machine

from bench.records import store
from bench.records.record import Record
from report.places import REFERENCE
from report.site import build

HOSTILE = (
    "{{< include /etc/passwd >}} ```{=html} <script>window.hit=1</script> "
    '"><img src=x onerror="window.hit=1"> [a](javascript:window.hit=1) | $x$ ::: --- # & \' \\'
)


def hostile(root: Path) -> list[Path]:
    """Two records whose every free text is hostile."""
    made = []
    machine = Machine(name=HOSTILE, gpu_name=HOSTILE, cpu_model=HOSTILE)
    for record, sidecars in (
        synthetic.speed_record(synthetic.BF16, machine),
        synthetic.quality_record(synthetic.BF16, machine),
    ):
        assert record.engine is not None and record.model is not None
        engine = record.engine.model_copy(
            update={"linear_kernel": HOSTILE, "argv": ("vllm", HOSTILE), "quantization": HOSTILE}
        )
        model = record.model.model_copy(update={"repo": HOSTILE, "derivation": HOSTILE})
        named = {"variant_name": HOSTILE, "family": HOSTILE, "engine": engine, "model": model}
        made.append(store.write(root, record.model_copy(update=named), sidecars))
    later = synthetic.START + timedelta(days=1)
    failed = synthetic.failed_record(synthetic.FP8, machine, finished=later)
    assert failed.error is not None
    error = failed.error.model_copy(update={"message": HOSTILE, "kind": HOSTILE})
    made.append(store.write(root, failed.model_copy(update={"error": error}), []))
    return made


def one(root: Path) -> Record:
    """A single record."""
    record, sidecars = synthetic.speed_record(synthetic.BF16)
    store.write(root, record, sidecars)
    return record


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the synthetic records, which are beside it in `results`."""
    return _built("demo", synthetic.write_demo, REFERENCE, tmp_path_factory)


@pytest.fixture(scope="session")
def hostile_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the hostile records and nothing else."""
    return _built("hostile", hostile, None, tmp_path_factory)


@pytest.fixture(scope="session")
def loops_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of a family of twelve variants, two of them in closed loops."""
    return _built("loops", _loops, None, tmp_path_factory)


def _loops(root: Path) -> list[Path]:
    made = []
    more = [replace(synthetic.FP8, name=f"Qwen3-8B number {i}") for i in range(10)]
    for variant in (synthetic.BF16, synthetic.FP8, *more):
        loops = () if variant in more else (1, 8, 32)
        for number in range(2):
            time = synthetic.START + timedelta(hours=number)
            record = synthetic.speed_record(
                variant, finished=time, seed=number, loops=loops, repeats=1
            )
            made.append(store.write(root, *record))
        made.append(store.write(root, *synthetic.quality_record(variant)))
    return made


def _built(
    name: str,
    write: Callable[[Path], list[Path]],
    reference: Path | None,
    factory: pytest.TempPathFactory,
) -> Path:
    """Builds a site once for all processes that run tests."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # a folder of the process's own
        shared = shared.parent
    folder, finished = shared / name, shared / f"{name}.finished"
    with FileLock(shared / f"{name}.lock"):
        if not finished.exists():
            shutil.rmtree(folder, ignore_errors=True)
            write(folder / "results")
            build.build(folder / "results", folder / "site", renderer="pandoc", reference=reference)
            finished.touch()
    return folder / "site"


@dataclass
class Page:
    """A built page as a browser without scripts would understand it."""

    path: Path
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    text: str = ""


class _Reader(html.parser.HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page = page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.page.tags.append(tag)
        self.page.ids += [values["id"]] if values.get("id") else []
        if tag == "a" and "href" in values:
            self.page.links.append(values["href"])
        elif tag in ("img", "script", "iframe", "source", "link"):
            self.page.loads += [v for k in ("src", "href") if (v := values.get(k))]
        if tag == "script" and "src" not in values:
            self.page.scripts.append("inline")
        self.page.scripts += [name for name in values if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.page.text += data


def read(path: Path) -> Page:
    page = Page(path)
    reader = _Reader(page)
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return page


def broken_links(pages: dict[str, Page], root: Path) -> Iterator[str]:
    """Every link of a site that leads nowhere: no such file, or no such place in it."""
    for name, page in pages.items():
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme in ("https", "http", "data"):
                continue
            target = (page.path.parent / unquote(parts.path)) if parts.path else page.path
            if parts.scheme or not target.resolve().is_relative_to(root.resolve()):
                yield f"{name}: {link} leads out of the site"
            elif not target.is_file():
                yield f"{name}: {link} is no file"
            elif link.endswith("#"):
                yield f"{name}: {link} names no place"
            elif parts.fragment and target.suffix == ".html":
                other = pages[target.resolve().relative_to(root.resolve()).as_posix()]
                if unquote(parts.fragment) not in other.ids:
                    yield f"{name}: {link} is no place there"

"""What a person reads says what the program says; run this file to renew it."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from folders import GUIDES, PUBLISHED_MODELS, ROOT

from bench.cli import cli
from bench.modelsfile.problems import find_problems

RENEW = "`PYTHONPATH=tests/support ./run python tests/whole/test_readme.py`"

README = ROOT / "README.md"
TWO_SCREENS = 100  # lines
WIDTH = 96
# What the layout says of each entry; a new top-level entry or package folder has to be named here.
LAYOUT = {
    ".github/": "the workflows: review, validate, benchmark, withdraw, comment, publish, engine, "
    "advisories",
    "bench/": "measures: models.toml → records",
    "bench/demo/": "the embedded default: a small real model and a real data set",
    "bench/github/": "what the workflows run: plan, comment, approval, commit, proposal",
    "bench/engine/locks/": "hashed locks of the CPU and CUDA engines, and the options they accept",
    "bench/setup/": "made ready: a repository, a runner, an editor, a newer engine",
    "bench/results/": "the records, one JSON file per stage, written once",
    "benchmarks/": "how fast the tool itself is",
    "report/": "reads records: statistics, take-aways, pages",
    "report/reference/": "results published elsewhere, with their source",
    "report/templates/": "the pages' words and layout",
    "requirements/": "hashed locks of the tool's own environment",
    "tests/": "unit, property, golden, browser, workflow and end-to-end tests",
    "docs/": "how to do what one wants to do, a page for each",
    "models.toml": "what is measured; a pull request adds a table here",
    "run": "runs a command in the project's environment, which it makes first",
}


def help_text(command: click.Command, name: str) -> str:
    """A command's help as a terminal shows it."""
    settings = {**command.context_settings, "max_content_width": WIDTH}
    with click.Context(command, info_name=name, **settings) as context:
        context.terminal_width = WIDTH
        return command.get_help(context).rstrip()


def generated() -> dict[str, str]:
    """The generated parts by name."""
    width = max(map(len, LAYOUT))
    return {
        "bench --help": help_text(cli, "bench"),
        "tree": "\n".join(f"{path:{width}}  {text}" for path, text in LAYOUT.items()),
    }


def renewed(text: str) -> str:
    """A page with its generated parts as they should be."""
    for name, part in generated().items():
        opening, closing = f"<!-- generated: {name} -->\n", "<!-- /generated -->"
        if opening in text:
            before, _, rest = text.partition(opening)
            text = f"{before}{opening}```\n{part}\n```\n{closing}{rest.partition(closing)[2]}"
    return text


def anchors(text: str) -> set[str]:
    """What a link into a page may name: its headings, as GitHub makes them."""
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """Where a page leads within the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return [link for link in found if not link.startswith("http")]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_generated_parts_are_current(page: Path) -> None:
    text = page.read_text()
    assert renewed(text) == text, f"run {RENEW}"


@pytest.mark.parametrize("name", generated())
def test_each_part_stands_on_one_page(name: str) -> None:
    texts = "".join(page.read_text() for page in GUIDES)
    assert texts.count(f"<!-- generated: {name} -->") == 1


@pytest.mark.parametrize("page", [page for page in GUIDES if links(page)], ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = {README}, [README]
    while ahead:
        page = ahead.pop()
        named = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
        new = {path for path in named if path.suffix == ".md"} - reached
        reached |= new
        ahead += new
    assert set(GUIDES) <= reached


@pytest.mark.parametrize("page", [p for p in GUIDES if p != README], ids=lambda page: page.name)
def test_each_page_begins_with_what_one_wants_to_do(page: Path) -> None:
    title, blank, first, *_ = page.read_text().splitlines()
    assert (title[:2], blank) == ("# ", "")
    assert first.startswith("You want")


def test_the_readme_is_two_screens() -> None:
    assert len(README.read_text().splitlines()) <= TWO_SCREENS


@pytest.mark.parametrize("path", LAYOUT)
def test_the_layout_exists(path: str) -> None:
    emptied = ("bench/results/", "report/reference/")  # by `bench init`, until there are new ones
    assert (ROOT / path).exists() or path in emptied


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_every_command_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(r"(?:\./run |`)bench ([a-z]+)\b", page.read_text()))
    assert named <= set(cli.commands)
    assert page != README or {"demo", "validate", "add"} <= named


def test_the_variant_that_is_shown_can_be_added_as_it_stands() -> None:
    [shown] = re.findall(r"^```toml\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert shown.startswith("[[variant]]\n")
    assert find_problems(f"{PUBLISHED_MODELS.read_text()}\n{shown}") == []


def test_the_two_commands_are_shown() -> None:
    text = README.read_text()
    assert "./run bench demo" in text
    assert "./run pytest" in text
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec ./run pytest")


if __name__ == "__main__":
    for guide in GUIDES:
        guide.write_text(renewed(guide.read_text()))

"""The README says what the program says; run this file to renew it."""

from __future__ import annotations

import re

import click
import pytest
from folders import ROOT

from bench.cli import cli

RENEW = "`PYTHONPATH=tests/support ./run python tests/whole/test_readme.py`"

README = ROOT / "README.md"
WIDTH = 96
# What the layout says of each entry; a new top-level entry or package folder has to be named here.
LAYOUT = {
    ".github/": "the workflows: review, validate, benchmark, withdraw, comment, publish, engine",
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
    """The README's generated parts by name."""
    width = max(map(len, LAYOUT))
    return {
        "bench --help": help_text(cli, "bench"),
        "tree": "\n".join(f"{path:{width}}  {text}" for path, text in LAYOUT.items()),
    }


def renewed(text: str) -> str:
    """The README with its generated parts as they should be."""
    for name, part in generated().items():
        opening, closing = f"<!-- generated: {name} -->\n", "<!-- /generated -->"
        before, _, rest = text.partition(opening)
        text = f"{before}{opening}```\n{part}\n```\n{closing}{rest.partition(closing)[2]}"
    return text


def test_generated_parts_are_current() -> None:
    text = README.read_text()
    assert renewed(text) == text, f"run {RENEW}"


@pytest.mark.parametrize("path", LAYOUT)
def test_the_layout_exists(path: str) -> None:
    emptied = ("bench/results/", "report/reference/")  # by `bench init`, until there are new ones
    assert (ROOT / path).exists() or path in emptied


def test_every_command_named_in_the_readme_exists() -> None:
    named = set(re.findall(r"(?:\./run |`)bench ([a-z]+)\b", README.read_text()))
    assert {"demo", "validate", "run"} <= named <= set(cli.commands)


def test_the_two_commands_are_shown() -> None:
    text = README.read_text()
    assert "./run bench demo" in text
    assert "./run pytest" in text
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec ./run pytest")


if __name__ == "__main__":
    README.write_text(renewed(README.read_text()))

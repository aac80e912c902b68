"""The guide says what the program writes and asks for; run this file to renew it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from folders import GUIDES

from bench.cli import cli
from bench.setup import runner, settings
from bench.setup.remote import Repository
from bench.setup.runner import Runner

RENEW = "`PYTHONPATH=tests/support ./run python tests/bench/setup/test_guide.py`"
ANYBODYS = Repository("https://github.com", "OWNER/REPOSITORY")
PLAIN = Runner(ANYBODYS, ("gpu-l40",))
CONTAINER = Runner(ANYBODYS, ("gpu-l40",), image="vllm/vllm-openai@sha256:DIGEST")
BY_HAND = (
    f"# {runner.ARCHIVE}: GitHub's runner, held against the SHA-256 that its API names; by hand,\n"
    "# both are shown under Settings → Actions → Runners → New self-hosted runner"
)


def fenced(text: str, language: str = "") -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def generated() -> dict[str, str]:
    """The guide's generated parts by name."""
    lines = [" ".join(command) for command in runner.commands()]
    tar = next(i for i, line in enumerate(lines) if line.startswith("tar "))
    push = "git add --all && git commit && git push"
    return {
        "steps to a page": fenced(settings.checklist(settings.to_a_page(ANYBODYS, push)), "text"),
        "steps to a runner": fenced(
            settings.checklist(settings.to_a_runner(ANYBODYS, "l40", push)), "text"
        ),
        "settings": settings.table(),
        "runner commands": fenced("\n".join([*lines[:tar], BY_HAND, *lines[tar:]]), "sh"),
        "runner curl": fenced(runner.curl_configuration(PLAIN)),
        "runner register": fenced(runner.register_script(PLAIN), "sh"),
        "runner gate": fenced(runner.gate_script(PLAIN), "sh"),
        "runner unit": fenced(runner.unit(PLAIN), "ini"),
        "container unit": fenced(runner.unit(CONTAINER), "ini"),
        "container image": fenced(runner.dockerfile(str(CONTAINER.image)), "dockerfile"),
    }


def renewed(text: str) -> str:
    """A guide with its generated parts as they should be."""
    for name, part in generated().items():
        opening, closing = f"<!-- generated: {name} -->\n", "<!-- /generated -->"
        if opening in text:
            before, _, rest = text.partition(opening)
            text = f"{before}{opening}{part}\n{closing}{rest.partition(closing)[2]}"
    return text


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_generated_parts_are_current(path: Path) -> None:
    text = path.read_text()
    assert renewed(text) == text, f"run {RENEW}"


@pytest.mark.parametrize("name", generated())
def test_each_part_stands_in_one_guide(name: str) -> None:
    texts = "".join(path.read_text() for path in GUIDES)
    assert texts.count(f"<!-- generated: {name} -->") == 1


def test_every_file_that_is_written_is_named_in_the_guide() -> None:
    texts = "".join(path.read_text() for path in GUIDES)
    for file in runner.files(PLAIN):
        assert f"`{file.path}`" in texts


def test_every_option_of_the_three_commands_that_the_guide_names_exists() -> None:
    texts = "".join(path.read_text() for path in GUIDES)
    for name in ("init", "doctor", "runner"):
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        named = re.findall(
            rf"bench {name}(?: setup)?((?: --[a-z-]+(?: [a-zA-Z/@:…0-9-]+)?)*)", texts
        )
        assert set(re.findall(r"--[a-z-]+", " ".join(named))) <= known


if __name__ == "__main__":
    for guide in GUIDES:
        guide.write_text(renewed(guide.read_text()))

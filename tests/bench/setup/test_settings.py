"""One table of settings: for the guide, and for the checklists, which are counted."""

from __future__ import annotations

import re

from nvml_fakes import Gpus

from bench.setup import hardware, settings
from bench.setup.remote import Repository

OURS = Repository("https://github.com", "octo/bench")
PUSH = "git push"


def test_every_row_has_a_page_and_a_reason_and_an_id_of_its_own() -> None:
    assert len({entry.id for entry in settings.SETTINGS}) == len(settings.SETTINGS)
    for entry in settings.SETTINGS:
        assert entry.where and entry.what and entry.why
        assert re.fullmatch(r"[a-z/]+", entry.page)


def test_at_most_three_steps_to_a_page_and_eight_to_a_runner() -> None:
    page = settings.to_a_page(OURS, PUSH)
    assert [step.where for step in page] == ["https://github.com/octo/bench/settings/pages", PUSH]
    runner = settings.to_a_runner(OURS, "l40", PUSH)
    assert [step.where.removeprefix("https://github.com/octo/bench/") for step in runner] == [
        "settings/pages",
        "labels",
        "settings/actions",
        "settings/environments",
        "settings/rules",
        "https://github.com/settings/personal-access-tokens/new",
        "./run bench runner setup --repository octo/bench --hardware l40",
        PUSH,
    ]
    assert (len(page), len(runner)) == (2, 8)


def test_each_step_of_the_checklist_is_one_numbered_line_with_its_place_below() -> None:
    lines = settings.checklist(settings.to_a_runner(OURS, "l40", PUSH)).splitlines()
    assert [line.split(".")[0].strip() for line in lines[::2]] == [str(n) for n in range(1, 9)]
    assert all(line.startswith("     ") for line in lines[1::2])


def test_no_setting_that_is_needed_is_left_out_of_the_checklist() -> None:
    left_out = {e.id for e in settings.SETTINGS if not e.step}
    assert left_out == {"secret", "runner"}  # of some models only; what `runner setup` makes


def test_whose_machine_it_is_is_told_by_the_labels() -> None:
    own = hardware.this_machine(Gpus(("NVIDIA L40", 44.99)))
    assert hardware.HOSTED.is_hosted
    assert not own.is_hosted
    both = own.model_copy(update={"runner": ("self-hosted", "ubuntu-24.04")})
    assert not both.is_hosted

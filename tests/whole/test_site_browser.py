"""The site in a real browser: Debian's Chromium, the network blocked but for the site itself."""

from __future__ import annotations

import functools
import gzip
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import chromium
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    Response,
    Route,
    expect,
    sync_playwright,
)
from sites import demo, hostile_site, loops_site

pytestmark = pytest.mark.browser

__all__ = ["demo", "hostile_site", "loops_site"]  # fixtures

PATIENCE_S = 60  # a busy machine is slow
expect.set_options(timeout=1000 * PATIENCE_S)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]
PAGES = (
    "index", "takeaways", "speed", "quality", "compare", "history", "methodology", "data",
    "variants/qwen3-8b-awq-marlin", "variants/qwen3-8b-bf16",
)  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Says nothing: what was asked for is seen from the browser's side."""


@pytest.fixture(scope="module")
def address(
    demo: Path, hostile_site: Path, loops_site: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    root = tmp_path_factory.mktemp("browser") / "site"
    shutil.copytree(demo, root)
    shutil.copytree(hostile_site, root / "hostile")
    shutil.copytree(loops_site, root / "loops")
    handler = functools.partial(Quiet, directory=str(root))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium.executable(), args=ARGUMENTS)
        yield launched
        launched.close()


class Visit:
    """A page and what went wrong on it."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.address = address
        self.troubles: list[str] = []
        self.answers: list[Response] = []
        context.set_default_timeout(1000 * PATIENCE_S)
        self.page: Page = context.new_page()
        self.page.on("console", lambda m: self._note(m.type in ("error", "warning"), m.text))
        self.page.on("pageerror", lambda error: self._note(True, str(error)))
        self.page.on("response", self._answered)
        context.route("**/*", self._only_the_site)

    def _only_the_site(self, route: Route) -> None:
        if route.request.url.startswith((self.address, "data:")):
            route.continue_()
        else:
            self.troubles.append(f"asked for {route.request.url}")
            route.abort()

    def _answered(self, answer: Response) -> None:
        self.answers.append(answer)
        self._note(answer.status >= 400, f"{answer.status} {answer.url}")

    def _note(self, bad: bool, text: str) -> None:
        if bad:
            self.troubles.append(text)

    def go(self, path: str) -> Page:
        self.page.goto(f"{self.address}/{path}")
        return self.page


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    made = Visit(context, address)
    yield made
    context.close()
    assert made.troubles == []


def names(page: Page, table: str) -> list[str]:
    return page.locator(f"#{table} tbody tr:visible th > a").all_inner_texts()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_an_accessibility_violation_that_matters(
    browser: Browser, address: str, theme: Any
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=theme)
    made = Visit(context, address)
    for name in PAGES:
        page = made.go(f"{name}.html")
        found = Axe().run(page).response["violations"]
        bad = [
            (v["id"], v["impact"], [n["html"][:160] for n in v["nodes"]][:3])
            for v in found
            if v["impact"] in ("serious", "critical")
        ]
        assert bad == [], f"{name}, {theme}"
    context.close()
    assert made.troubles == []


def test_no_page_scrolls_sideways_on_a_phone(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740})
    made = Visit(context, address)
    for name in (*PAGES, "hostile/index", "hostile/speed", "hostile/variants/qwen3-8b-bf16"):
        page = made.go(f"{name}.html")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, f"{name}: {wide}"
    context.close()
    assert made.troubles == []


MOST_LINES = 2
LINES = """cell => {
  const edges = [];
  const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    if (!walk.currentNode.parentElement.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(walk.currentNode);
    for (const box of range.getClientRects()) if (box.width > 1) edges.push(box);
  }
  edges.sort((a, b) => a.top - b.top);
  let lines = 0, bottom = -Infinity;
  for (const box of edges) {
    if ((box.top + box.bottom) / 2 > bottom) lines += 1;
    bottom = Math.max(bottom, box.bottom);
  }
  return lines;
}"""


def every_page(page: Page) -> list[str]:
    """The pages that the site says it has."""
    pages: list[str] = page.request.get(f"{page.url.rsplit('/', 1)[0]}/site.json").json()["pages"]
    assert len(pages) > len(PAGES)
    return pages


@pytest.mark.parametrize("width", [360, 390, 1024, 1440])
def test_every_table_fits_and_no_cell_has_more_than_two_lines(
    browser: Browser, address: str, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 768})
    made = Visit(context, address)
    for name in every_page(made.go("index.html")):
        page = made.go(name)
        open_all = "all => all.forEach(each => { each.open = true; })"
        page.locator("details.group, details.group > details").evaluate_all(open_all)
        cut = page.locator(".frame").evaluate_all(
            "all => all.filter(each => each.scrollWidth > each.clientWidth + 1)"
            ".map(each => each.ariaLabel)"
        )
        assert cut == [], name
        tall = page.locator("tbody td, tbody th").evaluate_all(
            "all => all.filter(each => each.checkVisibility())"
            f".filter(each => ({LINES})(each) > {MOST_LINES}).map(each => each.innerText)"
        )
        assert tall == [], name
    context.close()
    assert made.troubles == []


def test_on_a_phone_a_row_is_a_card_and_its_record_is_a_click_away(
    browser: Browser, address: str
) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740})
    made = Visit(context, address)
    page = made.go("speed.html")
    row = page.locator("#speed-l40 tbody tr[data-variant=qwen3-8b-fp8]").first
    expect(row.get_by_role("link", name="JSON")).to_be_visible()
    box = row.bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= 360
    label = "getComputedStyle(document.querySelector('#speed-l40 td'), '::before').content"
    assert page.evaluate(label) == '"Output, tokens/s"'
    context.close()
    assert made.troubles == []


def test_a_column_sorts_both_ways_and_back_and_loads_are_never_mixed(visit: Visit) -> None:
    page = visit.go("speed.html")
    before = names(page, "speed-laptop")
    head = page.locator("#speed-laptop th[data-key=tpot]")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    bodies = page.locator("#speed-laptop tbody").all()
    assert len(bodies) == 2
    for body in bodies:
        values = body.locator("tr:not(.heading) td:nth-child(3)").evaluate_all(
            "cells => cells.map(cell => Number(cell.dataset.v))"
        )
        assert len(values) > 1 and values == sorted(values)
        expect(body.locator("tr").first).to_have_class("heading")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    head.get_by_role("button").click()
    assert names(page, "speed-laptop") == before
    assert head.get_attribute("aria-sort") is None


def test_what_is_unknown_is_sorted_last_either_way(visit: Visit) -> None:
    for address in ("sort.p99-l40=itlp99", "sort.p99-l40=-itlp99"):
        page = visit.go(f"speed.html?{address}")
        body = page.locator("#p99-l40 tbody").first
        column = body.locator("tr:not(.heading) td:nth-child(4)").all_text_contents()
        known = [not text.startswith("unknown") for text in column]
        assert any(known) and not all(known)
        assert known == sorted(known, reverse=True)


def test_a_filter_leaves_the_rows_that_match_and_counts_them(visit: Visit) -> None:
    page = visit.go("speed.html")
    page.get_by_label("Filter rows").first.fill("marlin")
    shown = names(page, "speed-l40")
    assert shown and all("Marlin" in name for name in shown)
    expect(page.locator("output").first).to_have_text(f"{len(shown)} of 18 rows")
    page.get_by_label("Filter rows").first.fill("")
    assert len(names(page, "speed-l40")) == 18


def test_a_link_brings_a_view_back_and_so_does_the_back_button(visit: Visit) -> None:
    page = visit.go("speed.html")
    page.locator("#speed-l40 th[data-key=ttft]").get_by_role("button").click()
    up, address = names(page, "speed-l40"), page.url
    page.locator("#speed-l40 th[data-key=ttft]").get_by_role("button").click()
    expect(page.locator("#speed-l40 th[data-key=ttft]")).to_have_attribute(
        "aria-sort", "descending"
    )
    page.go_back()
    expect(page.locator("#speed-l40 th[data-key=ttft]")).to_have_attribute("aria-sort", "ascending")
    assert names(page, "speed-l40") == up
    page.go_back()
    assert page.locator("#speed-l40 [aria-sort]").count() == 0
    page.goto(address)
    page.reload()
    expect(page.locator("#speed-l40 th[data-key=ttft]")).to_have_attribute("aria-sort", "ascending")
    assert names(page, "speed-l40") == up


def tab_to(page: Page, selector: str) -> None:
    """Tabs on, round the page if need be, until something of this kind has the focus."""
    for _ in range(400):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab never reaches {selector}")


def test_everything_works_by_keyboard_alone(visit: Visit) -> None:
    page = visit.go("index.html")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.url.endswith("#content")
    page = visit.go("speed.html")
    tab_to(page, "#speed-l40 th[data-key=tpot] button")
    page.keyboard.press("Enter")
    expect(page.locator("#speed-l40 th[data-key=tpot]")).to_have_attribute("aria-sort", "ascending")
    style = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(style) == "solid"
    page = visit.go("speed.html")
    tab_to(page, ".controls input")
    page.keyboard.type("marlin")
    assert all("Marlin" in name for name in names(page, "speed-l40"))
    tab_to(page, "button.theme")
    paper = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(paper)
    page.keyboard.press("Enter")
    assert page.evaluate(paper) != before
    page = visit.go("compare.html")
    for _ in range(2):
        tab_to(page, "table[data-choose] input[type=checkbox]:not(:checked)")
        page.keyboard.press("Space")
    expect(page.locator("#side-by-side thead th")).to_have_count(2)


def test_the_search_finds_a_variant_on_a_machine(visit: Visit) -> None:
    page = visit.go("methodology.html")
    box = page.get_by_role("searchbox", name="Search this site")
    box.fill("AWQ Marlin L40")
    found = page.locator(".found a", has_text="Qwen3-8B AWQ, Marlin on NVIDIA L40: speed")
    found.first.click()
    expect(page.locator("#speed-l40 tr:target")).to_be_visible()
    box.fill("no such thing")
    expect(page.locator(".found")).to_have_text("Nothing is named so.")
    box.press("Escape")
    expect(page.locator(".found")).to_be_hidden()


def test_what_is_picked_stands_side_by_side_in_view_and_the_address_keeps_it(
    visit: Visit,
) -> None:
    page = visit.go("compare.html")
    group = page.locator("details", has_text="Qwen3-8B on NVIDIA L40").first
    group.locator("summary").first.click()
    tray = page.locator("#side-by-side")
    page.locator("[id='measured.l40.qwen3-8b-bf16'] input").check()
    expect(tray).to_contain_text("Qwen3-8B BF16 is picked: tick what to compare with it")
    expect(tray).to_be_in_viewport()
    expect(page.locator("[id='measured.l40.qwen3-8b-bf16']")).to_have_class("base-row picked")
    page.locator("[id='measured.l40.qwen3-8b-awq-marlin'] input").check()
    expect(tray).to_contain_text("Qwen3-8B AWQ, Marlin against Qwen3-8B BF16")
    table = tray.locator("table")
    expect(table).to_be_in_viewport()
    line = table.locator("tr", has_text="TPOT mean")
    expect(line.locator(".ratio")).to_contain_text("−49.4 % faster")  # as it was tested
    weights = table.locator("tr", has_text="Weights").locator(".ratio")
    expect(weights).to_have_text("−62.0 %")
    assert weights.locator(".better, .worse").count() == 0  # no test, no colour
    page.reload()
    expect(table.locator("thead th")).to_have_count(2)
    expect(group.locator("table").first).to_be_visible()
    page.locator("summary", has_text="Qwen3-8B on NVIDIA L40 (46 GB), published").click()
    page.locator("[id='published.l40.l40-2025-qwen3-8b-awq-marlin'] input").check()
    expect(table.locator("thead th")).to_have_count(3)
    page.go_back()
    expect(table.locator("thead th")).to_have_count(2)
    tray.get_by_role("button", name="Clear").click()
    expect(tray).to_be_empty()


def test_the_first_that_is_picked_is_the_baseline(visit: Visit) -> None:
    ids = [f"measured.l40.qwen3-8b-{name}" for name in ("awq-marlin", "bf16")]
    page = visit.go(f"compare.html?show={','.join(ids)}")
    expect(page.locator("#side-by-side summary").first).to_contain_text(
        "Qwen3-8B BF16 against Qwen3-8B AWQ, Marlin"
    )
    line = page.locator("#side-by-side tr", has_text="TPOT mean")
    expect(line.locator(".ratio")).to_contain_text("slower")
    expect(line.locator(".ratio .worse")).to_have_count(2)  # the number and the word


def test_what_no_test_is_about_is_called_untested_and_never_better(visit: Visit) -> None:
    ids = "measured.l40.qwen3-8b-bf16,published.l40.l40-2025-qwen3-8b-fp8"
    page = visit.go(f"compare.html?show={ids}")
    tray = page.locator("#side-by-side")
    expect(tray.locator("tr", has_text="TPOT mean").locator(".ratio")).to_have_text(
        re.compile(r"^[−+][\d.]+ %, not tested$")
    )
    expect(tray.locator("tr", has_text="hellaswag").locator(".ratio")).to_have_text("not paired")
    assert tray.locator(".better, .worse").count() == 0


def test_a_phone_names_each_picked_value_and_keeps_the_list_in_reach(
    browser: Browser, address: str
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    visit = Visit(context, address)
    ids = [f"measured.l40.qwen3-8b-{name}" for name in ("bf16", "awq-marlin")]
    page = visit.go(f"compare.html?show={','.join(ids)}")
    tray = page.locator("#side-by-side")
    opener = tray.locator("summary").first
    expect(opener).to_have_text("Qwen3-8B AWQ, Marlin against Qwen3-8B BF16")
    expect(opener).to_be_in_viewport()
    expect(tray.locator("table")).to_be_hidden()
    height = tray.bounding_box()
    assert height and height["height"] < 844 / 5
    page.locator("[id='measured.l40.qwen3-8b-fp8'] input").check()  # fails where it is covered
    expect(opener).to_contain_text("FP8")
    opener.click()
    line = tray.locator("tr", has_text="TPOT mean").locator("td")
    told = [each.evaluate("td => getComputedStyle(td, '::before').content") for each in line.all()]
    assert told == ['"Qwen3-8B BF16"', '"Qwen3-8B AWQ, Marlin"', '"Qwen3-8B FP8"']
    line.last.scroll_into_view_if_needed()
    expect(opener).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened = tray.bounding_box()
    assert opened and opened["height"] < 844 * 0.6
    opener.click()
    expect(tray.locator("table")).to_be_hidden()
    context.close()
    assert visit.troubles == []


def test_the_theme_follows_the_system_and_the_reader_and_is_kept(visit: Visit) -> None:
    page = visit.go("index.html")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(paper)
    assert light != dark
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(paper) == light
    page.goto(f"{visit.address}/speed.html")
    assert page.evaluate(paper) == light
    ink = "getComputedStyle(document.querySelector('.chart svg text')).fill"
    assert page.evaluate(ink) != dark


def test_a_chart_is_drawn_without_scripts_and_explored_with_them(visit: Visit) -> None:
    page = visit.go("index.html#measured-l40_qwen3-8b")
    figure = page.locator("figure.chart:visible").first
    expect(figure.locator("svg:visible")).to_have_count(1)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    figure.get_by_role("button", name="Explore").click()
    expect(figure.locator(".live svg")).to_be_visible()
    chart = "trade-off-measured-l40_qwen3-8b.js"
    assert {url.rsplit("/", 1)[1] for url in asked} == {"vega.js", chart}
    figure.locator(".live .mark-symbol.role-mark path").last.hover()
    tooltip = page.locator("#vg-tooltip-element")
    expect(tooltip).to_contain_text("Qwen3-8B")
    expect(tooltip).to_contain_text("ms")
    expect(tooltip).to_contain_text("GiB")


def test_the_service_level_says_what_each_variant_carries(visit: Visit) -> None:
    page = visit.go("loops/index.html")
    figure = page.locator(".frontier figure:visible").first
    expect(figure).to_contain_text("a line a variant")
    cell = page.locator(".carries tr", has_text="Qwen3-8B FP8").locator("td")
    wait, slider = (page.get_by_label(f"{name} p90 at most, ms") for name in ("TTFT", "TPOT"))
    for each in (wait, slider):
        each.fill(str(each.get_attribute("max")))
    expect(cell).to_contain_text("tokens/s")
    before, most = cell.inner_text(), str(slider.get_attribute("max"))
    slider.fill("1")
    expect(cell).to_have_text("no measured load for sure")
    assert "tpot=1" in page.url
    page.reload()
    expect(cell).to_have_text("no measured load for sure")
    slider.fill(most)
    expect(cell).to_have_text(before)


def test_two_loads_say_which_would_draw_the_picture(visit: Visit) -> None:
    page = visit.go("index.html#measured-l40_qwen3-8b")
    note = page.locator(".frontier:visible .note")
    expect(note).to_contain_text("concurrency = [1, 8, 32, 64, 128] in [speed]")


def test_without_scripts_every_number_is_still_there(browser: Browser, address: str) -> None:
    read: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
    for scripts, texts in read.items():
        context = browser.new_context(java_script_enabled=scripts)
        made = Visit(context, address)
        for name in PAGES:
            page = made.go(f"{name}.html")
            shown = page.locator("main td, main th[scope=row], main p, main li, figure svg text")
            texts[name] = [text.strip() for text in shown.all_text_contents()]
            if page.locator("figure.chart").count():
                expect(page.locator("figure.chart svg:visible").first).to_be_visible()
            if not scripts:  # a control that does nothing would only be in the way
                expect(page.get_by_role("button")).to_have_count(0)
        context.close()
        assert made.troubles == []
    assert read[False] == read[True]
    assert len(read[False]["speed"]) > 300


PAPER = 688  # pixels across A4 upright, less its margins


def test_on_paper_nothing_is_cut_and_no_control_is_printed(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": PAPER, "height": 1000})
    made = Visit(context, address)
    for name in every_page(made.go("index.html")):
        page = made.go(name)
        page.emulate_media(media="print")
        hidden = ".controls, .on-page, .site-bar, .chips, .level, button:not(.sort)"
        assert page.locator(hidden).evaluate_all(
            "all => all.filter(each => getComputedStyle(each).display !== 'none').length"
        ) == 0, name  # fmt: skip
        cut = page.locator("main :not(svg, svg *)").evaluate_all(
            "(all, most) => all.filter(each => each.checkVisibility())"
            ".filter(each => each.getBoundingClientRect().right > most || (each.scrollWidth >"
            " each.clientWidth && getComputedStyle(each).overflowX !== 'visible'))"
            ".map(each => each.innerText)",
            PAPER + 1,
        )
        assert cut == [], name
    context.close()
    assert made.troubles == []


def test_paper_is_white_whatever_the_theme(visit: Visit) -> None:
    page = visit.go("index.html")
    page.get_by_role("button", name="Dark").click()
    ink = "getComputedStyle(document.body).color"
    assert page.evaluate(ink) != "rgb(0, 0, 0)"
    for theme in ("light", "dark"):
        page.emulate_media(media="print", color_scheme=theme)
        assert page.evaluate(ink) == "rgb(0, 0, 0)"
    titles = page.locator(".decision h2")  # the chips are gone, so each decision says what it is
    assert all((box := each.bounding_box()) and box["height"] > 10 for each in titles.all())


def test_hostile_text_runs_nothing(visit: Visit) -> None:
    for name in (
        "index",
        "speed",
        "quality",
        "compare",
        "history",
        "data",
        "variants/qwen3-8b-bf16",
    ):
        page = visit.go(f"hostile/{name}.html")
        for button in page.get_by_role("button", name="Explore").all():
            button.click()
            expect(page.locator(".live svg").last).to_be_visible()
        for box in page.get_by_role("checkbox").all():
            box.check()
        assert page.evaluate("window.hit") is None
        assert page.locator("img").count() == 0


def texts_beside_the_table(page: Page) -> str:
    """What the first screen says in words: the title, the sentence and what it is about."""
    return " ".join(page.locator("h1, .take:visible, .about:visible").all_inner_texts())


@pytest.mark.parametrize("scripts", [True, False])
def test_the_first_screen_is_the_decision(browser: Browser, address: str, scripts: bool) -> None:
    for width, height, rows in ((1440, 900, None), (390, 844, 3)):
        size: Any = {"width": width, "height": height}
        context = browser.new_context(viewport=size, java_script_enabled=scripts)
        made = Visit(context, address)
        page = made.go("index.html#measured-l40_qwen3-8b")
        expect(page.locator(".decision:visible")).to_have_count(1)
        expect(page.locator(".take:visible")).to_have_count(1)
        expect(page.locator(".take:visible")).to_contain_text("Take Qwen3-8B BF16: least time")
        assert len(texts_beside_the_table(page).split()) <= 60
        for shown in (*page.locator(".chips:visible").all(), page.locator(".take:visible")):
            box = shown.bounding_box()
            assert box and box["y"] >= 0 and box["y"] + box["height"] <= height
        body = page.locator(".decision:visible table.dense tbody tr")
        boxes = [row.bounding_box() for row in body.all()[:rows]]
        assert len(boxes) >= 3
        assert all(box and box["y"] + box["height"] <= height for box in boxes), (width, boxes)
        assert all(box and box["x"] + box["width"] <= width for box in boxes), (width, boxes)
        context.close()
        assert made.troubles == []


@pytest.mark.parametrize("scripts", [True, False])
def test_chips_and_purposes_are_in_the_address(
    browser: Browser, address: str, scripts: bool
) -> None:
    context = browser.new_context(java_script_enabled=scripts)
    made = Visit(context, address)
    page = made.go("index.html")
    first = page.locator(".decision:visible h2").inner_text()
    page.locator(".decision:visible .chips").first.get_by_role("link", name="Qwen3-8B").click()
    expect(page.locator(".decision:visible h2")).to_have_text("Qwen3-8B on NVIDIA L40")
    page.locator(".decision:visible").get_by_role("link", name="Least memory").click()
    expect(page.locator(".take:visible")).to_contain_text("least memory")
    assert page.url.endswith("#measured-l40_qwen3-8b-memory")
    page.reload()
    expect(page.locator(".take:visible")).to_contain_text("least memory")
    page.go_back()
    expect(page.locator(".take:visible")).to_contain_text("least time per token")
    page.go_back()
    expect(page.locator(".decision:visible h2")).to_have_text(first)
    page.go_forward()
    if scripts:  # a chip keeps the purpose
        page.locator(".decision:visible").get_by_role("link", name="Least memory").click()
        chips = page.locator(".decision:visible .chips").first
        chips.get_by_role("link", name="Qwen3-0.6B").click()
        expect(page.locator(".take:visible")).to_contain_text("least memory")
        assert page.url.endswith("#measured-l40_qwen3-0-6b-memory")
    context.close()
    assert made.troubles == []


def test_a_command_is_copied(browser: Browser, address: str) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    made = Visit(context, address)
    page = made.go("index.html#measured-l40_qwen3-8b")
    line = page.locator(".command:visible").first
    line.get_by_role("button").click()
    expect(line.get_by_role("button")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == line.locator("code").inner_text()
    assert copied.startswith("vllm serve ")
    context.close()
    assert made.troubles == []


def test_twelve_variants_fit_the_first_screen(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    made = Visit(context, address)
    page = made.go("loops/index.html")
    rows = page.locator(".decision:visible table.dense tbody tr")
    expect(rows).to_have_count(12)
    for shown in (page.locator(".take:visible"), rows.first, rows.last):
        box = shown.bounding_box()
        assert box and box["y"] >= 0 and box["y"] + box["height"] <= 900
    context.close()
    assert made.troubles == []


MOST_WORDS, MOST_BYTES = 1_000, 150_000


def test_the_overview_is_short(visit: Visit) -> None:
    page = visit.go("index.html")
    assert len(page.locator("main").inner_text().split()) <= MOST_WORDS


def test_the_overview_weighs_little(visit: Visit) -> None:
    """As a server sends it, compressed.

    Bodies are read once the page is there: reading one waits for the browser, so within an event's
    handler it could end after the test had counted.
    """
    visit.go("index.html").wait_for_load_state("networkidle")
    sizes = [len(gzip.compress(answer.body())) for answer in visit.answers]
    assert 0 < sum(sizes) < MOST_BYTES, [answer.url for answer in visit.answers]

"""The explorable figures on a page built as the book is, from disk and without a network."""

import re
from pathlib import Path

import pytest
from browsing import FAINT, SMALL
from explored import figures
from static_page import ROOT, build

NAMES = ("network", "synopsis", "screening", "arithmetic")
pytestmark = [
    pytest.mark.skipif(
        not (ROOT / "book/vendor/d3.min.js").exists(), reason="no scripts: `make book`"
    ),
]
STATE = """root => [...root.querySelectorAll('svg *')]
    .map(e => [...e.attributes].filter(a => !/tabindex|aria-label/.test(a.name))
        .map(a => a.value).join()).join(';') + root.querySelector('.says').innerText"""


@pytest.fixture(scope="module")
def widgets(browser):  # without one, nothing is drawn
    return figures()


@pytest.fixture(scope="module")
def page_file(widgets, tmp_path_factory):
    return build(tmp_path_factory.mktemp("book"), figures=widgets.values()) / (
        "notebooks/figures.html"
    )


@pytest.fixture
def visit(offline, page_file):
    """Open the page, as `offline` does."""

    def go(width=1280, scheme="light", motion="reduce"):
        page = offline(
            page_file.parents[1],
            width=width,
            lost=("blob:",),
            color_scheme=scheme,
            reduced_motion=motion,
        )
        page.goto(page_file.as_uri())
        page.wait_for_function(
            f"document.querySelectorAll('.explorable svg').length >= {len(NAMES)}", timeout=60_000
        )
        page.wait_for_timeout(600)
        return page

    return go


def roots(page):
    return dict(zip(NAMES, page.query_selector_all(".explorable"), strict=True))


@pytest.mark.parametrize("width", (1280, 390))
@pytest.mark.parametrize("scheme", ("light", "dark"))
def test_text_can_be_read_at_every_width_and_in_the_dark(visit, width, scheme):
    page = visit(width, scheme)
    for name, root in roots(page).items():
        for stage in root.query_selector_all(".segments button"):
            stage.click()
            assert not root.evaluate(SMALL), name
            assert not root.evaluate(FAINT), name
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    ground = page.evaluate(
        "getComputedStyle(document.querySelector('.explorable')).backgroundColor"
    )
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 18, 18)"}[scheme]


@pytest.mark.parametrize("name", NAMES)
def test_every_control_changes_the_drawing(visit, name):
    page = visit()
    root, tried = roots(page)[name], 0

    def changes(act):
        nonlocal tried
        before, tried = root.evaluate(STATE), tried + 1
        act()
        page.wait_for_timeout(60)
        return root.evaluate(STATE) != before

    for menu in root.query_selector_all("select"):
        options = menu.evaluate("e => [e.selectedIndex, e.options.length]")
        others = [k for k in range(options[1]) if k != options[0]]
        assert others and changes(lambda m=menu, k=others[0]: m.select_option(index=k))
    for slider in root.query_selector_all("input[type=range]"):
        assert changes(lambda s=slider: s.press("ArrowLeft"))
    for group in root.query_selector_all("[role=radiogroup]"):
        for button in group.query_selector_all("button[aria-checked=false]"):
            assert changes(button.click), button.inner_text()
            assert button.get_attribute("aria-checked") == "true"
    play = root.query_selector("button.play")
    before = root.evaluate(STATE)
    play.click()
    page.wait_for_function(f"([e, old]) => ({STATE})(e) !== old", arg=[root, before], timeout=9000)
    assert play.get_attribute("aria-pressed") == "true"
    play.click()
    assert "Play" in play.inner_text()
    for part in root.query_selector_all(".part, .one")[1::3]:
        assert changes(lambda p=part: p.dispatch_event("click"))
    assert tried >= 3


@pytest.mark.parametrize("name", ("synopsis", "screening"))
def test_every_head_can_be_chosen_and_tells_its_number(visit, widgets, name):
    page = visit()
    root, widget = roots(page)[name], widgets[name]
    for k, grid in enumerate(root.query_selector_all("[role=grid]")):
        cells = grid.query_selector_all("g.head")
        told = widget.data["networks"][k]
        shape = (told["steps"] if name == "synopsis" else told["tokens"][0]["cosines"])["shape"]
        heads = [len(cells), *shape]
        assert heads[0] == heads[1] * heads[2]
        for i, cell in enumerate(cells):
            cell.dispatch_event("click")
            assert cell.get_attribute("aria-selected") == "true"
            assert len(grid.query_selector_all("[aria-selected=true]")) == 1
            label = cell.get_attribute("aria-label")
            assert re.match(rf"L{i // heads[2]}H{i % heads[2]}: .*\d\.\d\d", label)


def test_numbers_appear_on_hover_and_on_keyboard_focus(visit):
    page = visit()
    root = roots(page)["synopsis"]
    tip = root.query_selector(".tip")
    cell = root.query_selector("g.head")
    cell.hover()
    assert tip.is_visible() and re.search(r"95 % interval .*n = \d+", tip.inner_text())
    page.mouse.move(0, 0)
    assert not tip.is_visible()
    root.query_selector("[role=grid] g.head[tabindex='0']").focus()
    first = tip.inner_text()
    page.keyboard.press("ArrowLeft" if "H5" in first[:5] else "ArrowRight")
    assert tip.is_visible() and tip.inner_text() != first
    page.keyboard.press("Enter")
    chosen = root.query_selector("[role=grid] [aria-selected=true]").get_attribute("aria-label")
    assert chosen == tip.inner_text()


def test_a_head_at_a_step_is_chosen_in_the_table_of_all(visit):
    page = visit()
    root = roots(page)["synopsis"]
    bits = root.query_selector("g.tensor").query_selector_all("rect.bit")
    for bit in (bits[0], bits[len(bits) // 2 + 5], bits[-1]):
        bit.dispatch_event("click")
        bit.dispatch_event("pointerenter")
        head, step = re.match(r"(L\d+H\d+), step (\d+)", bit.get_attribute("aria-label")).groups()
        shown = root.query_selector("input[type=range]").get_attribute("aria-valuetext")
        assert shown.startswith(f"{step} of")
        grid = root.query_selector("[role=grid] [aria-selected=true]")
        assert grid.get_attribute("aria-label").startswith(f"{head}:")


def test_the_sign_turns_every_score(visit):
    page = visit()
    root = roots(page)["screening"]

    def scores():
        labels = [c.get_attribute("aria-label") for c in root.query_selector_all("g.head")]
        found = [re.search(r"cosine (\S+); .* give (\S+) to (\S+)", x).groups() for x in labels]
        return [[float(v.replace("\u2212", "-")) for v in row] for row in found]

    before = scores()
    root.query_selector("[role=radiogroup] button[aria-checked=false]").click()
    for (value, low, high), (turned, down, up) in zip(before, scores(), strict=True):
        assert (value, low, high) == (-turned, -up, -down)


def test_motion_is_left_out_where_it_is_not_wanted(visit):
    rows = """e => [...e.querySelectorAll('g.place-row')]
        .map(r => r.getAttribute('transform')).join()"""
    for motion, moves in (("reduce", False), ("no-preference", True)):
        page = visit(motion=motion)
        root = roots(page)["synopsis"]
        stages = root.query_selector_all(".segments button")
        stages[0].click()
        page.wait_for_timeout(1500)
        stages[1].click()
        page.wait_for_timeout(200)
        early = root.evaluate(rows)
        page.wait_for_timeout(3000)
        assert (root.evaluate(rows) != early) == moves
        page.context.close()


def test_drawings_are_as_wide_as_they_are_made(visit):
    """Style sheets of the book may reach into them."""
    page = visit()
    wrong = """() => [...document.querySelectorAll('.explorable svg rect[width]')]
        .filter(e => Math.abs(parseFloat(getComputedStyle(e).width) - e.getAttribute('width')) > 1)
        .map(e => e.outerHTML.slice(0, 90))"""
    assert not page.evaluate(wrong)


def test_a_picture_stands_in_without_javascript(browser, page_file):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(page_file.as_uri())
    stills = page.query_selector_all("article .first-frame")
    assert len(stills) == len(NAMES)
    for still in stills:
        assert still.is_visible() and still.evaluate("e => e.naturalWidth") > 300
        assert re.fullmatch(r"[A-Z].{60,}\.", still.get_attribute("alt"))
    context.close()


def test_the_picture_gives_way_to_the_figure_and_the_page_is_small(visit, page_file):
    page = visit()
    assert not any(s.is_visible() for s in page.query_selector_all("article .first-frame"))
    images = Path(page_file.parents[1] / "_images").glob("*")
    assert sum(f.stat().st_size for f in (page_file, *images)) < 1_500_000

"""The explorable figures on a page built as the book is, from disk and without a network."""

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from browsing import FAINT, SMALL
from explored import figures
from static_page import ROOT, build

NAMES = ("network", "synopsis", "screening", "circuits", "arithmetic")
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


def unpacked(part):
    """What the page makes of a packed array."""
    levels = np.frombuffer(zlib.decompress(part["bytes"]), f"<u{part['bits'] // 8}")
    values = part["low"] + levels / (2 ** part["bits"] - 2) * (part["high"] - part["low"])
    return values.reshape(part["shape"])


def opacities(root, group):
    return {
        name: [float(g.get_attribute("opacity") or 1) for g in root.query_selector_all(f"g.{name}")]
        for name in group
    }


def test_the_circuit_comes_up_part_by_part(visit):
    root = roots(visit())["circuits"]
    parts = ["fusion", "look", "tag", "objects", "picture", "proof"]
    for stage, button in enumerate(root.query_selector_all(".segments button")):
        button.click()
        for k, shown in enumerate(opacities(root, parts).values(), start=1):
            assert len(shown) == 2 and all((one == 1) == (stage >= k) for one in shown)


def test_the_circuit_tells_its_numbers_and_verdicts(visit, widgets):
    page = visit()
    root, data = roots(page)["circuits"], widgets["circuits"].data
    number = r"(\u2212?\d+\.\d+)"
    for network, panel in zip(data["networks"], root.query_selector_all("g.network"), strict=True):
        part, head = network["parts"][0], network["parts"][0]["loud"]
        at = unpacked(part["shares"])[:2]
        tag = part["peak"] * unpacked(part["tags"])[head, -1] @ at.T / at.sum(1)
        label = panel.query_selector("g.tag").get_attribute("aria-label")
        found = re.search(rf"{number} at object 1.s places, {number} at object 2.s", label).groups()
        ours = [float(v.replace("\u2212", "-")) for v in found]
        np.testing.assert_allclose(ours, tag, atol=0.06)
        cells = panel.query_selector_all("g.cell")
        columns = len(network["heads"])
        assert len(cells) == len(part["words"]) * columns
        maps = unpacked(part["maps"])[:, -1]  # [head, word, image]
        for k, cell in enumerate(cells):
            looks = maps[k % columns, k // columns] @ at.T / at.sum(1)
            found = re.search(
                rf": {number} .*1.s places, {number}", cell.get_attribute("aria-label")
            )
            np.testing.assert_allclose([float(v) for v in found.groups()], looks, atol=0.006)
        for tile, (text, _) in zip(panel.query_selector_all("g.tile"), part["proof"], strict=True):
            seen = " ".join(t.inner_html() for t in tile.query_selector_all("text.verdict"))
            assert seen.endswith(text) and text in tile.get_attribute("aria-label")
        arrows = panel.query_selector_all("g.arrow")
        shares = [network["fusion"].get(role) for _, role in part["words"]]
        told = [f"is {round(100 * share)} % of" for share in shares if share is not None]
        if network["contextual"]:
            assert len(arrows) == len(told)
            for arrow, share in zip(arrows, told, strict=True):
                assert share in arrow.get_attribute("aria-label")


def test_every_relation_head_shows_its_tag(visit):
    for panel in roots(visit())["circuits"].query_selector_all("g.network"):
        for pick in panel.query_selector_all("g.pick"):
            pick.dispatch_event("click")
            name = pick.query_selector("text").inner_html()
            assert pick.get_attribute("aria-pressed") == "true"
            assert f"What {name} writes" in panel.query_selector("g.tag").get_attribute(
                "aria-label"
            )


def test_dots_run_along_the_wires_unless_motion_is_not_wanted(visit):
    for motion, run in (("reduce", False), ("no-preference", True)):
        page = visit(motion=motion)
        root = roots(page)["circuits"]
        root.query_selector("button.play").click()
        page.wait_for_timeout(3600)  # the second part
        assert bool(root.query_selector_all(".dot")) == run
        assert "of 18" in root.query_selector("output").inner_text()
        page.context.close()


def test_no_network_starts_with_an_empty_grid(visit, widgets):
    root = roots(visit())["synopsis"]
    told = zip(
        widgets["synopsis"].data["networks"], root.query_selector_all("g.network"), strict=True
    )
    for network, panel in told:
        values = panel.query_selector_all("[role=grid] rect.value")
        assert max(float(v.get_attribute("fill-opacity")) for v in values) > 0.25
        note = " ".join(t.inner_html() for t in panel.query_selector_all("text.note"))
        assert note == network["note"]


def test_the_pattern_in_the_network_is_that_of_its_step(visit, widgets):
    root = roots(visit())["network"]
    for k, network in enumerate(widgets["network"].data["networks"]):
        root.query_selector_all(".segments button")[k].click()
        root.query_selector("[data-part=cross_attention]").dispatch_event("click")
        name = "L{}H{}".format(*network["shown"])
        read = [w for w, (_, role) in enumerate(network["words"]) if role == network["read"]]
        for step in (0, 7):
            root.query_selector("input[type=range]").fill(str(step))
            said = root.query_selector(".says").inner_text()
            share = unpacked(network["pattern"])[step][:, read].sum(-1).mean()
            assert f"head {name} at step {step + 1}" in said and f"{share:.2f} of the" in said


def test_pictures_that_follow_are_marked_and_counted(visit, widgets):
    root, data = roots(visit())["arithmetic"], widgets["arithmetic"].data
    slider = root.query_selector("input[type=range]")
    for strength in range(len(data["strengths"])):
        slider.fill(str(strength))
        said = root.query_selector(".says").inner_text()
        for network, panel in zip(
            data["networks"], root.query_selector_all("g.network"), strict=True
        ):
            states = [data["states"][k] for k in network["prompts"][0]["outcomes"][0][strength]]
            marks = [t.inner_html() for t in panel.query_selector_all("text.state")][:8]
            assert [mark.startswith("\u2713") for mark in marks] == [s == "follows" for s in states]
            assert states.count("own") == 1 and marks[states.index("own")].endswith("own")
            if data["strengths"][strength]:
                counts = f"{states.count('follows')} of 7 follow, {states.count('unmoved')} unmoved"
                assert f"{network['title']}: {counts}" in said
            else:
                assert "all eight are one picture" in said and set(states) == {"own", "none"}


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

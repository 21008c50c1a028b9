"""The built book in a real browser, from disk and without a network; a chapter joins by being in
book/_toc.yml.
"""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from playwright.sync_api import TimeoutError, expect

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build/html"
TOC = yaml.safe_load((ROOT / "book/_toc.yml").read_text())
LISTED = [c for p in TOC["parts"] for c in p["chapters"]]
PAGES = [TOC["root"], *(e["file"] for c in LISTED for e in (c, *c.get("sections", ())))]
# What a widget shows: the pixels of its visible pictures, or its text if it has none.
SHOWN = """widget => {
    const seen = [...widget.querySelectorAll('img')]
        .filter(e => e.checkVisibility() && e.naturalWidth);
    return seen.map(e => {
        const c = new OffscreenCanvas(e.naturalWidth, e.naturalHeight).getContext('2d');
        c.drawImage(e, 0, 0);
        return c.getImageData(0, 0, e.naturalWidth, e.naturalHeight)
            .data.reduce((h, v) => (h * 31 + v) | 0, 7);
    }).join() || widget.innerText;
}"""
# Text less than 3:1 against the nearest painted ground behind it (WCAG 2.2, 1.4.3, large text);
# cells that pandas colours by their value choose black or white themselves.
FAINT = """() => {
    const parts = c => c.match(/[\\d.]+/g).map(Number), painted = c => (parts(c)[3] ?? 1) > 0.5;
    const light = c => parts(c).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = e => !e ? 'rgb(255, 255, 255)' : painted(getComputedStyle(e).backgroundColor)
        ? getComputedStyle(e).backgroundColor : ground(e.parentElement);
    const text = ':is(h1, h2, p, li, td, th, dt, dd, pre, code, a, label, select, figcaption)';
    return [...document.querySelectorAll('article ' + text)]
        .filter(e => e.checkVisibility({visibilityProperty: true}) && e.innerText.trim()
            && !e.matches('td.data'))
        .filter(e => {
            const [a, b] = [light(getComputedStyle(e).color), light(ground(e))]
                .sort((x, y) => y - x);
            return (a + 0.05) / (b + 0.05) < 3;
        }).map(e => `${e.tagName} ${e.className}: ${e.innerText.slice(0, 40)}`).slice(0, 8);
}"""
# A widget that stands: one with pictures, or an explorable figure (those have tests of their own).
DRAWN = ":is(.jupyter-widgets img, .explorable svg)"
pytestmark = [
    pytest.mark.skipif(
        not (HTML / "index.html").exists(), reason="the book is not built: `make book`"
    ),
    pytest.mark.skipif(
        not (HTML / "_static/embed-amd.js").exists(),
        reason="the book was built without Node.js, so its pages need the network",
    ),
]


@pytest.fixture
def visit(offline):
    """Open a page of the book, as `offline` does."""
    page = offline(HTML, lost=("blob:",))

    def go(name):
        page.goto((HTML / f"{name}.html").as_uri())
        return page

    return go


@pytest.mark.parametrize("name", PAGES)
def test_page_reads_at_every_width_and_in_the_dark(visit, name):
    page = visit(name)
    assert page.locator("article h1").first.is_visible()
    if page.locator(WIDGET_DATA).count():
        page.wait_for_selector(DRAWN, timeout=60_000)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(
            "scheme => document.documentElement.dataset.theme == scheme", arg=scheme
        )
        page.wait_for_timeout(500)  # colours fade
        assert not page.evaluate(FAINT), f"hard to read in the {scheme} theme"
    page.set_viewport_size({"width": 390, "height": 844})  # a phone
    page.wait_for_timeout(500)
    wide = page.evaluate("document.scrollingElement.scrollWidth")
    assert wide <= 390, f"the page scrolls sideways on a phone: {wide} px"


def settings(page, kind, control):
    """Set a control to one after another of its other values, until whoever asks is content."""
    if kind == "select":
        now, options = control.evaluate("e => [e.selectedIndex, e.options.length]")
        for index in range(options - 1, -1, -1):
            if index != now:
                yield control.select_option(index=index)
    elif kind == "slider":
        at_end = control.get_attribute("aria-valuenow") == control.get_attribute("aria-valuemax")
        for _ in range(5):
            yield control.press("ArrowLeft" if at_end else "ArrowRight")
    else:
        yield control.click()


WIDGET_DATA = "script[type='application/vnd.jupyter.widget-view+json']"
CONTROLS = {
    "slider": ".widget-slider .noUi-handle",
    "select": ".widget-dropdown select",
    "toggle": ".widget-toggle-buttons button:not(.mod-active)",
    "play": ".widget-play button:first-child",
}
OUTERMOST = """e => {
    const up = e => e.parentElement.closest('.jupyter-widgets');
    while (up(e)) e = up(e);
    return e;
}"""
OTHERS = ".widget-play button, .widget-toggle-buttons button"  # of a group that is tried once


@pytest.mark.parametrize("name", PAGES)
def test_every_control_changes_its_picture(visit, name):
    page = visit(name)
    if not page.locator(WIDGET_DATA).count():
        assert not name.startswith("notebooks/fig"), "a chapter without controls"
        return
    page.wait_for_selector(DRAWN, timeout=60_000)
    page.wait_for_timeout(1000)
    tried, dead, left = 0, [], set()
    for control in page.query_selector_all(
        ".jupyter-widgets :is(button, input, select, textarea, [role=slider])"
    ):
        if control.is_visible() and not control.evaluate(
            f"e => e.matches('{OTHERS}, {', '.join(CONTROLS.values())}, .explorable *')"
        ):
            left.add(control.evaluate("e => e.outerHTML")[:80])
    assert not left, "controls that this test does not know"
    for kind, selector in CONTROLS.items():
        # a snapshot of handles: a click changes which buttons match
        for control in [c for c in page.query_selector_all(selector) if c.is_visible()]:
            widget = control.evaluate_handle(OUTERMOST).as_element()
            before, tried = widget.evaluate(SHOWN), tried + 1
            for _ in settings(page, kind, control):
                try:
                    page.wait_for_function(
                        f"([w, old]) => ({SHOWN})(w) != old", arg=[widget, before], timeout=5000
                    )
                    break
                except TimeoutError:
                    continue
            else:
                box = "e => e.closest(`.widget-inline-hbox, .widget-play`).innerText"
                dead.append(f"{kind} {control.evaluate(box)}")
            if kind == "play":
                control.click()  # stop: or it would move the picture under the next control
    assert tried or page.query_selector(".explorable"), "no control on this page"
    assert not dead


@pytest.mark.parametrize("name", PAGES)
def test_every_picture_is_told_in_a_sentence(visit, name):
    page = visit(name)
    if page.locator(WIDGET_DATA).count():
        page.wait_for_selector(DRAWN, timeout=60_000)
        page.wait_for_timeout(1000)
    alts = page.evaluate("[...document.querySelectorAll('article img')].map(e => e.alt)")
    assert not [alt for alt in alts if not re.fullmatch(r"[A-Z].{30,}\.", alt)]


@pytest.mark.parametrize("name", PAGES)
def test_widgets_leave_their_first_frame_without_javascript(browser, name):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((HTML / f"{name}.html").as_uri())
    stills = page.locator("article .first-frame").all()
    assert len(stills) == page.locator(WIDGET_DATA).count()
    for still in stills:
        form = still.evaluate("e => e.matches('.live-only')")  # of no use without a kernel
        assert still.is_visible() != form and (form or still.evaluate("e => e.naturalWidth") > 50)
    context.close()


def test_play_starts_at_the_first_stage_and_its_buttons_are_drawn(visit):
    page = visit(TOC["root"])
    page.wait_for_selector(DRAWN, timeout=60_000)
    assert not page.locator(".first-frame").is_visible(), "beside its widget"
    # looked for anew at each use
    stage = page.locator(".widget-hbox:has(.widget-play) .widget-label:visible").last
    assert stage.inner_text() == "5: the picture"
    button = page.locator(CONTROLS["play"])
    for icon in ("fa-play", "fa-pause"):
        drawn = button.locator("i").evaluate("""async e => {
            const {fontFamily, fontSize, content} = getComputedStyle(e, '::before');
            const faces = await document.fonts.load(`${fontSize} ${fontFamily}`, content.at(1));
            return [e.className, e.childElementCount, faces.length];
        }""")
        assert drawn == [f"fa {icon}", 0, 1], "not one picture of the font"
        if icon == "fa-play":
            button.click()
    expect(stage).not_to_have_text("5: the picture")
    assert stage.inner_text() == "1: the words"


class Links(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.links, self.scripts, self.ids = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs.get("id"), attrs.get("name")}
        url = attrs.get("href") or attrs.get("src")
        if url:
            self.links.append(url)
            if tag in ("script", "img") or (tag == "link" and attrs.get("rel") == "stylesheet"):
                self.scripts.append(url)


def test_links_lead_somewhere():
    pages = {
        p: Links(p) for p in HTML.rglob("*.html") if "_static" not in p.relative_to(HTML).parts
    }
    dead = []
    for path, page in pages.items():
        for url in map(urlsplit, page.links):
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            anchor = unquote(url.fragment)
            if not target.exists() or (
                anchor and target in pages and anchor not in pages[target].ids
            ):
                dead.append(f"{path.relative_to(HTML)}: {url.geturl()}")
    assert not dead
    if (HTML / "_static/embed-amd.js").exists():
        assert not [u for p in pages.values() for u in p.scripts if urlsplit(u).netloc], (
            "a page loads from the network"
        )


@pytest.mark.parametrize("name", PAGES)
def test_page_is_small(name):
    """3 MB: the page with the pictures in it, and those it loads; the book's common scripts are
    loaded once.
    """
    path = HTML / f"{name}.html"
    pictures = {
        (path.parent / unquote(urlsplit(u).path)).resolve()
        for u in Links(path).scripts
        if "_images/" in u
    }
    size = sum(file.stat().st_size for file in (path, *pictures))
    assert size <= 3_000_000, f"{size / 1e6:.1f} MB"

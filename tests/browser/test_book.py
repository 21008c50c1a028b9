"""The built book in a real browser, from disk and without a network; a chapter joins by being in book/_toc.yml."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build/html"
TOC = yaml.safe_load((ROOT / "book/_toc.yml").read_text())
PAGES = [TOC["root"], *(c["file"] for p in TOC["parts"] for c in p["chapters"])]
CHAPTERS = [p for p in PAGES if p.startswith("notebooks/")]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# The widgets' stylesheet asks for icon fonts in two places where there can be none; the theme's own icons are shown.
MISSING_FONT = re.compile(r"/@jupyter-widgets/(html-manager/dist/)?[0-9a-f]{20}\.(woff2?|ttf)$")
# What counts as "what is shown": the visible pictures, and the visible text beside them.
SHOWN = """() => [...document.querySelectorAll('.jupyter-widgets img, .jupyter-widgets .widget-html-content')]
    .filter(e => e.checkVisibility()).map(e => e.src || e.innerText)"""
PICTURES = SHOWN.replace(", .jupyter-widgets .widget-html-content", "")

pytestmark = pytest.mark.skipif(not (HTML / "index.html").exists(), reason="the book is not built: `make book`")


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine: `apt-get install chromium`")
    if not (HTML / "_static/embed-amd.js").exists():
        pytest.skip("the book was built without Node.js, so its pages need the network")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Open a page offline; at the end nothing may have failed, nor been asked for outside the book."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    errors, requests, failed = [], [], []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("request", lambda r: requests.append(r.url))
    page.on("requestfailed", lambda r: failed.append(r.url))

    def go(name):
        page.goto((HTML / f"{name}.html").as_uri())
        return page

    yield go
    page.wait_for_timeout(500)  # for what comes late: "networkidle" was seen never to come
    context.close()
    assert not errors
    assert not [u for u in requests if not u.startswith((HTML.as_uri() + "/", "blob:", "data:"))]
    assert not [u for u in failed if not u.startswith("blob:") and not MISSING_FONT.search(u)]


@pytest.mark.parametrize("name", PAGES)
def test_page_opens(visit, name):
    assert visit(name).locator("article h1").first.is_visible()


def move(page, kind, control):
    """Set a control to something else."""
    if kind == "select":
        now = control.evaluate("e => e.selectedIndex")
        control.select_option(index=1 if now == 0 else 0)
    elif kind == "slider":
        at_end = control.get_attribute("aria-valuenow") == control.get_attribute("aria-valuemax")
        control.press("ArrowLeft" if at_end else "ArrowRight")
    else:
        control.click()


CONTROLS = {
    "slider": ".widget-slider .noUi-handle",
    "select": ".widget-dropdown select",
    "toggle": ".widget-toggle-buttons button:not(.mod-active)",
    "play": ".widget-play button:first-child",
}


@pytest.mark.parametrize("name", CHAPTERS)
def test_controls_change_what_is_shown(visit, name):
    page = visit(name)
    page.wait_for_selector(".jupyter-widgets img", timeout=60_000)
    page.wait_for_timeout(1000)
    moved, pictures = [], page.evaluate(PICTURES)
    for kind, selector in CONTROLS.items():
        # a snapshot of handles: a click changes which buttons match
        for control in [c for c in page.query_selector_all(selector) if c.is_visible()]:
            before = page.evaluate(SHOWN)
            move(page, kind, control)
            page.wait_for_function(f"before => JSON.stringify(({SHOWN})()) != JSON.stringify(before)", arg=before)
            moved.append(kind)
            if kind == "play":
                control.click()  # stop: or it would move the picture under the next control
    assert moved, "no control on this page"
    assert page.evaluate(PICTURES) != pictures


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
    pages = {p: Links(p) for p in HTML.rglob("*.html") if "_static" not in p.relative_to(HTML).parts}
    dead = []
    for path, page in pages.items():
        for url in map(urlsplit, page.links):
            if url.scheme or url.netloc:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            anchor = unquote(url.fragment)
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].ids):
                dead.append(f"{path.relative_to(HTML)}: {url.geturl()}")
    assert not dead
    if (HTML / "_static/embed-amd.js").exists():
        assert not [u for p in pages.values() for u in p.scripts if urlsplit(u).netloc], "a page loads from the network"

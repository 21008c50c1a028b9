"""A browser without a network, and what no page of the book may do in it."""

import pytest
from browsing import CHROMIUM, MISSING_FONT
from playwright.sync_api import sync_playwright


@pytest.fixture(scope="module")
def browser():
    """Of one file of tests: while it is open, no other can be in the same process."""
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine: `apt-get install chromium`")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def offline(browser):
    """Make a page that is offline: at the end nothing may have failed, nor been asked for outside
    these folders. settings: of the browser's context. lost: beginnings of addresses that may fail.
    """
    contexts, errors, requests, failed = [], [], [], []
    inside, excused = ["blob:", "data:"], []

    def open_page(*folders, width=1280, lost=(), **settings):
        inside.extend(f"{folder.as_uri()}/" for folder in folders)
        excused.extend(lost)
        size = {"width": width, "height": 1000}
        contexts.append(browser.new_context(offline=True, viewport=size, **settings))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("request", lambda r: requests.append(r.url))
        page.on("requestfailed", lambda r: failed.append(r.url))
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:  # for what comes late: "networkidle" was seen never to come
            page.wait_for_timeout(500)
        context.close()
    assert not errors
    assert not [url for url in requests if not url.startswith(tuple(inside))]
    missed = [url for url in failed if not url.startswith(tuple(excused))]
    assert not [url for url in missed if not MISSING_FONT.search(url)]

"""The network that runs in the page: offline and from disk, it draws what Python draws."""

import re
import shutil

import numpy as np
import pytest
from browsing import FAINT, SMALL
from explored import LIVE as EXAMPLES
from explored import live
from playwright.sync_api import expect
from static_page import ROOT, build

import relcore as rc
from relcore.data.prompts import parse
from relcore.data.scoring import detect, score
from relcore.errors import RelcoreError
from relcore.kernels.interventions import mask_tokens
from relcore.view.explore.live_network import MEANT, SAMPLING, write_parts

ORT = ROOT / "book/vendor/live/ort.js"
pytest.importorskip("onnx", reason="needs the extra 'page'")
pytestmark = pytest.mark.skipif(not ORT.exists(), reason="no scripts: `make book`")
PIXELS = """canvas => {
    const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return [...data].filter((_, k) => k % 4 < 3);
}"""


@pytest.fixture(scope="module")
def models():
    return [rc.load(name) for name in EXAMPLES]


@pytest.fixture(scope="module")
def folders(browser, tmp_path_factory):
    """The page, and the folder of what it loads."""
    parts = tmp_path_factory.mktemp("live")
    shutil.copy(ORT, parts)
    write_parts(parts, list(EXAMPLES))
    return build(tmp_path_factory.mktemp("book"), live=[live()]), parts


@pytest.fixture
def page(offline, folders):
    """The page, as `offline` opens it, ready to fetch a network."""
    html, parts = folders
    page = offline(html, parts)
    page.add_init_script(f"window.relcoreLive = '{parts.as_uri()}/'")
    page.goto((html / "notebooks/live.html").as_uri())
    page.wait_for_selector(".bench button.fetch:enabled", timeout=60_000)
    return page


def start(page):
    page.click("button.fetch")
    drawn(page)


def drawn(page):
    """Wait until the pictures are finished."""
    expect(page.locator("button.fetch")).not_to_be_visible(timeout=60_000)
    expect(page.locator("button.play")).to_have_text("▶︎ Draw again", timeout=60_000)
    expect(page.locator(".time output")).to_have_text("18 of 18")


def seen(page, side):
    """A picture of the page, uint8 [y, x, rgb], and whether it judges its relation to be right."""
    pixels = np.array(page.locator(".picture canvas").nth(side).evaluate(PIXELS), np.uint8)
    size = int((len(pixels) // 3) ** 0.5)
    said = page.locator(".verdict strong").nth(side).inner_text()
    return pixels.reshape(size, size, 3), said[0] == "✓"


def assert_alike(page, side, picture, prompt):
    ours, right = seen(page, side)
    assert right == bool(score(detect(picture), parse(prompt))["relation_loose"])
    far = abs(ours.astype(int) - picture).max(-1) > 16
    assert far.mean() < 0.01, f"{far.sum()} pixels differ"


def ask(page, prompt, seed):
    page.fill("input[type=number]", str(seed))
    page.fill("input[aria-label=prompt]", prompt)
    page.press("input[aria-label=prompt]", "Enter")
    drawn(page)


def test_the_example_is_shown_and_judged_before_anything_is_loaded(page):
    heads, prompts, _ = zip(*EXAMPLES.values(), strict=True)
    assert [seen(page, side)[1] for side in (0, 1)] == [True, False]
    assert heads[0] in page.locator(".caption b").nth(1).inner_text()
    assert prompts[0] in page.locator(".caption").first.inner_text()
    assert "MB)" in page.locator("button.fetch").inner_text()


def test_pictures_and_verdicts_are_those_of_python_with_a_head_off_too(page, models):
    model = models[0]
    start(page)
    off = model.ablate("L3H2", prompts=MEANT, **SAMPLING)
    for prompt, seed in (
        EXAMPLES["rte-micro"][1:],
        ("red square is to the left of blue circle", 0),
        ("blue triangle is directly below red circle", 7),
    ):
        ask(page, prompt, seed)
        for side, change in enumerate((None, off)):
            [picture] = model.draw(prompt, seed, intervention=change, **SAMPLING)
            assert_alike(page, side, picture, prompt)


def test_heads_words_and_undo(page, models):
    model, head, prompt, seed = models[0], "L3H2", "blue circle is above red square", 0
    start(page)
    ask(page, prompt, seed)
    page.get_by_role("button", name="Undo all changes").click()
    drawn(page)
    assert not page.locator(".verdict strong").nth(1).is_visible()
    page.get_by_role("button", name="hide above").click()
    drawn(page)
    [picture] = model.draw(prompt, seed, intervention=mask_tokens(["relation"]), **SAMPLING)
    assert_alike(page, 1, picture, prompt)
    page.get_by_role("button", name="hide above").click()
    page.get_by_role("switch", name=f"head {head} on").click()
    page.get_by_role("radio", name="nothing").click()
    drawn(page)
    off = model.ablate(head, method="zero", **SAMPLING)
    [picture] = model.draw(prompt, seed, intervention=off, **SAMPLING)
    assert_alike(page, 1, picture, prompt)
    page.get_by_role("switch", name=f"head {head} on").click()
    page.get_by_label("another relation").select_option("to the left of")
    drawn(page)
    changed = prompt.replace("above", "to the left of")
    assert_alike(page, 1, model.draw(changed, seed, **SAMPLING)[0], changed)


def test_the_contextual_encoder_draws_its_suite_and_says_what_it_lacks(page, models):
    model, (head, prompt, seed) = models[1], EXAMPLES["e5-micro"]
    page.get_by_role("radio", name="e5-micro").click()
    start(page)
    off = model.ablate(head, prompts=MEANT, **SAMPLING)
    for side, change in enumerate((None, off)):
        [picture] = model.draw(prompt, seed, intervention=change, **SAMPLING)
        assert_alike(page, side, picture, prompt)
    page.fill("input[aria-label=prompt]", "the red square is above the blue circle")
    page.press("input[aria-label=prompt]", "Enter")
    expect(page.locator(".refused")).to_contain_text("training prompts")


def test_what_cannot_be_read_is_refused_as_in_python(page):
    start(page)
    text = "red square is above purple circle"
    page.fill("input[aria-label=prompt]", text)
    page.press("input[aria-label=prompt]", "Enter")
    with pytest.raises(RelcoreError) as refused:
        parse(text)
    expect(page.locator(".refused")).to_have_text(str(refused.value))
    assert seen(page, 0)[1], "the picture before it is gone"
    ask(page, "red square is above blue circle", 0)
    expect(page.locator(".refused")).to_have_text("")


def test_a_picture_forms_step_by_step_and_stop_ends_it(page):
    start(page)
    page.get_by_role("button", name="another").click()
    expect(page.locator(".time output")).to_have_text(re.compile(r"^(?!18)\d+ of 18$"))
    page.get_by_role("button", name="stop drawing").click()
    page.wait_for_timeout(1500)
    reached = page.locator(".time output").inner_text()
    page.wait_for_timeout(500)
    assert reached == page.locator(".time output").inner_text() != "18 of 18"
    page.get_by_role("button", name="draw again").click()
    drawn(page)
    late = page.locator(".picture canvas").first.evaluate(PIXELS)
    page.locator(".time input").fill("2")
    assert page.locator(".picture canvas").first.evaluate(PIXELS) != late
    assert "at step 3" in page.locator(".verdict").first.inner_text()


def test_stopped_before_the_first_step_it_says_that_nothing_was_drawn(page):
    start(page)
    # Both clicks before the worker can answer.
    page.evaluate("""() => {
        [...document.querySelectorAll('button')].find(b => b.innerText === 'another').click();
        document.querySelector('.time button.play').click();
    }""")
    expect(page.locator(".time output")).to_have_text("nothing drawn")
    expect(page.locator(".verdict").first).to_contain_text("nothing was drawn")
    assert not page.locator(".verdict strong").count()
    page.get_by_role("button", name="draw again").click()
    drawn(page)
    assert "nothing" not in page.locator(".pictures").inner_text()


def test_attention_of_every_head_is_that_of_python(page, models):
    (_, prompt, seed), step = EXAMPLES["rte-micro"], 4
    with models[0].capture(["blocks.*.cross_attn.pattern"]) as cache:
        models[0].draw(prompt, seed, **SAMPLING)
    start(page)
    page.locator(".time input").fill(str(step))
    for layer in range(6):
        shares = cache[f"blocks.{layer}.cross_attn.pattern", step][0].mean(1)  # [head, token]
        for head, wanted in enumerate(shares):
            page.get_by_role("button", name=f"what L{layer}H{head} looks at").click()
            assert f"L{layer}H{head} looks at, step 5" in page.locator("h4").last.inner_text()
            labels = page.locator(".maps button").evaluate_all("all => all.map(b => b.ariaLabel)")
            assert [label.split(":")[0] for label in labels] == [*prompt.split(), "end"]
            ours = [float(label.split(":")[1].split()[0]) for label in labels]
            np.testing.assert_allclose(ours, 100 * wanted, atol=2)
    before = page.locator(".grid").inner_html()
    page.locator(".maps button").first.click()
    assert page.locator(".grid").inner_html() != before


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_reads_at_every_width_and_in_the_dark(page, width, scheme):
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    start(page)
    page.wait_for_timeout(500)
    assert not page.locator(".explorable").evaluate(SMALL)
    assert not page.locator(".explorable").evaluate(FAINT)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    if width == 390:
        page.locator(".grid").scroll_into_view_if_needed()
        assert page.locator(".picture canvas").first.is_visible()
        box = page.locator(".picture canvas").first.bounding_box()
        assert 0 <= box["y"] < 844, "the pictures are out of sight"

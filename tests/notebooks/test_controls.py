"""Controls and figures as outputs of a notebook: what is left where nothing can be moved."""

import base64
import io

import ipywidgets as w
import matplotlib.pyplot as plt
import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from relcore.errors import RelcoreError
from relcore.view import controls, figures

ALT = "One colour all over."
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def picture(color):
    out = io.BytesIO()
    Image.new("RGB", (4, 4), COLORS[color]).save(out, "PNG")
    return out.getvalue()


def shown(output):
    """The colour of the picture in an output, and what is told of it; as a kernel sends it."""
    data, told = DisplayFormatter().format(output)
    png = data["image/png"]
    image = Image.open(io.BytesIO(png if isinstance(png, bytes) else base64.b64decode(png)))
    color = image.convert("RGBA").getpixel((1, 1))[:3]
    return next(name for name, rgb in COLORS.items() if rgb == color), told["image/png"]


@pytest.mark.parametrize("poster, first", [(None, "red"), (0, "red"), (2, "blue")])
def test_frames_hold_the_one_shown_first(poster, first):
    frames = controls.frames(picture, list(COLORS), "colour", poster=poster, alt=ALT)
    assert shown(frames) == (first, {"alt": ALT, "class": "first-frame"})


@pytest.mark.parametrize("poster", [None, 2])
def test_play_runs_through_all_frames_from_the_first(poster):
    frames = controls.frames(picture, list(COLORS), "colour", list("abcd"), poster=poster, alt=ALT)
    (play, slider, texts), stack = frames.children[0].children, frames.children[-1]
    assert (play.value, slider.value, texts.selected_index, stack.selected_index) == (0, 0, 0, 0)
    assert (play.min, slider.min) == (0, 0) and play.max == slider.max == len(stack.children) - 1
    run = [text.value for text in texts.children]
    assert run == ([] if poster is None else ["c"]) + list("abcd")
    images = [Image.open(io.BytesIO(i.value)).convert("RGB") for i in stack.children]
    assert ["abcd"[list(COLORS.values()).index(i.getpixel((1, 1)))] for i in images] == run


def test_a_grid_holds_its_first_picture():
    def draw(one, two):
        return picture(two if one == "b" else "red")

    grid = controls.grid(draw, one="bc", two=["green", "blue"], alt=ALT)
    assert shown(grid) == ("green", {"alt": ALT, "class": "first-frame"})


def test_a_live_form_holds_its_last_picture_and_is_hidden_with_it():
    color = w.Dropdown(options=list(COLORS))
    form = controls.live(lambda color: picture(color), color=color, alt=ALT)
    assert shown(form)[0] == "red"
    color.value = "blue"
    assert shown(form) == ("blue", {"alt": ALT, "class": "first-frame live-only"})


def test_a_live_form_that_cannot_draw_is_shown_all_the_same():
    def draw(prompt):
        raise RelcoreError("no prompt")

    data, told = DisplayFormatter().format(controls.live(draw, prompt=w.Text(), alt=ALT))
    assert "application/vnd.jupyter.widget-view+json" in data and "image/png" not in data | told


def test_the_widget_is_still_there_and_the_text_is_the_sentence():
    data, _ = DisplayFormatter().format(controls.grid(picture, color=list(COLORS), alt=ALT))
    assert {"application/vnd.jupyter.widget-view+json", "image/png"} < set(data)
    assert data["text/plain"] == ALT


def test_a_figure_is_shown_with_its_sentence():
    figure, axis = plt.subplots()
    figure.patch.set_facecolor("red")
    axis.axis("off")
    color, told = shown(figures.show(figure, ALT))
    assert color == "red" and told == {"alt": ALT} and not plt.fignum_exists(figure.number)
    with pytest.raises(TypeError):
        figures.show(figure)

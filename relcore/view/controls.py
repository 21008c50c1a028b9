"""Controls that work on the static page, without a kernel, and do more with one.

`frames` and `grid` hold precomputed pictures joined to their controls in the browser (jslink).
`live` recomputes at any value; the book's style sheet hides it where there is no kernel.
`alt`: a sentence that says what the pictures show. It is kept in the output, with the picture
shown first, for screen readers and wherever no script runs: on code hosts, without JavaScript.
"""

import base64
import html
import io
from collections.abc import Callable, Sequence
from functools import cache

import ipywidgets as w
from PIL import Image

from ..errors import RelcoreError


@cache
def _layout() -> w.Layout:
    """One for all pictures: a layout of its own costs each of them 2 kB in the notebook."""
    return w.Layout(max_width="100%", object_fit="contain")


def _webp(png: bytes) -> bytes:
    """The same pixels in four fifths of the bytes: a notebook holds dozens of pictures."""
    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGBA").save(out, "WEBP", lossless=True, exact=True)
    return out.getvalue()


def _image(png: bytes) -> w.Image:
    return w.Image(value=_webp(png), format="webp", layout=_layout())


class _Shown(w.VBox):
    """A box with controls above and pictures below; its output also holds the picture it shows."""

    def __init__(self, children: Sequence[w.Widget], alt: str):
        super().__init__(children)
        self.alt = alt

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        bundle, shown = super()._repr_mimebundle_(**kwargs) | {"text/plain": self.alt}, self
        while not isinstance(shown, w.Image):
            shown = shown.children[shown.selected_index if isinstance(shown, w.Stack) else -1]
        if not shown.value:  # a live form that could not draw
            return bundle, {}
        png, image = io.BytesIO(), Image.open(io.BytesIO(shown.value))
        image.quantize(128, Image.Quantize.FASTOCTREE).save(png, "PNG", optimize=True)
        bundle["image/png"] = base64.b64encode(png.getvalue()).decode()  # code hosts show no WebP
        told = {"alt": self.alt, "class": " ".join(["first-frame", *self._dom_classes])}
        return bundle, {"image/png": told}


def _stacks(choices: dict[str, Sequence[str]], leaf: Callable[[dict], w.Widget]) -> list[w.Widget]:
    """A row of dropdowns, one a choice, and under it the leaf of the chosen values.

    Stacks nest, one level a dropdown, so each dropdown's index is joined to every stack of its
    level.
    """
    names = list(choices)
    wide = w.Layout(width="max-content", max_width="100%")  # the usual 300 pixels cut a prompt off
    menus = {
        name: w.Dropdown(
            options=list(choices[name]), description=name.replace("_", " "), layout=wide
        )
        for name in names
    }

    def build(chosen: dict) -> w.Widget:
        if len(chosen) == len(names):
            return leaf(chosen)
        name = names[len(chosen)]
        stack = w.Stack(
            [build({**chosen, name: value}) for value in choices[name]], selected_index=0
        )
        w.jslink((menus[name], "index"), (stack, "selected_index"))
        return stack

    return [w.HBox(list(menus.values()), layout=w.Layout(flex_flow="row wrap")), build({})]


def frames(
    render: Callable[..., bytes],
    values: Sequence,
    label: str,
    texts: Sequence[str] | None = None,
    interval: int = 500,
    poster: int | None = None,
    *,
    alt: str,
    **choices: Sequence[str],
) -> w.VBox:
    """A slider with play button over `render(value, choice=..., ...) -> PNG bytes`, one frame a
    value.

    texts: what stands beside the slider for each value; the value itself if not given. poster:
    index of a frame that also stands before the first, to be shown until play is pressed. choices:
    dropdowns, as in `grid`; the slider keeps its place when another is chosen.
    """
    order = [*([] if poster is None else [poster]), *range(len(values))]
    slider = w.IntSlider(min=0, max=len(order) - 1, description=label, readout=False)
    play = w.Play(min=0, max=len(order) - 1, interval=interval)
    text = w.Stack([w.Label(str((texts or values)[k])) for k in order], selected_index=0)
    w.jslink((slider, "value"), (text, "selected_index"))
    w.jslink((play, "value"), (slider, "value"))

    def film(chosen: dict) -> w.Stack:
        images = [_image(render(value, **chosen)) for value in values]
        stack = w.Stack([images[k] for k in order], selected_index=0)
        w.jslink((slider, "value"), (stack, "selected_index"))
        return stack

    menus, pictures = _stacks(choices, film)
    return _Shown([*([menus] if choices else []), w.HBox([play, slider, text]), pictures], alt)


def grid(render: Callable[..., bytes], *, alt: str, **choices: Sequence[str]) -> w.VBox:
    """Dropdowns, one a keyword, over `render(keyword=value, ...) -> PNG bytes` for every
    combination.
    """
    return _Shown(_stacks(choices, lambda chosen: _image(render(**chosen))), alt)


def live(render: Callable[..., bytes], *, alt: str, **controls: w.Widget) -> w.VBox:
    """Free controls over `render(keyword=value, ...) -> PNG bytes`, recomputed by the kernel.

    A RelcoreError of `render` is shown as one line and leaves the last picture.
    """
    image = w.Image(format="webp", layout=_layout())
    message = w.HTML()  # a Label would cut off a long line

    def update(_=None) -> None:
        try:
            image.value, message.value = (
                _webp(render(**{name: c.value for name, c in controls.items()})),
                "",
            )
        except RelcoreError as error:
            message.value = html.escape(str(error))

    for control in controls.values():
        control.observe(update, "value")
    update()
    box = _Shown([w.Label("Live, with a running kernel:"), *controls.values(), message, image], alt)
    box.add_class("live-only")
    return box

"""Controls that work on the static page, without a kernel, and do more with one.

`frames` and `grid` hold precomputed pictures joined to their controls in the browser (jslink).
`live` recomputes at any value; the book's style sheet hides it where there is no kernel.
"""

from collections.abc import Callable, Sequence

import ipywidgets as w


def _image(png: bytes) -> w.Image:
    return w.Image(value=png, format="png", layout=w.Layout(max_width="100%", object_fit="contain"))


def frames(render: Callable[[object], bytes], values: Sequence, label: str, texts: Sequence[str] | None = None,
           interval: int = 500) -> w.VBox:  # fmt: skip
    """A slider with play button over `render(value) -> PNG bytes`, one frame a value.

    texts: what stands beside the slider for each value; the value itself if not given.
    """
    stack = w.Stack([_image(render(value)) for value in values], selected_index=0)
    slider = w.IntSlider(min=0, max=len(values) - 1, description=label, readout=False)
    play = w.Play(min=0, max=len(values) - 1, interval=interval)
    text = w.Stack([w.Label(str(t)) for t in (texts or values)], selected_index=0)
    for target in (stack, text):
        w.jslink((slider, "value"), (target, "selected_index"))
    w.jslink((play, "value"), (slider, "value"))
    return w.VBox([w.HBox([play, slider, text]), stack])


def grid(render: Callable[..., bytes], **choices: Sequence[str]) -> w.VBox:
    """Dropdowns, one a keyword, over `render(keyword=value, ...) -> PNG bytes` for every combination.

    Stacks nest, one level a dropdown, so each dropdown's index is joined to every stack of its level.
    """
    names = list(choices)
    menus = {name: w.Dropdown(options=list(choices[name]), description=name.replace("_", " ")) for name in names}

    def build(chosen: dict) -> w.Widget:
        if len(chosen) == len(names):
            return _image(render(**chosen))
        name = names[len(chosen)]
        stack = w.Stack([build({**chosen, name: value}) for value in choices[name]], selected_index=0)
        w.jslink((menus[name], "index"), (stack, "selected_index"))
        return stack

    return w.VBox([w.HBox(list(menus.values()), layout=w.Layout(flex_flow="row wrap")), build({})])


def live(render: Callable[..., bytes], **controls: w.Widget) -> w.VBox:
    """Free controls over `render(keyword=value, ...) -> PNG bytes`, recomputed by the kernel.

    A RelcoreError of `render` is shown as one line and leaves the last picture.
    """
    from ..errors import RelcoreError

    image, message = _image(b""), w.Label()

    def update(_=None) -> None:
        try:
            image.value, message.value = render(**{name: c.value for name, c in controls.items()}), ""
        except RelcoreError as error:
            message.value = str(error)

    for control in controls.values():
        control.observe(update, "value")
    update()
    box = w.VBox([w.Label("Live, with a running kernel:"), *controls.values(), message, image])
    box.add_class("live-only")
    return box

"""What all explorable figures share: how data reach the page, and what stands there without it."""

import base64
import io
import zlib
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import anywidget
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure
from PIL import Image

from ...data.prompts import CANONICAL, ROLES, parse
from ...data.scenes import RELATIONS, relation_of
from ...data.scoring import bound_pair, describe, detect, relation_loose
from ...errors import RelcoreError
from ...face import Model
from ...paths import ROOT
from ..figures import heat_map, to_png

HERE = Path(__file__).parent
D3 = ROOT / "book/vendor/d3.min.js"  # where `make book` puts it


def source(*names: str) -> str:
    """The script of a figure, `name`.js after base.js, as one module."""
    parts = ("base", *names)
    return "\n".join((HERE / f"{part}.js").read_text(encoding="utf-8") for part in parts)


def packed(values: np.ndarray, low: float, high: float, bits: int = 8) -> dict:
    """An array for the page: every number in 8 or 16 bits from low to high, compressed; NaN is
    kept.

    `unpack` of base.js reads it, within half a step of (high - low) / (2^bits - 2). What lies
    outside is moved to the nearer end.
    """
    values = np.asarray(values, np.float64)
    top = 2**bits - 2  # the level above stands for NaN
    levels = np.rint((values.clip(low, high) - low) / (high - low) * top)
    levels = np.where(np.isnan(values), top + 1, levels).astype(f"<u{bits // 8}")
    data = {"shape": list(values.shape), "low": low, "high": high, "bits": bits}
    return data | {"bytes": zlib.compress(levels.tobytes(), 9)}


def picture_url(picture: np.ndarray) -> str:
    """A picture, uint8 [y, x, rgb], as the address of an image that the page needs no file for."""
    buffer = io.BytesIO()
    Image.fromarray(picture).quantize(32).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def head_grids(
    titles: Sequence[str], grids: Sequence[np.ndarray], low: float, high: float, colors: str
) -> Figure:
    """A static picture of numbers [layer, head] of networks side by side."""
    figure, axes = plt.subplots(1, len(grids), figsize=(4.2 * len(grids), 3.8), squeeze=False)
    for axis, title, values in zip(axes[0], titles, grids, strict=True):
        layers, heads = values.shape
        rows, columns = [f"L{k}" for k in range(layers)], [f"H{k}" for k in range(heads)]
        grid = pd.DataFrame(values, rows, columns)
        texts = grid.map(lambda v: f"{v:.2f}" if abs(v) >= 0.05 else "")
        heat_map(axis, grid, low, high, colors, texts, 9)
        axis.set_title(title, fontsize=10)
        axis.set_aspect("equal")
    return figure


def picture_rows(titles: Sequence[str], rows: Sequence[dict], colors: dict | None = None) -> Figure:
    """A static picture of a row of small pictures per network, {name: image}.

    colors: {name: (colormap, low, high)} of those that hold numbers.
    """
    size = 8.6, len(rows) * (8.6 / len(rows[0]) + 0.42)
    figure, axes = plt.subplots(len(rows), len(rows[0]), figsize=size, squeeze=False)
    for line, title, row in zip(axes, titles, rows, strict=True):
        for axis, (name, image) in zip(line, row.items(), strict=True):
            cmap, low, high = (colors or {}).get(name, (None, None, None))
            axis.imshow(image, interpolation="nearest", cmap=cmap, vmin=low, vmax=high)
            axis.set_title(name, fontsize=8)
            axis.axis("off")
        line[0].text(0, 1.3, title, fontsize=9, transform=line[0].transAxes)
    return figure


def titled(model: Model) -> str:
    """What a figure calls a network: its encoder, and its name."""
    encoder = "Contextual encoder" if model.encoder.contextual else "Random embeddings"
    return f"{encoder} ({model.name})"


def words_of(encoder, prompt: str) -> list[tuple[str, str, list[int]]]:
    """The words as the encoder reads them: (word, role, its tokens), in the order of the tokens.

    A relation phrase whose words have several tokens each stands as one. Tokens that the encoder
    adds are "start" and "end".
    """
    text = encoder.encode([prompt])
    roles = [ROLES[role] for role in text.roles[0][text.mask[0]]]
    spoken = groupby(parse(prompt).spans, key=lambda span: span[2])
    phrases = (([prompt[a:b] for a, b, _ in spans], role) for role, spans in spoken)
    found, start = [], 0
    for role, run in groupby(roles):
        tokens = list(range(start, start + len(list(run))))
        start = tokens[-1] + 1
        if role == "special":
            found.append(("end" if found else "start", role, tokens))
            continue
        words, _ = next(phrases)
        if len(words) == len(tokens):
            found += [(word, role, [token]) for word, token in zip(words, tokens, strict=True)]
        else:
            found.append((" ".join(words), role, tokens))
    return found


def word_maps(model: Model, cache: dict, prompt: str, picture: int = 0) -> np.ndarray:
    """Attention of a captured picture to its words: [layer, head, step, image, word].

    cache: of `capture`, with every "blocks.*.cross_attn.pattern".
    """
    passes = range(1 + max(step for _, step in cache))
    layers = (f"blocks.{layer}.cross_attn.pattern" for layer in range(model.network.config.depth))
    maps = [
        [cache[name, step][picture].float().cpu().numpy() for step in passes] for name in layers
    ]
    words = words_of(model.encoder, prompt)
    return np.stack([np.array(maps)[..., own].sum(-1) for *_, own in words], -1).swapaxes(1, 2)


def verdict(picture: np.ndarray, prompt: str) -> tuple[str, int]:
    """What the scorer finds in a picture of a prompt, in words, and whether its relation is the
    prompt's (1), the opposite one (-1), or neither (0).
    """
    found, wanted = detect(picture), parse(prompt)
    pair = bound_pair(found, wanted)
    if not pair:
        return ", ".join(describe(found)) or "no object", 0
    apart = pair[0].x - pair[1].x, pair[0].y - pair[1].y
    first, second = describe(pair)
    said = f"{first} is {CANONICAL[RELATIONS[int(relation_of(*apart))]][0]} {second}"
    turned = relation_loose(*(-v for v in apart), wanted.relation)
    return said, int(relation_loose(*apart, wanted.relation)) - int(turned)


class Explorable(anywidget.AnyWidget):
    """A figure drawn by `_esm`, which is `source(...)` of its script.

    data: what it shows; arrays are `packed`. chosen: what the reader has chosen, {name: value}, set
    from either side. alt: one sentence that says what is seen. still: draws the picture that stands
    in the output for readers without JavaScript, code hosts and print. redrawn: what of the data's
    "networks" a prompt of the reader's own changes, a function of prompt and seed; the form for it
    is shown where there is a kernel.
    """

    data = traitlets.Dict().tag(sync=True)
    chosen = traitlets.Dict().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    _css = (HERE / "base.css").read_text(encoding="utf-8")

    def __init__(
        self,
        data: dict,
        chosen: dict,
        alt: str,
        still: Callable[[], Figure],
        redrawn: Callable[[str, int], list[dict]] | None = None,
    ):
        super().__init__(data=data, chosen=chosen, alt=alt)
        self._still, self._redrawn = still, redrawn
        self.on_msg(lambda _, question, buffers: self._answer(question))

    def _answer(self, question: dict) -> None:
        """Tell the page that there is a kernel; it may ask for d3, and for what `answer` gives."""
        if "d3" in question:
            self.send({"d3": D3.read_text(encoding="utf-8") if D3.exists() else ""})
        else:
            self.send({"answer": {} if "hello" in question else self.answer(question)})

    def answer(self, question: dict) -> dict:
        """What the kernel answers the page's `view.ask(question)`: here, to draw another prompt."""
        prompt, seed = question["prompt"].strip(), question["seed"]
        try:
            if not seed.isdecimal():
                raise RelcoreError(f"seed {seed!r} is no whole number from 0: write 0, 1, 2, ...")
            changes = self._redrawn(prompt, int(seed))
        except RelcoreError as error:
            return {"error": str(error)}
        networks = [old | new for old, new in zip(self.data["networks"], changes, strict=True)]
        if "prompt" in self.chosen:  # of several, the reader's own comes first
            self.chosen = self.chosen | {"prompt": 0}
        self.data = self.data | {"prompt": prompt, "networks": networks}
        return {}

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        bundle, told = super()._repr_mimebundle_(**kwargs)
        png = base64.b64encode(to_png(self._still(), dpi=144)).decode()
        bundle |= {"text/plain": self.alt, "image/png": png}
        return bundle, told | {"image/png": {"alt": self.alt, "class": "first-frame"}}

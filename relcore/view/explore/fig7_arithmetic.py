"""Figure 7: vector arithmetic, another relation put into some of the prompt's words."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ...data.prompts import parse
from ...data.scenes import CANVAS, RELATIONS
from ...data.scoring import bound_pair, detect
from ...face import Model
from ...kernels.circuits import DIRECTIONS
from ...kernels.factors import Rewired
from ...model.diffusion import sample
from .base import Explorable, packed, picture_url, source, titled

WORDS = ("relation", "color1 color2", "shape1 shape2")


class Arithmetic(Explorable):
    _esm = source("fig7_arithmetic")


def arithmetic(
    models: Sequence[Model],
    prompts: Sequence[str] = ("red circle is to the left of blue triangle",),
    words: Sequence[str] = WORDS,
    strengths: Sequence[float] = (0, 1, 2, 3),
    seed: int = 0,
    titles: Sequence[str] | None = None,
) -> Arithmetic:
    """Each of the eight relations put into words of a prompt, e - v[told] + strength v[target], and
    the picture that the network then draws from the same noise.

    words: groups of roles edited together. titles: a line a model. Raises RelcoreError for a
    prompt that cannot be parsed.
    """
    titles = titles or [titled(model) for model in models]
    drawn = [
        [_drawn(model, prompt, words, strengths, seed) for prompt in prompts] for model in models
    ]
    told = [
        {"title": title, "prompts": [part for part, _ in parts]}
        for title, parts in zip(titles, drawn, strict=True)
    ]
    chosen = {"prompt": 0, "words": 0, "strength": min(1, len(strengths) - 1)}
    data = {"networks": told, "prompts": list(prompts), "words": list(words)}
    data |= {"strengths": list(strengths), "relations": RELATIONS, "directions": DIRECTIONS}
    alt = (
        f"Pictures of the prompt {prompts[0]!r} with each of the eight relations put into "
        f"{_named(words[0])}, by {len(models)} networks: {', '.join(titles)}."
    )
    shown = [pictures[0, chosen["strength"]] for [(_, pictures), *_] in drawn]
    return Arithmetic(data, chosen, alt, lambda: _still(titles, shown))


def _named(words: str) -> str:
    return "its relation words" if words == "relation" else f"the words of {words}"


def _drawn(
    model: Model, prompt: str, words: Sequence[str], strengths: Sequence[float], seed: int
) -> tuple[dict, np.ndarray]:
    """What the page shows of a prompt, and its pictures [words, strength, target, y, x, rgb]."""
    rows = [
        sample(
            model.network,
            Rewired(model.encoder, group.split(), lambda _, to=target: to, strength),
            [prompt],
            [seed],
            **model.how(),
        )[0].numpy()
        for group in words
        for strength in strengths
        for target in RELATIONS
    ]
    pictures = np.stack(rows).reshape(len(words), len(strengths), len(RELATIONS), *rows[0].shape)
    size = model.network.config.image_size
    plain = model.draw(prompt, seed)[0]
    places = [_places(picture, prompt) for picture in (*rows, plain)]
    told = {
        # One row a group and strength, one column a target.
        "pictures": picture_url(pictures.swapaxes(2, 3).reshape(-1, len(RELATIONS) * size, 3)),
        "plain": picture_url(plain),
        "places": packed(np.reshape(places[:-1], (*pictures.shape[:3], 4)), 0, 1, 16),
        "there": packed(np.array(places[-1]), 0, 1, 16),
        "told": parse(prompt).relation,
    }
    return told, pictures


def _places(picture: np.ndarray, prompt: str) -> list[float]:
    """x, y of object 1 and of object 2, in shares of the picture; NaN unless both are there."""
    pair = bound_pair(detect(picture), parse(prompt))
    return [v / CANVAS for found in pair for v in (found.x, found.y)] if pair else [np.nan] * 4


def _still(titles: Sequence[str], shown: Sequence[np.ndarray]) -> Figure:
    """The edits of the first group, a row a network."""
    figure, axes = plt.subplots(len(shown), 8, figsize=(8.6, 1.5 * len(shown)), squeeze=False)
    for row, title, pictures in zip(axes, titles, shown, strict=True):
        for axis, picture, target in zip(row, pictures, RELATIONS, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_title(target, fontsize=8)
            axis.axis("off")
        row[0].text(0, -22, title, fontsize=9)
    return figure

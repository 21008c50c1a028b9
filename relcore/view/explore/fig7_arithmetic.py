"""Figure 7: vector arithmetic, another relation put into some of the prompt's words."""

from collections.abc import Sequence

import numpy as np
import torch

from ...data.encoders import Text
from ...data.prompts import parse
from ...data.scenes import CANVAS, RELATIONS
from ...data.scoring import bound_pair, detect, relation_loose
from ...face import Model
from ...kernels.circuits import DIRECTIONS
from ...kernels.factors import Rewired
from ...model.diffusion import sample
from .base import Explorable, packed, picture_rows, picture_url, source, titled

WORDS = ("relation", "color1 color2", "shape1 shape2")
# What an edited picture shows, judged against the unedited one of the same noise.
OUTCOMES = ("own", "none", "missing", "follows", "so before", "unmoved", "elsewhere")
STILL = 5  # units of the canvas; objects that moved less against each other have not moved


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

    A picture follows a target if it shows it and the unedited picture of the same noise does not.
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
    data["states"] = OUTCOMES
    alt = (
        f"Pictures of the prompt {prompts[0]!r} with each of the eight relations put into "
        f"{_named(words[0])}, by {len(models)} networks: {', '.join(titles)}."
    )
    shown = [
        dict(zip(RELATIONS, pictures[0, chosen["strength"]], strict=True))
        for [(_, pictures), *_] in drawn
    ]
    return Arithmetic(data, chosen, alt, lambda: picture_rows(titles, shown))


def _named(words: str) -> str:
    return "its relation words" if words == "relation" else f"the words of {words}"


class _Readings:
    """One prompt, of which `sample` draws as many pictures as there are readings of its words."""

    def __init__(self, text: Text):
        self.text = text  # a row a picture, and the empty prompt

    def encode(self, prompts: list[str]) -> Text:
        return self.text


def _edits(words: Sequence[str], strengths: Sequence[float], own: int) -> dict[tuple, list[tuple]]:
    """The edits that make different pictures, (group, strength, target), each with the places
    [words, strength, target] where its picture stands.

    At strength 0 the target does not matter, and at 1 the prompt's own relation changes nothing:
    the edit None.
    """
    places: dict[tuple | None, list[tuple]] = {None: []}
    for g, group in enumerate(words):
        for s, strength in enumerate(strengths):
            for r, target in enumerate(RELATIONS):
                edit = (group, strength, target if strength else RELATIONS[own])
                places.setdefault(None if strength == 1 and r == own else edit, []).append(
                    (g, s, r)
                )
    return places


def _drawn(
    model: Model, prompt: str, words: Sequence[str], strengths: Sequence[float], seed: int
) -> tuple[dict, np.ndarray]:
    """What the page shows of a prompt, and its pictures [words, strength, target, y, x, rgb]."""
    own = parse(prompt).relation
    edits = _edits(words, strengths, own)
    rewired = {group: Rewired(model.encoder, group.split(), lambda _: None) for group in words}
    plain = model.encoder.encode([prompt, ""])
    rows = [plain.embeddings[:1]]
    for group, strength, target in filter(None, edits):
        rewired[group].strength, rewired[group].other = strength, lambda _, to=target: to
        rows.append(rewired[group].encode([prompt, ""]).embeddings[:1])
    each = [0] * len(rows) + [1]  # the unconditional prompt last
    text = Text(torch.cat([*rows, plain.embeddings[1:]]), plain.mask[each], plain.roles[each])
    again = [prompt] * len(rows), [seed] * len(rows)
    how = model.how(batch=len(rows))
    drawn = sample(model.network, _Readings(text), *again, **how).numpy()

    shape = len(words), len(strengths), len(RELATIONS)
    index = np.zeros(shape, int)
    for k, places in enumerate(edits.values()):
        for place in places:
            index[place] = k
    pictures, size = drawn[index], model.network.config.image_size
    where = np.array([_places(picture, prompt) for picture in drawn])
    outcomes = [
        OUTCOMES.index(_outcome(where[k], where[0], r, own, strengths[s]))
        for (_, s, r), k in np.ndenumerate(index)
    ]
    told = {
        # One row a group and strength, one column a target.
        "pictures": picture_url(pictures.swapaxes(2, 3).reshape(-1, len(RELATIONS) * size, 3)),
        "plain": picture_url(drawn[0]),
        "places": packed(where[index], 0, 1, 16),
        "there": packed(where[0], 0, 1, 16),
        "outcomes": np.reshape(outcomes, shape).tolist(),
        "told": own,
    }
    return told, pictures


def _outcome(where: np.ndarray, there: np.ndarray, target: int, own: int, strength: float) -> str:
    """One of OUTCOMES. where, there: `_places` of the edited and of the unedited picture."""
    if target == own:
        return "own"
    if not strength:
        return "none"
    if np.isnan([*where, *there]).any():
        return "missing"
    now, before = ((p[:2] - p[2:]) * CANVAS for p in (where, there))
    if relation_loose(*before, target):
        return "so before"
    if relation_loose(*now, target):
        return "follows"
    return "unmoved" if np.abs(now - before).max() < STILL else "elsewhere"


def _places(picture: np.ndarray, prompt: str) -> list[float]:
    """x, y of object 1 and of object 2, in shares of the picture; NaN unless both are there."""
    pair = bound_pair(detect(picture), parse(prompt))
    return [v / CANVAS for found in pair for v in (found.x, found.y)] if pair else [np.nan] * 4

"""Figure 3b: which heads turn a relation into a direction, read from the weights."""

from collections.abc import Sequence

import numpy as np

from ...data.scenes import RELATIONS
from ...face import Model
from ...kernels import circuits
from ...kernels.factors import OBJECT_WORDS
from .base import Explorable, head_grids, packed, source, titled

STRIP = 48  # numbers of a vector that the page shows


class Screening(Explorable):
    _esm = source("fig3b_screening")


def screening(
    models: Sequence[Model],
    tokens: Sequence[Sequence[str]] | None = None,
    titles: Sequence[str] | None = None,
    draws: int = 2000,
) -> Screening:
    """The screening of networks side by side: a head's map of every relation, the ramp that it
    should be, and the score of every head beside the range of its null.

    tokens: what is screened, of `circuits.TOKENS`, a list a model; if not given, the relation words
    of random embeddings, and the relation's effect on each of the objects' words of a contextual
    encoder. draws: of the null, relations relabelled at random.
    """
    tokens = tokens or [OBJECT_WORDS if m.encoder.contextual else ("relation",) for m in models]
    titles = titles or [titled(model) for model in models]
    screened = [
        {token: _screened(model, token, draws) for token in mine}
        for model, mine in zip(models, tokens, strict=True)
    ]
    means = [{token: part[0][..., -1] for token, part in mine.items()} for mine in screened]
    told = [
        {"title": title, "tokens": [part[1] for part in mine.values()]}
        for title, mine in zip(titles, screened, strict=True)
    ]
    best = [max(mine, key=lambda token: np.abs(mine[token]).max()) for mine in means]
    shown = [mine[token] for mine, token in zip(means, best, strict=True)]
    sign = int(np.sign(shown[0].flat[np.abs(shown[0]).argmax()]))
    chosen = {"sign": sign, "relation": RELATIONS.index("left")}
    for k, (values, token) in enumerate(zip(shown, best, strict=True)):
        head = np.unravel_index((sign * values).argmax(), values.shape)
        chosen |= {f"head{k}": [int(i) for i in head], f"token{k}": list(means[k]).index(token)}
    ramps = packed(circuits.ramps(models[0].network.config.grid).flatten(1), -2, 2, 16)
    alt = (
        "Cosine of every head's maps of the eight relations with the ramps of their directions, "
        f"layer by head, in {len(models)} networks: " + ", ".join(titles) + "."
    )
    data = {"networks": told, "relations": RELATIONS, "ramps": ramps, "strip": STRIP}
    return Screening(data, chosen, alt, lambda: head_grids(titles, shown, -1, 1, "PiYG"))


def _screened(model: Model, token: str, draws: int) -> tuple[np.ndarray, dict]:
    """Cosines [layer, head, relation and mean] of one token, and what the page shows of it."""
    network, encoder = model.network, model.encoder
    table = circuits.screen(network, encoder, token, draws=draws)
    _, _, vectors = circuits.text_vectors(network, encoder, token)
    maps = circuits.qk_maps(network, vectors).flatten(-2)
    maps = maps - maps.mean(-1, keepdim=True)
    keys = circuits.keys(network, vectors).cpu()
    shape = network.config.depth, network.config.heads, -1
    cosines = table.cosine.to_numpy().reshape(shape)
    nulls = table.loc[table.vector == "mean", ["null_low", "null_high"]].to_numpy().reshape(shape)
    strip = vectors[:, :STRIP]
    told = {
        "token": token,
        "cosines": packed(cosines, -1, 1, 16),
        "nulls": packed(nulls, -1, 1, 16),
        # Each head's own scale: heads differ tenfold.
        "maps": packed(maps / maps.abs().amax((-2, -1), keepdim=True), -1, 1),
        "keys": packed(keys / keys.abs().amax((-2, -1), keepdim=True), -1, 1),
        "vectors": packed(strip / strip.abs().max(), -1, 1),
    }
    return cosines, told

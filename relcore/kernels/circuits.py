"""Circuits in the weights: which cross-attention head turns a relation into a direction, and what
it writes.

Screening (paper, section on head screening, and its code): a head reads the residual stream, which
early on is the fixed position table, and the text after the caption MLP. The product of its queries
at the positions and its key of a text vector is a map over the 8 x 8 image tokens; a head that
places objects by relation has maps that rise linearly in the relation's direction. Maps here are
q.k as in the paper's code: no division by sqrt(d_head), no softmax. No network is run.

The vectors screened, by `token`:
- "relation": the relation words, a vector a relation: every word at its place in the text goes
  through the caption MLP by itself, then the mean over the phrase's words and over the relation's
  prompts among the 264 of every phrase.
- "words": the paper's nine single words, read as one string at text positions 0 to 8. Only the four
  straight relations occur. Needs an encoder with a vector a word (RTE).
- "color1", "shape1", "color2", "shape2": the relation's effect vectors on that word
  (kernels.factors), after the caption MLP. The paper has the shape words; an encoder that reads
  both ways may tell as much in the colours. W_K is applied to them with its bias, as in the paper:
  that adds the same map to all eight.

Signs. An object-2 head has a *negative* cosine with shape2 or color2: its word says "object 1 is
left of me", so object 2, which the word draws, belongs on the other side. A relation word may be
read with either sign: positive marks the side where object 1 belongs, negative that of object 2;
what the head writes there must fit.
"""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.prompts import PHRASES, ROLES, suite
from ..data.scenes import COLORS, RELATIONS, SHAPES
from ..errors import RelcoreError, require
from ..model.checkpoints import manifest, open_model, shipped
from ..model.dit import DiT, affine
from ..model.evaluation import stored
from ..paths import RESULTS
from .factors import factor_table, relation_effects, word_vectors

TOKENS = ("relation", "words", "color1", "shape1", "color2", "shape2")
NULLS = ("shuffled", "words", "untrained")
# Where object 1 lies seen from object 2, as (x, y) with y downwards, in the order of RELATIONS.
DIRECTIONS = ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (1, -1), (-1, 1), (1, 1))
# The paper's nine words, in the order of its string, and the relation each stands for.
WORDS = {
    "above": "above",
    "below": "below",
    "right": "right",
    "left": "left",
    "up": "above",
    "down": "below",
    "upper": "above",
    "higher": "above",
    "lower": "below",
}
OTHER_WORDS = (*COLORS, *SHAPES, "is", "the")  # training words that name no direction
NETWORKS = 10  # freshly initialised networks behind the null "untrained"
# A map of less energy is rounding (energies are .1 to a thousand): it has no direction, cosine 0.
FLAT = 1e-3


def ramps(grid: int = 8) -> Tensor:
    """The reference map of each relation [relation, y, x], order of RELATIONS: direction . (x, y)
    on [-1, 1]^2.

    Directions have length 1, y grows downwards ("above" is high at the top); mean 0, norm 5.237 on
    8 x 8.
    """
    axis = torch.linspace(-1, 1, grid)
    # [relation, 1, 1]
    x, y = F.normalize(torch.tensor(DIRECTIONS, dtype=torch.float32))[..., None, None].unbind(1)
    maps = x * axis + y * axis[:, None]
    return maps - maps.mean((1, 2), keepdim=True)


@torch.no_grad()
def _project(model: DiT, weight: str, vectors: Tensor) -> Tensor:
    """W_Q, W_K or W_V with its bias, of every cross-attention: [vector, d] -> [layer, head, vector,
    d_head].
    """
    attention, source = (
        [block.cross_attn for block in model.blocks],
        vectors.to(model.positions)[None],
    )
    return torch.stack([a.split(getattr(a, weight)(source))[0] for a in attention])


def queries(model: DiT) -> Tensor:
    """q = W_Q positions + bias [layer, head, image, d_head]: of the bare positions, no picture, no
    earlier block.
    """
    return _project(model, "W_Q", model.positions)


def keys(model: DiT, vectors: Tensor) -> Tensor:
    """k = W_K v + bias [layer, head, vector, d_head] of vectors [vector, d] taken after the caption
    MLP.
    """
    return _project(model, "W_K", vectors)


def qk_maps(model: DiT, vectors: Tensor) -> Tensor:
    """q.k [layer, head, vector, y, x] of every head, for vectors [vector, d] taken after the
    caption MLP.

    Not divided by sqrt(d_head), no softmax (as in the paper's code). On the CPU, wherever the model
    lies.
    """
    maps = keys(model, vectors) @ queries(model).transpose(-1, -2)
    return maps.unflatten(-1, (model.config.grid, model.config.grid)).cpu()


def score(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compare maps M [..., y, x], their means removed, with all eight ramps T.

    Returns cosine = projection / energy and projection = <M, T / |T|>, both [..., relation], and
    energy = |M| [...].
    """
    flat = (maps - maps.mean((-2, -1), keepdim=True)).flatten(-2)
    energy, projection = flat.norm(dim=-1), flat @ F.normalize(ramps(maps.shape[-1]).flatten(1)).T
    return (
        torch.where(energy[..., None] > FLAT, projection / energy[..., None], 0),
        projection,
        energy,
    )


@torch.no_grad()
def _read(model: DiT, embeddings: Tensor) -> Tensor:
    """The caption MLP on the CPU's tensors, wherever the model lies."""
    return model.caption_mlp(embeddings.to(model.positions)).cpu()


def text_vectors(model: DiT, encoder, token: str) -> tuple[list[str], Tensor, Tensor]:
    """The vectors to screen (see the head of this file): names, relations int [vector], vectors
    [vector, d].

    Raises RelcoreError for an unknown token, and for "words" if the encoder has no vector for a
    single word.
    """
    require("token", token, TOKENS)
    if token == "words":
        if encoder.contextual:
            raise RelcoreError(
                f"the encoder '{encoder.name}' has no vector for a single word: "
                "screen it with token relation, or one of the objects' words"
            )
        embeddings = torch.stack([encoder.word(w) for w in WORDS]) + encoder.positions[: len(WORDS)]
        return (
            list(WORDS),
            torch.tensor([RELATIONS.index(r) for r in WORDS.values()]),
            _read(model, embeddings),
        )
    if token != "relation":
        vectors = relation_effects(encoder, token, lambda e: _read(model, e))
    else:
        prompts = suite(PHRASES)
        text = encoder.encode(prompts)
        each, told = (
            word_vectors(text, token, lambda e: _read(model, e)),
            factor_table(prompts, text).relation,
        )
        vectors = torch.stack(
            [each[torch.tensor((told == r).to_numpy())].mean(0) for r in RELATIONS]
        )
    return list(RELATIONS), torch.arange(len(RELATIONS)), vectors


def _scored(
    model: DiT, encoder, token: str, centred: bool
) -> tuple[list[str], Tensor, Tensor, Tensor]:
    """Names and relations [vector]; cosine with every ramp; cosine, projection and energy with the
    vector's own.

    Shapes [layer, head, vector, ramp] and [layer, head, vector, 3]; maps are centred over relations
    if asked.
    """
    names, relations, vectors = text_vectors(model, encoder, token)
    maps = qk_maps(model, vectors)
    if centred:  # each relation counts once, however many words it has
        maps = (
            maps
            - torch.stack([maps[:, :, relations == r].mean(2) for r in relations.unique()]).mean(0)[
                :, :, None
            ]
        )
    cosine, projection, energy = score(maps)
    own = torch.arange(len(names)), relations
    return (
        names,
        relations,
        cosine,
        torch.stack([cosine[:, :, *own], projection[:, :, *own], energy], -1),
    )


def _words_null(
    model: DiT, encoder, token: str, relations: Tensor, centred: bool, draws: int, rng
) -> Tensor:
    """Mean cosines [layer, head, draw] with words that name no direction, each at one of the
    relation words' places.
    """
    if token not in ("relation", "words") or encoder.contextual:
        raise RelcoreError(
            f"the null 'words' is for the tokens relation and words of RTE, not for '{token}' of "
            f"'{encoder.name}': take the null shuffled or untrained"
        )
    # [prompt, token]
    relation_words = encoder.encode(suite(PHRASES)).roles == ROLES.index("relation")
    places = torch.arange(len(WORDS)) if token == "words" else relation_words.any(0).nonzero()[:, 0]
    words = torch.stack([encoder.word(w) for w in OTHER_WORDS])
    maps = qk_maps(model, _read(model, (words[:, None] + encoder.positions[places]).flatten(0, 1)))
    # [layer, head, word at a place, ramp]
    cosine = score(maps - maps.mean(2, keepdim=True) if centred else maps)[0]
    chosen = rng.permuted(np.tile(np.arange(maps.shape[2]), (draws, 1)), axis=1)[
        :, : len(relations)
    ]
    return cosine[:, :, torch.from_numpy(chosen), relations].mean(-1)


def screen(
    model: DiT,
    encoder,
    token: str = "relation",
    *,
    centred: bool = False,
    null: str = "shuffled",
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Screen every cross-attention head: layer, head, token, vector, relation, cosine, projection,
    energy, nulls.

    One row a head and vector (a relation, or one of the nine words), and one with vector and
    relation "mean": the mean of the head's other rows, with null_low and null_high, the 95 % range
    of that mean cosine under the null (NaN in the other rows):
    - "shuffled": relations permuted at random among the eight. Do the labels matter, given the
      head's maps?
    - "words": training words that name no direction stand at the relation words' places (RTE only).
    - "untrained": ten networks of this size freshly initialised, all their heads. Keeps what the
      text itself gives away: "left" is a word of "upper left". The others ignore that: of untrained
      networks up to one head in eight leaves the range of "shuffled", not one in twenty.
    centred: the mean map over relations is removed first, and with it what all relations share ("to
    the") and the bias of W_K. projection and energy are in units of q.k.
    Raises RelcoreError for a token or a null that does not exist or fit.
    """
    require("null", null, NULLS)
    names, relations, cosine, values = _scored(model, encoder, token, centred)
    rng = np.random.default_rng(seed)
    if null == "words":
        drawn = _words_null(model, encoder, token, relations, centred, draws, rng)
    elif null == "shuffled":
        # [draw, vector]
        labels = rng.permuted(np.tile(np.arange(len(RELATIONS)), (draws, 1)), axis=1)[:, relations]
        # The cosine of every vector with every ramp is known: a relabelling only picks other
        # entries. [layer, head, draw]
        drawn = cosine[:, :, torch.arange(len(names)), torch.from_numpy(labels)].mean(-1)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = [
                _scored(DiT(model.config), encoder, token, centred)[3] for _ in range(NETWORKS)
            ]
        drawn = torch.stack(fresh)[..., 0].mean(-1).flatten().expand(*cosine.shape[:2], -1)
    # [layer, head, vector and mean, measure]
    values = torch.cat([values, values.mean(2, keepdim=True)], 2)
    rows = [(vector, RELATIONS[r]) for vector, r in zip(names, relations, strict=True)] + [
        ("mean", "mean")
    ]
    index = [
        (layer, head, token, *row) for layer, head in np.ndindex(*values.shape[:2]) for row in rows
    ]
    table = pd.DataFrame(index, columns=["layer", "head", "token", "vector", "relation"])
    table[["cosine", "projection", "energy"]] = values.flatten(0, 2).numpy()
    # [low and high, head of any layer]
    bounds = drawn.quantile(torch.tensor([0.025, 0.975]), dim=-1).flatten(1)
    table.loc[table.relation == "mean", ["null_low", "null_high"]] = bounds.T.numpy()
    return table


def screened(name: str, token: str) -> pd.DataFrame:
    """`screen` of a released model's raw maps; from its table in `results` if only that is shipped.

    Raises RelcoreError if the model is unknown, the token does not fit it, or its table is missing.
    """
    if name in manifest() and name not in shipped():
        table = stored(path := RESULTS / "screening" / f"{name}-end.parquet")
        if token not in set(table.get("token", ())):
            raise RelcoreError(
                f"'{path}' has no scores of token {token} for '{name}': restore it from git"
            )
        return table[table.token == token].reset_index(drop=True)
    model, _, encoder, _ = open_model(name)
    return screen(model, encoder, token)


def nulls(model: DiT, encoder, token: str = "relation", **options) -> pd.DataFrame:
    """Mean cosines beside every null that fits: layer, head, token, null, cosine, null_low,
    null_high; as `screen`.
    """
    fits = [
        n
        for n in NULLS
        if n != "words" or (token in ("relation", "words") and not encoder.contextual)
    ]
    tables = [
        screen(model, encoder, token, null=null, **options).assign(null=null) for null in fits
    ]
    means = pd.concat(tables).query("relation == 'mean'")
    return means[["layer", "head", "token", "null", "cosine", "null_low", "null_high"]].reset_index(
        drop=True
    )


@torch.no_grad()
def ov(model: DiT, layer: int, head: int) -> Tensor:
    """W_V then W_O of one head [d, d], without biases: text vector @ ov is what the head writes of
    it.
    """
    if not (0 <= layer < model.config.depth and 0 <= head < model.config.heads):
        raise RelcoreError(
            f"no head L{layer}H{head}: take layers 0 to {model.config.depth - 1}, "
            f"heads 0 to {model.config.heads - 1}"
        )
    attention = model.blocks[layer].cross_attn
    w_v, w_o = (affine(layer, model.positions)[0] for layer in (attention.W_V, attention.W_O))
    w_v = w_v.unflatten(0, (attention.heads, -1))[head]  # [d_head, d]
    return (w_o.unflatten(1, (attention.heads, -1))[:, head] @ w_v).T


@torch.no_grad()
def write_directions(model: DiT, vectors: Tensor) -> Tensor:
    """What each head adds to the residual stream if it attends to one vector alone: [layer, head,
    vector, d].

    vectors: [vector, d] after the caption MLP. With the bias of W_V, without that of W_O, which no
        head owns.
    """
    w_o = torch.stack([affine(block.cross_attn.W_O, model.positions)[0] for block in model.blocks])
    w_o = w_o.unflatten(2, (model.config.heads, -1))
    return torch.einsum("lhvk,lehk->lhve", _project(model, "W_V", vectors), w_o)


def agreement(heads: pd.DataFrame, draws: int = 2000) -> pd.DataFrame:
    """How alike the measures (columns) rank the heads (rows): Spearman's correlation of every two
    of them.

    Tidy: first, second, rho, low, high, n (heads). low, high: 95 % percentile bootstrap over heads,
    without the draws in which a measure is the same for all; NaN if none is left. rho is NaN where
    a measure does not vary.
    """
    values, rng = heads.to_numpy(float), np.random.default_rng(0)
    chosen = np.concatenate(
        [[np.arange(len(values))], rng.integers(len(values), size=(draws, len(values)))]
    )
    # [head, draw] a measure
    ranks = [pd.DataFrame(column[chosen].T).rank().to_numpy() for column in values.T]
    ranks = [r - r.mean(0) for r in ranks]
    rows = []
    for i, j in combinations(range(values.shape[1]), 2):
        scale = np.sqrt((ranks[i] ** 2).sum(0) * (ranks[j] ** 2).sum(0))
        rho = np.divide(
            (ranks[i] * ranks[j]).sum(0), scale, where=scale > 0, out=np.full(draws + 1, np.nan)
        )
        drawn = rho[1:][np.isfinite(rho[1:])]
        low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (np.nan, np.nan)
        rows.append((heads.columns[i], heads.columns[j], rho[0], low, high, len(values)))
    return pd.DataFrame(rows, columns=["first", "second", "rho", "low", "high", "n"])


def along_training(run: Path, tokens: Sequence[str] = ("relation",), **options) -> pd.DataFrame:
    """The circuit's birth: `screen`'s mean rows for every snapshot of a training run, with the
    column `samples`.

    run: a folder trained with `snapshots`. options: of `screen`. Raises RelcoreError if there are
        no snapshots.
    """
    files = sorted((run / "snapshots").glob("*.safetensors"))
    if not files:
        raise RelcoreError(f"'{run}' has no snapshots: train it with --snapshots")
    tables = []
    for file in files:
        model, header, encoder, _ = open_model(str(file))
        screened = pd.concat([screen(model, encoder, token, **options) for token in tokens])
        tables.append(screened[screened.relation == "mean"].assign(samples=header["samples"]))
    return pd.concat(tables, ignore_index=True).drop(columns=["vector", "relation"])

"""Composition: what steers the object heads, and what they write.

Object heads are heads after the relation head in which object 1's image tokens attend to `shape1`
and object 2's to `shape2` (`selectivity`). Three things could tell them which object a token
belongs to, and each is tested here:
- the relation head's output itself: cross-attention reads the residual stream without a norm, so a
  vector v in it adds (v W_Q) . (W_K text + bias) / sqrt(d_head) to a later head's scores, whatever
  else stands there (`written_scores`);
- the same after the layers between have worked on it;
- the colour of what is coming up in the noisy picture. `causes` changes one of them in a stored
state of the sampling and sees how far the attention follows.

Sources: Q-composition, Elhage et al. 2021; path patching, Goldowsky-Dill et al. 2023; a direct
effect is a head's result put through the final layer alone (direct logit attribution, with pixels
for logits).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.prompts import WORD_ROLES, parse
from ..errors import RelcoreError
from ..model.dit import D_HEAD, DiT, affine, time_features, unpatchify
from .capture import capture
from .circuits import keys, ov, screen, write_directions
from .factors import word_vectors
from .interventions import Batch, Head, at_heads, by_layer, opposite
from .synopsis import image_roles
from .tags import COVERED, OBJECTS

SELECTIVE = 0.1  # the least selectivity of an object head
NEEDED = 0.1  # and the least loss of shape accuracy without it
CAUSES = ("relation head", "relation head, direct path", "colour in the picture", "both")
APART = 0.1  # two attentions that differ by less (total variation) show no cause


# --- which heads


def relation_heads(model: DiT, encoder, weights: dict[str, np.ndarray] | None = None) -> list[Head]:
    """The heads whose maps go furthest along the relations' ramps, of either sign: down to half of
    the first's size.

    By the projection of `circuits.screen`, raw maps; the strongest first. weights: {token of
    `circuits.TOKENS`: weight [layer, head]} to screen these words instead of the relation words,
    each projection times its weight and each head by its best word. A contextual encoder tells the
    relation in any word, and a head could read much that it never looks at: let the weight be the
    attention that it pays to the word.
    """
    sizes = []
    for token, weight in (weights or {"relation": np.ones(1)}).items():
        table = screen(model, encoder, token, draws=1).query("relation == 'mean'")
        table = table.set_index(["layer", "head"])
        sizes.append(table.projection.abs() * np.broadcast_to(weight.ravel(), len(table)))
    size = pd.concat(sizes, axis=1).max(axis=1).sort_values(ascending=False)
    return [Head(int(layer), int(head)) for layer, head in size[size >= size.max() / 2].index]


def selectivity(synopsis: pd.DataFrame) -> pd.DataFrame:
    """How much more an object's tokens attend to its own shape word than the other object's tokens
    do.

    layer, head, value, low, high, n: half of [object 1: shape1 - shape2] + [object 2: shape2 -
    shape1], mean over the steps. 1: each object's tokens see only their own shape word; 0: both
    objects' tokens look at the same. low, high: as if the four masses erred together, so rather too
    wide. synopsis: of `synopsis.synopsis`, reduce="mean".
    """
    rows = synopsis[
        synopsis.image_role.isin(OBJECTS) & synopsis.text_role.isin(["shape1", "shape2"])
    ]
    sign = np.where(rows.image_role.str[-1] == rows.text_role.str[-1], 0.5, -0.5)
    rows = rows.assign(value=sign * rows.mass, half=(rows.high - rows.low) / 4)
    by_step = rows.groupby(["layer", "head", "step"]).agg(
        {"value": "sum", "half": "sum", "n": "first"}
    )
    out = by_step.groupby(["layer", "head"]).agg({"value": "mean", "half": "mean", "n": "first"})
    return (
        out.assign(low=out.value - out.half, high=out.value + out.half)
        .drop(columns="half")
        .reset_index()
    )


def object_heads(
    synopsis: pd.DataFrame, after: int, changes: pd.DataFrame | None = None
) -> list[Head]:
    """The heads of layers past `after` that are selective (SELECTIVE) and, if changes are given,
    needed (NEEDED).

    changes: of `interventions.outcomes`, for ablations named as `str(Head)`; needed: shapes suffer
        without the head.
    """
    rows = selectivity(synopsis)
    rows = rows[(rows.value >= SELECTIVE) & (rows.layer > after)]
    found = [Head(int(row.layer), int(row.head)) for row in rows.itertuples()]
    if changes is None:
        return found
    lost = changes[
        (changes.metric == "shape") & (changes.change <= -NEEDED) & (changes.change_high < 0)
    ]
    return [head for head in found if str(head) in set(lost.intervention)]


# --- QK: a written vector against the text


@torch.no_grad()
def role_vectors(model: DiT, encoder, prompts: list[str]) -> Tensor:
    """What keys and values are made of, by WORD_ROLES: [prompt, role, d], after the caption MLP,
    mean of tokens.
    """
    text = encoder.encode(prompts)
    return torch.stack([word_vectors(text, role, model.caption_mlp) for role in WORD_ROLES], 1)


@torch.no_grad()
def written_scores(model: DiT, written: Tensor, vectors: Tensor) -> Tensor:
    """What vectors in the residual stream [vector, d] add to every head's scores of text vectors
    [..., d].

    [layer, head, vector, ...]: (vector W_Q) . (W_K text + bias) / sqrt(d_head). The bias of W_Q is
    left out: it is there without the vector.
    """
    # [layer, head * d_head, d]
    w_q = torch.stack([affine(block.cross_attn.W_Q, model.positions)[0] for block in model.blocks])
    q = (
        (written.to(w_q) @ w_q.transpose(1, 2))
        .unflatten(-1, (model.config.heads, D_HEAD))
        .transpose(1, 2)
    )
    scores = q @ keys(model, vectors.flatten(0, -2)).transpose(-1, -2) / D_HEAD**0.5
    return scores.unflatten(-1, vectors.shape[:-1])


def random_directions(size: float, d: int, draws: int = 200) -> Tensor:
    """Vectors [draw, d] of one size in random directions."""
    return size * F.normalize(
        torch.randn(draws, d, generator=torch.Generator().manual_seed(0)), dim=1
    )


@torch.no_grad()
def q_composition(model: DiT, source: Head, draws: int = 100) -> pd.DataFrame:
    """Composition of the source's output with later heads' queries: layer, head, value, null_low,
    null_high.

    value: |W_OV W_Q W_K^T| / (|W_OV| |W_Q W_K^T|), Frobenius norms. null: the middle 95 % for
    random W_OV of the same rank.
    """
    written = ov(model, *source[:2])
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.randn(draws, *shape, generator=generator).to(written)
        for shape in ((len(written), D_HEAD), (D_HEAD, len(written)))
    )
    matrices = torch.cat([written[None], left @ right])  # [source and draw, d, d]
    rows = []
    for layer in range(source.layer + 1, model.config.depth):
        attention = model.blocks[layer].cross_attn
        w_q, w_k = (affine(p, model.positions)[0] for p in (attention.W_Q, attention.W_K))
        for head in range(model.config.heads):
            part = slice(head * D_HEAD, (head + 1) * D_HEAD)
            qk = w_q[part].T @ w_k[part]
            values = (matrices @ qk).norm(dim=(1, 2)) / matrices.norm(dim=(1, 2)) / qk.norm()
            rows.append(
                (
                    layer,
                    head,
                    float(values[0]),
                    *values[1:].quantile(torch.tensor([0.025, 0.975])).tolist(),
                )
            )
    return pd.DataFrame(rows, columns=["layer", "head", "value", "null_low", "null_high"])


# --- the running network


@dataclass
class States:
    """Pictures on their way: what the network sees at every step, and where the objects will be.

    pictures: uint8 [picture, y, x, rgb], finished; places: [picture, object, image], each object's
        weights sum to 1;
    noisy: [step, picture, rgb, y, x]; times [step].
    """

    prompts: list[str]
    pictures: Tensor
    places: Tensor
    noisy: Tensor
    times: list[float]


def states(model: DiT, encoder, prompts: list[str], seeds: list[int], **sampling) -> States:
    """Draw a picture per (prompt, seed) and keep every step. Pictures without both objects are left
    out.
    """
    noisy, times = [], []

    def keep(state: dict) -> None:
        noisy.append(state["x"].float().cpu())
        times.append(state["t"])

    run = Batch(model, encoder, prompts, seeds, {**sampling, "callback": keep})
    pictures = run.draw()[0]
    found = [
        image_roles(p.numpy(), parse(t), model.config.grid)
        for p, t in zip(pictures, prompts, strict=True)
    ]
    good = [
        k
        for k, shares in enumerate(found)
        if shares is not None and (shares[:2] >= COVERED).any(1).all()
    ]
    if not good:
        raise RelcoreError(
            f"none of {len(prompts)} pictures shows the prompt's two objects: give more prompts or "
            "seeds"
        )
    places = torch.from_numpy(np.stack([found[k][:2] >= COVERED for k in good])).float()
    places = places / places.sum(-1, keepdim=True)
    return States(
        [prompts[k] for k in good], pictures[good], places, torch.stack(noisy)[:, good], times
    )


@torch.no_grad()
def forward(
    model: DiT,
    encoder,
    at: States,
    step: int,
    names: Iterable[str] = (),
    edits: dict | None = None,
    recolour: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """One conditional pass at a stored step, in fp32: the prediction [picture, rgb, y, x], and
    {name: activation}.

    edits: of `capture`. recolour: red and blue of the noisy picture exchanged.
    """
    x = at.noisy[step].flip(1) if recolour else at.noisy[step]
    with capture(model, names, edits) as cache:
        out = model(
            x.to(model.positions), x.new_full((len(x),), at.times[step]), encoder.encode(at.prompts)
        )
    return out, {name: value for (name, _), value in cache.items()}


def looks(model: DiT, at: States, cache: dict[str, Tensor]) -> Tensor:
    """Mean attention of each object's tokens [layer, head, picture, object, token], of captured
    patterns.
    """
    layers = (cache[f"blocks.{layer}.cross_attn.pattern"] for layer in range(model.config.depth))
    return torch.stack([torch.einsum("poi,phit->hpot", at.places, pattern) for pattern in layers])


def from_donor(
    model: DiT,
    encoder,
    at: States,
    step: int,
    heads: list[Head],
    donor: Callable[[str], str] = opposite,
) -> dict:
    """Edits: heads put out what they do for the donor's prompt, of the same noisy picture."""
    layers = by_layer(heads, "result")
    _, theirs = forward(
        model, encoder, replace(at, prompts=[donor(p) for p in at.prompts]), step, layers
    )
    return at_heads(heads, "result", lambda name, *_: theirs[name][:, layers[name]])


def causes(
    model: DiT, encoder, at: States, steps: Iterable[int], sources: list[Head], draws: int = 300
) -> pd.DataFrame:
    """What attention after any of `sources`, the relation heads, follows when the two objects are
    to change places. Empty if no layer comes after them.

    CAUSES: the sources put out what they do for the opposite relation; the same, but every other
    layer after them puts out what it did before, so that the change reaches a head through the
    residual stream alone ("direct path"); red and blue of the noisy picture are exchanged; both,
    the picture and the sources. step, layer, head, cause, value, low, high, gap, n. value: how far
    the attention at each object's places goes over to that at the other's, a regression: 0 stays, 1
    is exchanged; low, high: 95 % bootstrap over pictures. gap: how different the two are to begin
    with (total variation; value is NaN below APART).
    """
    layers = {source.layer for source in sources}
    outputs = [f"blocks.{min(layers)}.mlp_out"]
    for layer in range(min(layers) + 1, model.config.depth):
        parts = (
            ("attn_out", "mlp_out")
            if layer in layers
            else ("attn_out", "cross_attn_out", "mlp_out")
        )
        outputs += [f"blocks.{layer}.{part}" for part in parts]
    names = ["blocks.*.cross_attn.pattern"]
    chosen = np.random.default_rng(0).integers(len(at.prompts), size=(draws, len(at.prompts)))
    rows = []
    for step in steps:
        _, base = forward(model, encoder, at, step, [*names, *outputs])
        frozen = {name: lambda value, _, kept=base[name]: kept for name in outputs}
        theirs = from_donor(model, encoder, at, step, sources)
        own = looks(model, at, base)
        way = own.flip(3) - own  # towards the other object's attention
        length = way.square().sum((3, 4))  # [layer, head, picture]
        gap = (way.abs().sum(-1) / 2).mean((2, 3))
        changes = ((theirs, False), (theirs | frozen, False), ({}, True), (theirs, True))
        for cause, (edits, recolour) in zip(CAUSES, changes, strict=True):
            _, changed = forward(model, encoder, at, step, names, edits, recolour)
            along = ((looks(model, at, changed) - own) * way).sum((3, 4))
            # [layer, head, draw]
            drawn = along[..., chosen].sum(-1) / length[..., chosen].sum(-1).clamp(min=1e-9)
            values = [
                along.sum(-1) / length.sum(-1),
                *drawn.quantile(torch.tensor([0.025, 0.975]), dim=-1),
            ]
            for layer, head in np.ndindex(*gap.shape):
                if layer > min(layers) and Head(layer, head) not in sources:
                    three = [
                        float(v[layer, head]) if gap[layer, head] >= APART else np.nan
                        for v in values
                    ]
                    rows.append(
                        (step, layer, head, cause, *three, float(gap[layer, head]), len(at.prompts))
                    )
    return pd.DataFrame(
        rows, columns=["step", "layer", "head", "cause", "value", "low", "high", "gap", "n"]
    )


# --- OV: what is written, and what is drawn of it


@torch.no_grad()
def writes(model: DiT, encoder, at: States, attention: Tensor) -> Tensor:
    """What every head writes at the objects [layer, head, picture, object, d]: of `looks` and the
    weights.
    """
    embeddings = encoder.encode(at.prompts).embeddings
    values = write_directions(
        model, model.caption_mlp(embeddings.to(model.positions)).flatten(0, 1)
    )
    return attention @ values.unflatten(2, embeddings.shape[:2])


def told(written: Tensor, labels: Tensor, fold: Tensor) -> Tensor:
    """Whether each vector [n, d] lies nearest to the mean of its own label's vectors of the other
    folds: bool [n].
    """
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.neighbors import NearestCentroid

    x, y, groups = written.numpy(), labels.numpy(), fold.numpy()
    nearest = cross_val_predict(NearestCentroid(), x, y, groups=groups, cv=LeaveOneGroupOut())
    return torch.from_numpy(nearest == y)


@torch.no_grad()
def decode(model: DiT, vectors: Tensor, t: float, spread: Tensor | float) -> Tensor:
    """Pixels [..., y, x, rgb] that vectors in the last residual stream [..., d] add to their image
    token's patch.

    The final layer with its norm frozen: vectors lose their mean, are divided by `spread` (standard
    deviation of the stream's entries at such tokens) and scaled for the time t. So it is linear, in
    units of the picture's [-1, 1], and leaves out all that the layers between a head and the end
    make of what it writes.
    """
    time = model.time_mlp(time_features(torch.tensor([float(t)]).to(model.positions)))
    scale = (time[:, None] + model.final_scale_shift)[0, 1]
    x = (vectors - vectors.mean(-1, keepdim=True)).to(scale) / spread * (1 + scale)
    return (
        (x @ model.unembed.weight.T)
        .unflatten(-1, (model.config.patch, model.config.patch, 3))
        .cpu()
    )


def effects(model: DiT, encoder, at: States, step: int, heads: list[Head]) -> tuple[Tensor, Tensor]:
    """What heads change in the prediction at a step: (total, direct), each [picture, rgb, y, x].

    Against their mean result over these pictures. total: the prediction with them less that
    without; direct: the difference of their results through `decode`, with each token's own spread.
    """
    layers = by_layer(heads, "result")
    last = f"blocks.{model.config.depth - 1}.resid_post"
    out, cache = forward(model, encoder, at, step, [*layers, last])
    own = sum(
        (cache[n][:, which] - cache[n][:, which].mean(0)).sum(1) for n, which in layers.items()
    )
    flat = at_heads(heads, "result", lambda name, *_: cache[name][:, layers[name]].mean(0))
    without, _ = forward(model, encoder, at, step, (), flat)
    spread = cache[last].std(-1, unbiased=False, keepdim=True)
    patches = decode(model, own / spread, at.times[step], 1.0).unflatten(
        1, (model.config.grid,) * 2
    )
    return out - without, unpatchify(patches)

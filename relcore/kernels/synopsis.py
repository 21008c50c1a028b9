"""Attention synopsis: which kind of word the image tokens of an object look at, by layer, head and
step.

While pictures are drawn, every cross-attention pattern is summed over the tokens of each text role
on the spot; no map is kept. The image's roles are known only once the picture is finished, so what
is held is the role-summed attention of one batch of pictures, which is then averaged over the
tokens of each image role. A mean over
the steps is taken on the way, too: that holds a thousandth of what the maps would take (`memory`).

The paper's code (`paper_facts.md` 7) sums over an object's tokens without dividing by their number,
and takes the
maximum over the steps: reduce="sum", over_steps="max". The default, mean mass per image token, has
rows that sum to 1 over the text roles and does not grow with the object.
"""

from functools import partial

import cv2
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..data.prompts import ROLES, Prompt, parse
from ..data.scoring import bound_pair, detect, mask
from ..errors import RelcoreError, require
from ..model.diffusion import sample
from ..model.dit import DiT
from ..model.evaluation import batches
from .capture import capture

IMAGE_ROLES = ("object1", "object2", "background")
KINDS = {
    "color": ["color1", "color2"],
    "shape": ["shape1", "shape2"],
    "relation": ["relation"],
    "filler": ["filler", "special"],
}
REDUCTIONS = {
    "steps": {},
    "mean": {"over_steps": "mean"},
    "paper": {"reduce": "sum", "over_steps": "max"},
}
MAJORITY = 0.5  # a head belongs to the kind of word that gets more than this share of its attention


def role_attention(
    model: DiT, encoder, prompts: list[str], seeds: list[int], mean: bool = False, **sampling
) -> tuple[Tensor, list[Tensor], int]:
    """Draw a picture per (prompt, seed) as one batch: the pictures, and their attention to each
    text role.

    Returns uint8 [picture, y, x, rgb]; for every pass of the network (one a step; Heun's sampler
    has two) fp32 [layer, picture, head, image, text role], of the conditional branch: 64 x 7
    numbers a map, which sum to 1 over the text roles (to 1 % if the network runs in bf16); and the
    number of passes. mean: keep only the mean over the passes, a list of one. sampling: as in
    `diffusion.sample`, batch aside.
    """
    # Padding counts as special, but the network's mask leaves it no attention at all.
    # [picture, token, text role]
    roles = F.one_hot(encoder.encode(prompts).roles, len(ROLES)).to(model.positions)
    shape = (
        model.config.depth,
        len(prompts),
        model.blocks[0].cross_attn.heads,
        model.config.grid**2,
        len(ROLES),
    )
    passes: list[Tensor] = []
    last = 0

    def reduce(layer: int, pattern: Tensor, step: int) -> Tensor:
        """pattern: [batch, head, image, token], handed on untouched."""
        nonlocal last
        last, slot = step, 0 if mean else step
        if slot == len(passes):
            passes.append(pattern.new_zeros(shape, dtype=torch.float32))
        mine = pattern[: len(roles)].float()
        # Sums in fp32 also where the network runs in bf16.
        with torch.autocast(pattern.device.type, enabled=False):
            # Heads and image tokens as one axis: one product a picture, not one a head.
            masses = (mine.flatten(1, 2) @ roles).view(shape[1:])
            # A running mean, or as it is.
            passes[slot][layer].lerp_(masses, 1 / (step + 1) if mean else 1)
        return pattern

    edits = {
        f"blocks.{layer}.cross_attn.pattern": partial(reduce, layer) for layer in range(shape[0])
    }
    with capture(model, edits=edits):
        pictures = sample(model, encoder, prompts, seeds, batch=len(prompts), **sampling)
    return pictures, passes, last + 1


def image_roles(picture: np.ndarray, prompt: Prompt, grid: int = 8) -> np.ndarray | None:
    """The share of every image token that each image role covers: fp32 [image role, image].

    picture: uint8 [y, x, rgb]. Objects are the scorer's, with their outlines filled; background is
    what no detected object covers. None unless each of the prompt's two objects is found exactly
    once and some background is left.
    """
    objects = detect(picture)
    pair = bound_pair(objects, prompt)
    if not pair:
        return None
    background = ~np.logical_or.reduce([mask(found) for found in objects])
    masks = [mask(pair[0]), mask(pair[1]), background]  # bool [y, x], on the scorer's canvas
    shares = [
        cv2.resize(m.astype(np.float32), (grid, grid), interpolation=cv2.INTER_AREA) for m in masks
    ]
    return np.stack(shares).reshape(len(IMAGE_ROLES), -1) if background.any() else None


def _masses(
    model: DiT, encoder, texts: list[str], noise: list[int], mean: bool, reduce: str, **sampling
) -> tuple[Tensor, int]:
    """Attention mass of a batch's bound pictures: fp64 [step, layer, picture, head, image role,
    text role]; its maps.

    A function of its own, so that one batch's attention is gone before the next one's is made.
    """
    pictures, passes, steps = role_attention(model, encoder, texts, noise, mean, **sampling)
    found = [
        image_roles(p.numpy(), parse(t), model.config.grid)
        for p, t in zip(pictures, texts, strict=True)
    ]
    keep = [i for i, shares in enumerate(found) if shares is not None]
    shares = np.array([found[i] for i in keep], np.float32).reshape(
        len(keep), len(IMAGE_ROLES), model.config.grid**2
    )
    weights = torch.from_numpy(shares).to(passes[0])
    if reduce == "mean":
        weights = weights / weights.sum(-1, keepdim=True)
    # Layer by layer: picking the bound pictures copies, and should not double what is held.
    mass = torch.stack(
        [torch.stack([weights[:, None] @ layer[keep] for layer in step]) for step in passes]
    )
    return mass.cpu().double(), steps * mass[0, ..., 0, 0].numel()


def synopsis(
    model: DiT,
    encoder,
    prompts: list[str],
    seeds: range | list[int] = range(10),
    *,
    reduce: str = "mean",
    over_steps: str | None = None,
    progress: str | None = None,
    batch: int = 24,
    **sampling,
) -> pd.DataFrame:
    """Mean attention mass from each image role to each text role, over the pictures of prompts x
    seeds.

    Tidy: layer, head, step, image_role, text_role, mass, low, high (normal 95 % interval of the
    mean over pictures; NaN for a single one), n (pictures). A role that a prompt does not name has
    mass 0 there. Pictures in which the prompt's two objects are not both found exactly once are
    left out. attrs: pictures (drawn), left_out, maps (attention maps that went in), reduce,
    over_steps.

    reduce: "mean" per image token, or their "sum". over_steps: "max" or "mean" over a picture's
    steps; step is then -1. progress: label of the progress bar, None for no bar. sampling: as in
    `diffusion.sample`.
    Raises RelcoreError for an unknown option, or if every picture is left out.
    """
    require("reduce", reduce, ("mean", "sum"))
    require("over_steps", over_steps, ("mean", "max", None))
    parts = batches(prompts, seeds, batch)
    drawn = n = maps = 0
    total = squares = 0.0  # over pictures: [step, layer, head, image role, text role]
    for texts, noise in tqdm(
        parts, desc=progress, unit="batch", disable=progress is None, leave=False
    ):
        mass, watched = _masses(
            model, encoder, texts, noise, over_steps == "mean", reduce, **sampling
        )
        drawn, n, maps = drawn + len(texts), n + mass.shape[2], maps + watched
        if over_steps == "max":
            mass = mass.amax(0, keepdim=True)
        total, squares = total + mass.sum(2), squares + mass.square().sum(2)
    if not n:
        raise RelcoreError(
            f"none of {drawn} pictures shows the prompt's two objects, so no image token has a "
            "role: give more prompts or seeds, or a model that binds colours to shapes"
        )
    mean = total / n
    spread = (
        ((squares - n * mean.square()).clamp(min=0) / (n - 1)).sqrt()
        if n > 1
        else torch.full_like(mean, np.nan)
    )
    columns = {
        "mass": mean,
        "low": mean - 1.96 * spread / n**0.5,
        "high": mean + 1.96 * spread / n**0.5,
    }
    columns = {name: value.permute(1, 2, 0, 3, 4) for name, value in columns.items()}
    layers, heads, steps = columns["mass"].shape[:3]
    index = pd.MultiIndex.from_product(
        [range(layers), range(heads), [-1] if over_steps else range(steps), IMAGE_ROLES, ROLES],
        names=["layer", "head", "step", "image_role", "text_role"],
    )
    table = pd.DataFrame(
        {name: value.flatten().numpy() for name, value in columns.items()}, index
    ).reset_index()
    table["n"] = n
    table.attrs = {
        "pictures": drawn,
        "left_out": drawn - n,
        "maps": maps,
        "reduce": reduce,
        "over_steps": over_steps,
    }
    return table


def reductions(*data, **options) -> pd.DataFrame:
    """The `synopsis` in each of the REDUCTIONS, as one table: its columns, and reduction, pictures,
    maps.

    attrs: of the reduction "mean".
    """
    tables = {name: synopsis(*data, **how, **options) for name, how in REDUCTIONS.items()}
    table = pd.concat(
        [
            t.assign(reduction=name, pictures=t.attrs["pictures"], maps=t.attrs["maps"])
            for name, t in tables.items()
        ],
        ignore_index=True,
    )
    table.attrs = tables["mean"].attrs
    return table


def profile(table: pd.DataFrame, image_role: str = "object1") -> pd.DataFrame:
    """What each head looks at from the tokens of an image role, averaged over steps: one row a
    head.

    Tidy: layer, head, color (both colour words), shape (both), relation, filler (and special
    tokens), cluster: the kind of word that gets more than half of the attention, "mixed" if none
    does. table: of `synopsis`, reduce="mean".
    """
    if table.attrs.get("reduce", "mean") != "mean":
        raise RelcoreError(
            "a sum over an object's tokens is no share of attention: make the synopsis with "
            "reduce=mean"
        )
    require("image role", image_role, IMAGE_ROLES)
    rows = table[table.image_role == image_role]
    roles = rows.pivot_table(
        index=["layer", "head"], columns="text_role", values="mass", aggfunc="mean"
    )
    heads = pd.DataFrame(
        {kind: roles.reindex(columns=parts).sum(axis=1) for kind, parts in KINDS.items()}
    )
    return heads.assign(
        cluster=heads.idxmax(axis=1).where(heads.max(axis=1) > MAJORITY, "mixed")
    ).reset_index()


def memory(
    model: DiT,
    encoder,
    prompts: list[str],
    seeds: range | list[int] = range(10),
    *,
    batch: int = 24,
    steps: int = 18,
    guided: int = 10,
    over_steps: str | None = None,
) -> dict[str, int]:
    """Bytes of a run's attention in fp32: {"reduction": held at peak by `synopsis`, "maps": if
    every map were stored}.

    steps: passes of the network; guided: those of them that run both branches (the defaults are the
        sampler's).
    reduction: one batch by text role, for every step or their mean; one layer of it on its way
    there; and the running sums. maps: all cross-attention patterns, padding included.
    """
    parts = [texts for texts, _ in batches(prompts, seeds, batch)]
    heads, tokens = model.blocks[0].cross_attn.heads, model.config.grid**2
    maps = model.config.depth * heads  # of a picture, step and branch
    kept, shown = 1 if over_steps == "mean" else steps, 1 if over_steps else steps
    # Of masses and their squares, in double precision.
    sums = 2 * 8 * shown * maps * len(IMAGE_ROLES) * len(ROLES)
    held = max(map(len, parts), default=0) * tokens * len(ROLES) * (kept * maps + heads)
    stored = sum(
        (steps + guided) * len(texts) * encoder.encode(texts).mask.shape[1] for texts in parts
    )
    return {"reduction": 4 * held + sums, "maps": 4 * maps * tokens * stored}

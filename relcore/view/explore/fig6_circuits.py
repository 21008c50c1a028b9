"""Figure 6: the two circuits, each traced through a prompt and proved by taking it apart."""

from collections.abc import Sequence

import numpy as np
import torch

from ...data.prompts import CANONICAL, WORD_ROLES, parse
from ...errors import RelcoreError
from ...face import Model
from ...kernels.composition import SELECTIVE, relation_heads
from ...kernels.factors import OBJECT_WORDS, relation_shares
from ...kernels.interventions import Head, ablate, opposite, opposite_relation, patch
from ...kernels.synopsis import image_roles
from ...kernels.tags import tag_map
from ...model.diffusion import to_pixels
from .base import (
    Explorable,
    packed,
    picture_rows,
    picture_url,
    source,
    titled,
    verdict,
    word_maps,
    words_of,
)

# With their opposites each of the eight relations once, and each order of the colours four times.
PROMPTS = (
    "red circle is above blue triangle",
    "blue triangle is to the left of red circle",
    "red square is to the upper right of blue circle",
    "blue square is to the lower right of red triangle",
)
MOST = 3  # relation heads
READS = 0.05  # of its attention at the objects' places: a head that gives no word more reads none
TRIES = 5  # noises, from `seed` on, until a prompt's and its opposite's picture show both objects
# Of the static picture, what holds numbers: (colormap, low, high).
STILL = {"what it writes": ("PiYG", -1, 1)}
STILL |= {f"object {k}'s head": ("Purples", 0, 1) for k in (1, 2)}


class Circuits(Explorable):
    _esm = source("fig6_circuits")


def circuits(
    models: Sequence[Model],
    prompts: Sequence[str] = PROMPTS,
    seed: int = 4,
    titles: Sequence[str] | None = None,
) -> Circuits:
    """The circuits of networks side by side, from the words to the picture, and their proof: what
    the encoder fuses, where the relation heads look, the tag that they write, the object heads, the
    picture, and the same noise without the relation heads or with their output from the opposite
    prompt.

    Relation heads: of `composition.relation_heads`, at most MOST; of a contextual encoder by the
    objects' words, weighed by the attention that they get here. Object heads look at the object's
    shape word or, where none does, at its colour. Taken away, heads put out their mean over these
    prompts and their opposites. seed: of the noise; a prompt takes a later one where an object is
    missing. titles: a line per model. Raises RelcoreError for a prompt that cannot be parsed, and
    for one whose objects a network does not draw.
    """
    for prompt in prompts:
        parse(prompt)
    titles = titles or [titled(model) for model in models]
    traced = [_network(model, list(prompts), seed) for model in models]
    told = [
        {"title": title, **network, "parts": parts}
        for title, (network, _, parts, _) in zip(titles, traced, strict=True)
    ]

    def drawn(prompt: str, seed: int) -> list[dict]:
        return [
            {"parts": [*_traced(model, *heads, [prompt], _drawn(model, [prompt], seed))[0], *parts]}
            for model, (_, heads, parts, _) in zip(models, traced, strict=True)
        ]

    chosen = {"stage": 6, "prompt": 0, "step": told[0]["parts"][0]["tags"]["shape"][1] - 1}
    chosen |= {f"head{k}": network["parts"][0]["loud"] for k, network in enumerate(told)}
    alt = (
        f"Of the prompt {prompts[0]!r}, for {len(models)} networks ({', '.join(titles)}): what the "
        "relation heads write, where the object heads look, the picture, and the same noise "
        "without the relation heads and with their output from the opposite prompt."
    )
    shown = [still for *_, still in traced]
    data = {"networks": told, "prompt": prompts[0]}
    return Circuits(data, chosen, alt, lambda: picture_rows(titles, shown, STILL), drawn)


def _network(model: Model, prompts: list[str], seed: int) -> tuple[dict, tuple, list[dict], dict]:
    """What the page shows of a network, its relation heads and what stands in for them, what the
    page shows of each prompt, and the static pictures of the first.
    """
    contextual, encoder = model.encoder.contextual, model.encoder
    drawn = _drawn(model, prompts, seed)
    weights = _weights(model, prompts, drawn["cache"]) if contextual else None
    heads = relation_heads(model.network, encoder, weights)[:MOST]
    names = {f"{head.name}.z" for head in heads}
    means = {
        key: z.float().unflatten(0, (-1, 2 * len(prompts))).mean(1, keepdim=True)
        for key, z in drawn["cache"].items()
        if key[0] in names
    }
    with torch.no_grad():
        shares = relation_shares(encoder, model.network.caption_mlp) if contextual else {}
    told = {"contextual": contextual, "heads": [head[:2] for head in heads], "fusion": shares}
    return told, (heads, means), *_traced(model, heads, means, prompts, drawn)


def _drawn(model: Model, prompts: list[str], seed: int) -> dict:
    """Pictures of the prompts, then of their opposites, from the same noise: the predictions of all
    steps, per prompt the shares of the objects in both pictures and the seed, what was captured.
    """
    texts, seeds = [*prompts, *map(opposite, prompts)], np.full(len(prompts), seed)
    for _ in range(TRIES):
        frames = []
        with model.capture(["blocks.*.cross_attn.pattern", "blocks.*.cross_attn.z"]) as cache:
            pictures = model.draw(
                texts,
                seeds.tolist() * 2,
                callback=lambda now, to=frames: to.append(to_pixels(now["denoised"]).numpy()),
                batch=len(texts),
            )
        drawn = zip(pictures, texts, strict=True)
        found = [image_roles(p, parse(t), model.network.config.grid) for p, t in drawn]
        shares = list(zip(found, found[len(prompts) :], strict=False))
        missing = np.array([any(part is None for part in pair) for pair in shares])
        if not missing.any():
            frames = np.stack(frames, 1)  # [picture, step, y, x, rgb]
            return {"frames": frames, "shares": shares, "seeds": seeds.tolist(), "cache": cache}
        seeds = seeds + missing
    raise RelcoreError(
        f"'{model.name}' does not draw both objects of {prompts[missing.argmax()]!r} and of its "
        f"opposite with seeds {seed} to {seed + TRIES - 1}: take another seed or prompt"
    )


def _weights(model: Model, prompts: list[str], cache: dict) -> dict[str, np.ndarray]:
    """Every head's attention to the objects' words: {role: [layer, head]}, means over pictures,
    steps and places.
    """
    rows = []
    for k, prompt in enumerate(prompts):
        looks = word_maps(model, cache, prompt, k).mean((2, 3))
        words = enumerate(words_of(model.encoder, prompt))
        rows += [(role, looks[..., w]) for w, (_, role, _) in words if role in OBJECT_WORDS]
    return {role: np.mean([look for r, look in rows if r == role], 0) for role, _ in rows}


def _traced(
    model: Model, heads: list[Head], means: dict, prompts: list[str], drawn: dict
) -> tuple[list[dict], dict]:
    """What the page shows of each prompt, and the static pictures of the first.

    means: what stands in for the heads, as in `ablate`.
    """
    changes = [
        model.draw(prompts, drawn["seeds"], intervention=change)
        for change in (ablate(heads, means), patch(heads))
    ]
    parts, stills, cache = [], [], drawn["cache"]
    for k, prompt in enumerate(prompts):
        words, frames = words_of(model.encoder, prompt), drawn["frames"][k]
        pair = [k, k + len(prompts)]  # its own picture and the opposite's
        at, other = (part[:2] / part[:2].sum(1, keepdims=True) for part in drawn["shares"][k])
        maps = word_maps(model, cache, prompt, k)  # [layer, head, step, image, word]
        looks = np.einsum("oi,lhsiw->lhow", at, maps) / maps.shape[2]
        objects = [_object_head(words, looks, heads, number) for number in (0, 1)]
        seen = np.stack([maps[*o["head"]][..., o["word"]] for o in objects])
        tags = []
        for head in heads:
            z = [cache[f"{head.name}.z", s][pair, head.head] for s in range(len(frames))]
            tag = tag_map(model.network, head, *torch.stack(z, 1), torch.from_numpy(other))
            tags.append(tag.float().numpy())
        tags = np.stack(tags)
        loud = np.abs(tags).max((1, 2)).argmax()  # the head that tells most
        peak = float(np.abs(tags[loud]).max())
        scaled = tags / (peak or 1)  # a head may write the same everywhere
        shown = [frames[-1], *(pictures[k] for pictures in changes)]
        spoken = [w for w, (_, role, _) in enumerate(words) if role in WORD_ROLES]
        most = [looks[head.layer, head.head, :, spoken].mean(1) for head in heads]
        reads = [spoken[m.argmax()] if m.max() > READS else None for m in most]
        parts.append(
            {
                "prompt": prompt,
                "opposite": CANONICAL[opposite_relation(prompt)][0],
                "words": [[word, role] for word, role, _ in words],
                "reads": reads,
                "maps": packed([maps[h.layer, h.head].swapaxes(1, 2) for h in heads], 0, 1),
                "tags": packed(scaled, -1, 1),
                "peak": peak,
                "loud": int(loud),
                "objects": objects,
                "looks": packed(seen, 0, 1),
                "shares": packed(drawn["shares"][k][0], 0, 1),
                "frames": picture_url(np.concatenate(frames, 1)),
                "pictures": picture_url(np.concatenate(shown, 1)),
                "proof": [verdict(picture, prompt) for picture in shown],
            }
        )
        grid = (model.network.config.grid,) * 2
        tiles = [scaled[loud, -1], *seen[:, -1]]
        tiles = [*(tile.reshape(grid) for tile in tiles), *shown]
        names = (*STILL, "the picture", "without the heads", "as for the opposite")
        stills.append(dict(zip(names, tiles, strict=True)))
    return parts, stills[0]


def _object_head(words: list, looks: np.ndarray, heads: list[Head], number: int) -> dict:
    """The head after the first relation head that looks most, from an object's places and not from
    the other's, at the object's shape word; if none is SELECTIVE, at its colour. looks: [layer,
    head, object, word].
    """
    roles = [role for _, role, _ in words]
    for role in ("shape", "color"):
        if (name := f"{role}{number + 1}") not in roles:
            continue
        word = roles.index(name)
        own, other = looks[:, :, number, word], looks[:, :, 1 - number, word]
        more = own - other
        more[: min(head.layer for head in heads) + 1] = -1
        for head in heads:
            more[head.layer, head.head] = -1
        head = tuple(int(i) for i in np.unravel_index(more.argmax(), more.shape))
        found = {"head": head, "word": word, "looks": [float(own[head]), float(other[head])]}
        if more.max() >= SELECTIVE:
            break
    return found

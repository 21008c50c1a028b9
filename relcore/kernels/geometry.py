"""The QK of one cross-attention head: maps while a picture is drawn, queries of places, keys of
words.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.prompts import parse
from ..errors import RelcoreError
from ..model.dit import DiT
from ..model.evaluation import batches
from .circuits import keys, qk_maps, queries
from .interventions import Batch, Head

# Words of the training phrases that name one direction, and words of the same meaning that no
# phrase has.
SYNONYMS = {
    "above": ("above", "up", "upper", "higher", "over"),
    "below": ("below", "down", "lower", "under"),
    "left": ("left", "leftward"),
    "right": ("right", "rightward"),
}
PLACE = 4  # in the text, at which words are compared: that of the second word of a phrase
UNSEEN = ("over", "under", "leftward", "rightward")


def scores_by_step(batch: Batch, head: Head) -> tuple[Tensor, Tensor]:
    """Draw a batch: its pictures, and the head's q.k while they are drawn [step, picture, token, y,
    x].

    Of the conditional branch, in the units of `circuits.qk_maps`: not divided by sqrt(d_head).
    """
    pictures, cache = batch.draw([f"{head.name}.q", f"{head.name}.k"])
    grid, n, maps = batch.model.config.grid, len(batch.prompts), []
    for step in range(1 + max(step for _, step in cache)):
        q, k = (cache[f"{head.name}.{part}", step][:n, head.head].float() for part in "qk")
        maps.append((k @ q.transpose(-1, -2)).unflatten(-1, (grid, grid)).cpu())
    return pictures, torch.stack(maps)


def direction_words(prompt: str) -> list[tuple[int, str]]:
    """(place, word) of the prompt's words that name a direction, where a token is a word."""
    known = {word for words in SYNONYMS.values() for word in words}
    return [
        (k, prompt[a:b].lower())
        for k, (a, b, role) in enumerate(parse(prompt).spans)
        if role == "relation" and prompt[a:b].lower() in known
    ]


@torch.no_grad()
def weight_maps(model: DiT, encoder, head: Head, prompt: str) -> Tensor:
    """The maps of a prompt's tokens from the weights alone [token, y, x], each at its place in the
    text.
    """
    text = encoder.encode([prompt])
    vectors = model.caption_mlp(text.embeddings[0][text.mask[0]].to(model.positions))
    return qk_maps(model, vectors)[head.layer, head.head]


def agreement_by_step(
    model: DiT,
    encoder,
    head: Head,
    prompts: list[str],
    seeds: range | list[int],
    *,
    batch: int = 24,
    **sampling,
) -> pd.DataFrame:
    """How alike the map of a direction word is while the picture is drawn to that from the weights
    alone.

    One row a picture, word and step: prompt, seed, relation (number), word, step, cosine (of the
    maps less their means), size (of the drawn map to the other).
    """
    centred = lambda maps: (maps - maps.mean((-2, -1), keepdim=True)).flatten(-2)  # noqa: E731
    rows = []
    for texts, noise in batches(prompts, seeds, batch):
        maps = scores_by_step(Batch(model, encoder, texts, noise, sampling), head)[1]
        for k, (text, seed) in enumerate(zip(texts, noise, strict=True)):
            still = centred(weight_maps(model, encoder, head, text))
            for place, word in direction_words(text):
                drawn = centred(maps[:, k, place])  # [step, image]
                cosine = F.cosine_similarity(drawn, still[place], dim=-1).tolist()
                size = (drawn.norm(dim=-1) / still[place].norm()).tolist()
                rows += [
                    (text, seed, parse(text).relation, word, step, *pair)
                    for step, pair in enumerate(zip(cosine, size, strict=True))
                ]
    return pd.DataFrame(
        rows, columns=["prompt", "seed", "relation", "word", "step", "cosine", "size"]
    )


def query_components(model: DiT, head: Head) -> tuple[Tensor, Tensor, float]:
    """Principal components of the queries at the bare positions: maps [component, y, x], shares of
    the variance, and the share of it that is linear in x and y (the best plane through the
    queries).
    """
    grid = model.config.grid
    q = queries(model)[head.layer, head.head].double()
    q = q - q.mean(0)
    u, s, _ = torch.linalg.svd(q, full_matrices=False)
    axis = torch.linspace(-1, 1, grid, dtype=torch.float64)
    # [image, (x, y)], mean 0
    plane = torch.stack([axis.repeat(grid), axis.repeat_interleave(grid)], 1)
    fitted = plane @ torch.linalg.lstsq(plane, q).solution
    maps = (u * s).T.unflatten(-1, (grid, grid))
    return (
        maps.float(),
        (s.square() / s.square().sum()).float(),
        float(fitted.square().sum() / q.square().sum()),
    )


@torch.no_grad()
def word_cosines(model: DiT, encoder, head: Head, words: Sequence[str] | None = None) -> dict:
    """Cosines between words {stage: table word by word}: as encoded, after the caption MLP, as the
    head's keys.

    All are read at one PLACE in the text. Needs an encoder with a vector a word; else RelcoreError.
    """
    if encoder.contextual:
        raise RelcoreError(f"the encoder '{encoder.name}' has no vector for a single word")
    words = list(words or [word for group in SYNONYMS.values() for word in group])
    raw = torch.stack([encoder.word(word) for word in words]) + encoder.positions[PLACE]
    read = model.caption_mlp(raw.to(model.positions))
    stages = {
        "encoded": raw,
        "after the caption MLP": read,
        "keys": keys(model, read)[head.layer, head.head],
    }
    cosine = {
        stage: F.cosine_similarity(v[:, None], v[None], dim=-1).cpu().numpy()
        for stage, v in stages.items()
    }
    return {stage: pd.DataFrame(matrix, words, words) for stage, matrix in cosine.items()}


def merged(table: pd.DataFrame) -> tuple[float, float]:
    """Mean cosine of two words of one meaning, and of two words of different meanings; words in the
    table only.
    """
    group = {word: k for k, words in enumerate(SYNONYMS.values()) for word in words}
    same = np.array([[group[a] == group[b] for b in table.columns] for a in table.index])
    pairs = np.triu(np.ones_like(same), 1).astype(bool)
    return float(table.to_numpy()[same & pairs].mean()), float(
        table.to_numpy()[~same & pairs].mean()
    )

"""Figure 3a: from one head's attention map to the grid of all heads."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ...data.prompts import ROLES, parse
from ...errors import RelcoreError
from ...face import Model
from ...kernels.synopsis import IMAGE_ROLES, image_roles
from ...model.diffusion import to_pixels
from .base import Explorable, head_grids, packed, picture_url, source, titled, words_of

RELATION = ROLES.index("relation")
AXES = ["layer", "head", "step", "image_role", "text_role"]


class Synopsis(Explorable):
    _esm = source("fig3a_synopsis")


def synopsis(
    models: Sequence[Model],
    tables: Sequence[pd.DataFrame],
    prompt: str = "red circle is above blue triangle",
    seed: int = 0,
    titles: Sequence[str] | None = None,
) -> Synopsis:
    """The attention synopsis of networks side by side, from one picture's maps to their means.

    tables: one a model, of `kernels.synopsis.reductions`, or the means of one caption form of the
    experiment "synopsis" (its column `value` is the mass). The prompt is drawn here, once a model;
    its maps are those of this picture, all else stands in the tables. titles: a line a model.
    Raises RelcoreError if a picture does not show the prompt's two objects: its tokens would have
    no kinds.
    """
    titles = titles or [titled(model) for model in models]

    def drawn(prompt: str, seed: int) -> list[dict]:
        return [_example(model, prompt, seed) for model in models]

    told = [
        {"title": title, **_means(table), **example}
        for title, table, example in zip(titles, tables, drawn(prompt, seed), strict=True)
    ]
    means = [_table(table, "mean")[0][:, :, 0] for table in tables]
    heads = [_striking(mean) for mean in means]
    where = int(
        means[0][heads[0]][:2, RELATION].argmax()
    )  # which object looks at the relation more
    chosen = {"stage": 3, "step": told[0]["steps"]["shape"][2] - 1}
    chosen |= {"from": where, "to": RELATION}
    chosen |= {f"head{k}": [int(i) for i in head] for k, head in enumerate(heads)}
    alt = (
        f"Attention of every head from {IMAGE_ROLES[where].replace('ct', 'ct ')} to the relation "
        f"words, layer by head, in {len(models)} networks: " + ", ".join(titles) + "."
    )
    data = {"networks": told, "prompt": prompt, "places": IMAGE_ROLES, "roles": ROLES}
    shown = [mean[..., where, RELATION] for mean in means]
    return Synopsis(data, chosen, alt, lambda: head_grids(titles, shown, 0, 1, "Purples"), drawn)


def _striking(mean: np.ndarray) -> tuple[int, int]:
    """The head that looks most from an object at the relation words; where none does, at a word."""
    relation, words = (mean[:, :, :2, k].max((-2, -1)) for k in ([RELATION], slice(5)))
    chosen = relation if relation.max() > 0.05 else words
    return np.unravel_index(chosen.argmax(), chosen.shape)


def _table(table: pd.DataFrame, reduction: str) -> tuple[np.ndarray, ...]:
    """Mass, low and high [layer, head, step, image role, text role] of one reduction."""
    rows = table.rename(columns={"value": "mass"})
    rows = rows[rows.reduction == reduction].set_index(AXES)
    rows = rows.loc[~rows.index.duplicated()]
    sizes = [rows.index.get_level_values(name).nunique() for name in AXES[:3]]
    index = pd.MultiIndex.from_product(
        [*(sorted(rows.index.unique(name)) for name in AXES[:3]), IMAGE_ROLES, ROLES]
    )
    rows = rows.reindex(index)
    return tuple(
        rows[name].to_numpy(float).reshape(*sizes, len(IMAGE_ROLES), len(ROLES))
        for name in ("mass", "low", "high")
    )


def _means(table: pd.DataFrame) -> dict:
    """What the page shows of a model's table."""
    steps, means = _table(table, "steps"), _table(table, "mean")
    return {
        "steps": packed(steps[0], 0, 1, 16),
        "mean": packed(np.stack([part[:, :, 0] for part in means]), -0.1, 1.1, 16),
        "n": int(table.n.max()),
    }


def _example(model: Model, prompt: str, seed: int) -> dict:
    """One picture: its words, its maps [layer, head, step, image, word] and the kinds of its
    tokens.
    """
    frames = []
    with model.capture(["blocks.*.cross_attn.pattern"]) as cache:
        [picture] = model.draw(
            prompt, seed, callback=lambda now: frames.append(to_pixels(now["denoised"])[0].numpy())
        )
    shares = image_roles(picture, parse(prompt), model.network.config.grid)
    if shares is None:
        raise RelcoreError(
            f"'{model.name}' does not draw both objects of {prompt!r} with seed {seed}, so the "
            "tokens of its picture have no kinds: take another seed or prompt"
        )
    words = words_of(model.encoder, prompt)
    passes = max(step for _, step in cache) + 1
    maps = np.stack(
        [
            [
                cache[f"blocks.{layer}.cross_attn.pattern", step][0].float().cpu().numpy()
                for step in range(passes)
            ]
            for layer in range(model.network.config.depth)
        ]
    )  # [layer, step, head, image, token]
    maps = np.stack([maps[..., tokens].sum(-1) for _, _, tokens in words], -1).swapaxes(1, 2)
    return {
        "words": [[word, role] for word, role, _ in words],
        "maps": packed(maps, 0, 1),
        "shares": packed(shares, 0, 1),
        "frames": picture_url(np.concatenate(frames, 1)),
        "passes": len(frames),
    }

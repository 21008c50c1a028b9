"""Figure 3a: from one head's attention map to the grid of all heads."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ...data.prompts import ROLES, WORD_ROLES, parse
from ...errors import RelcoreError
from ...face import Model
from ...kernels.synopsis import IMAGE_ROLES, image_roles
from ...model.diffusion import to_pixels
from .base import Explorable, head_grids, packed, picture_url, source, titled, word_maps, words_of

RELATION = ROLES.index("relation")
LOOKS = 0.25  # of its attention: a head that gives the relation words less has an empty cell
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
    its maps are those of this picture, all else stands in the tables. Each network starts with what
    is striking in it: a head that looks at the relation words, or, where a note says that none
    does, the head that looks most at another word. titles: a line a model.
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
    chosen = {"stage": 3, "step": told[0]["steps"]["shape"][2] - 1}
    shown, pairs = [], []
    for k, (mean, network) in enumerate(zip(means, told, strict=True)):
        *head, place, role, network["note"] = _striking(mean)
        chosen |= {f"head{k}": head, f"from{k}": place, f"to{k}": role}
        shown.append(mean[..., place, role])
        pairs.append(f"{IMAGE_ROLES[place].replace('ct', 'ct ')} to {_spoken(ROLES[role])}")
    alt = (
        f"Attention of every head, layer by head, in {len(models)} networks: "
        + "; ".join(f"{title}, {pair}" for title, pair in zip(titles, pairs, strict=True))
        + "."
    )
    data = {"networks": told, "prompt": prompt, "places": IMAGE_ROLES, "roles": ROLES}
    below = [f"{title}\n{pair}" for title, pair in zip(titles, pairs, strict=True)]
    return Synopsis(data, chosen, alt, lambda: head_grids(below, shown, 0, 1, "Purples"), drawn)


def _striking(mean: np.ndarray) -> tuple[int, int, int, int, str]:
    """The head, object and kind of word with the most attention, of the relation words unless no
    head looks at them; then the note that says so.

    mean: [layer, head, image role, text role].
    """
    objects = mean[:, :, :2]
    to_relation = objects[..., RELATION]
    note, kinds = "", [RELATION]
    if to_relation.max() < LOOKS:
        layer, head, _ = np.unravel_index(to_relation.argmax(), to_relation.shape)
        note = (
            "No head looks at the relation words: "
            f"at most {to_relation.max():.2f} (L{layer}H{head})."
        )
        kinds = [ROLES.index(role) for role in WORD_ROLES if role != "relation"]
    found = objects[..., kinds]
    *place, kind = (int(i) for i in np.unravel_index(found.argmax(), found.shape))
    return *place, kinds[kind], note


def _spoken(role: str) -> str:
    """A kind of word as it is called in running text."""
    return f"{role} words" if role == "relation" else f"{role[:-1]} {role[-1]}"


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
    return {
        "words": [[word, role] for word, role, _ in words_of(model.encoder, prompt)],
        "maps": packed(word_maps(model, cache, prompt), 0, 1),
        "shares": packed(shares, 0, 1),
        "frames": picture_url(np.concatenate(frames, 1)),
        "passes": len(frames),
    }

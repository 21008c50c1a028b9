"""Vector arithmetic: tell single words another relation, and see whose relation the pictures show.

In a word's embedding the effect vector of the relation told is exchanged for `strength` times that
of another, e - v[told] + strength v[target], before the caption MLP (paper, T5 vector manipulation;
`factors.Rewired`). All other words, the relation words among them, still tell the prompt's own
relation.
"""

from functools import partial
from pathlib import Path

import pandas as pd

from ..data.prompts import ROLES
from ..data.scenes import RELATIONS
from ..data.scoring import proportion
from ..errors import require
from ..model.dit import DiT
from ..model.evaluation import evaluate, plain, resumable
from .factors import Rewired
from .interventions import obeys, with_relation


def arithmetic(
    model: DiT,
    encoder,
    words: list[str],
    strengths: list[float],
    prompts: list[str],
    seeds: range | list[int],
    file: Path | None = None,
    settings: dict | None = None,
    *,
    command: str = "",
    progress: str | None = None,
    **sampling,
) -> pd.DataFrame:
    """`evaluate`'s rows for every group of words, strength and target relation: all 8 x 8 pairs
    with balanced prompts.

    words: groups of roles edited together, such as "shape2" or "color1 color2". Columns added:
    words, strength, target, donor_loose (the target's loose relation holds), run. Target and prompt
    alike at strength 1 change nothing.
    file, settings, command, progress: as in `resumable`.
    """
    for role in " ".join(words).split():
        require("word", role, ROLES)

    def run(group: str, strength: float, target: str) -> pd.DataFrame:
        told = Rewired(encoder, group.split(), lambda _: target, strength)
        rows = evaluate(model, told, prompts, seeds, **sampling)
        rows = obeys(rows, lambda prompt: with_relation(prompt, target))
        return rows.assign(words=group, strength=strength, target=target)

    runs = {
        f"{group}, {target} x {strength:g}": partial(run, group, strength, target)
        for group in words
        for strength in strengths
        for target in RELATIONS
    }
    settings = {
        **(settings or {}),
        "prompts": len(prompts),
        "seeds": list(seeds),
        **plain(sampling),
    }
    return resumable(runs, file, settings, command=command, progress=progress)


def obedience(table: pd.DataFrame) -> pd.DataFrame:
    """Whose relation the pictures show, the prompt's (`own`) or the target's (`target`), where the
    two differ.

    table: of `arithmetic`. Tidy: words, strength, shows, share, low, high (Wilson), n; loose
        relation.
    """
    rows = []
    for key, mine in table[table.relation != table.target].groupby(
        ["words", "strength"], sort=False
    ):
        for shows, column in (("own", "relation_loose"), ("target", "donor_loose")):
            rows.append((*key, shows, *proportion(mine[column])))
    return pd.DataFrame(rows, columns=["words", "strength", "shows", "share", "low", "high", "n"])

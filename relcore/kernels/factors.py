"""Where the relation stands in the text: variance partition and effect vectors of word embeddings.

A word's vectors over a closed prompt suite are explained by the factors of the prompt (its own colour
and shape, the relation, the other shape) in an additive linear model, as in the paper's analysis of T5.
Vectors are [prompt, d], taken by `word_vectors`; factors are a table of categories, one row a prompt.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.encoders import Text
from ..data.prompts import ROLES, parse
from ..data.scenes import RELATIONS
from ..errors import RelcoreError


def word_vectors(text: Text, role: str, mlp=None) -> Tensor:
    """Vectors [prompt, d] of the word with that role: the mean of its pieces, after `mlp` if given.

    mlp: a model's `caption_mlp`, which reads every piece by itself. Raises RelcoreError if a prompt lacks the role.
    """
    mine = (text.roles == ROLES.index(role)) & text.mask  # [prompt, token]
    if not mine.any(1).all():
        raise RelcoreError(f"{int((~mine.any(1)).sum())} prompts have no word with the role '{role}'")
    tokens = mlp(text.embeddings) if mlp else text.embeddings  # [prompt, token, d]
    return (tokens * mine[..., None]).sum(1) / mine.sum(1, keepdim=True)


def factor_table(prompts: list[str], text: Text) -> pd.DataFrame:
    """The factors of each prompt: relation, phrase, shape1, shape2, object1, object2 ("red square") and length.

    length: tokens of the relation phrase, which decide where the second object's words stand.
    """
    told = {"phrase": ["relation"], "shape1": ["shape1"], "shape2": ["shape2"],
            "object1": ["color1", "shape1"], "object2": ["color2", "shape2"]}  # fmt: skip
    parsed = [parse(prompt) for prompt in prompts]
    columns = {
        name: [" ".join(p.text[start:end] for start, end, role in p.spans if role in roles) for p in parsed]
        for name, roles in told.items()
    }
    relation = pd.Categorical([RELATIONS[p.relation] for p in parsed], RELATIONS)
    length = (text.roles == ROLES.index("relation")).sum(1).numpy()
    return pd.DataFrame({"relation": relation, **columns, "length": length}).astype("category")


def _indicators(column: pd.Series) -> np.ndarray:
    """1 where the prompt has the level: [prompt, level]."""
    return pd.get_dummies(column.astype("category"), dtype=float).to_numpy()


def effects(vectors: Tensor, factors: pd.DataFrame) -> dict[str, Tensor]:
    """Effect vectors {factor: [level, d]}, levels in the order of the column's categories.

    Additive least squares over all factors at once; the vectors of a factor sum to zero (paper, T5 analysis).
    Factors that cannot be told apart (colour 1 and colour 2) share their effect. Raises RelcoreError if a level of
    a factor never occurs.
    """
    designs = {name: _indicators(column) for name, column in factors.items()}
    if missing := [name for name, design in designs.items() if not design.any(0).all()]:
        raise RelcoreError(f"some levels of '{missing[0]}' occur in no prompt: take a whole suite, or drop them")
    centred = (vectors - vectors.mean(0)).double().numpy()
    solved = np.linalg.lstsq(np.hstack([np.ones((len(centred), 1)), *designs.values()]), centred)[0][1:]
    parts = np.split(solved, np.cumsum([design.shape[1] for design in designs.values()])[:-1])
    return {name: torch.from_numpy(part - part.mean(0)).float() for name, part in zip(designs, parts, strict=True)}

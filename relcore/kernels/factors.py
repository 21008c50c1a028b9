"""Where the relation stands in the text: variance partition, effect vectors and probes of word
embeddings.

A word's vectors over a closed prompt suite are explained by the factors of the prompt (its own
colour and shape, the relation, the other shape) in an additive linear model, as in the paper's
analysis of T5. Vectors are [prompt, d], taken by `word_vectors`; factors are a table of categories,
one row a prompt.

Two traps. A linear probe finds the relation in any contextual encoder, untrained ones included, so
what counts is how much of the variance it is and whether its code carries over to another shape
word. And phrases differ in length, which moves the second object's words: where positions are added
to the words, an untrained encoder "knows" much of the relation by length alone. `fusion` reports
both.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.encoders import Text
from ..data.prompts import CANONICAL, PHRASES, ROLES, parse, suite
from ..data.scenes import RELATIONS
from ..data.scoring import proportion
from ..errors import RelcoreError


def word_vectors(text: Text, role: str, mlp=None) -> Tensor:
    """Vectors [prompt, d] of the word with that role: the mean of its pieces, after `mlp` if given.

    mlp: a model's `caption_mlp`, which reads every piece by itself. Raises RelcoreError if a prompt
        lacks the role.
    """
    mine = (text.roles == ROLES.index(role)) & text.mask  # [prompt, token]
    if not mine.any(1).all():
        raise RelcoreError(
            f"{int((~mine.any(1)).sum())} prompts have no word with the role '{role}'"
        )
    tokens = mlp(text.embeddings) if mlp else text.embeddings  # [prompt, token, d]
    return (tokens * mine[..., None]).sum(1) / mine.sum(1, keepdim=True)


def factor_table(prompts: list[str], text: Text) -> pd.DataFrame:
    """The factors of each prompt: relation, phrase, shape1, shape2, object1, object2 ("red
    square"), length, pair.

    length: tokens of the relation phrase, which decide where the second object's words stand.
    pair: above or below, left or right, upper, lower: relations whose canonical phrases are equally
        long.
    """
    told = {
        "phrase": ["relation"],
        "shape1": ["shape1"],
        "shape2": ["shape2"],
        "object1": ["color1", "shape1"],
        "object2": ["color2", "shape2"],
    }
    parsed = [parse(prompt) for prompt in prompts]
    columns = {
        name: [
            " ".join(p.text[start:end] for start, end, role in p.spans if role in roles)
            for p in parsed
        ]
        for name, roles in told.items()
    }
    relation = pd.Categorical([RELATIONS[p.relation] for p in parsed], RELATIONS)
    length = (text.roles == ROLES.index("relation")).sum(1).numpy()
    pair = [p.relation // 2 for p in parsed]
    return pd.DataFrame({"relation": relation, **columns, "length": length, "pair": pair}).astype(
        "category"
    )


# The factors of each word's vector: the object it belongs to, the relation, and the other object's
# shape.
FACTORS = {
    "color1": ["object1", "relation", "shape2"],
    "shape1": ["object1", "relation", "shape2"],
    "color2": ["object2", "relation", "shape1"],
    "shape2": ["object2", "relation", "shape1"],
    "relation": ["relation", "object1", "object2"],
}
OBJECT_WORDS = tuple(role for role in FACTORS if role != "relation")


def relation_effects(encoder, role: str, mlp=None) -> Tensor:
    """The relation's effect vectors [relation, d] on the words of a role, over the 264 prompts with
    every phrase.
    """
    prompts = suite(PHRASES)
    text = encoder.encode(prompts)
    names = FACTORS.get(role, FACTORS["relation"])
    return effects(word_vectors(text, role, mlp), factor_table(prompts, text)[names])["relation"]


def relation_shares(encoder, mlp=None) -> dict[str, float]:
    """The relation's partial R^2 of the vectors of every object's word, {role: share}, over the 264
    prompts with every phrase; as in `fusion`, without its nulls.
    """
    prompts, shares = suite(PHRASES), {}
    text = encoder.encode(prompts)
    factors = factor_table(prompts, text)
    for role in OBJECT_WORDS:
        rows = variance_partition(word_vectors(text, role, mlp), factors[FACTORS[role]], 0)
        shares[role] = float(rows.set_index("factor").partial["relation"])
    return shares


class Rewired:
    """An encoder that tells another relation in some words alone: e - v[told] + strength v[other]
    (paper, T5 analysis).

    v: the relation's effect vectors on the words of each role in `roles`, before the caption MLP.
    other: prompt -> the relation to put in; None leaves the prompt as it is. Mask and every other
    word stay.
    """

    def __init__(
        self, encoder, roles: list[str], other: Callable[[str], str | None], strength: float = 1.0
    ):
        self.encoder, self.other, self.strength = encoder, other, strength
        self.effects = {role: relation_effects(encoder, role) for role in roles}

    def encode(self, prompts: list[str]) -> Text:
        text = self.encoder.encode(prompts)
        embeddings = text.embeddings.clone()
        for k, prompt in enumerate(prompts):
            other = self.other(prompt) if prompt else None
            if other is None:
                continue
            for role, v in self.effects.items():
                mine = (text.roles[k] == ROLES.index(role)) & text.mask[k]
                embeddings[k, mine] += (
                    self.strength * v[RELATIONS.index(other)] - v[parse(prompt).relation]
                )
        return Text(embeddings, text.mask, text.roles)


def _indicators(column: pd.Series) -> np.ndarray:
    """1 where the prompt has the level: [prompt, level]."""
    return pd.get_dummies(column.astype("category"), dtype=float).to_numpy()


def _centred(vectors: Tensor) -> np.ndarray:
    return (vectors - vectors.mean(0)).double().numpy()


def effects(vectors: Tensor, factors: pd.DataFrame) -> dict[str, Tensor]:
    """Effect vectors {factor: [level, d]}, levels in the order of the column's categories.

    Additive least squares over all factors at once; the vectors of a factor sum to zero (paper, T5
    analysis). Factors that cannot be told apart (colour 1 and colour 2) share their effect. Raises
    RelcoreError if a level of a factor never occurs.
    """
    designs = {name: _indicators(column) for name, column in factors.items()}
    if missing := [name for name, design in designs.items() if not design.any(0).all()]:
        raise RelcoreError(
            f"some levels of '{missing[0]}' occur in no prompt: take a whole suite, or drop them"
        )
    centred = _centred(vectors)
    solved = np.linalg.lstsq(np.hstack([np.ones((len(centred), 1)), *designs.values()]), centred)[
        0
    ][1:]
    parts = np.split(solved, np.cumsum([design.shape[1] for design in designs.values()])[:-1])
    return {
        name: torch.from_numpy(part - part.mean(0)).float()
        for name, part in zip(designs, parts, strict=True)
    }


def explained(vectors: Tensor, factors: pd.DataFrame) -> float:
    """R^2 of the additive model: the share of the vectors' variance that these factors explain
    together.
    """
    return _share(_basis(_design(factors)), _centred(vectors))


def _design(factors: pd.DataFrame) -> np.ndarray:
    """The indicators of all factors' levels, less their means: [prompt, level]."""
    design = np.hstack(
        [np.empty((len(factors), 0)), *(_indicators(column) for _, column in factors.items())]
    )
    return design - design.mean(0)


def _basis(design: np.ndarray, beyond: np.ndarray | None = None) -> np.ndarray:
    """Orthonormal basis [prompt, rank] of what a design can explain beyond another basis."""
    left = design if beyond is None else design - beyond @ (beyond.T @ design)
    left, size, _ = np.linalg.svd(left, full_matrices=False)
    return left[:, size > 1e-9 * np.linalg.norm(design)]


def _share(basis: np.ndarray, centred: np.ndarray) -> float:
    return float(np.square(basis.T @ centred).sum() / np.square(centred).sum())


def variance_partition(
    vectors: Tensor, factors: pd.DataFrame, permutations: int = 200
) -> pd.DataFrame:
    """How much of the vectors' variance each factor explains: one row a factor, and one for all of
    them.

    marginal: R^2 of the factor alone; partial: R^2 of all factors less that of the others (paper,
        T5 analysis);
    p: share of random relabellings of this factor whose partial R^2 is as large, at least 1 /
        (permutations + 1).
    """
    rng, centred = np.random.default_rng(0), _centred(vectors)
    total, rows = _share(_basis(_design(factors)), centred), []
    for name in factors:
        mine, others = _design(factors[[name]]), _basis(_design(factors.drop(columns=name)))
        partial = total - _share(others, centred)
        shuffled = [
            _share(_basis(mine[rng.permutation(len(mine))], others), centred)
            for _ in range(permutations)
        ]
        as_large = sum(value >= partial - 1e-12 for value in shuffled)
        rows.append(
            {
                "factor": name,
                "marginal": _share(_basis(mine), centred),
                "partial": partial,
                "p": (1 + as_large) / (1 + permutations),
            }
        )
    return pd.DataFrame(
        [*rows, {"factor": "all", "marginal": total, "partial": total, "p": np.nan}]
    )


def probe_new_shape(
    vectors: Tensor, factors: pd.DataFrame, shape: str
) -> tuple[float, float, float, int]:
    """The `proportion` of relations that a linear probe reads right at a shape it was not trained
    on.

    shape: the column with the shape of the word's object. Logistic regression on standardised
    vectors; chance is one in eight, and knowing the phrase's length alone gives three or four in
    eight.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    x, y = vectors.double().numpy(), factors.relation.astype(str).to_numpy()
    return proportion(
        cross_val_predict(probe, x, y, groups=factors[shape], cv=LeaveOneGroupOut()) == y
    )


def fusion(encoder, mlp=None) -> pd.DataFrame:
    """How fused is the relation into the words? Tidy: token, measure, value, low, high, p, n.

    Over the 264 prompts with every phrase: total R^2 and the partial R^2 of "own object",
        "relation", "other shape".
    Over the 96 canonical ones: "relation at equal length", the relation's share beyond that of its
    `pair`; and "relation, new shape", the probe's. mlp: a model's `caption_mlp`, to look behind it.
    """

    def read(prompts: list[str]) -> tuple[Text, pd.DataFrame]:
        text = encoder.encode(prompts)
        return text, factor_table(prompts, text)

    every, canonical, rows = read(suite(PHRASES)), read(suite(CANONICAL)), []
    for token, names in FACTORS.items():
        own = None if token == "relation" else names[0]
        labels = {own: "own object", "relation": "relation", "all": "all"}
        text, factors = every
        for row in variance_partition(word_vectors(text, token, mlp), factors[names]).itertuples():
            label = labels.get(row.factor, "other shape" if own else row.factor)
            rows.append(
                {
                    "token": token,
                    "measure": label,
                    "value": row.partial,
                    "p": row.p,
                    "n": len(factors),
                }
            )
            if row.factor == "relation":
                rows.append(
                    {
                        "token": token,
                        "measure": "relation, marginal",
                        "value": row.marginal,
                        "n": len(factors),
                    }
                )
        text, factors = canonical
        vectors = word_vectors(text, token, mlp)
        beyond = explained(vectors, factors[["pair", "relation"]]) - explained(
            vectors, factors[["pair"]]
        )
        rows.append(
            {
                "token": token,
                "measure": "relation at equal length",
                "value": beyond,
                "n": len(factors),
            }
        )
        if own:
            found = probe_new_shape(vectors, factors, f"shape{token[-1]}")
            rows.append(
                {
                    "token": token,
                    "measure": "relation, new shape",
                    **dict(zip(("value", "low", "high", "n"), found, strict=True)),
                }
            )
    return pd.DataFrame(rows, columns=["token", "measure", "value", "low", "high", "p", "n"])

"""Tags: what the network writes at the places that become object 1, object 2 or background.

Places are known from the finished picture (`synopsis.image_roles`): an image token belongs to a
role that covers at least half of it; the others, on an outline, are left out. `collect` keeps what
activations held at these tokens while the picture was drawn. A head's *tag* is the difference
between its mean result at object 1's and at object 2's places. Everything that is fitted is judged
on prompts it was not fitted on, and intervals are over prompts, as the tokens of a picture, and
pictures of one prompt, are no independent samples.

A tag can say more than "object 1": it may depend on what object 1 is. rte-micro's relation head
writes the colour of object 1 at its place, red with one sign and blue with the other, so that a
mean over both orders of the colours hides nearly all of it. Therefore `within`: tags and probes
fitted apart for each value of a column (color1), and `contrasts`: the part that all prompts share
and the part that changes its sign.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.prompts import ROLES, parse
from ..data.scenes import COLORS, RELATIONS
from ..data.scoring import bound_pair, detect
from ..errors import RelcoreError
from ..model.dit import DiT, affine
from ..model.evaluation import batches
from .circuits import write_directions
from .interventions import Batch, Head
from .synopsis import IMAGE_ROLES, image_roles

OBJECTS = IMAGE_ROLES[:2]
COVERED = 0.5  # the share of an image token that its role must cover
DRAWS = 500  # of prompts, for the intervals of means
PENALTY = 0.01  # the probe's C: features are as many as tokens of a third of the prompts


@dataclass
class Tokens:
    """Image tokens with a role, and what activations held there.

    table: one row a token: picture (number), prompt, seed, relation, color1 (that object 1 has in
    the picture, named or not), role, image (its place, row by row), share (of it that the role
    covers).
    values: {name of an activation, or of a head: fp32 [step, token, d]}; a head's is its result.
    """

    table: pd.DataFrame
    values: dict[str, Tensor]

    def where(self, **chosen) -> "Tokens":
        """The tokens whose columns have these values: where(role="object1")."""
        keep = np.logical_and.reduce(
            [self.table[column] == value for column, value in chosen.items()]
        )
        return self.rows(np.flatnonzero(keep))

    def objects(self) -> "Tokens":
        """Without the background."""
        return self.rows(np.flatnonzero(self.table.role.isin(OBJECTS)))

    def rows(self, rows: np.ndarray) -> "Tokens":
        """The tokens of these rows of the table."""
        return Tokens(
            self.table.iloc[rows].reset_index(drop=True),
            {name: value[:, rows] for name, value in self.values.items()},
        )


def collect(
    model: DiT,
    encoder,
    prompts: list[str],
    seeds: range | list[int],
    names: Iterable[str] = (),
    heads: Iterable[Head] = (),
    *,
    background: int = 4,
    batch: int = 24,
    **sampling,
) -> Tokens:
    """Draw prompts x seeds, and keep named activations and heads' results at tokens with a role
    (conditional branch).

    names: as in `capture`, of shape [b, i, d]. background: at most so many of a picture's
    background tokens, at random, as they are ten times the objects'. Pictures without both objects
    are left out.
    Raises RelcoreError if no picture is left.
    """
    heads, rows, kept = list(heads), [], {}
    wanted = {*names, *(f"{head.name}.result" for head in heads)}
    parts, pictures = batches(prompts, seeds, batch), 0
    for texts, noise in parts:
        drawn, cache = Batch(model, encoder, texts, noise, sampling).draw(wanted)
        # (picture in the batch, image token) of every token with a role.
        at: list[tuple[int, int]] = []
        for k, (text, seed) in enumerate(zip(texts, noise, strict=True)):
            prompt, pixels = parse(text), drawn[k].numpy()
            shares = image_roles(pixels, prompt, model.config.grid)
            if shares is None:
                continue
            color1 = COLORS[bound_pair(detect(pixels), prompt)[0].color]
            told = RELATIONS[prompt.relation], color1
            for role, share in zip(IMAGE_ROLES, shares, strict=True):
                places = np.flatnonzero(share >= COVERED)
                if role == "background":
                    places = np.sort(np.random.default_rng(seed).permutation(places)[:background])
                at += [(k, place) for place in places]
                rows += [
                    (pictures, text, seed, *told, role, place, share[place]) for place in places
                ]
            pictures += 1
        picture, image = torch.tensor(at, dtype=torch.long).view(-1, 2).T
        for (name, step), value in sorted(cache.items()):
            if value.dim() == 3:  # [b, i, d]
                kept.setdefault(name, {}).setdefault(step, []).append(
                    value[picture, image].float().cpu()
                )
            for head in heads:
                if name == f"{head.name}.result":  # [b, head, i, d]
                    mine = value[picture, head.head, image].float().cpu()
                    kept.setdefault(str(head), {}).setdefault(step, []).append(mine)
    if not rows:
        raise RelcoreError(
            f"none of {sum(len(t) for t, _ in parts)} pictures shows the prompt's two objects, so "
            "no image token has a role: give more prompts, or a model that binds"
        )
    columns = ["picture", "prompt", "seed", "relation", "color1", "role", "image", "share"]
    values = {
        name: torch.stack([torch.cat(steps[s]) for s in sorted(steps)])
        for name, steps in kept.items()
    }
    return Tokens(pd.DataFrame(rows, columns=columns), values)


# --- the direction


def tag(tokens: Tokens, name: str, steps: Iterable[int] | None = None) -> tuple[Tensor, float]:
    """The tag direction: unit vector [d] and size of object 1's mean less object 2's over the steps
    (None: all).
    """
    first, second = (tokens.where(role=role).values[name].mean(1) for role in OBJECTS)  # [step, d]
    gaps = first - second
    mean = (gaps if steps is None else gaps[list(steps)]).mean(0)
    return F.normalize(mean, dim=0), float(mean.norm())


@torch.no_grad()
def tag_map(model: DiT, head: Head, z: Tensor, other: Tensor, places: Tensor) -> Tensor:
    """What a head writes in one picture along its tag in another one: [step, image].

    z, other: the head's z in the one and in the other picture [step, image, d_head]. places: of the
    other's objects [object, image], each object's weights sum to 1. The tag is the unit vector of
    the other's mean result at object 1's less that at object 2's places, so that nothing of the
    first picture is in it. Less the mean over the picture: positive says "object 1".
    """
    attention = model.blocks[head.layer].cross_attn
    w_o = affine(attention.W_O, model.positions)[0].unflatten(1, (attention.heads, -1))
    written, theirs = (part.to(w_o) @ w_o[:, head.head].T for part in (z, other))
    first, second = places.to(w_o) @ theirs.mean(0)
    values = written @ F.normalize(first - second, dim=0)
    return (values - values.mean(1, keepdim=True)).cpu()


def contrasts(tokens: Tokens, name: str, steps: Iterable[int] | None = None) -> dict:
    """The tags of the prompts with either colour of object 1, as {"common", "signed"}: (unit
    vector, size).

    signed: half their difference, what is added for one colour and taken away for the other (its
    sign is that of "blue"). common: their mean, less its part along the signed one, which is what
    an uneven choice of prompts leaves there. Raises RelcoreError unless the prompts have two.
    """
    groups = sorted(tokens.table.color1.unique())
    if len(groups) != 2:
        raise RelcoreError(
            f"the tokens have {len(groups)} values of color1, not two: give prompts with either"
        )
    one, other = (
        unit * size for unit, size in (tag(tokens.where(color1=g), name, steps) for g in groups)
    )
    unit, common = F.normalize(one - other, dim=0), (one + other) / 2
    common = common - (common @ unit) * unit
    return {
        "common": (F.normalize(common, dim=0), float(common.norm())),
        "signed": (unit, float((one - other).norm() / 2)),
    }


def stability(tokens: Tokens, name: str, steps: Iterable[int] | None = None) -> pd.DataFrame:
    """Is it one direction? Cosines of tags taken from parts of the data: over, first, second,
    cosine.

    over: "step" (of two steps) and "relation" (the tags of two relations, over the steps).
    """
    steps = range(len(tokens.values[name])) if steps is None else list(steps)
    parts = {
        "step": {step: tag(tokens, name, [step])[0] for step in steps},
        "relation": {
            r: tag(tokens.where(relation=r), name, steps)[0]
            for r in RELATIONS
            if set(OBJECTS) <= set(tokens.table.role[tokens.table.relation == r])
        },
    }
    rows = [
        (over, a, b, float(tags[a] @ tags[b]))
        for over, tags in parts.items()
        for a, b in combinations(tags, 2)
    ]
    return pd.DataFrame(rows, columns=["over", "first", "second", "cosine"])


def _apart(table: pd.DataFrame, within: str | None) -> list[np.ndarray]:
    """The rows with each value of a column; all rows if there is none."""
    return list(table.groupby(within).indices.values()) if within else [np.arange(len(table))]


# --- what it foretells


def folds(table: pd.DataFrame, by: str, number: int) -> np.ndarray:
    """A fold [token] from 0 to number - 1; all tokens with the same value of column `by` are in the
    same one.

    Prompts are dealt out so that each colour order, pair of shapes and relation falls evenly on the
    folds: with a lot more red than blue first objects in a fold, the tag would hold some of the
    difference between red and blue.
    """
    if by == "prompt":
        parsed = {prompt: parse(prompt) for prompt in table.prompt.unique()}
        factors = [
            table.prompt.map({p: str(key(q)) for p, q in parsed.items()})
            .astype("category")
            .cat.codes
            for key in (lambda q: q.colors, lambda q: q.shapes, lambda q: q.relation)
        ]
        fold = sum(code.to_numpy(int) for code in factors) % number
    # Also where a small choice of prompts falls unevenly.
    if by != "prompt" or len(np.unique(fold)) < number:
        fold = table[by].astype("category").cat.codes.to_numpy(int) % number
    if len(np.unique(fold)) < number:
        raise RelcoreError(
            f"these tokens do not fill {number} folds by {by}: give more prompts or take fewer "
            "folds"
        )
    return fold


def over_prompts(table: pd.DataFrame, column: str, seed: int = 0) -> tuple[float, float, float]:
    """Mean of a column over rows, and its 95 % interval when prompts are drawn again with
    replacement.
    """
    prompts = table.groupby("prompt")[column].agg(["sum", "count"]).to_numpy(float)
    drawn = prompts[
        np.random.default_rng(seed).integers(len(prompts), size=(DRAWS, len(prompts)))
    ].sum(1)
    return float(table[column].mean()), *map(
        float, np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    )


def prediction(
    tokens: Tokens,
    name: str,
    steps: Iterable[int] | None = None,
    *,
    by: str = "prompt",
    number: int = 2,
    within: str | None = None,
    pooled: Iterable[int] | None = None,
    draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """How well the projection on the tag, fitted on other prompts, tells which object a place will
    belong to.

    One row a step: step, auc (the chance that a token of object 1 has a higher projection than one
    of object 2, of any picture; .5 is chance), low, high (95 % bootstrap over prompts), n (tokens),
    prompts. Tokens whose tag no other fold can tell are left out; RelcoreError if that is all.
    by, number: the folds that the fit leaves out in turn, as in `folds`: by="relation", number=8
    asks whether a tag fitted on other relations will do. within: a tag of its own for each value of
    this column.
    pooled: steps whose mean tag is used at every step; None: every step has its own.
    """
    from sklearn.metrics import roc_auc_score

    tokens = tokens.objects()
    first = (tokens.table.role == OBJECTS[0]).to_numpy()
    fold, prompts = folds(tokens.table, by, number), tokens.table.prompt.astype("category").cat
    count = len(prompts.categories)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)[
        :, prompts.codes
    ]
    rows = []
    for step in range(len(tokens.values[name])) if steps is None else steps:
        score = np.full(len(first), np.nan)
        for group in _apart(tokens.table, within):
            for k in range(number):
                fit, test = group[fold[group] != k], group[fold[group] == k]
                score[test] = (
                    tokens.values[name][step, test]
                    @ tag(tokens.rows(fit), name, pooled or [step])[0]
                )
        told = np.isfinite(score)
        if not told.any():
            raise RelcoreError(
                f"no tag of {within or name} can be fitted on other prompts: give more prompts"
            )
        drawn = [roc_auc_score(first[told], score[told], sample_weight=w[told]) for w in weights]
        low, high = np.quantile(drawn, (0.025, 0.975)) if draws else (np.nan, np.nan)
        auc = roc_auc_score(first[told], score[told])
        rows.append((step, auc, low, high, int(told.sum()), count))
    return pd.DataFrame(rows, columns=["step", "auc", "low", "high", "n", "prompts"])


def probe(
    tokens: Tokens,
    names: Iterable[str],
    steps: Iterable[int],
    *,
    by: str = "prompt",
    number: int = 3,
    within: str | None = None,
    shuffled: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """A logistic regression that reads off an activation whether a token will be object 1's or
    object 2's.

    One row a name and step: name, step, accuracy on the folds left out (see `folds`), low, high (95
    % bootstrap over prompts), n. within: a probe of its own for each value of this column.
    shuffled: the objects of each picture are exchanged by the toss of a coin, for the level of
        chance.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    tokens = tokens.objects()
    first = (tokens.table.role == OBJECTS[0]).to_numpy()
    if shuffled:
        coin = (
            np.random.default_rng(seed)
            .integers(2, size=tokens.table.picture.max() + 1)
            .astype(bool)
        )
        first = first ^ coin[tokens.table.picture]
    fold, rows = folds(tokens.table, by, number), []
    for name in names:
        for step in steps:
            features, read = tokens.values[name][step].numpy(), np.zeros(len(first), bool)
            for mine in _apart(tokens.table, within):
                fitted = make_pipeline(
                    StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500)
                )
                read[mine] = cross_val_predict(
                    fitted, features[mine], first[mine], cv=PredefinedSplit(fold[mine])
                )
            value, low, high = over_prompts(
                tokens.table.assign(right=read == first), "right", seed=seed
            )
            rows.append((name, step, value, low, high, len(first)))
    return pd.DataFrame(rows, columns=["name", "step", "accuracy", "low", "high", "n"])


def levels(tokens: Tokens, name: str, direction: Tensor) -> pd.DataFrame:
    """Projection on a direction at each role's tokens: role, step, value, low, high (bootstrap over
    prompts), n.
    """
    along = tokens.values[name] @ direction  # [step, token]
    rows = []
    for role in IMAGE_ROLES:
        mine = np.flatnonzero(tokens.table.role == role)
        for step, values in enumerate(along[:, mine].numpy()):
            rows.append(
                (
                    role,
                    step,
                    *over_prompts(tokens.table.iloc[mine].assign(value=values), "value"),
                    len(mine),
                )
            )
    return pd.DataFrame(rows, columns=["role", "step", "value", "low", "high", "n"])


@torch.no_grad()
def word_tags(
    model: DiT, encoder, head: Head, direction: Tensor, prompts: list[str]
) -> pd.DataFrame:
    """From the weights alone: what the head would write of each word, projected on a direction.

    One row a role and word (role "special" for the end token; the role's name where the encoder's
    tokens are not
    words): role, word, value (mean over the places where it stands), low, high (extremes), n (times
        it stands).
    """
    text, rows = encoder.encode(prompts), []
    for k, prompt in enumerate(prompts):
        mask = text.mask[k]
        written = write_directions(
            model, model.caption_mlp(text.embeddings[k, mask].to(model.positions))
        )
        along = (written[head.layer, head.head].cpu() @ direction).tolist()
        words = [prompt[start:end] for start, end, _ in parse(prompt).spans]
        roles = [ROLES[r] for r in text.roles[k, mask]]
        words = [*words, "end"] if len(words) + 1 == len(along) else roles
        rows += zip(roles, words, along, strict=True)
    grouped = pd.DataFrame(rows, columns=["role", "word", "value"]).groupby(["role", "word"]).value
    table = grouped.agg(["mean", "min", "max", "count"]).reset_index()
    return table.set_axis(["role", "word", "value", "low", "high", "n"], axis=1)

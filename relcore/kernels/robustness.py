"""Robustness: the same request in other words. Which wordings does a network still obey, and what
moves it?

Every suite keeps the meaning of its prompts: a reader would draw the same picture.
`prompts.TEMPLATES` change fillers, articles or the order; `prompts.REWRITES` change words for
synonyms, or the spelling.
"""

from collections.abc import Iterable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.encoders import Text
from ..data.prompts import CANONICAL, PHRASES, REWRITES, ROLES, TEMPLATES, parse, suite
from ..data.scenes import RELATIONS
from ..data.scoring import METRICS, wilson
from ..model.dit import DiT
from ..model.evaluation import evaluate, plain, resumable, stored
from .circuits import DIRECTIONS
from .factors import relation_effects, word_vectors
from .interventions import with_relation

# Of the book's chapter and its tables.
SUITES = (*list(TEMPLATES)[:9], *REWRITES[:5])


def robustness(
    model: DiT,
    encoder,
    seeds: Iterable[int],
    suites: Iterable[str] = SUITES,
    *,
    phrases: dict[str, tuple[str, ...]] = PHRASES,
    file: Path | None = None,
    settings: dict | None = None,
    command: str = "",
    progress: str | None = None,
    **sampling,
) -> pd.DataFrame:
    """`evaluate` over suites of prompts in other words: its rows, with the columns `suite` and
    `run`.

    A run is one suite with one seed a prompt, so that more seeds can be added to a table later.
    file, settings,
    command, progress: as in `resumable`. Suites of the same length have the same noise, prompt by
        prompt.
    Raises RelcoreError, before anything is drawn, if a prompt of the runs that are left cannot be
    encoded.
    """

    def run(name: str, seed: int) -> pd.DataFrame:
        return evaluate(model, encoder, suite(phrases, name), [seed], **sampling).assign(suite=name)

    runs = {f"{name} {seed}": partial(run, name, seed) for seed in seeds for name in suites}
    _try_prompts(
        encoder, {f"{name} {seed}": suite(phrases, name) for seed in seeds for name in suites}, file
    )
    settings = {**(settings or {}), "phrases": sum(map(len, phrases.values())), **plain(sampling)}
    return resumable(runs, file, settings, command=command, progress=progress)


def _try_prompts(encoder, prompts: dict[str, list[str]], file: Path | None) -> None:
    """Encode the prompts of the runs that a file lacks: an encoder that is not there is missed
    before the work.
    """
    have = set(stored(file).get("run", ()))
    for name, texts in prompts.items():
        if name not in have:
            encoder.encode(texts)


def drops(table: pd.DataFrame) -> pd.DataFrame:
    """Each suite's metrics and their change against the training template.

    table: of `robustness`. Tidy: suite, metric, value, low, high (Wilson), change, change_low,
    change_high, n. The template's pictures are those of the suite's relations (only four have a
    synonym). Change: normal 95 % interval of the difference of two shares. Metrics "dx", "dy": mean
    displacement of object 1 from object 2 in canvas units, of the pictures with both (NaN if there
    are none); 0 if the prompts are obeyed, as every suite holds opposite relations alike.
    """
    rows = []
    for name, mine in table.groupby("suite", sort=False):
        plain_ = table[(table.suite == "train") & table.relation.isin(mine.relation.unique())]
        for metric in (*METRICS, "dx", "dy"):
            here, there = (t[metric].astype(float).dropna() for t in (mine, plain_))
            error, half = 1.96 * np.hypot(here.sem(), there.sem()), 1.96 * here.sem()
            low, high = (
                wilson(here.sum(), len(here))
                if metric in METRICS
                else (here.mean() - half, here.mean() + half)
            )
            change = here.mean() - there.mean()
            rows.append(
                {
                    "suite": name,
                    "metric": metric,
                    "value": here.mean(),
                    "low": low,
                    "high": high,
                    "change": change,
                    "change_low": change - error,
                    "change_high": change + error,
                    "n": len(here),
                }
            )
    return pd.DataFrame(rows)


def untouched(prompt: str) -> str:
    """The same request in the training template and its canonical words."""
    return with_relation(prompt, RELATIONS[parse(prompt).relation])


class Restored:
    """An encoder that gives the words of some roles the vectors they have in the training
    template's prompt.

    All other words keep what the perturbed prompt makes of them: does the harm go through the words
    restored? A word of another number of pieces gets the mean of the training word's pieces. Meant
    for prompts of canonical phrases.
    """

    def __init__(self, encoder, roles: Iterable[str]):
        self.encoder, self.roles = encoder, [ROLES.index(role) for role in roles]

    def encode(self, prompts: list[str]) -> Text:
        text = self.encoder.encode(prompts)
        before, embeddings = (
            self.encoder.encode([p and untouched(p) for p in prompts]),
            text.embeddings.clone(),
        )
        for k, role in product(range(len(prompts)), self.roles):
            mine, theirs = ((t.roles[k] == role) & t.mask[k] for t in (text, before))  # [token]
            word = before.embeddings[k, theirs]  # [piece, dim]
            embeddings[k, mine] = word if len(word) == int(mine.sum()) else word.mean(0)
        return Text(embeddings, text.mask, text.roles)


def restored(
    model: DiT,
    encoder,
    suites: Iterable[str],
    words: Iterable[str],
    seeds: Iterable[int],
    *,
    file: Path | None = None,
    settings: dict | None = None,
    command: str = "",
    progress: str | None = None,
    **sampling,
) -> pd.DataFrame:
    """`evaluate`'s rows over suites of the 96 canonical prompts with groups of words `Restored`, as
    suite and words.

    words: groups of roles such as "color1 color2"; "" restores none. file and so on: as in
        `resumable`.
    """

    def run(name: str, group: str) -> pd.DataFrame:
        rows = evaluate(
            model, Restored(encoder, group.split()), suite(CANONICAL, name), seeds, **sampling
        )
        return rows.assign(suite=name, words=group)

    runs = {f"{name}, {group}": partial(run, name, group) for name in suites for group in words}
    _try_prompts(
        encoder,
        {f"{name}, {group}": suite(CANONICAL, name) for name in suites for group in words},
        file,
    )
    settings = {**(settings or {}), "seeds": list(seeds), **plain(sampling)}
    return resumable(runs, file, settings, command=command, progress=progress)


def compass(encoder, word: str, mlp=None) -> Tensor:
    """The two directions [2, d] in a word's space along which the relation's effects rise to the
    right and downwards.

    Least squares of the eight effect vectors on the relations' unit directions: a vector's
    coordinates along these are in units of one relation's own effect.
    """
    directions = F.normalize(torch.tensor(DIRECTIONS, dtype=torch.float32), dim=1)  # [relation, 2]
    return torch.linalg.lstsq(directions, relation_effects(encoder, word, mlp)).solution


def shift(encoder, name: str, word: str, mlp=None) -> Tensor:
    """How a suite moves the vector of a word, [prompt, d]: its 96 canonical prompts against the
    training template's.

    word: a role. mlp: a model's `caption_mlp`, to look behind it. Relation synonyms: the 48 prompts
        that have one.
    """
    moved = suite(CANONICAL, name)
    still = [untouched(prompt) for prompt in moved]
    after, before = (word_vectors(encoder.encode(prompts), word, mlp) for prompts in (moved, still))
    return after - before


def shifts(
    encoder,
    suites: Iterable[str] = SUITES[1:],
    words: Iterable[str] = ("color1", "shape1", "color2", "shape2"),
    mlp=None,
) -> pd.DataFrame:
    """How far suites move words on average, in units of what the relation does to them.

    Tidy: suite, word, size, right, down, n. size: norm of the mean shift over the root mean square
    norm of the relation's effect vectors on that word (paper, "why 'the' hurts", has its cosines
    with them); right, down: its coordinates on the word's `compass`.
    """
    rows = []
    for word in words:
        unit = relation_effects(encoder, word, mlp).square().sum(1).mean().sqrt()
        plane = compass(encoder, word, mlp)
        for name in suites:
            each = shift(encoder, name, word, mlp)
            mean = each.mean(0)
            right, down = torch.linalg.lstsq(plane.T, mean[:, None]).solution[:, 0].tolist()
            rows.append(
                {
                    "suite": name,
                    "word": word,
                    "size": float(mean.norm() / unit),
                    "right": right,
                    "down": down,
                    "n": len(each),
                }
            )
    return pd.DataFrame(rows)

"""Robustness: the same request in other words. Which wordings does a network still obey, and what moves it?

Every suite keeps the meaning of its prompts: a reader would draw the same picture. `prompts.TEMPLATES` change
fillers, articles or the order; `prompts.REWRITES` change words for synonyms, or the spelling.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ..data.prompts import PHRASES, REWRITES, TEMPLATES, suite
from ..data.scoring import METRICS, wilson
from ..model.dit import DiT
from ..model.evaluation import evaluate, plain, resumable

SUITES = (*TEMPLATES, *REWRITES)


def robustness(model: DiT, encoder, seeds: Iterable[int], suites: Iterable[str] = SUITES, *,
               phrases: dict[str, tuple[str, ...]] = PHRASES, file: Path | None = None, settings: dict | None = None,
               command: str = "", progress: str | None = None, **sampling) -> pd.DataFrame:  # fmt: skip
    """`evaluate` over suites of prompts in other words: its rows, with the columns `suite` and `run`.

    A run is one suite with one seed a prompt, so that more seeds can be added to a table later. file, settings,
    command, progress: as in `resumable`. Suites of the same length have the same noise, prompt by prompt.
    """

    def run(name: str, seed: int) -> pd.DataFrame:
        return evaluate(model, encoder, suite(phrases, name), [seed], **sampling).assign(suite=name)

    runs = {f"{name} {seed}": partial(run, name, seed) for seed in seeds for name in suites}
    settings = {**(settings or {}), "phrases": sum(map(len, phrases.values())), **plain(sampling)}
    return resumable(runs, file, settings, command=command, progress=progress)


def drops(table: pd.DataFrame, baseline: str = "train") -> pd.DataFrame:
    """Each suite's metrics and their change against the training template.

    table: of `robustness`. Tidy: suite, metric, value, low, high (Wilson), change, change_low, change_high, n. The
    baseline's pictures are those of the suite's relations (only four have a synonym). Change: normal 95 % interval of
    the difference of two shares. Metrics "dx", "dy": mean displacement of object 1 from object 2 in canvas units, of
    the pictures with both; 0 if the prompts are obeyed, as every suite holds opposite relations alike.
    """
    rows = []
    for name, mine in table.groupby("suite", sort=False):
        plain_ = table[(table.suite == baseline) & table.relation.isin(mine.relation.unique())]
        for metric in (*METRICS, "dx", "dy"):
            here, there = (t[metric].astype(float).dropna() for t in (mine, plain_))
            error = 1.96 * np.sqrt(here.var(ddof=1) / len(here) + there.var(ddof=1) / len(there))
            half = 1.96 * here.std(ddof=1) / len(here) ** 0.5
            low, high = wilson(here.sum(), len(here)) if metric in METRICS else (here.mean() - half, here.mean() + half)
            change = here.mean() - there.mean()
            rows.append({"suite": name, "metric": metric, "value": here.mean(), "low": low, "high": high,
                         "change": change, "change_low": change - error, "change_high": change + error,
                         "n": len(here)})  # fmt: skip
    return pd.DataFrame(rows)

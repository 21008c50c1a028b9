"""Measures of the claims ledger: numbers read off the stored tables and the shipped weights, in
seconds.

A measure is a function (model, folder of the tables, its arguments) -> (value, low, high, n); low
and high are a 95 % interval where not said otherwise, NaN where there is none. `table` names a file
of the folder without its ending, with {model} for the model. MEASURES is all of them, by name.
"""

import math
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from .data.scenes import RELATIONS
from .data.scoring import METRICS, proportion
from .errors import RelcoreError
from .kernels import circuits, geometry
from .kernels.composition import relation_heads
from .kernels.interventions import chance, in_relation, opposite_relation, outcomes
from .kernels.robustness import drops
from .model.checkpoints import open_model
from .model.evaluation import reached, training_curve

Value = tuple[float, float, float, int]


# --- what measures read


@lru_cache(64)
def _read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path)


def _rows(
    folder: Path, name: str, model: str, where: dict | None = None, differ: list[str] | None = None
):
    """Rows of a table whose columns have one of the values, and in which two columns differ; at
    least one.
    """
    path = folder / f"{name.format(model=model)}.parquet"
    try:
        rows = _read(path)
    except FileNotFoundError as error:
        raise RelcoreError(f"no table '{path.relative_to(folder)}' in '{folder.name}'") from error
    except (OSError, ValueError) as error:
        raise RelcoreError(
            f"the table '{path.relative_to(folder)}' cannot be read ({error})"
        ) from error
    for column, wanted in (where or {}).items():
        rows = rows[rows[column].isin(wanted if isinstance(wanted, list) else [wanted])]
    rows = rows[rows[differ[0]] != rows[differ[1]]] if differ else rows
    if rows.empty:
        raise RelcoreError(f"the table '{path.relative_to(folder)}' has no rows with {where}")
    return rows


@cache
def _opened(model: str):
    """(model, encoder) of a shipped checkpoint."""
    network, _, encoder, _ = open_model(model)
    return network, encoder


@cache
def _screened(model: str, token: str) -> pd.DataFrame:
    return circuits.screened(model, token)


# --- measures


def share(
    model: str,
    folder: Path,
    *,
    table: str,
    column: str,
    where: dict | None = None,
    given: str | None = None,
    less_chance: bool = False,
) -> Value:
    """Share of the pictures with `column`, of those with `given`; Wilson. less_chance: less
    `interventions.chance`.
    """
    rows = _rows(folder, table, model, where)
    rows = rows[rows[given].astype(bool)] if given else rows
    by_chance = chance(rows)[0] if less_chance else 0.0
    value, low, high, n = proportion(rows[column])
    return value - by_chance, low - by_chance, high - by_chance, n


def ratio(model: str, folder: Path, *, table: str, column: str, to: str) -> Value:
    """A share over that of the model `to`; log-normal interval of a risk ratio (Katz et al. 1978).
    n: of the fewer.
    """
    tables = [_rows(folder, table, name)[column] for name in (model, to)]
    value = tables[0].mean() / tables[1].mean()
    spread = 1.96 * math.sqrt(sum(1 / rows.sum() - 1 / len(rows) for rows in tables))
    return value, value * math.exp(-spread), value * math.exp(spread), min(map(len, tables))


def change(model: str, folder: Path, *, table: str, run: str, metric: str) -> Value:
    """Change of a metric under an intervention, against the same pictures without it."""
    found = outcomes(_rows(folder, table, model, {"intervention": ["none", run]}))
    row = found[(found.intervention == run) & (found.metric == metric)].iloc[0]
    return row.change, row.change_low, row.change_high, row.n


def shows(
    model: str,
    folder: Path,
    *,
    table: str,
    where: dict | None = None,
    differ: list[str] | None = None,
    strict: bool = False,
) -> Value:
    """Share of the pictures in the relation put in: of the column `target`, or the opposite of the
    prompt's; Wilson.
    """
    rows = _rows(folder, table, model, where, differ)
    put_in = (
        rows.target
        if "target" in rows
        else rows.prompt.map({p: opposite_relation(p) for p in set(rows.prompt)})
    )
    return proportion(in_relation(rows, map(RELATIONS.index, put_in), strict))


def reworded(model: str, folder: Path, *, suites: list[str], metrics: list[str]) -> Value:
    """The largest change of metrics over suites in other words; of "dx", "dy" the largest
    displacement, its size.
    """
    found = drops(_rows(folder, "robustness/{model}", model, {"suite": ["train", *suites]}))
    if missing := set(suites) - set(found.suite):
        raise RelcoreError(
            f"the table 'robustness/{model}.parquet' does not have {', '.join(sorted(missing))} yet"
        )
    found = found[found.suite.isin(suites) & found.metric.isin(metrics)]
    moved = metrics[0] not in METRICS
    names = ("value", "low", "high") if moved else ("change", "change_low", "change_high")
    row = found.loc[found[names[0]].abs().idxmax()]
    value, low, high = (row[name] for name in names)
    if moved:
        value, low, high = abs(value), *sorted((low, high) if value > 0 else (-low, -high))
    return value, low, high, row.n


def entry(
    model: str,
    folder: Path,
    *,
    table: str,
    where: dict | None = None,
    value: str = "value",
    by: str | None = None,
    rank: int = 1,
    over: dict | None = None,
) -> Value:
    """One number of a table that has its own low, high and n: the rank-th largest, or that of the
    rank-th largest `by`.

    over: divided by the number whose columns have these values instead; the interval is then the
        widest there can be.
    """
    rows = (
        _rows(folder, table, model, where)
        .dropna(subset=[value])
        .sort_values(by or value, ascending=False)
    )
    row = rows.iloc[rank - 1]
    if not over:
        return row[value], row.low, row.high, row.n
    low, high = row.low, row.high
    whole, whole_low, whole_high, _ = entry(
        model, folder, table=table, where={**(where or {}), **over}, value=value
    )
    return row[value] / whole, low / whole_high, high / whole_low, row.n


def lag(model: str, folder: Path, *, first: str, then: str, level: float) -> Value:
    """Thousand pictures of training from one accuracy's reaching a level to another's: mean of the
    runs that get there.

    model: one or more runs, canonical prompts, evaluated every 8 thousand. low, high: the range
        over runs; n: runs.
    """
    times = [
        _reaches(run, folder, then, level) - _reaches(run, folder, first, level)
        for run in model.split()
    ]
    times = [t for t in times if t == t]
    return (
        (float(np.mean(times)), min(times), max(times), len(times))
        if times
        else (math.nan,) * 3 + (0,)
    )


def later(model: str, folder: Path, *, than: str, metric: str, level: float) -> Value:
    """Pictures of training that runs need to a level over those of other runs: ratio of means of
    those that get there.

    low, high: the least and the largest ratio of a run of `model` to one of `than`; n: runs of
        `model` that get there.
    """
    times = (
        np.array([_reaches(run, folder, metric, level) for run in runs.split()])
        for runs in (model, than)
    )
    mine, theirs = (these[~np.isnan(these)] for these in times)
    return (
        mine.mean() / theirs.mean(),
        mine.min() / theirs.max(),
        mine.max() / theirs.min(),
        len(mine),
    )


def _reaches(run: str, folder: Path, metric: str, level: float) -> float:
    times = reached(training_curve(run, folder).query("suite == 'canonical'"), (level,))
    return times[times.metric == metric].samples.iloc[0] / 1000


def steepest(model: str, folder: Path, *, token: str, sign: int = 0) -> Value:
    """Mean cosine with the ramps of the head that is first by it: the largest (sign 1), the least
    (-1), or in size (0).

    Raw maps of `circuits.screen`. low, high: the range over its vectors (relations, or words); n:
    vectors.
    """
    rows = _screened(model, token)
    mean = rows[rows.relation == "mean"].set_index(["layer", "head"]).cosine
    best = (mean * sign if sign else mean.abs()).idxmax()
    turn = 1 if sign or mean[best] > 0 else -1
    own = (
        turn
        * rows[rows.relation != "mean"].set_index(["layer", "head"]).cosine.sort_index().loc[[best]]
    )
    return turn * mean[best], own.min(), own.max(), len(own)


def beyond_nulls(model: str, folder: Path, *, token: str) -> Value:
    """How far the size of that head's mean cosine lies outside the widest of its nulls' 95 %
    ranges. n: nulls.
    """
    rows = circuits.nulls(*_opened(model), token, draws=500)
    best = rows[rows.cosine.abs() == rows.cosine.abs().max()]
    widest = best[["null_low", "null_high"]].abs().to_numpy().max()
    return best.cosine.abs().iloc[0] - widest, math.nan, math.nan, len(best)


def place_of_screened(model: str, folder: Path, *, by: str) -> Value:
    """Place of the relation head found in the weights (`relation_heads`) among all heads. 1: the
    first. n: heads.

    by: "attention" to relation words from either object, or "ablation": the loss of loose relation
        without the head.
    """
    mine = relation_heads(*_opened(model))[0]
    if by == "attention":
        rows = _rows(
            folder,
            "synopsis/{model}",
            model,
            {"reduction": "mean", "text_role": "relation", "image_role": ["object1", "object2"]},
        )
        size = rows.groupby(
            "L" + rows.layer.astype(str) + "H" + rows["head"].astype(str)
        ).mass.max()
    else:
        rows = outcomes(_rows(folder, "interventions/{model}-heads-mean", model))
        rows = rows[(rows.metric == "relation_loose") & rows.intervention.str.match(r"L\d+H\d+$")]
        size = -rows.set_index("intervention").change
    return 1 + int((size > size[str(mine)]).sum()), math.nan, math.nan, len(size)


def word_cosine(model: str, folder: Path, *, stage: str, same: bool) -> Value:
    """Mean cosine of direction words of the training phrases, of one meaning or of different ones,
    at one place.
    """
    network, encoder = _opened(model)
    words = [w for group in geometry.SYNONYMS.values() for w in group if w not in geometry.UNSEEN]
    table = geometry.word_cosines(network, encoder, relation_heads(network, encoder)[0], words)[
        stage
    ]
    return geometry.merged(table)[0 if same else 1], math.nan, math.nan, len(words)


MEASURES = {
    f.__name__: f
    for f in (
        share,
        ratio,
        change,
        shows,
        reworded,
        entry,
        lag,
        later,
        steepest,
        beyond_nulls,
        place_of_screened,
        word_cosine,
    )
}

"""Measures of the ledger: what its tests ask of a run, read off the tables of the experiments.

A measure takes a run's name and the test's `with` as keywords. Its interval is NaN where there is
nothing to draw again.
"""

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from experiments.claims import Value
from experiments.shared import request
from relcore.data.scenes import RELATIONS
from relcore.errors import RelcoreError
from relcore.experiment import results
from relcore.kernels.interventions import in_relation

# --- the relation head


def relation_left(
    run: str, *, intervention: str, heads: str, guidance: float, forms: str = "all"
) -> Value:
    """The loose relation above chance under an intervention over that without; S9.

    Chance is the share of these very pictures that fit a relation drawn from the prompts'; each
    side has its own. The interval draws whole requests again, with and without the intervention.
    """
    rows = _changed(run, forms, guidance)
    sides = [_heads(rows, intervention, heads), _heads(rows, "none", "")]
    above = [_above_chance(side) for side in sides]
    return _interval(above[0] / above[1], len(sides[0]))


def shows_donor(
    run: str, *, intervention: str, heads: str, forms: str = "all", guidance: float = 4.0
) -> Value:
    """Share of the pictures in the relation opposite to the prompt's; S19."""
    rows = _heads(_changed(run, forms, guidance), intervention, heads)
    hits, n = int(rows.donor_loose.sum()), len(rows)
    if hits in (0, n):
        exact = binomtest(hits, n).proportion_ci(method="exact")
        return Value(hits / n, float(exact.low), float(exact.high), n)
    sums = _redrawn(rows, pd.DataFrame({"hits": rows.donor_loose, "n": 1}))
    return _interval(sums[:, 0] / sums[:, 1], n)


def tag_auc(run: str, *, step: int, tag: str, forms: str = "all") -> Value:
    """How well the tag that the relation heads write tells the objects' places; S7."""
    row = _rows("tags", run, measure="auc", step=step, tag=tag, form=forms).iloc[0]
    return Value(row.value, row.low, row.high, int(row.n))


def follows(run: str, *, step: int, cause: str, forms: str = "all") -> Value:
    """How far the object head's attention goes over to the other object's; S8.

    The object head is the head after the relation head whose attention differs most between the
    objects. NaN if no layer comes after the relation head, or no head's attention differs.
    """
    rows = results("object_head", f"run == '{run}'")
    if len(rows):
        rows = _rows("object_head", run, step=step, cause=cause, form=forms).dropna(subset="value")
    if rows.empty:
        return Value(float("nan"))
    row = rows.loc[rows.gap.idxmax()]
    return Value(row.value, row.low, row.high, int(row.n))


def word_cosine(run: str, *, stage: str, same: bool) -> Value:
    """Mean cosine of two direction words of the training phrases, of one meaning or of two; S20."""
    rows = _rows("words", run, stage=stage, same=same, trained=True, rank=1)
    return Value(float(rows.cosine.mean()), n=len(rows))


def _rows(name: str, run: str, **where) -> pd.DataFrame:
    """The rows of an experiment's table that have these values; at least one."""
    rows = results(name, f"run == '{run}'")
    for column, value in where.items():
        rows = rows[rows[column] == value]
    if rows.empty:
        raise RelcoreError(f"the table '{name}' of '{run}' has no rows with {where}")
    return rows


def _changed(run: str, forms: str, guidance: float) -> pd.DataFrame:
    """The pictures of `relation_head` in a form or in all."""
    where = {"guidance": guidance} | ({} if forms == "all" else {"form": forms})
    return _rows("relation_head", run, **where)


def _heads(rows: pd.DataFrame, intervention: str, heads: str) -> pd.DataFrame:
    chosen = rows[(rows.intervention == intervention) & (rows["heads"] == heads)]
    if chosen.empty:
        raise RelcoreError(f"the table 'relation_head' has no '{intervention}' of heads '{heads}'")
    return chosen


def _redrawn(rows: pd.DataFrame, columns: pd.DataFrame, draws: int = 2000) -> np.ndarray:
    """Sums of the columns [draw, column] over all rows, and then with requests drawn again.

    A request's captions in all forms, and their noises, stay together; the same draws of the same
    requests in every table.
    """
    sums = columns.astype(float).groupby(request(rows.prompt)).sum().to_numpy()
    count = len(sums)
    weights = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=draws)
    return np.vstack([np.ones((1, count)), weights]) @ sums


def _above_chance(rows: pd.DataFrame) -> np.ndarray:
    """[draw]: the loose relation less what these pictures have by luck."""
    fits = {f"fits {r}": in_relation(rows, [k] * len(rows)) for k, r in enumerate(RELATIONS)}
    asked = {f"asked {r}": rows.relation == r for r in RELATIONS}
    columns = pd.DataFrame({**fits, **asked, "loose": rows.relation_loose, "n": 1}, rows.index)
    sums = _redrawn(rows, columns)
    shares = sums[:, :-1] / sums[:, -1:]
    fits, asked = np.split(shares[:, :-1], 2, axis=1)
    return shares[:, -1] - (fits * asked).sum(1)


def _interval(values: np.ndarray, n: int) -> Value:
    """The first value, with the middle 95 % of the others."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Value(float(values[0]), float(low), float(high), n)

"""Measures of the claims ledger: what a claim's test reads off the tables of the experiments.

A measure is a function (run, **the `with` of a test in `claims.yml`) -> Value; one that compares
arms takes two lists of runs. Intervals are of 95 %, NaN where a number has no sampling error: of
proportions Wilson's, or exact ones where all or none fit; of ratios a percentile bootstrap over
noise seeds, or over requests (shapes and relation) where the captions of one request share what is
measured. A seed of the noise belongs to one prompt, in every caption form, wording and under every
intervention, so that what is drawn alike is drawn again together.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from experiments.shared import request
from relcore.data.prompts import FORMS
from relcore.data.scenes import RELATIONS
from relcore.errors import RelcoreError
from relcore.experiment import results
from relcore.kernels.interventions import in_relation
from relcore.model.evaluation import ceiling, reached, training_curve

DRAWS = 2000  # of a bootstrap


@dataclass(frozen=True)
class Value:
    """What a measure found on one seed, or on a pair of arms: value, 95 % interval (NaN: none),
    n.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    n: int = 0


# --- what measures read


def _rows(experiment: str, run: str, **where) -> pd.DataFrame:
    """Rows of a run's table whose columns have the value, or one of the values; at least one."""
    rows = results(experiment, f"run == '{run}'")
    for column, wanted in where.items():
        rows = rows[rows[column].isin(wanted if isinstance(wanted, list) else [wanted])]
    if rows.empty:
        raise RelcoreError(f"the table of {experiment} for '{run}' has no rows with {where}")
    return rows


def _forms(form: str, forms: str | None) -> list[str]:
    return list(FORMS) if forms == "all" else [form]


def _interval_of(hits: np.ndarray) -> tuple[float, float]:
    """95 % interval of a share: Wilson's, or of none or all the exact one (Clopper-Pearson)."""
    method = "exact" if hits.all() or not hits.any() else "wilson"
    found = stats.binomtest(int(hits.sum()), len(hits))
    return tuple(map(float, found.proportion_ci(method=method)))


def _share(hits: pd.Series, of: float = 1.0) -> Value:
    """A proportion over `of`; NaN of none."""
    hits = hits.to_numpy(bool)
    if not len(hits):
        return Value(math.nan)
    low, high = _interval_of(hits)
    return Value(hits.mean() / of, low / of, high / of, len(hits))


def _ratio(above: np.ndarray, below: np.ndarray, over=np.mean, n: int | None = None) -> Value:
    """Mean of `above` [unit, variant] over that of `below` [unit], and `over` the variants.

    n: pictures behind it, if a unit is more than one. NaN where `below` is 0.
    """
    if not below.any():
        return Value(math.nan, n=n or len(below))
    chosen = np.random.default_rng(0).integers(len(below), size=(DRAWS, len(below)))
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = over(above[chosen].mean(1), axis=1) / below[chosen].mean(1)
    low, high = np.nanquantile(drawn, (0.025, 0.975), method="nearest")
    return Value(
        float(over(above.mean(0)) / below.mean()), float(low), float(high), n or len(below)
    )


# --- accuracy, and when it comes


def accuracy(run: str, *, metric: str, form: str, given: str | None = None) -> Value:
    """Share of the pictures of a caption form with a metric, over that of true pictures.

    given: of the pictures with that metric alone, and over its ceiling.
    """
    rows, top = _rows("evaluation", run, form=form), ceiling()
    if given:
        rows = rows[rows[given].astype(bool)]
    return _share(rows[metric], top[metric] / (top[given] if given else 1))


def _curve(run: str, form: str) -> pd.DataFrame:
    """A training curve in one caption form; of runs without forms in "phrases", or "canonical"."""
    curve = training_curve(run)
    suites = [form, *(("phrases", "canonical") if form == "both" else ())]
    mine = [suite for suite in suites if suite in set(curve.suite)]
    if not mine:
        raise RelcoreError(f"the training curve of '{run}' has no suite '{form}'")
    return curve[curve.suite == mine[0]]


def _when(curve: pd.DataFrame, metric: str, level: float) -> tuple[float, float, float]:
    """Pictures at which a curve reaches a level (inf: never), at the evaluation before, at the end.

    The one before is the last evaluation if the level is never reached, and 0 if the first one does
    reach it.
    """
    mine = curve[curve.metric == metric]
    end = float(mine.samples.max())
    there = float(reached(mine, (level,)).samples.iloc[0])
    if math.isnan(there):
        return math.inf, end, end
    before = mine.samples[mine.samples < there]
    return there, float(before.max()) if len(before) else 0.0, end


def time_ratio(run: str, *, first: str, then: str, level: float, form: str) -> Value:
    """Pictures of training to a level of `then` over those to the same of `first`.

    low, high: what the evaluations' distance leaves open. inf if only `first` gets there, with the
    least that it can be; NaN if `first` does not.
    """
    curve = _curve(run, form)
    (one, one_before, _), (two, two_before, _) = (_when(curve, m, level) for m in (first, then))
    if math.isinf(one):
        return Value(math.nan)
    return Value(two / one, two_before / one, two / one_before if one_before else math.inf, 1)


def _lifetimes(
    runs: list[str], metric: str, level: float, form: str
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of each run to a level, or in all if it never gets there; and whether it does."""
    found = [_when(_curve(run, form), metric, level) for run in runs]
    got = np.array([math.isfinite(there) for there, _, _ in found])
    times = np.array([there if math.isfinite(there) else end for there, _, end in found])
    return times, got


def _median(times: np.ndarray, got: np.ndarray) -> float:
    """Kaplan and Meier's: the first time by which half of the runs are there; inf if none is."""
    survival = stats.ecdf(stats.CensoredData.right_censored(times, ~got)).sf
    there = survival.quantiles[survival.probabilities <= 0.5 + 1e-9]
    return float(there[0]) if len(there) and got.any() else math.inf


def later(runs: list[str], others: list[str], *, metric: str, level: float, form: str) -> Value:
    """Median pictures of `runs` to a level over those of `others`; who never gets there is
    censored.

    Interval: percentile bootstrap over runs, each arm by itself. n: runs of both. inf or 0 if half
    of one arm never gets there, NaN if half of both.
    """
    arms = [_lifetimes(arm, metric, level, form) for arm in (runs, others)]
    rng, medians = np.random.default_rng(0), []
    for times, got in arms:
        chosen = rng.integers(len(times), size=(DRAWS, len(times)))
        medians.append([_median(times, got)] + [_median(times[c], got[c]) for c in chosen])
    with np.errstate(invalid="ignore"):
        ratios = np.divide(*medians)
    drawn = ratios[1:][~np.isnan(ratios[1:])]
    low, high = (
        np.quantile(drawn, (0.025, 0.975), method="nearest") if len(drawn) else (math.nan,) * 2
    )
    return Value(float(ratios[0]), float(low), float(high), len(runs) + len(others))


def log_rank(runs: list[str], others: list[str], *, metric: str, level: float, form: str) -> Value:
    """p of the log-rank test that both arms reach a level alike (Mantel 1966), two-sided."""
    arms = (_lifetimes(arm, metric, level, form) for arm in (runs, others))
    censored = [stats.CensoredData.right_censored(times, ~got) for times, got in arms]
    return Value(float(stats.logrank(*censored).pvalue), n=len(runs) + len(others))


# --- what a change leaves


def kept(
    run: str,
    *,
    metric: str,
    hidden: str | None = None,
    suites: list[str] | None = None,
    form: str = "both",
    forms: str | None = None,
    guidance: float = 4.0,
    worst: str | None = None,
) -> Value:
    """A metric with words hidden, or in other wordings, over the same without: same noise.

    hidden: the roles of the words (table "masks"). suites: wordings (table "robustness"), their
    mean; worst="least": the one that harms least. forms="all": the four forms in equal numbers.
    """
    if suites is None:
        table, column, plain, variants = "masks", "hidden", "", [hidden]
    else:
        table, column, plain, variants = "robustness", "suite", "train", suites
    where = {"guidance": guidance} if suites is None else {}
    rows = _rows(table, run, form=_forms(form, forms), **where)
    if missing := {plain, *variants} - set(rows[column]):
        raise RelcoreError(f"the table of {table} for '{run}' has no {column} '{missing.pop()}'")
    rows = rows.assign(hit=rows[metric].astype(float))
    mean = rows.pivot_table(index="seed", columns=column, values="hit", aggfunc="mean")
    above, below = mean[variants].to_numpy(), mean[plain].to_numpy()
    found = _ratio(above, below, np.max if worst else np.mean, n=int((rows[column] == plain).sum()))
    graded = [mean[variants].mean().idxmax()] if worst else variants
    hits = rows.hit[rows[column].isin(graded)].to_numpy(bool)
    if 0 < hits.sum() < len(hits) or math.isnan(found.value):
        return found
    low, high = (end / below.mean() for end in _interval_of(hits))
    return Value(found.value, min(low, found.low), max(high, found.high), found.n)


def rewired(
    run: str,
    *,
    words: str,
    factor: float,
    targets: str = "all",
    strict: bool = False,
    form: str = "both",
    forms: str | None = None,
) -> Value:
    """Share of the pictures that show the relation put into some words, where the prompt tells
    another.

    targets: "diagonal", "straight" or all.
    """
    rows = _rows("rewiring", run, words=words, factor=factor, form=_forms(form, forms))
    rows = rows[rows.target != rows.relation]
    if targets != "all":
        rows = rows[rows.target.str.contains(" ") == (targets == "diagonal")]
    return _share(rows[f"target_{'strict' if strict else 'loose'}"])


# --- attention and weights


def relation_attention(run: str, *, over: str | None = None, rank: int = 1) -> Value:
    """Attention from either object to the relation words, of the head with the most; four forms.

    The mean share of an object's attention, the interval as if the forms erred alike.
    over="own_shape": in the paper's reduction, over the largest of any head from an object to its
    own shape word. rank: 2 for the second head.
    """
    heads, places = ["layer", "head"], ["image_role", "text_role"]
    rows = _rows("synopsis", run, reduction="paper" if over else "mean")
    rows = rows[((rows.seed >= 0) == bool(over)) & (rows.image_role != "background")]
    cells = rows.groupby([*places, *heads])
    mean = cells.value.mean().sort_values(ascending=False).reset_index()
    top = mean[mean.text_role == "relation"].drop_duplicates(heads).iloc[rank - 1]
    own = mean[mean.text_role.str.startswith("shape")].iloc[0]
    mine, theirs = (cells.get_group(tuple(cell[[*places, *heads]])) for cell in (top, own))
    if not over:
        ends = mine.low.mean(), mine.high.mean()
        return Value(float(top.value), *map(float, ends), int(mine.n.sum()))
    above, below = (t.groupby("seed").value.sum().to_numpy(float) for t in (mine, theirs))
    return _ratio(above[:, None], below, n=len(mine))


def attention_fades(run: str, *, token: str, step: int | str = "last") -> Value:
    """Largest attention to a kind of word at a step over that at step 0, of the relation head.

    That is the head whose weights' map goes furthest along the ramps (table "screening").
    """
    screened = _rows("screening", run, token=token, relation="mean")
    head = screened.loc[screened.projection.abs().idxmax()]
    where = {"text_role": token, "layer": head.layer, "head": head["head"]}
    rows = _rows("synopsis", run, reduction="largest", **where)
    rows = rows[rows.seed >= 0]
    total = rows.pivot_table(index="seed", columns="step", values="value", aggfunc="sum")
    at = total.columns.max() if step == "last" else step
    above, below = (total[steps].to_numpy(float) for steps in ([at], 0))
    return _ratio(above, below, n=int((rows.step == 0).sum()))


def steepest(
    run: str, *, token: str, sign: int = 0, outside_null: bool = False, over: str = "mean"
) -> Value:
    """Mean cosine with the ramps of the head that is first by it: the largest (sign 1), the least
    (-1), or in size (0).

    outside_null: 0 if that lies within its null's range. over: "mean" of all relations, or an axis,
    such as "up and down". Weights have no sampling error; n: heads.
    """
    rows = _rows("screening", run, token=token, relation=over).reset_index(drop=True)
    size = rows.cosine * sign if sign else rows.cosine.abs()
    best = rows.loc[size.idxmax()]
    inside = outside_null and best.null_low <= best.cosine <= best.null_high
    return Value(0.0 if inside else float(best.cosine if sign else abs(best.cosine)), n=len(rows))


def share_grows(run: str, *, token: str, equal_length: bool) -> Value:
    """The relation's share of a word's variance after the caption MLP over that before it.

    equal_length: beyond what the phrase's length tells. The prompts are a closed suite: no sampling
    error.
    """
    measure = "relation at equal length" if equal_length else "relation"
    rows = _rows("fusion", run, token=token, measure=measure).set_index("part")
    share = rows.value
    value = share["after the caption MLP"] / share["as encoded"]
    return Value(float(value), n=int(rows.n.iloc[0]))


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
    hits, n = rows.donor_loose.to_numpy(bool), len(rows)
    if hits.all() or not hits.any():
        return _share(rows.donor_loose)
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

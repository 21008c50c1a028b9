"""Measures of the ledger on small tables whose answers are known."""

import inspect
from math import inf, isnan, nan

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import measures
from experiments.claims import load
from experiments.measures import (
    accuracy,
    attention_fades,
    kept,
    later,
    log_rank,
    relation_attention,
    rewired,
    share_grows,
    steepest,
    time_ratio,
)
from relcore.data.prompts import FORMS
from relcore.data.scenes import RELATIONS
from relcore.errors import RelcoreError

TESTS = [
    (claim["id"], arm, test) for claim in load()["claims"] for arm, test in claim["tests"].items()
]
FOLLOWING = ("relation_left", "shows_donor", "tag_auc", "follows", "word_cosine")


@pytest.mark.parametrize("claim, arm, test", [t for t in TESTS if t[2]["measure"] not in FOLLOWING])
def test_every_test_of_the_ledger_has_its_measure(claim, arm, test):
    """The function exists, and takes the arguments that the ledger gives."""
    function = getattr(measures, test["measure"])
    runs = (["a"], ["b"]) if test["measure"] == "later" else ("a",)
    inspect.signature(function).bind(*runs, **test["with"])


@pytest.fixture
def tables(monkeypatch):
    """tables[experiment] = a table, which then is that of every run."""
    known = {}
    monkeypatch.setattr(measures, "results", lambda name, query: known[name])
    monkeypatch.setattr(
        measures, "ceiling", lambda: {"relation_loose": 0.8, "binding": 1.0, "shape": 1.0}
    )
    return known


def ends(found):
    return pytest.approx((found.low, found.high))


# --- accuracy


def test_accuracy_is_a_share_of_the_ceiling(tables):
    hits = np.arange(100) < 60
    both = pd.DataFrame({"form": "both", "relation_loose": hits, "seed": range(100)})
    tables["evaluation"] = pd.concat([both, both.assign(form="neither", relation_loose=False)])
    found = accuracy("a", metric="relation_loose", form="both")
    wilson = stats.binomtest(60, 100).proportion_ci(method="wilson")
    assert found.value == pytest.approx(0.75) and found.n == 100
    assert ends(found) == (wilson.low / 0.8, wilson.high / 0.8)
    none = accuracy("a", metric="relation_loose", form="neither")
    exact = stats.binomtest(0, 100).proportion_ci(method="exact")
    assert none.value == 0 and ends(none) == (0, exact.high / 0.8)


def test_accuracy_given_another_metric_counts_only_the_pictures_with_it(tables):
    shape, bound = np.arange(100) < 80, np.arange(100) < 40
    tables["evaluation"] = pd.DataFrame({"form": "both", "shape": shape, "binding": bound})
    found = accuracy("a", metric="binding", given="shape", form="both")
    assert (found.value, found.n) == (0.5, 80)
    tables["evaluation"]["shape"] = False
    assert isnan(accuracy("a", metric="binding", given="shape", form="both").value)


def test_rows_that_are_missing_are_named(tables):
    tables["evaluation"] = pd.DataFrame({"form": ["neither"], "shape": [True]})
    with pytest.raises(RelcoreError, match="evaluation for 'a' has no rows .*both"):
        accuracy("a", metric="shape", form="both")


# --- training


def curve(suite="both", **values):
    """A training curve, evaluated every 1000 pictures."""
    return pd.DataFrame(
        [
            {"suite": suite, "metric": metric, "value": v, "samples": 1000 * (i + 1)}
            for metric, column in values.items()
            for i, v in enumerate(column)
        ]
    ).assign(run="a", seconds=0.0)


def reads(monkeypatch, curves):
    monkeypatch.setattr(measures, "training_curve", lambda run: curves[run])


TIMES = {"first": "binding", "then": "relation_loose", "level": 0.75, "form": "both"}


def test_time_ratio_and_what_the_evaluations_leave_open(monkeypatch):
    grow = curve(binding=[0, 0.8, 0.9, 0.9], relation_loose=[0, 0.1, 0.8, 0.7])
    at_once = curve(binding=[0.8] * 4, relation_loose=[0.8] * 4)
    reads(monkeypatch, {"a": grow, "b": at_once})
    found = time_ratio("a", **TIMES)
    assert (found.value, found.low, found.high) == (1.5, 1.0, 3.0)
    found = time_ratio("b", **TIMES)
    assert (found.value, found.low, found.high) == (1.0, 0.0, inf)


def test_time_ratio_of_what_is_never_reached(monkeypatch):
    never = curve(binding=[0, 0.8, 0.9, 0.9], relation_loose=[0, 0.1, 0.2, 0.3])
    reads(monkeypatch, {"a": never, "b": never.assign(value=0.1)})
    found = time_ratio("a", **TIMES)
    assert (found.value, found.low, found.high) == (inf, 2.0, inf)
    assert isnan(time_ratio("b", **TIMES).value)


def test_both_is_phrases_in_runs_without_forms(monkeypatch):
    values = {"binding": [0.8, 0.9], "relation_loose": [0, 0.9]}
    early = curve("canonical", binding=[0.8, 0.9], relation_loose=[0.8, 0.9])
    reads(monkeypatch, {"a": pd.concat([early, curve("phrases", **values)])})
    assert time_ratio("a", **TIMES).value == 2
    with pytest.raises(RelcoreError, match="no suite 'neither'"):
        time_ratio("a", **{**TIMES, "form": "neither"})


LEVEL = {"metric": "relation_loose", "level": 0.75, "form": "both"}


def arrive(*when, end=12):
    """Curves {name: curve} that reach the level at these evaluations; None never does."""
    return {
        f"{when}{i}": curve(
            relation_loose=[1.0 if w and k >= w else 0.0 for k in range(1, end + 1)]
        )
        for i, w in enumerate(when)
    }


def test_later_is_the_ratio_of_medians_with_failures_counted_as_late(monkeypatch):
    ours, theirs = arrive(6, 8, None, 10, None), arrive(2, 4, 4, 4, 6)
    reads(monkeypatch, ours | theirs)
    found = later([*ours], [*theirs], **LEVEL)
    assert (found.value, found.n) == (10 / 4, 10)
    assert found.low < found.value < found.high == inf
    # Without its failures the median would be 8.
    assert found.value > 8 / 4


def test_later_where_half_never_gets_there(monkeypatch):
    ours, theirs = arrive(6, None, None), arrive(2, 4, 6)
    reads(monkeypatch, ours | theirs)
    assert later([*ours], [*theirs], **LEVEL).value == inf
    assert later([*theirs], [*ours], **LEVEL).value == 0
    assert isnan(later([*ours], [*ours], **LEVEL).value)


def test_a_run_that_stopped_early_is_censored_and_no_failure(monkeypatch):
    """Stopped at 1 of 12, before any got there, it tells nothing: the median is the others'."""
    ours, theirs = arrive(4, 6, 8, 10), arrive(2, 2, 2)
    stopped = {"stopped": curve(relation_loose=[0.0])}
    reads(monkeypatch, ours | theirs | stopped)
    assert later([*ours, *stopped], [*theirs], **LEVEL).value == 6 / 2


def test_log_rank_is_that_of_the_times(monkeypatch):
    ours, theirs = arrive(6, 8, None, 10), arrive(2, 4, 4, 6)
    reads(monkeypatch, ours | theirs)
    x = stats.CensoredData(uncensored=[6, 8, 10], right=[12])
    y = stats.CensoredData(uncensored=[2, 4, 4, 6])
    expected = stats.logrank(x, y).pvalue
    assert log_rank([*ours], [*theirs], **LEVEL).value == pytest.approx(expected)
    assert expected < 0.05


# --- kept


def masked(plain, hidden):
    """A table of masks: these verdicts in each form, one per noise seed."""
    return pd.concat(
        [
            pd.DataFrame({"form": form, "hidden": h, "guidance": 4.0, "relation_loose": hits})
            .rename_axis(index="seed")
            .reset_index()
            for form in FORMS
            for h, hits in (("", plain), ("relation", hidden))
        ]
    )


HIDDEN = {"hidden": "relation", "metric": "relation_loose", "forms": "all"}


def test_kept_is_a_ratio_of_paired_pictures(tables):
    plain = np.arange(100) < 80
    tables["masks"] = masked(plain, plain & (np.arange(100) % 2 == 0))
    found = kept("a", **HIDDEN)
    assert (found.value, found.n) == (0.5, 400) and 0.35 < found.low < 0.45 < 0.55 < found.high
    tables["masks"] = masked(plain, plain)  # the same pictures keep everything, surely
    found = kept("a", **HIDDEN)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_kept_of_none_and_of_all_has_an_exact_interval(tables):
    plain = np.arange(100) < 80
    tables["masks"] = masked(plain, np.zeros(100, bool))
    found = kept("a", **HIDDEN)
    exact = stats.binomtest(0, 400).proportion_ci(method="exact")
    assert found.value == 0 and ends(found) == (0, exact.high / 0.8)
    tables["masks"] = masked(np.ones(100, bool), np.ones(100, bool))
    found = kept("a", **HIDDEN)
    assert found.value == 1 and found.low == pytest.approx(1 - exact.high) and found.high == 1
    tables["masks"] = masked(np.zeros(100, bool), np.zeros(100, bool))
    assert isnan(kept("a", **HIDDEN).value)


def test_kept_in_one_form_and_at_another_guidance(tables):
    plain = np.arange(100) < 80
    table = masked(plain, plain)
    other = table.assign(guidance=1.0, relation_loose=table.relation_loose & (table.hidden == ""))
    tables["masks"] = pd.concat([table, other])
    assert kept("a", hidden="relation", metric="relation_loose", form="neither").value == 1
    assert kept("a", **HIDDEN, guidance=1.0).value == 0
    with pytest.raises(RelcoreError, match="no hidden 'shape1'"):
        kept("a", hidden="shape1", metric="relation_loose")


def worded(**hits):
    return pd.concat(
        [
            pd.DataFrame(
                {"suite": suite, "form": "both", "seed": range(100), "shape": np.arange(100) < n}
            )
            for suite, n in hits.items()
        ]
    )


def test_kept_over_wordings_is_their_mean_or_that_of_the_least_harmful(tables):
    tables["robustness"] = worded(train=80, crimson=40, navy=60)
    both = {"suites": ["crimson", "navy"], "metric": "shape", "form": "both"}
    mean, least = kept("a", **both), kept("a", **both, worst="least")
    assert mean.value == pytest.approx(50 / 80) and least.value == pytest.approx(60 / 80)
    assert mean.low < mean.value < mean.high and least.low < least.value < least.high
    with pytest.raises(RelcoreError, match="no suite 'azure'"):
        kept("a", suites=["azure"], metric="shape")


def test_rewired_counts_the_target_where_the_prompt_tells_another(tables):
    rows = pd.DataFrame(
        [(told, target) for told in RELATIONS for target in RELATIONS],
        columns=["relation", "target"],
    )
    rows["target_strict"] = rows.target.str.startswith("upper") | (rows.relation == rows.target)
    every = [
        rows.assign(form=form, words=words, factor=factor, target_loose=True)
        for form in FORMS
        for words in ("shape2", "relation")
        for factor in (1.0, 3.0)
    ]
    tables["rewiring"] = pd.concat(every)
    asked = {"words": "shape2", "factor": 3, "strict": True, "forms": "all"}
    diagonal = rewired("a", **asked, targets="diagonal")
    assert (diagonal.value, diagonal.n) == (0.5, 4 * 4 * 7)
    straight = rewired("a", **asked, targets="straight")
    exact = stats.binomtest(0, 112).proportion_ci(method="exact")
    assert straight.value == 0 and ends(straight) == (0, exact.high)
    assert rewired("a", words="shape2", factor=1, form="neither").n == 56


# --- attention and weights


def synopsis_rows(reduction, seeds, values, **columns):
    """Rows of single pictures."""
    return pd.DataFrame(
        {"reduction": reduction, "form": "both", "seed": seeds, "value": values, "n": 1, **columns}
    )


def test_relation_attention_is_that_of_the_first_head_over_the_largest_to_an_own_shape(tables):
    noise, rng = range(50), np.random.default_rng(0)
    scale = rng.uniform(0.5, 1.5, 50)  # a large object has more of everything
    cells = [
        ((0, 0), "object1", "relation", 0.2),
        ((0, 1), "object2", "relation", 0.6),
        ((0, 1), "object1", "relation", 0.5),  # the same head, from the other object
        ((1, 0), "object1", "shape1", 1.0),
        ((1, 1), "object2", "shape2", 1.5),
    ]
    singles = [
        synopsis_rows(
            "paper", noise, value * scale, layer=at[0], head=at[1], image_role=i, text_role=t
        )
        for at, i, t, value in cells
    ]
    means = [
        synopsis_rows("mean", [-1], v, layer=a[0], head=a[1], image_role=i, text_role=t)
        for a, i, t, v in cells
    ]
    means = pd.concat(means).assign(n=50)
    means["low"], means["high"] = means.value - 0.1, means.value + 0.1
    nowhere = singles[0].assign(image_role="background", value=9.0, seed=-1)
    tables["synopsis"] = pd.concat([*singles, means, nowhere])
    found = relation_attention("a", over="own_shape")
    assert found.value == pytest.approx(0.4) and found.n == 50
    assert ends(found) == (0.4, 0.4)  # what objects' sizes do to both is no error of the ratio
    found = relation_attention("a")
    assert (found.value, found.n) == (0.6, 50) and ends(found) == (0.5, 0.7)
    assert relation_attention("a", rank=2).value == 0.2


def test_attention_fades_is_read_at_the_head_that_the_weights_name(tables):
    tables["screening"] = pd.DataFrame(
        {"token": "relation", "relation": "mean", "layer": [0, 2], "head": [0, 1]}
    ).assign(projection=[5.0, -90.0], cosine=[0.99, -0.9])
    served = np.arange(60) % 2 == 0  # it reads half of the relations
    cells = [((2, 1), 0, 0.8), ((2, 1), 17, 0.6), ((0, 0), 0, 0.5), ((0, 0), 17, 0.5)]
    tables["synopsis"] = pd.concat(
        [
            synopsis_rows(
                "largest",
                range(60),
                v * served,
                layer=a[0],
                head=a[1],
                step=s,
                text_role="relation",
            )
            for a, s, v in cells
        ]
    )
    found = attention_fades("a", token="relation", step="last")
    assert found.value == pytest.approx(0.75) and ends(found) == (0.75, 0.75) and found.n == 60


def screened(cosine, low=-0.5, high=0.5):
    rows = pd.DataFrame({"layer": range(len(cosine)), "head": 0, "token": "shape2"})
    mean = rows.assign(relation="mean", cosine=cosine, null_low=low, null_high=high)
    axis = rows.assign(relation="up and down", cosine=0.2, null_low=nan, null_high=nan)
    return pd.concat([mean, axis])


def test_steepest_has_the_sign_asked_for(tables):
    tables["screening"] = screened([0.7, -0.9, 0.1])
    value = {
        sign: steepest("a", token="shape2", sign=sign, outside_null=True).value
        for sign in (-1, 0, 1)
    }
    assert value == {-1: -0.9, 0: 0.9, 1: 0.7}
    assert steepest("a", token="shape2", over="up and down").value == 0.2
    found = steepest("a", token="shape2")
    assert isnan(found.low) and found.n == 3


def test_steepest_within_its_null_is_none(tables):
    tables["screening"] = screened([0.7, -0.9], low=-0.95)
    assert steepest("a", token="shape2", outside_null=True).value == 0
    assert steepest("a", token="shape2").value == 0.9


def test_share_grows_at_equal_length(tables):
    tables["fusion"] = pd.DataFrame(
        {
            "part": ["as encoded", "after the caption MLP"] * 2,
            "token": "shape2",
            "measure": ["relation"] * 2 + ["relation at equal length"] * 2,
            "value": [0.2, 0.1, 0.05, 0.1],
            "n": 96,
        }
    )
    found = share_grows("a", token="shape2", equal_length=True)
    assert (found.value, found.n) == (2.0, 96) and isnan(found.low)
    assert share_grows("a", token="shape2", equal_length=False).value == 0.5

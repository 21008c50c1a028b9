"""Measures of the relation head, its tag, object heads and words, on tables made by hand."""

from math import isnan

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from experiments import measures
from experiments.claims import load
from experiments.measures import follows, relation_left, shows_donor, tag_auc, word_cosine
from relcore.data.prompts import FORMS, in_form, suite
from relcore.data.scenes import RELATIONS
from relcore.errors import RelcoreError
from relcore.kernels.interventions import chance, opposite_relation
from relcore.registry import runs

MINE = (relation_left, shows_donor, tag_auc, follows, word_cosine)
# Where object 1 lies from object 2 in each relation.
PLACES = {
    **{"above": (0, -50), "below": (0, 50), "left": (-50, 0), "right": (50, 0)},
    **{"upper left": (-50, -50), "upper right": (50, -50)},
    **{"lower left": (-50, 50), "lower right": (50, 50)},
}


@pytest.fixture
def tables(monkeypatch):
    """tables(name=table): what `results` finds in place of the files."""
    held = {}
    monkeypatch.setattr(measures, "results", lambda name, query: held[name])
    return lambda **these: held.update(these)


def pictures(intervention, heads, share, otherwise=None, forms=tuple(FORMS), guidance=1.0):
    """The canonical prompts in forms: a share is in the prompt's relation, the rest as `otherwise`
    says (prompt -> relation), or without both objects.
    """
    rows = []
    for form in forms:
        for k, prompt in enumerate(suite()):
            told = RELATIONS[k // 12]
            # Spread evenly over the prompts of a relation.
            good = (k * 5 % 12) / 12 < share
            shown = told if good else otherwise and otherwise(prompt)
            dx, dy = PLACES[shown] if shown else (np.nan, np.nan)
            donor = shown == opposite_relation(prompt)
            rows.append((in_form(prompt, form), k, told, bool(shown), good, dx, dy, donor, form))
    columns = ["prompt", "seed", "relation", "binding", "relation_loose", "dx", "dy", "donor_loose"]
    table = pd.DataFrame(rows, columns=[*columns, "form"])
    return table.assign(intervention=intervention, heads=heads, guidance=guidance)


def test_every_test_of_the_ledger_can_be_asked():
    """The `with` of a claim are keywords of its measure."""
    known = {f.__name__: f for f in MINE}
    asked = [t for c in load()["claims"] for t in c["tests"].values() if t["measure"] in known]
    assert {t["measure"] for t in asked} == known.keys()
    for test in asked:
        names = known[test["measure"]].__code__.co_varnames
        assert {*test["with"]} <= {*names}, test


def test_relation_left_is_one_if_nothing_changes_and_none_at_chance(tables):
    whole = pictures("none", "", 1)
    tables(relation_head=pd.concat([whole, pictures("resample", "relation", 1)]))
    asked = {"intervention": "resample", "heads": "relation", "guidance": 1}
    same = relation_left("r", **asked)
    assert (same.value, same.low, same.high, same.n) == (1, 1, 1, 4 * 96)
    # Always above: an eighth of the prompts say so, and three in eight pictures would fit by luck.
    blind = pictures("resample", "relation", 0, lambda prompt: "upper left")
    blind["relation_loose"] = blind.relation.isin(["above", "left", "upper left"])
    tables(relation_head=pd.concat([whole, blind]))
    found = relation_left("r", **asked)
    assert found.value == pytest.approx(0) and found.low <= 0 <= found.high
    other = pd.concat([whole, blind]).assign(guidance=4.0)
    tables(relation_head=other)
    with pytest.raises(RelcoreError, match="no rows with .*guidance"):
        relation_left("r", **asked)


def test_relation_left_by_hand(tables):
    """A quarter of the pictures right, the rest without their objects: of 1 less chance, .25 less
    a quarter of it.
    """
    whole, cut = pictures("none", "", 1), pictures("resample", "relation", 1 / 4)
    tables(relation_head=pd.concat([whole, cut]))
    found = relation_left("r", intervention="resample", heads="relation", guidance=1, forms="both")
    luck = chance(whole[whole.form == "both"])[0]
    wanted = (1 / 4 - luck / 4) / (1 - luck)
    assert found.value == pytest.approx(wanted, abs=0.01) and found.n == 96
    assert found.low < found.value < found.high


def test_the_interval_of_relation_left_keeps_pairs_together(tables):
    """Pictures that are lost in both arms widen each share, and not the ratio."""
    whole, cut = (
        pictures(name, heads, 1 / 2) for name, heads in (("none", ""), ("mean", "relation"))
    )
    tables(relation_head=pd.concat([whole, cut]))
    found = relation_left("r", intervention="mean", heads="relation", guidance=1)
    assert found.value == found.low == found.high == pytest.approx(1)


def test_shows_donor_counts_pictures_and_is_exact_at_the_ends(tables):
    patched = pictures("patch", "relation", 1 / 4, opposite_relation, guidance=4.0)
    null = pictures("patch", "others", 1, guidance=4.0)
    tables(relation_head=pd.concat([patched, null]))
    found = shows_donor("r", intervention="patch", heads="relation")
    assert found.value == pytest.approx(3 / 4) and found.n == 384
    assert 0.6 < found.low < found.value < found.high < 0.9
    none = shows_donor("r", intervention="patch", heads="others", forms="neither")
    exact = binomtest(0, 96).proportion_ci()
    assert (none.value, none.low, none.high, none.n) == (0, 0, exact.high, 96)
    tables(relation_head=patched.assign(donor_loose=True))
    sure = shows_donor("r", intervention="patch", heads="relation")
    assert sure.value == sure.high == 1 and 0.99 < sure.low < 1
    with pytest.raises(RelcoreError, match="no 'resample' of heads"):
        shows_donor("r", intervention="resample", heads="relation")


def test_one_request_in_four_forms_is_one_draw(tables):
    """Four equal copies of a picture tell no more than one."""
    rows = pictures("patch", "relation", 1 / 2, opposite_relation, guidance=4.0)
    tables(relation_head=rows)
    four = shows_donor("r", intervention="patch", heads="relation")
    one = shows_donor("r", intervention="patch", heads="relation", forms="both")
    assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.05)


def test_tag_auc_takes_the_row(tables):
    rows = [
        ("auc", "all", "one for all prompts", 0, 0.8),
        ("auc", "all", "one for all prompts", 4, 0.9),
    ]
    rows += [("auc", "both", "one for all prompts", 0, 0.7), ("exchanged", "all", "x", 0, 0.1)]
    table = pd.DataFrame(rows, columns=["measure", "form", "tag", "step", "value"])
    tables(tags=table.assign(low=table.value - 0.1, high=table.value + 0.1, n=50))
    found = tag_auc("r", step=0, forms="all", tag="one for all prompts")
    assert (found.value, found.low, found.high, found.n) == pytest.approx((0.8, 0.7, 0.9, 50))
    assert tag_auc("r", step=0, forms="both", tag="one for all prompts").value == 0.7


def test_the_object_head_is_the_one_whose_attention_differs_most(tables):
    columns = ["step", "layer", "head", "cause", "form", "value", "gap"]
    rows = [
        (0, 4, 0, "relation head", "all", 0.6, 0.9),
        (0, 4, 1, "relation head", "all", 0.9, 0.5),
    ]
    rows += [(0, 5, 0, "relation head", "all", np.nan, 0.02), (3, 4, 0, "both", "all", 1.0, 1.0)]
    table = pd.DataFrame(rows, columns=columns)
    table = table.assign(low=table.value - 0.1, high=table.value + 0.1, n=40)
    tables(object_head=table)
    found = follows("r", step=0, cause="relation head")
    assert (found.value, found.low, found.high, found.n) == pytest.approx((0.6, 0.5, 0.7, 40))
    with pytest.raises(RelcoreError, match="no rows with"):
        follows("r", step=1, cause="relation head")
    for nothing in (table[:0], table[table.layer == 5]):
        tables(object_head=nothing)
        assert isnan(follows("r", step=0, cause="relation head").value)


def test_word_cosine_is_of_trained_words_and_the_strongest_head(tables):
    rows = [
        ("keys", True, True, 1, 0.9),
        ("keys", True, True, 1, 0.7),
        ("keys", True, False, 1, 0.0),
    ]
    rows += [
        ("keys", True, True, 2, 0.1),
        ("keys", False, True, 1, -0.4),
        ("encoded", True, True, 1, 0),
    ]
    tables(words=pd.DataFrame(rows, columns=["stage", "same", "trained", "rank", "cosine"]))
    found = word_cosine("r", stage="keys", same=True)
    assert found.value == pytest.approx(0.8) and isnan(found.low) and found.n == 2
    assert word_cosine("r", stage="keys", same=False).value == pytest.approx(-0.4)


def test_a_run_that_is_not_asked_is_named():
    assert "e5-micro" in set(runs().run)
    with pytest.raises(RelcoreError, match="no run fits"):
        word_cosine("e5-micro", stage="keys", same=True)

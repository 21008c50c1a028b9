"""What the rows of the experiments hold: reductions, axes, wordings, targets."""

import numpy as np
import pandas as pd
import pytest

from experiments import rewiring, robustness, screening
from experiments import synopsis as attention
from relcore.data.prompts import FORMS, PHRASES, parse, suite
from relcore.data.scenes import RELATIONS
from relcore.kernels import circuits
from relcore.kernels import synopsis as kernel

PROMPTS = suite()[::20]  # 5
CELL = ["reduction", "layer", "head", "step", "image_role", "text_role"]


@pytest.fixture
def bound(monkeypatch):
    """Image roles made up by the prompt; the first prompt's objects are not found."""

    def roles(picture, prompt, grid=8):
        k = PROMPTS.index(prompt.text)
        shares = np.random.default_rng(k).random((len(kernel.IMAGE_ROLES), grid**2))
        return shares.astype(np.float32) if k else None

    monkeypatch.setattr(kernel, "image_roles", roles)
    monkeypatch.setattr(attention, "image_roles", roles)


def test_one_drawing_gives_every_reduction_of_the_synopsis(model, bound):
    mine = attention.attention(model, PROMPTS, [0], "both")
    options = {"process": model.process, "precision": attention.fast_precision()}
    theirs = kernel.reductions(model.network, model.encoder, PROMPTS, [0], **options)
    mine = mine[(mine.seed == attention.ALL) & (mine.reduction != "largest")]
    both = mine.merge(theirs, on=CELL, validate="1:1")
    assert len(both) == len(theirs) and (both.n_x == both.n_y).all() and both.n_x.iloc[0] == 4
    for one, other in (("value", "mass"), ("low_x", "low_y"), ("high_x", "high_y")):
        np.testing.assert_allclose(both[one], both[other], rtol=1e-3, atol=1e-3)


def test_single_pictures_average_to_the_means(model, bound):
    table = attention.attention(model, PROMPTS, [0], "both")
    one = table[table.seed != attention.ALL]
    cells = one.groupby(CELL).value.agg(["mean", "count"]).reset_index()
    both = cells.merge(table[table.seed == attention.ALL], on=CELL, validate="1:1")
    assert len(both) == len(cells)
    np.testing.assert_allclose(both["mean"], both.value, rtol=1e-5)
    assert (both["count"] == both.n).all() and {*both.n} == {4, 5}
    paper = one[one.reduction == "paper"]
    assert {*zip(paper.image_role, paper.text_role, strict=True)} == {
        *(("object1", "relation"), ("object2", "relation")),
        *(("object1", "shape1"), ("object2", "shape2")),
    }


def test_the_largest_attention_bounds_that_of_every_place(model, bound):
    table = attention.attention(model, PROMPTS[1:], [0], "both")
    table = table[table.seed == attention.ALL]
    largest, steps = (table[table.reduction == name] for name in ("largest", "steps"))
    both = steps.merge(largest, on=["layer", "head", "step", "text_role"], suffixes=("", "_any"))
    assert len(both) == len(steps) and (both.value <= both.value_any + 1e-6).all()
    assert (largest.value <= 1.01).all() and largest.value.max() > steps.value.max()


def test_without_both_objects_only_the_largest_attention_is_known(model):
    table = attention.attention(model, PROMPTS[:2], [0], "both")
    known = table.dropna(subset="value")
    assert {*known.reduction} == {"largest"} and (table[table.reduction == "mean"].n == 0).all()


def test_an_axis_is_the_mean_of_its_straight_relations(model):
    table = screening.screened(model, "relation")
    raw = circuits.screen(model.network, model.encoder, "relation")
    pd.testing.assert_frame_equal(table[: len(raw)], raw, check_dtype=False)
    heads = raw[raw.relation.isin(["left", "right"])].groupby(["layer", "head"]).cosine.mean()
    axis = table[table.relation == "left and right"].set_index(["layer", "head"]).cosine
    pd.testing.assert_series_equal(axis, heads, check_dtype=False)


@pytest.mark.parametrize("name", robustness.SUITES)
def test_every_training_prompt_is_put_in_other_words(name):
    assert [robustness.reworded(p, name) for p in suite(PHRASES)] == suite(PHRASES, name)


def test_synonyms_replace_one_colour_alone():
    prompt = "red square is above blue circle"
    assert robustness.reworded(prompt, "crimson") == "crimson square is above blue circle"
    assert robustness.reworded(prompt, "navy") == "red square is above navy circle"


def test_rewiring_asks_for_all_targets_and_changes_nothing_if_they_are_told(contextual):
    prompts = rewiring.some_phrases()
    assert {parse(p).relation for p in prompts} == {*range(8)} and len(prompts) == 24
    rows = rewiring.rewired(contextual, prompts[:3], [0], "both", "shape2", ["shape2"], 1.0)
    assert list(rows.target.unique()) == list(RELATIONS) and len(rows) == 24
    told = rows[rows.target == rows.relation].set_index("prompt")
    plain = contextual.evaluate(prompts[:3], [0]).set_index("prompt").loc[told.index]
    verdicts = ["color", "shape", "binding", "relation_loose", "dx"]
    pd.testing.assert_frame_equal(told[verdicts], plain[verdicts])


def test_words_that_a_form_lacks_are_skipped(contextual):
    parts = dict(rewiring.rewiring.parts(contextual, ["prompt"], [0]))
    roles = {name.split(" x ")[0]: part.args[5] for name, part in parts.items()}
    assert roles["both, color1 color2"] == ["color1", "color2"]
    assert roles["no first, color1 color2"] == ["color2"]
    assert "neither, color1 color2" not in roles and roles["neither, relation"] == ["relation"]
    assert len(parts) == 2 * (4 * len(FORMS) - 1)

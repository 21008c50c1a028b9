"""Robustness: suites are drawn as asked, more seeds are added to a table, drops are against the
training template.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from networks import stirred

from relcore.data.encoders import make_encoder
from relcore.data.prompts import PHRASES, ROLES, suite
from relcore.data.scenes import RELATIONS
from relcore.errors import RelcoreError
from relcore.kernels.factors import relation_effects
from relcore.kernels.robustness import (
    SUITES,
    Restored,
    compass,
    drops,
    restored,
    robustness,
    shift,
    shifts,
    untouched,
)
from relcore.model import evaluation

FEW = {"above": PHRASES["above"][:1], "left": PHRASES["left"][:1]}  # 24 prompts
STEPS = {"steps": 1, "guidance": 1.0}


def test_every_suite_draws_its_own_prompts(model, encoder):
    table = robustness(model, encoder, [0], SUITES, phrases=FEW, **STEPS)
    for name, rows in table.groupby("suite"):
        assert sorted(rows.prompt) == sorted(suite(FEW, name)), name
    assert set(table.suite) == set(SUITES)


def test_seeds_are_added_to_a_table_without_drawing_the_others_again(
    model, encoder, tmp_path, monkeypatch
):
    file, two = tmp_path / "table.parquet", ("train", "is-the")
    whole = robustness(model, encoder, [0, 1], two, phrases=FEW, **STEPS)
    robustness(
        model, encoder, [0], two, phrases=FEW, file=file, settings={"checkpoint": "a"}, **STEPS
    )
    ran, real = [], evaluation.sample
    monkeypatch.setattr(
        evaluation, "sample", lambda *a, **kw: ran.append(len(a[2])) or real(*a, **kw)
    )
    grown = robustness(
        model, encoder, [0, 1], two, phrases=FEW, file=file, settings={"checkpoint": "a"}, **STEPS
    )
    assert sum(ran) == 2 * 24
    pd.testing.assert_frame_equal(grown, whole)
    with pytest.raises(RelcoreError, match="another checkpoint"):
        robustness(
            model, encoder, [0], two, phrases=FEW, file=file, settings={"checkpoint": "b"}, **STEPS
        )


def made(name, relation, hits, dx):
    hits = np.array(hits, bool)
    same = {m: hits for m in ("color", "shape", "binding", "relation_strict", "relation_loose")}
    return pd.DataFrame({"suite": name, "relation": relation, "dx": dx, "dy": 0.0, **same})


def test_a_drop_is_against_the_same_relations_of_the_training_template():
    table = pd.concat(
        [
            made("train", "above", [1, 1, 1, 1], 0.0),
            made("train", "upper left", [0, 0, 0, 0], 8.0),
            made("relation-synonyms", "above", [1, 1, 0, 0], [2.0, 4.0, np.nan, np.nan]),
        ]
    )
    found = drops(table).set_index(["suite", "metric"])
    loose, dx = (
        found.loc[("relation-synonyms", "relation_loose")],
        found.loc[("relation-synonyms", "dx")],
    )
    assert (loose.value, loose.change, loose.n) == (0.5, -0.5, 4)
    assert loose.change - loose.change_low == pytest.approx(1.96 * np.std([1, 1, 0, 0], ddof=1) / 2)
    # Pictures without a bound pair have no displacement.
    assert (dx.value, dx.change, dx.n) == (3.0, 3.0, 2)
    assert found.loc[("train", "relation_loose")].change == 0


def test_a_suite_without_a_bound_pair_has_no_displacement():
    table = pd.concat(
        [made("train", "above", [1, 1], 4.0), made("filler", "above", [0, 0], np.nan)]
    )
    dx = drops(table).set_index(["suite", "metric"]).loc[("filler", "dx")]
    assert dx.n == 0 and dx[["value", "low", "high", "change"]].isna().all()


def test_rte_moves_only_by_position(encoder):
    """Without context a word moves as its place does: not at all where nothing stands before it."""
    assert torch.equal(shift(encoder, "no-is", "color1"), torch.zeros(96, encoder.dim))
    moved = encoder.positions[2] - encoder.positions[1]
    torch.testing.assert_close(
        shift(encoder, "the-the", "shape1"), moved.expand(96, -1), atol=1e-5, rtol=0
    )
    assert shift(make_encoder("rte-nopos"), "the-the", "shape2").abs().max() < 1e-6


def test_shifts_are_in_units_of_the_relations_effects():
    encoder = make_encoder("e5")
    found = shifts(encoder, ["is-the"], ["shape2"]).iloc[0]
    mean = shift(encoder, "is-the", "shape2").mean(0)
    unit = relation_effects(encoder, "shape2").square().sum(1).mean().sqrt()
    assert found["size"] == pytest.approx(float(mean.norm() / unit))
    plane = compass(encoder, "shape2")
    rest = mean - found.right * plane[0] - found.down * plane[1]
    # Nothing of it is left in the plane.
    assert (plane @ rest).abs().max() < 1e-3 * float(mean.norm() * plane.norm())


def test_the_compass_points_where_the_relations_do():
    plane = compass(make_encoder("e5"), "color2")
    effects = relation_effects(make_encoder("e5"), "color2")
    place = torch.linalg.lstsq(plane.T, effects.T).solution.T  # [relation, right and down]
    assert place[RELATIONS.index("right"), 0] > 0.3 > -0.3 > place[RELATIONS.index("left"), 0]
    assert place[RELATIONS.index("below"), 1] > 0.3 > -0.3 > place[RELATIONS.index("above"), 1]


@pytest.mark.parametrize("name", ["rte", "e5"])
@pytest.mark.parametrize("suite_", ["the-the", "shape-synonyms"])
def test_restored_words_have_the_training_prompts_vectors_and_no_others(name, suite_):
    encoder, prompts = make_encoder(name), suite(template=suite_)[::17]
    found, text = (
        Restored(encoder, ["color2", "shape2"]).encode([*prompts, ""]),
        encoder.encode([*prompts, ""]),
    )
    before = encoder.encode([untouched(p) for p in prompts])
    for role in ("color2", "shape2"):
        for k in range(len(prompts)):
            mine = found.embeddings[k, (found.roles[k] == ROLES.index(role)) & found.mask[k]]
            theirs = before.embeddings[k, (before.roles[k] == ROLES.index(role)) & before.mask[k]]
            torch.testing.assert_close(mine.mean(0), theirs.mean(0))
    other = ~torch.isin(text.roles, torch.tensor([ROLES.index("color2"), ROLES.index("shape2")]))
    assert torch.equal(found.embeddings[other], text.embeddings[other]) and torch.equal(
        found.roles, text.roles
    )


def test_with_every_word_restored_a_rewrite_draws_what_the_training_prompt_draws():
    model, encoder = stirred(0.05), make_encoder("rte")
    options = {"words": ["color1 shape1 relation color2 shape2 filler"], "seeds": [0], **STEPS}
    healed = restored(model, encoder, ["color-synonyms", "train"], **options)
    same = [
        rows[["color", "shape", "dx", "dy"]].reset_index(drop=True)
        for _, rows in healed.groupby("suite")
    ]
    pd.testing.assert_frame_equal(*same)

"""Tags: planted directions are found, fitted prompts are never judged, and nothing is read that is
not there.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import network

from relcore.data.encoders import make_encoder
from relcore.data.prompts import parse, suite
from relcore.data.scenes import COLORS, RELATIONS, Scenes, render
from relcore.errors import RelcoreError
from relcore.kernels import tags as module
from relcore.kernels.circuits import write_directions
from relcore.kernels.interventions import Batch, Head
from relcore.kernels.synopsis import IMAGE_ROLES, image_roles
from relcore.kernels.tags import (
    Tokens,
    collect,
    contrasts,
    folds,
    levels,
    over_prompts,
    prediction,
    probe,
    stability,
    tag,
    tag_map,
    word_tags,
)

D = 8


def tokens(common=2.0, signed=0.0, noise=0.1, steps=3, prompts=None, each=2) -> Tokens:
    """`each` tokens an object; object 1 holds +common on axis 0 and, by its colour's sign, signed
    on axis 1.
    """
    rng, rows, values = np.random.default_rng(0), [], []
    for k, prompt in enumerate(prompts or suite()):
        parsed = parse(prompt)
        for role in IMAGE_ROLES:
            for _ in range(each):
                vector = rng.normal(size=D) * noise
                if role == "object1":
                    vector[0] += common
                    vector[1] += signed * (1 if parsed.colors[0] == 0 else -1)
                rows.append(
                    (
                        k,
                        prompt,
                        k,
                        RELATIONS[parsed.relation],
                        COLORS[parsed.colors[0]],
                        role,
                        0,
                        1.0,
                    )
                )
                values.append(vector)
    columns = ["picture", "prompt", "seed", "relation", "color1", "role", "image", "share"]
    values = torch.tensor(np.array(values), dtype=torch.float32)
    return Tokens(pd.DataFrame(rows, columns=columns), {"x": values.expand(steps, -1, -1)})


@pytest.fixture
def drawn(monkeypatch):
    """What an untrained network draws shows no objects: its pictures are swapped for scenes drawn
    to the prompt.
    """
    real = Batch.draw

    def draw(batch, names=(), edits=None, prompts=None):
        cache = real(batch, names, edits, prompts)[1]
        parsed = [parse(p) for p in batch.prompts]
        xy = np.array([[[32, 40], [96, 88]]] * len(parsed), dtype=float)
        colors = [(c, 1 - c) for c in (max(p.colors[0], 0) for p in parsed)]  # red if not named
        scenes = Scenes(
            np.array(colors),
            np.array([p.shapes for p in parsed]),
            xy,
            np.array([p.relation for p in parsed]),
        )
        return torch.from_numpy(render(scenes, 64)), cache

    monkeypatch.setattr(Batch, "draw", draw)


def test_tokens_hold_what_the_network_held_at_the_objects(tiny, drawn):
    encoder, prompts, head = make_encoder("rte"), suite()[:4], Head(1, 1)
    got = collect(
        tiny, encoder, prompts, [0], ["blocks.*.resid_post"], [head], background=3, batch=2, steps=2
    )
    assert set(got.values) == {"blocks.0.resid_post", "blocks.1.resid_post", "L1H1"}
    assert all(v.shape == (2, len(got.table), 128) for v in got.values.values())
    assert (got.table.groupby(["picture", "role"]).size().unstack()["background"] == 3).all()
    batch = Batch(tiny, encoder, prompts, [0, 1, 2, 3], {"steps": 2})
    pictures, cache = batch.draw(["blocks.1.resid_post", "blocks.1.cross_attn.result"])
    for k in range(4):
        shares = image_roles(pictures[k].numpy(), parse(prompts[k]))
        rows = got.where(picture=k, role="object2")
        assert list(rows.table.image) == list(np.flatnonzero(shares[1] >= module.COVERED))
        places = torch.tensor(list(rows.table.image))
        torch.testing.assert_close(
            rows.values["blocks.1.resid_post"][1], cache["blocks.1.resid_post", 1][k, places]
        )
        torch.testing.assert_close(
            rows.values["L1H1"][0], cache["blocks.1.cross_attn.result", 0][k, 1, places]
        )


def test_a_colour_that_is_not_named_is_read_off_the_picture(tiny, drawn):
    prompts = [
        "square is above circle",
        "square is above blue circle",
        "blue square is above circle",
    ]
    got = collect(tiny, make_encoder("rte"), prompts, [0], ["blocks.0.resid_post"], steps=1)
    assert list(got.table.drop_duplicates("picture").color1) == ["red", "red", "blue"]
    assert set(contrasts(got, "blocks.0.resid_post")) == {"common", "signed"}


def test_no_object_at_all_is_an_error(tiny):
    with pytest.raises(RelcoreError, match="no image token has a role"):
        collect(tiny, make_encoder("rte"), suite()[:2], [0], ["blocks.0.resid_post"], steps=2)


def test_planted_tag_is_found():
    planted = tokens(common=2.0)
    unit, size = tag(planted, "x", [0, 1])
    assert unit[0] > 0.99 and size == pytest.approx(2, abs=0.05)


@given(st.integers(0, 99), st.booleans())
def test_the_map_of_a_tag_says_where_each_object_is_and_turns_with_them(seed, turned):
    """z: a mark at the places of object 1, its opposite at those of object 2, on common ground."""
    model, head, generator = network(), Head(1, 1), torch.Generator().manual_seed(seed)
    mark, shared = torch.randn(2, 64, generator=generator)
    places = torch.zeros(2, 64)
    places[0, :6], places[1, -6:] = 1 / 6, 1 / 6
    sign = torch.zeros(64).index_fill(0, torch.arange(6), 1).index_fill(0, torch.arange(58, 64), -1)
    other = shared + sign[:, None] * mark
    z = shared + (-sign if turned else sign)[:, None] * mark
    values = tag_map(model, head, z.expand(3, -1, -1), other.expand(3, -1, -1), places)
    assert values.shape == (3, 64)
    torch.testing.assert_close(values.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
    first, second = values[:, :6], values[:, -6:]
    assert ((first > 0) != turned).all() and ((second < 0) != turned).all()
    # As long as what is written.
    w_o = model.blocks[1].cross_attn.W_O.weight[:, 64:128]
    written = (mark @ w_o.T).norm().expand(3, 6)
    torch.testing.assert_close(first.abs(), written, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(values[:, 6:-6].abs(), torch.zeros(3, 52), atol=1e-3, rtol=0)


def test_tag_that_changes_its_sign_with_the_colour_is_told_from_the_common_one():
    parts = contrasts(tokens(common=1.0, signed=5.0), "x")
    assert abs(parts["common"][0][0]) > 0.99 and parts["common"][1] == pytest.approx(1, abs=0.05)
    assert parts["signed"][0][1] < -0.99  # blue comes before red
    assert parts["signed"][1] == pytest.approx(5, abs=0.05)
    assert float(parts["common"][0] @ parts["signed"][0]) == pytest.approx(0, abs=1e-5)
    with pytest.raises(RelcoreError, match="have 1 values of color1"):
        contrasts(tokens().where(color1="red"), "x")


def test_common_tag_is_not_moved_by_an_uneven_choice_of_prompts():
    both = suite()
    uneven = [p for k, p in enumerate(both) if p.startswith("red") or k % 3 == 0]
    planted = tokens(common=1.0, signed=5.0, prompts=uneven)
    assert tag(planted, "x")[0][0] < 0.8 < 0.99 < contrasts(planted, "x")["common"][0][0]


def test_stability_of_one_direction_and_of_none():
    cosines = stability(tokens(), "x").groupby("over").cosine
    assert cosines.min().min() > 0.95
    assert dict(cosines.size()) == {"relation": 28, "step": 3}
    assert (
        stability(tokens(common=0.0), "x").set_index("over").cosine["relation"].abs().max() < 0.95
    )


def test_folds_never_share_a_prompt_and_balance_what_it_names():
    table = tokens().table
    for number in (2, 3):
        fold = folds(table, "prompt", number)
        assert table.assign(fold=fold).groupby("prompt").fold.nunique().max() == 1
        for column in ("color1", "relation"):
            counts = table.assign(fold=fold).groupby(["fold", column]).size()
            assert counts.nunique() == 1
    assert (
        table.assign(fold=folds(table, "relation", 8))
        .groupby("fold")
        .relation.nunique()
        .eq(1)
        .all()
    )
    with pytest.raises(RelcoreError, match="do not fill 9 folds"):
        folds(table, "relation", 9)


def test_prediction_finds_what_is_there_and_nothing_else():
    sure = prediction(tokens(common=2.0), "x", draws=20)
    assert (
        (sure.auc > 0.99).all() and (sure.low <= sure.auc).all() and (sure.auc <= sure.high).all()
    )
    nothing = prediction(tokens(common=0.0, noise=1.0), "x", [0], draws=50).iloc[0]
    assert 0.3 < nothing.auc < 0.65
    assert nothing.n == 4 * 96 and nothing.prompts == 96


def test_signed_tag_needs_a_fit_within_each_colour():
    planted = tokens(common=0.0, signed=3.0, noise=0.3)
    assert prediction(planted, "x", [0], draws=0).auc[0] < 0.7
    assert prediction(planted, "x", [0], within="color1", draws=0).auc[0] > 0.99
    assert (
        prediction(planted, "x", [0], within="color1", by="relation", number=8, draws=0).auc[0]
        > 0.99
    )


def test_tokens_without_others_to_fit_on_are_left_out():
    """Where no colour is named the network may choose one order of the colours nearly always."""
    planted = tokens(common=2.0)
    one = planted.table.prompt.iloc[0]
    planted.table["color1"] = np.where(planted.table.prompt == one, "blue", "red")
    row = prediction(planted, "x", [0], within="color1", draws=5).iloc[0]
    assert row.n == 4 * 95 and row.auc > 0.99
    with pytest.raises(RelcoreError, match="no tag of color1"):
        prediction(planted.where(prompt=one), "x", [0], within="color1", by="image", number=1)


def test_probe_reads_a_tag_and_no_more_than_chance_without_one():
    read = probe(tokens(common=2.0), ["x"], [0, 2])
    assert list(read.step) == [0, 2] and (read.accuracy > 0.95).all()
    assert ((read.low <= read.accuracy) & (read.accuracy <= read.high)).all()
    assert probe(tokens(common=0.0, noise=1.0), ["x"], [0]).accuracy[0] < 0.6
    assert probe(tokens(common=2.0), ["x"], [0], shuffled=True).accuracy[0] < 0.65
    split = probe(tokens(common=0.0, signed=3.0), ["x"], [0], within="color1")
    assert split.accuracy[0] > 0.95


def test_interval_is_over_prompts_not_tokens():
    table = pd.DataFrame(
        {"prompt": np.repeat(list("abcd"), 100), "value": np.repeat([0.0, 0.0, 1.0, 1.0], 100)}
    )
    mean, low, high = over_prompts(table, "value")
    # Of 400 independent tokens it would be .45 to .55.
    assert mean == 0.5 and low < 0.1 and high > 0.9


def test_levels_are_means_by_role():
    planted = tokens(common=2.0, noise=0.0)
    rows = levels(planted, "x", torch.eye(D)[0]).set_index(["role", "step"])
    assert (
        rows.loc[("object1", 0), "value"] == pytest.approx(2)
        and rows.loc[("background", 2), "value"] == 0
    )
    assert set(rows.n) == {192}


def test_word_tags_are_the_weights_projections(tiny):
    encoder, direction = make_encoder("rte"), torch.randn(128)
    table = word_tags(tiny, encoder, Head(1, 0), direction, suite()[:2]).set_index(["role", "word"])
    text = encoder.encode(suite()[:1])
    wanted = write_directions(tiny, tiny.caption_mlp(text.embeddings[0]))[1, 0] @ direction
    assert table.loc[("color1", "red"), "value"] == pytest.approx(float(wanted[0]), abs=1e-4)
    assert table.loc[("special", "end"), "n"] == 2
    assert (table.low <= table.value + 1e-6).all() and (table.value <= table.high + 1e-6).all()

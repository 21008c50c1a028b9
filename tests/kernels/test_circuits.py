"""Screening and OV: the maps are the network's own, planted heads are found with their sign, and no
others are.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import network
from torch import Tensor

from relcore.data.encoders import make_encoder
from relcore.data.prompts import PHRASES, suite
from relcore.data.scenes import RELATIONS, relation_of
from relcore.errors import RelcoreError
from relcore.kernels import circuits
from relcore.kernels.capture import capture
from relcore.kernels.circuits import (
    DIRECTIONS,
    TOKENS,
    WORDS,
    agreement,
    along_training,
    keys,
    nulls,
    ov,
    qk_maps,
    queries,
    ramps,
    score,
    screen,
    screened,
    text_vectors,
    write_directions,
)
from relcore.model.checkpoints import load_model, save_model
from relcore.model.dit import D_HEAD, DiT, DiTConfig

RTE, E5 = make_encoder("rte"), make_encoder("e5")
PROMPT = "red square is to the lower left of blue circle"
CLOSE = {"rtol": 1e-3, "atol": 1e-3}


def plant(model: DiT, vectors: Tensor, layer: int, head: int, sign: float = 1.0) -> None:
    """Set one head's W_Q and W_K so that its map for vector i, of relation i, is exactly sign times
    that ramp.
    """
    attention, rows = model.blocks[layer].cross_attn, slice(head * D_HEAD, head * D_HEAD + 2)
    axis = torch.linspace(-1, 1, model.config.grid)
    # [image, (x, y)]
    places = torch.stack([axis.expand(8, 8).flatten(), axis[:, None].expand(8, 8).flatten()], 1)
    directions = torch.nn.functional.normalize(torch.tensor(DIRECTIONS).float())
    for linear, source, target in (
        (attention.W_Q, model.positions, places),
        (attention.W_K, vectors, directions),
    ):
        linear.weight[head * D_HEAD : (head + 1) * D_HEAD] = 0
        linear.bias[head * D_HEAD : (head + 1) * D_HEAD] = 0
        inputs = torch.cat([source, torch.ones(len(source), 1)], 1).double()
        solved = (torch.linalg.pinv(inputs, rtol=1e-9) @ target.double()).float()  # [d and bias, 2]
        linear.weight[rows], linear.bias[rows] = solved[:-1].T, solved[-1]
    attention.W_K.weight[rows] *= sign
    attention.W_K.bias[rows] *= sign


def means(table):
    return table[table.relation == "mean"].set_index(["layer", "head"])


def test_ramps_are_the_papers():
    maps = ramps()
    np.testing.assert_allclose(maps.flatten(1).norm(dim=1), 5.237, atol=5e-4)
    np.testing.assert_allclose(maps.mean((1, 2)), 0, atol=1e-6)
    by_name = dict(zip(RELATIONS, maps, strict=True))
    steps = torch.linspace(-1, 1, 8)
    for relation, line in (("below", steps), ("above", -steps)):  # y goes down
        torch.testing.assert_close(by_name[relation], line[:, None].expand(8, 8))
    for relation, line in (("right", steps), ("left", -steps)):
        torch.testing.assert_close(by_name[relation], line.expand(8, 8))
    corner = {
        "upper left": (0, 0),
        "upper right": (0, 7),
        "lower left": (7, 0),
        "lower right": (7, 7),
    }
    for relation, (y, x) in corner.items():
        assert (
            float(by_name[relation][y, x])
            == float(by_name[relation].max())
            == pytest.approx(2**0.5)
        )


def test_directions_agree_with_the_rule_that_labels_scenes():
    dx, dy = 30 * np.array(DIRECTIONS).T
    assert relation_of(dx, dy).tolist() == list(range(8))


@pytest.mark.parametrize("grid", [4, 8, 16])
def test_mirror_images_swap_relations(grid):
    maps = dict(zip(RELATIONS, ramps(grid), strict=True))
    for a, b in (("left", "right"), ("upper left", "upper right"), ("lower left", "lower right")):
        torch.testing.assert_close(maps[a].flip(1), maps[b])
    for a, b in (("above", "below"), ("upper left", "lower left"), ("upper right", "lower right")):
        torch.testing.assert_close(maps[a].flip(0), maps[b])
    torch.testing.assert_close(maps["above"].T, maps["left"])


def test_score_of_a_ramp_is_one_and_a_flat_map_has_no_direction():
    cosine, projection, energy = score(torch.stack([3 * ramps()[0] + 7, torch.full((8, 8), 5.0)]))
    want = torch.tensor(DIRECTIONS).float() @ torch.tensor([0.0, -1.0])
    want[4:] /= 2**0.5
    torch.testing.assert_close(cosine, torch.stack([want, torch.zeros(8)]), **CLOSE)
    torch.testing.assert_close(energy, torch.tensor([3 * 5.2372, 0]), **CLOSE)
    torch.testing.assert_close(projection[0], want * energy[0], **CLOSE)


@given(st.integers(0, 2**31), st.floats(0.1, 100), st.floats(-50, 50))
def test_cosine_ignores_scale_and_offset_and_flips_with_the_sign(seed, scale, offset):
    maps = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    cosine, projection, energy = score(maps)
    other = score(offset - scale * maps)
    torch.testing.assert_close(other[0], -cosine, **CLOSE)
    torch.testing.assert_close(other[2], scale * energy, **CLOSE)
    assert (
        cosine.abs().max() <= 1 + 1e-6
        and (projection.abs() <= energy[..., None] * (1 + 1e-5)).all()
    )


def test_maps_from_weights_are_the_scores_of_a_network_whose_residual_stream_is_the_positions():
    """With nothing else written into the stream, in every layer, captured q.k is the screened
    map.
    """
    model = network()
    silent = [model.patch_embed]
    for block in model.blocks:
        silent += [block.attn.W_O, block.cross_attn.W_O, block.mlp[2]]
    for layer in silent:
        layer.weight.zero_()
        layer.bias.zero_()
    text = RTE.encode([PROMPT])
    vectors = model.caption_mlp(text.embeddings)[0]
    with capture(model, ["blocks.*.cross_attn.[qk]", "blocks.*.cross_attn.scores"]) as cache:
        model(torch.randn(1, 3, 64, 64), torch.tensor([0.3]), text)
    q, k, scores = (
        torch.stack([cache[f"blocks.{layer}.cross_attn.{part}", 0][0] for layer in range(3)])
        for part in ("q", "k", "scores")
    )
    torch.testing.assert_close(queries(model), q)
    torch.testing.assert_close(keys(model, vectors), k)
    maps = qk_maps(model, vectors)  # [layer, head, token, y, x]
    torch.testing.assert_close(maps.flatten(-2), k @ q.transpose(-1, -2), **CLOSE)
    torch.testing.assert_close(maps.flatten(-2).transpose(-1, -2) / D_HEAD**0.5, scores, **CLOSE)


def test_relation_vectors_are_means_over_words_and_prompts_after_the_mlp():
    model = network()
    names, relations, vectors = text_vectors(model, RTE, "relation")
    assert names == list(RELATIONS) and relations.tolist() == list(range(8))
    left = [
        model.caption_mlp(
            torch.stack([RTE.word(w) + RTE.positions[3 + i] for i, w in enumerate(phrase.split())])
        ).mean(0)
        for phrase in PHRASES["left"]
    ]  # the relation's words always start at the fourth place, and every phrase has as many prompts
    torch.testing.assert_close(vectors[2], torch.stack(left).mean(0), **CLOSE)


def test_the_nine_words_stand_at_the_first_nine_places():
    model = network()
    names, relations, vectors = text_vectors(model, RTE, "words")
    assert " ".join(names) == "above below right left up down upper higher lower"
    assert [RELATIONS[r] for r in relations] == list(WORDS.values())
    torch.testing.assert_close(vectors[5], model.caption_mlp(RTE.word("down") + RTE.positions[5]))


@pytest.mark.parametrize("token", ["color1", "shape1", "color2", "shape2"])
def test_effect_vectors_sum_to_zero_and_the_bias_adds_one_map_to_all(token):
    model = network()
    _, _, vectors = text_vectors(model, E5, token)
    torch.testing.assert_close(vectors.sum(0), torch.zeros(128), atol=1e-4, rtol=0)
    common = qk_maps(model, vectors).mean(2, keepdim=True)
    torch.testing.assert_close(common, qk_maps(model, torch.zeros(1, 128)), **CLOSE)


@pytest.mark.parametrize(
    "encoder, token, sign", [(RTE, "relation", 1.0), (E5, "relation", 1.0), (E5, "shape2", -1.0)]
)
def test_a_planted_head_is_found_with_its_sign(encoder, token, sign):
    model = network()
    plant(model, text_vectors(model, encoder, token)[2], layer=1, head=0, sign=sign)
    table = means(screen(model, encoder, token))
    found = table.loc[(1, 0)]
    assert found.cosine == pytest.approx(sign, abs=0.01)
    assert found.energy == pytest.approx(5.237, rel=0.05) and found.projection == pytest.approx(
        sign * found.energy, 0.02
    )
    everywhere = nulls(model, encoder, token).set_index(["layer", "head"])
    assert set(everywhere.null) == {"shuffled", "untrained"} | (
        {"words"} if encoder is RTE else set()
    )
    outside = (everywhere.cosine < everywhere.null_low) | (everywhere.cosine > everywhere.null_high)
    planted = outside.index.isin([(1, 0)])
    assert outside[planted].all() and outside[~planted].mean() <= 0.3


def test_planted_words_are_found_by_the_papers_nine():
    """A head built on the four straight words alone points all of theirs right, whatever the others
    do.
    """
    model = network()
    names, _, vectors = text_vectors(model, RTE, "words")
    order = [names.index(word) for word in ("above", "below", "left", "right")]
    diagonals = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    plant(model, torch.cat([vectors[order], diagonals]), layer=2, head=1)
    table = screen(model, RTE, "words").query("layer == 2 and head == 1").set_index("vector")
    np.testing.assert_allclose(table.cosine[["above", "below", "left", "right"]], 1, atol=0.01)


def test_table_has_a_row_a_head_and_vector_and_the_mean_of_them():
    model = network()
    for token, vectors in (("relation", 8), ("words", 9)):
        table = screen(model, RTE, token)
        assert len(table) == 3 * 2 * (vectors + 1) and set(table.token) == {token}
        mean, rest = means(table), table[table.relation != "mean"]
        for measure in ("cosine", "projection", "energy"):
            np.testing.assert_allclose(
                mean[measure], rest.groupby(["layer", "head"])[measure].mean(), atol=1e-4
            )
        np.testing.assert_allclose(rest.cosine, rest.projection / rest.energy, atol=1e-5)
        assert (
            mean.notna().to_numpy().all()
            and rest[["null_low", "null_high"]].isna().to_numpy().all()
        )
        # The rows are those of the maps, in the order of layers, heads and vectors.
        row = table.query("layer == 2 and head == 1 and vector == 'right'").iloc[0]
        names, _, source = text_vectors(model, RTE, token)
        cosine = score(qk_maps(model, source[[names.index("right")]]))[0][
            2, 1, 0, RELATIONS.index("right")
        ]
        assert row.relation == "right" and row.cosine == pytest.approx(float(cosine), abs=1e-5)


def test_heads_permuted_in_the_weights_are_permuted_in_the_table():
    model, other = network(), network()
    for block in other.blocks:
        for layer in (block.cross_attn.W_Q, block.cross_attn.W_K):
            layer.weight.copy_(layer.weight.roll(D_HEAD, 0))
            layer.bias.copy_(layer.bias.roll(D_HEAD, 0))
    columns = ["cosine", "projection", "energy", "null_low", "null_high"]
    before, after = means(screen(model, RTE)), means(screen(other, RTE))
    swapped = after[columns].rename(index={0: 1, 1: 0}, level="head").sort_index()
    np.testing.assert_allclose(before[columns], swapped, atol=1e-3)


def test_a_heads_scale_changes_its_energy_only():
    model, other = network(), network()
    for block in other.blocks:
        block.cross_attn.W_Q.weight *= 3
        block.cross_attn.W_Q.bias *= 3
    before, after = screen(model, RTE), screen(other, RTE)
    np.testing.assert_allclose(before.cosine, after.cosine, atol=1e-4)
    np.testing.assert_allclose(
        3 * before[["projection", "energy"]], after[["projection", "energy"]], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("token", ["relation", "words"])
def test_centring_removes_what_all_relations_share(token):
    """A bias of W_K, and a common part of all vectors, change nothing once centred; uncentred they
    do.
    """
    model, other = network(), network()
    for block in other.blocks:
        block.cross_attn.W_K.bias += 3 * torch.randn(
            128, generator=torch.Generator().manual_seed(0)
        )
    for centred in (True, False):
        before, after = (
            screen(model, RTE, token, centred=centred),
            screen(other, RTE, token, centred=centred),
        )
        assert np.allclose(before.cosine, after.cosine, atol=1e-3) == centred


def test_mean_projection_needs_no_centring_when_every_relation_counts_once():
    """The eight ramps sum to zero, so a common map cancels in the mean projection (not in the mean
    cosine).
    """
    before, after = (
        means(screen(network(), RTE, centred=centred)).projection for centred in (False, True)
    )
    np.testing.assert_allclose(before, after, atol=1e-3)


def test_effects_of_length_alone_cancel_in_the_mean():
    """RTE's shape words know the relation by the phrase's length only; relations of a pair share
    it, and cancel.
    """
    np.testing.assert_allclose(means(screen(network(), RTE, "shape2")).cosine, 0, atol=1e-3)
    # No effect at all: flat maps.
    nowhere = screen(network(), make_encoder("rte-nopos"), "shape2", centred=True)
    assert (nowhere.cosine == 0).all()


def test_shuffled_null_is_symmetric_and_seeded():
    model = network()
    table = means(screen(model, RTE, draws=4000))
    np.testing.assert_allclose(table.null_low, -table.null_high, atol=0.04)
    assert screen(model, RTE, seed=1).equals(screen(model, RTE, seed=1))
    assert not screen(model, RTE, seed=1).equals(screen(model, RTE, seed=2))


@pytest.mark.parametrize("encoder, token", [(RTE, "relation"), (RTE, "words"), (E5, "shape2")])
def test_an_untrained_networks_heads_stay_mostly_inside_every_null(encoder, token):
    outside = []
    for seed in range(1000, 1003):
        torch.manual_seed(seed)
        table = nulls(DiT(DiTConfig(depth=3, width=192)), encoder, token, draws=1000)
        outside.append(
            table.assign(out=(table.cosine < table.null_low) | (table.cosine > table.null_high))
        )
    share = {
        null: np.concatenate([t.out[t.null == null] for t in outside]).mean()
        for null in outside[0].null.unique()
    }
    assert set(share) == (
        {"shuffled", "words", "untrained"} if encoder is RTE else {"shuffled", "untrained"}
    )
    assert share["untrained"] < 0.15 and max(share.values()) < 0.3


def test_screening_leaves_the_random_numbers_and_the_network_alone():
    model = network().requires_grad_(True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    nulls(model, RTE, "relation", draws=10)
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_head_writes_what_it_is_seen_to_write_when_it_attends_to_one_token():
    model = network()
    text = RTE.encode([PROMPT])
    vectors = model.caption_mlp(text.embeddings)[0]
    written = write_directions(model, vectors)  # [layer, head, vector, d]
    for token in (0, 5):
        one_hot = torch.nn.functional.one_hot(torch.tensor(token), vectors.shape[0]).float()
        edits = {
            "blocks.*.cross_attn.pattern": lambda pattern, _, one_hot=one_hot: one_hot.expand_as(
                pattern
            )
        }
        with capture(model, ["blocks.*.cross_attn.result"], edits) as cache:
            model(torch.randn(1, 3, 64, 64), torch.tensor([0.3]), text)
        for layer in range(3):
            result = cache[f"blocks.{layer}.cross_attn.result", 0][0]  # [head, image, d]
            torch.testing.assert_close(
                written[layer, :, token, None].expand_as(result), result, **CLOSE
            )


def test_ov_is_the_part_without_biases():
    model = network()
    vectors = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    written = write_directions(model, vectors) - write_directions(model, torch.zeros(1, 128))
    for layer, head in np.ndindex(3, 2):
        torch.testing.assert_close(vectors @ ov(model, layer, head), written[layer, head], **CLOSE)


@pytest.mark.parametrize("layer, head", [(3, 0), (0, 2), (-1, 0)])
def test_ov_of_no_head(layer, head):
    with pytest.raises(RelcoreError, match=f"L{layer}H{head}: take layers 0 to 2, heads 0 to 1"):
        ov(network(), layer, head)


def test_errors_say_what_to_take_instead():
    model = network()
    with pytest.raises(
        RelcoreError, match="'shape3': choose from relation, words, color1, shape1, color2, shape2"
    ):
        screen(model, RTE, "shape3")
    with pytest.raises(RelcoreError, match="'guess': choose from shuffled, words, untrained"):
        screen(model, RTE, null="guess")
    with pytest.raises(
        RelcoreError, match="'e5' has no vector for a single word: .* relation, or one of"
    ):
        screen(model, E5, "words")
    for encoder, token in ((E5, "relation"), (RTE, "shape2")):
        with pytest.raises(RelcoreError, match="take the null shuffled or untrained"):
            screen(model, encoder, token, null="words")


def test_every_token_of_the_list_can_be_screened():
    model = network()
    assert all(len(screen(model, RTE, token, draws=10)) for token in TOKENS)
    assert len(suite(PHRASES)) == 264 and set(circuits.OTHER_WORDS) & set(WORDS) == set()


# --- agreement between measures


def test_agreement_is_spearmans_of_every_two_measures():
    rng = np.random.default_rng(0)
    a = rng.normal(size=40)
    heads = pd.DataFrame(
        {"a": a, "same ranks": np.exp(3 * a), "opposite": -a, "noise": rng.normal(size=40)}
    )
    heads["tied"] = heads.a.round()
    table = agreement(heads, draws=400).set_index(["first", "second"])
    assert len(table) == 10 and (table.n == 40).all()
    expected = heads.corr(method="spearman")
    for (first, second), row in table.iterrows():
        assert row.rho == pytest.approx(expected.loc[first, second])
        assert row.low <= row.rho <= row.high
    assert table.loc[("a", "same ranks"), ["rho", "low", "high"]].tolist() == pytest.approx(
        [1, 1, 1]
    )
    assert table.loc[("a", "opposite"), ["rho", "low", "high"]].tolist() == pytest.approx(
        [-1, -1, -1]
    )
    noise = table.loc[("a", "noise")]
    assert noise.low < 0 < noise.high and 0.4 < noise.high - noise.low < 0.8  # about 4 / sqrt(40)


def test_agreement_with_a_measure_that_does_not_vary():
    heads = pd.DataFrame({"a": [1.0, 2, 3], "flat": [0.0, 0, 0], "nearly": [0.0, 0, 1]})
    table = agreement(heads, draws=100).set_index(["first", "second"])
    assert table.loc[("a", "flat"), ["rho", "low", "high"]].isna().all()
    # Though some draws are constant.
    assert table.loc[("a", "nearly"), ["rho", "low", "high"]].notna().all()


# --- released models


def test_a_model_without_a_checkpoint_is_screened_by_its_table(tmp_path, monkeypatch):
    live = screened("rte-micro", "words")
    pd.testing.assert_frame_equal(live, screen(load_model("rte-micro")[0], RTE, "words"))
    monkeypatch.setattr(circuits, "RESULTS", tmp_path)
    monkeypatch.setattr(circuits, "shipped", dict)
    with pytest.raises(RelcoreError, match="rte-micro-end.parquet.*token words.*git"):
        screened("rte-micro", "words")
    table = pd.concat([live, live.assign(token="relation", cosine=-live.cosine)], ignore_index=True)
    (tmp_path / "screening").mkdir()
    table.to_parquet(tmp_path / "screening" / "rte-micro-end.parquet")
    pd.testing.assert_frame_equal(screened("rte-micro", "words"), live)
    with pytest.raises(RelcoreError, match="unknown model"):
        screened("nosuch", "words")


# --- along training


def test_a_heads_birth_is_screening_of_every_snapshot(tmp_path):
    models = {8000: network(), 16000: network(1)}
    for samples, model in models.items():
        file = tmp_path / "snapshots" / f"{samples:09d}.safetensors"
        save_model(
            file,
            model.state_dict(),
            model.config,
            {"recipe": {"encoder": "rte"}, "samples": samples},
        )
    table = along_training(tmp_path, ["relation", "shape2"], draws=20)
    assert len(table) == 2 * 2 * len(means(screen(network(), RTE, draws=20)))
    assert set(table.token) == {"relation", "shape2"}
    for samples, model in models.items():
        model.load_state_dict(
            {name: w.bfloat16().float() for name, w in model.state_dict().items()}
        )
        mine = table[(table.samples == samples) & (table.token == "relation")]
        np.testing.assert_allclose(
            mine.cosine, means(screen(model, RTE, draws=20)).cosine, atol=1e-6
        )
    with pytest.raises(RelcoreError, match="--snapshots"):
        along_training(tmp_path / "snapshots")

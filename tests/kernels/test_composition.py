"""Composition: scores from factored matrices are the network's own, and each cause moves what it
should and no more.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from networks import network

from relcore.data.encoders import make_encoder
from relcore.data.prompts import suite
from relcore.errors import RelcoreError
from relcore.kernels.capture import capture
from relcore.kernels.circuits import keys, screen
from relcore.kernels.composition import (
    CAUSES,
    States,
    causes,
    decode,
    effects,
    forward,
    from_donor,
    looks,
    object_heads,
    q_composition,
    random_directions,
    relation_heads,
    role_vectors,
    selectivity,
    states,
    told,
    writes,
    written_scores,
)
from relcore.kernels.interventions import Head, opposite
from relcore.model.dit import D_HEAD

RTE = make_encoder("rte")
PROMPTS = ["red square is above blue circle", "blue triangle is to the left of red square"]
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def moment(prompts=PROMPTS, same: bool = False) -> States:
    """Stored states made by hand: object 1 in the first row of image tokens, object 2 in the
    last.
    """
    places = torch.zeros(len(prompts), 2, 64)
    places[:, 0, :8] = places[:, 1, -8:] = 1 / 8
    noisy = torch.randn(
        1, 1 if same else len(prompts), 3, 64, 64, generator=torch.Generator().manual_seed(1)
    )
    pictures = torch.zeros(len(prompts), 64, 64, 3, dtype=torch.uint8)
    return States(
        list(prompts), pictures, places, noisy.expand(-1, len(prompts), -1, -1, -1), [0.2]
    )


# --- which heads


def synopsis_of(masses: dict) -> pd.DataFrame:
    """masses: {(layer, head): (object 1 to shape1, to shape2, object 2 to shape1, to shape2)}, at
    two steps alike.
    """
    rows = []
    for (layer, head), values in masses.items():
        for step in (0, 1):
            pairs = [(i, t) for i in ("object1", "object2") for t in ("shape1", "shape2")]
            for (image, text), mass in zip(pairs, values, strict=True):
                rows.append((layer, head, step, image, text, mass, mass - 0.02, mass + 0.02, 50))
            # Must not count.
            rows.append((layer, head, step, "background", "shape1", 0.9, 0.8, 1.0, 50))
    columns = ["layer", "head", "step", "image_role", "text_role", "mass", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def test_selectivity_counts_the_difference_between_the_objects():
    heads = {
        (1, 0): (1, 0, 0, 1),
        (1, 1): (0.5, 0.5, 0.5, 0.5),
        (2, 0): (0.8, 0.1, 0.8, 0.1),
        (2, 1): (0, 1, 1, 0),
    }
    table = selectivity(synopsis_of(heads)).set_index(["layer", "head"])
    assert table.value.tolist() == pytest.approx([1, 0, 0, -1])
    np.testing.assert_allclose(table.high - table.value, 0.04)
    assert (table.n == 50).all()


def test_object_heads_come_later_are_selective_and_needed():
    heads = {
        (0, 0): (1, 0, 0, 1),
        (1, 0): (1, 0, 0, 1),
        (1, 1): (0.5, 0.5, 0.5, 0.5),
        (2, 0): (0.6, 0.1, 0.2, 0.3),
    }
    table = synopsis_of(heads)
    assert object_heads(table, 0) == [Head(1, 0), Head(2, 0)]
    changes = pd.DataFrame(
        {
            "intervention": ["L1H0", "L2H0", "L1H1", "L0H0"],
            "metric": "shape",
            "change": [-0.3, -0.05, -0.5, -0.5],
            "change_high": [-0.2, -0.01, -0.4, -0.4],
        }
    )
    assert object_heads(table, 0, changes) == [Head(1, 0)]
    assert object_heads(table, 0, changes.assign(metric="color")) == []


def test_relation_heads_are_those_of_the_largest_projection():
    model = network()
    for block in model.blocks:
        block.cross_attn.W_Q.weight *= 0.01
        block.cross_attn.W_Q.bias *= 0.01
    part = slice(D_HEAD, 2 * D_HEAD)
    model.blocks[1].cross_attn.W_Q.weight[part] *= 1000
    assert relation_heads(model, RTE) == [Head(1, 1)]


# --- QK


def test_relation_heads_of_other_words_are_weighed():
    model, e5 = network(), make_encoder("e5")
    every = np.ones((model.config.depth, model.config.heads))
    assert relation_heads(model, RTE, {"relation": every}) == relation_heads(model, RTE)
    found = relation_heads(model, e5, {"color1": every, "shape2": every})
    table = pd.concat([screen(model, e5, token, draws=1) for token in ("color1", "shape2")])
    means = table[table.relation == "mean"].reset_index(drop=True)
    best = means.loc[means.projection.abs().idxmax()]
    assert found[0] == Head(best.layer, best["head"])
    # Of one head alone, which need not read best.
    seen = np.zeros_like(every)
    seen[2, 1] = 0.3
    assert relation_heads(model, e5, {"color1": 0 * every, "shape2": seen}) == [Head(2, 1)]


def test_scores_from_factored_matrices_are_what_a_written_vector_adds_in_the_network():
    """In every layer, wherever the vector is put and whatever stands there."""
    model, text = network(), RTE.encode(PROMPTS[:1])
    vectors = torch.randn(2, 128, generator=torch.Generator().manual_seed(2))
    # [layer, head, vector, prompt, token]
    scores = written_scores(model, vectors, model.caption_mlp(text.embeddings))
    for layer in range(3):
        name, seen = f"blocks.{layer}.cross_attn.scores", []
        for vector in (torch.zeros(128), *vectors):
            edits = {f"blocks.{layer}.resid_mid": lambda x, _, vector=vector: x + vector}
            with capture(model, [name], edits) as cache:
                model(
                    torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3)),
                    torch.tensor([0.3]),
                    text,
                )
            seen.append(cache[name, 0][0])  # [head, image, token]
        for k in (0, 1):
            added = (seen[k + 1] - seen[0])[..., text.mask[0]]
            torch.testing.assert_close(
                added, scores[layer, :, k, 0, None].expand(-1, 64, -1)[..., text.mask[0]], **CLOSE
            )


def test_scores_by_hand_and_linear_in_the_written_vector():
    model = network()
    vectors = role_vectors(model, RTE, PROMPTS)
    assert vectors.shape == (2, 5, 128)
    written = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    scores = written_scores(model, written, vectors)
    assert scores.shape == (3, 2, 3, 2, 5)
    attention = model.blocks[2].cross_attn
    q = (attention.W_Q.weight @ written[1])[D_HEAD:]
    assert float(scores[2, 1, 1, 1, 4]) == pytest.approx(
        float(q @ keys(model, vectors[1, 4:])[2, 1, 0]) / 8, abs=1e-3
    )
    torch.testing.assert_close(
        written_scores(model, written[:1] - 2 * written[1:2], vectors)[:, :, 0],
        scores[:, :, 0] - 2 * scores[:, :, 1],
        **CLOSE,
    )


def test_heads_permuted_in_the_weights_are_permuted_in_the_tables():
    model, other, source = network(), network(), Head(0, 0)
    for block in other.blocks[1:]:
        for layer in (block.cross_attn.W_Q, block.cross_attn.W_K):
            layer.weight.copy_(layer.weight.roll(D_HEAD, 0))
            layer.bias.copy_(layer.bias.roll(D_HEAD, 0))
    vectors, written = role_vectors(model, RTE, PROMPTS), random_directions(3.0, 128, 2)
    torch.testing.assert_close(
        written_scores(model, written, vectors)[1:].flip(1),
        written_scores(other, written, vectors)[1:],
        **CLOSE,
    )
    before, after = (
        q_composition(m, source, draws=20).set_index(["layer", "head"]) for m in (model, other)
    )
    swapped = after.rename(index={0: 1, 1: 0}, level="head").sort_index()
    np.testing.assert_allclose(before, swapped, rtol=1e-4)


def test_q_composition_tells_a_planted_path_from_chance():
    model, source = network(), Head(0, 1)
    attention = model.blocks[0].cross_attn
    part = slice(D_HEAD, 2 * D_HEAD)
    reader = model.blocks[2].cross_attn
    qk = reader.W_Q.weight[:D_HEAD].T @ reader.W_K.weight[:D_HEAD]
    attention.W_O.weight[:, part] = torch.linalg.svd(qk)[0][:, :1]  # what that head reads most
    table = q_composition(model, source).set_index(["layer", "head"])
    assert (
        len(table) == 4
        and table.value.idxmax() == (2, 0)
        and table.value[2, 0] > 1.5 * table.null_high[2, 0]
    )


def test_random_directions_have_one_size_and_are_seeded():
    vectors = random_directions(2.5, 128, 30)
    torch.testing.assert_close(vectors.norm(dim=1), torch.full((30,), 2.5))
    assert torch.equal(vectors, random_directions(2.5, 128, 30)) and abs(vectors.mean()) < 0.02


# --- the running network


def test_looks_are_shares_of_attention_and_give_back_what_heads_write():
    model, at = network(), moment()
    names = ["blocks.*.cross_attn.pattern", "blocks.*.cross_attn.result"]
    _, cache = forward(model, RTE, at, 0, names)
    seen = looks(model, at, cache)
    torch.testing.assert_close(seen.sum(-1), torch.ones(3, 2, 2, 2))
    written = writes(model, RTE, at, seen)
    for layer in range(3):
        mean = torch.einsum("poi,phid->hpod", at.places, cache[f"blocks.{layer}.cross_attn.result"])
        torch.testing.assert_close(written[layer], mean, **CLOSE)


def test_a_donors_results_are_put_in_and_a_prompts_own_change_nothing():
    model, at = network(), moment()
    name = "blocks.1.cross_attn.result"
    _, theirs = forward(
        model, RTE, replace(at, prompts=[opposite(p) for p in at.prompts]), 0, [name]
    )
    out, base = forward(model, RTE, at, 0, [name])
    _, changed = forward(model, RTE, at, 0, [name], from_donor(model, RTE, at, 0, [Head(1, 1)]))
    assert torch.equal(changed[name][:, 1], theirs[name][:, 1]) and torch.equal(
        changed[name][:, 0], base[name][:, 0]
    )
    same, _ = forward(
        model, RTE, at, 0, (), from_donor(model, RTE, at, 0, [Head(1, 1)], donor=lambda p: p)
    )
    torch.testing.assert_close(same, out)


def test_a_silent_source_is_no_cause_and_attention_of_its_own_layer_is_left_out():
    model, at = network(), moment()
    model.blocks[0].cross_attn.W_O.weight[:, :D_HEAD] = 0
    for block in model.blocks:  # strong queries, or all attention is alike
        block.cross_attn.W_Q.weight *= 30
    table = causes(model, RTE, at, [0], [Head(0, 0)], draws=20)
    assert len(table) == 4 * len(CAUSES) and set(table.layer) == {1, 2} and (table.n == 2).all()
    assert table.gap.min() > 0.1
    by_cause = {
        cause: rows[["value", "low", "high"]].to_numpy() for cause, rows in table.groupby("cause")
    }
    np.testing.assert_allclose([by_cause[CAUSES[0]], by_cause[CAUSES[1]]], 0, atol=1e-4)
    np.testing.assert_allclose(by_cause[CAUSES[2]], by_cause[CAUSES[3]], atol=1e-4)
    assert abs(by_cause[CAUSES[2]]).max() > 1e-3


def test_heads_after_any_of_the_sources_are_followed():
    """A second source in the last layer leaves the heads between, and those beside it."""
    sources = [Head(0, 0), Head(2, 1)]
    table = causes(network(), RTE, moment(), [0], sources, draws=2)
    heads = table[["layer", "head"]].drop_duplicates().to_numpy().tolist()
    assert heads == [[1, 0], [1, 1], [2, 0]]
    assert causes(network(), RTE, moment(), [0], [Head(2, 1)], draws=2).empty


def test_the_direct_path_is_the_factored_score():
    """What a source's change adds to a later head's scores, all else frozen, is `written_scores` of
    that change.
    """
    model, at = network(), moment()
    edits = from_donor(model, RTE, at, 0, [Head(0, 1)])
    names = ["blocks.0.cross_attn.result", "blocks.2.cross_attn.scores"]
    outputs = [
        "blocks.0.mlp_out",
        *(f"blocks.{k}.{o}" for k in (1, 2) for o in ("attn_out", "cross_attn_out", "mlp_out")),
    ]
    _, base = forward(model, RTE, at, 0, [*names, *outputs])
    frozen = {name: lambda value, _, kept=base[name]: kept for name in outputs}
    _, changed = forward(model, RTE, at, 0, names, edits | frozen)
    # At three image tokens of the first picture.
    written = (changed[names[0]] - base[names[0]])[0, 1, :3]
    text = RTE.encode(at.prompts)
    # [head, image, token]
    want = written_scores(model, written, model.caption_mlp(text.embeddings))[2, :, :, 0]
    added = (changed[names[1]] - base[names[1]])[0, :, :3]
    torch.testing.assert_close(added[..., text.mask[0]], want[..., text.mask[0]], **CLOSE)


def test_states_keep_every_step_and_say_when_nothing_is_drawn():
    with pytest.raises(RelcoreError, match="none of 2 pictures"):
        states(network(), RTE, PROMPTS, [0, 1], steps=2)


def test_prompts_without_colours_have_causes():
    prompts = ["square is above circle", "triangle is to the left of red square"]
    table = causes(network(), RTE, moment(prompts), [0], [Head(0, 0)], draws=2)
    assert (table.n == 2).all() and set(table.cause) == set(CAUSES)


def test_shipped_model_states():
    from relcore.model.checkpoints import load_model

    model = load_model("rte-micro")[0]
    at = states(model, RTE, suite()[:2], [0, 1], steps=8)
    assert (
        at.noisy.shape[:2] == (8, len(at.prompts))
        and len(at.times) == 8
        and at.times == sorted(at.times)
    )
    torch.testing.assert_close(at.places.sum(-1), torch.ones(len(at.prompts), 2))
    assert ((at.places[:, 0] > 0) & (at.places[:, 1] > 0)).sum() == 0
    # [image, rgb]
    color = (
        at.pictures[0].unflatten(1, (8, 8)).unflatten(0, (8, 8)).float().mean((1, 3)).flatten(0, 1)
    )
    # Red above blue.
    assert (at.places[0, 0] @ color).argmax() == 0 and (at.places[0, 1] @ color).argmax() == 2


# --- OV


def test_decode_is_the_final_layers_derivative_where_the_norm_stands_still():
    model = network()
    generator = torch.Generator().manual_seed(0)
    stream, vector = torch.randn(2, 128, generator=generator).double()
    centred = stream - stream.mean()
    vector = vector - vector.mean()
    # Does not change the norm.
    vector = 1e-4 * (vector - centred * (vector @ centred) / (centred @ centred))
    model.double()
    weight = torch.zeros(1, 64, 128, dtype=torch.double)
    outs = []
    for x in (stream, stream + vector):
        edits = {"blocks.2.resid_post": lambda _, step, x=x: weight + x}
        with capture(model, (), edits):
            text = RTE.encode(PROMPTS[:1])
            text.embeddings = text.embeddings.double()
            outs.append(
                model(torch.zeros(1, 3, 64, 64).double(), torch.tensor([0.4]).double(), text)
            )
    want = (outs[1] - outs[0])[0, :, :8, :8].permute(1, 2, 0)
    got = decode(model, vector, 0.4, float(stream.std(unbiased=False)))
    torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-8)


def test_effects_vanish_where_all_pictures_are_alike_and_are_direct_at_the_very_end():
    model = network()
    total, direct = effects(
        model, RTE, moment([PROMPTS[0]] * 2, same=True), 0, [Head(1, 0), Head(2, 1)]
    )
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-5, rtol=0)
    torch.testing.assert_close(direct, torch.zeros_like(direct), atol=1e-5, rtol=0)
    model.blocks[2].mlp[2].weight.zero_()
    model.blocks[2].cross_attn.W_O.weight *= 0.01  # small, so that the norm hardly moves
    total, direct = effects(model, RTE, moment(), 0, [Head(2, 0), Head(2, 1)])
    cosine = F.cosine_similarity(total.flatten(), direct.flatten(), dim=0)
    assert cosine > 0.99 and total.norm() == pytest.approx(float(direct.norm()), rel=0.1)


def test_told_reads_what_is_there_and_nothing_else():
    labels = torch.arange(60) % 3
    fold = torch.arange(60) // 3 % 4
    noise = torch.randn(60, 10, generator=torch.Generator().manual_seed(0))
    assert told(noise + 20 * F.one_hot(labels, 10), labels, fold).all()
    assert told(noise, labels, fold).float().mean() < 0.6

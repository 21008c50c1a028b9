"""Synopsis: equal to storing every map and counting by hand; looking changes no picture."""

import copy
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from networks import stirred

from relcore.data.encoders import make_encoder
from relcore.data.prompts import CANONICAL, PHRASES, ROLES, compose, parse, suite
from relcore.data.scenes import Scenes, object_masks, place, render, sample_scenes
from relcore.data.scoring import detect, mask
from relcore.errors import RelcoreError
from relcore.kernels import synopsis as module
from relcore.kernels.capture import capture
from relcore.kernels.synopsis import (
    IMAGE_ROLES,
    image_roles,
    memory,
    profile,
    role_attention,
    synopsis,
)
from relcore.model.checkpoints import load_model
from relcore.model.diffusion import sample
from relcore.model.dit import D_HEAD
from relcore.model.evaluation import evaluate

# Phrases of different lengths, so that batches have padding.
PROMPTS = [
    "red square is above blue circle",
    "blue triangle is diagonally up and left from red square",
]
SEEDS = range(2)
NOISE = [0, 1, 2, 3]  # of the pictures, by evaluate's rule
KEYS = ["layer", "head", "step", "image_role", "text_role"]


@pytest.fixture(scope="module")
def model():
    return stirred(0.02, attention=0.15)


@pytest.fixture(scope="module")
def encoder():
    return make_encoder("rte")


def scene_for(text: str, seed: int) -> Scenes:
    """A scene that shows what the prompt says."""
    prompt = parse(text)
    relation = np.array([prompt.relation])
    return Scenes(
        np.array([prompt.colors]),
        np.array([prompt.shapes]),
        place(relation, np.random.default_rng(seed)),
        relation,
    )


@pytest.fixture
def good_pictures(monkeypatch):
    """The untrained network runs as always, but what comes out is a rendered scene; failures[seed]
    is a blank.
    """
    failures = set()

    def draw(model, encoder, prompts, seeds, **sampling):
        sample(model, encoder, prompts, seeds, **sampling)
        pictures = [
            render(scene_for(text, seed))[0] for text, seed in zip(prompts, seeds, strict=True)
        ]
        blank = np.full_like(pictures[0], 128)
        return torch.from_numpy(
            np.stack([blank if s in failures else p for s, p in zip(seeds, pictures, strict=True)])
        )

    monkeypatch.setattr(module, "sample", draw)
    return failures


def masses(table: pd.DataFrame, column: str = "mass") -> np.ndarray:
    """[layer, head, step, image role, text role]"""
    assert not table.duplicated(KEYS).any()
    return table[column].to_numpy().reshape([table[key].nunique() for key in KEYS])


def by_hand(model, encoder, steps: int) -> np.ndarray:
    """The same numbers from stored maps, in loops: [picture, layer, head, step, image role, text
    role].
    """
    texts = PROMPTS * len(SEEDS)
    with capture(model, ["blocks.*.cross_attn.pattern"]) as cache:
        sample(model, encoder, texts, NOISE, steps=steps)
    roles = encoder.encode(texts).roles
    out = np.zeros((len(texts), 2, 2, steps, len(IMAGE_ROLES), len(ROLES)))
    for picture, (text, seed) in enumerate(zip(texts, NOISE, strict=True)):
        covered = object_masks(scene_for(text, seed), 64)[0]  # [object, y, x]
        covered = [*covered, ~covered.any(0)]
        words = len(text.split()) + 1  # and the end token
        for layer, head, step, kind in np.ndindex(2, 2, steps, len(IMAGE_ROLES)):
            pattern = (
                cache[f"blocks.{layer}.cross_attn.pattern", step][picture, head].double().numpy()
            )
            cell, area = np.zeros(len(ROLES)), 0.0
            for image in range(64):
                y, x = divmod(image, 8)
                share = covered[kind][8 * y : 8 * y + 8, 8 * x : 8 * x + 8].mean()
                area += share
                for token in range(words) if share else ():
                    cell[roles[picture, token]] += share * pattern[image, token]
            out[picture, layer, head, step, kind] = cell / area
    return out


def test_equals_storing_every_map_and_looping(model, encoder, good_pictures):
    naive = by_hand(model, encoder, steps=3)
    table = synopsis(model, encoder, PROMPTS, SEEDS, steps=3)
    half = 1.96 * naive.std(0, ddof=1) / 2
    assert naive.std(0).max() > 0.01  # pictures differ, or the interval would be tested on nothing
    for column, expected in (
        ("mass", naive.mean(0)),
        ("low", naive.mean(0) - half),
        ("high", naive.mean(0) + half),
    ):
        np.testing.assert_allclose(masses(table, column), expected, atol=1e-6, err_msg=column)
    assert (table.n == 4).all()
    for how in ("max", "mean"):
        over = synopsis(model, encoder, PROMPTS, SEEDS, steps=3, over_steps=how)
        # Over a picture's steps first, then over pictures.
        expected = getattr(naive, how)(3, keepdims=True).mean(0)
        np.testing.assert_allclose(masses(over), expected, atol=1e-6, err_msg=how)
        assert (over.step == -1).all() and over.attrs["maps"] == table.attrs["maps"]


def test_rows_sum_to_one(model, encoder, good_pictures):
    prompts = [*PROMPTS, "red square is right of circle"]  # a colour left out
    good = synopsis(model, encoder, PROMPTS, SEEDS, steps=2)
    np.testing.assert_allclose(masses(good).sum(-1), 1, atol=1e-6)
    assert (good.mass >= 0).all() and good.mass.std() > 0.05
    _, passes, _ = role_attention(model, encoder, prompts, [0, 1, 2], steps=2)
    for attention in passes:  # [layer, picture, head, image, text role]
        np.testing.assert_allclose(attention.sum(-1), 1, atol=1e-6)
        assert (attention[:, 2, ..., ROLES.index("color2")] == 0).all()
        assert (attention[:, :2, ..., ROLES.index("color2")] > 0).all()


def test_every_step_counts_guided_or_not(model, encoder, good_pictures):
    args = model, encoder, PROMPTS, SEEDS
    both = synopsis(*args, steps=4, guided_until=0.2)
    assert set(both.step) == {0, 1, 2, 3}
    plain = synopsis(*args, steps=4, guidance=1)
    step = plain.step == 0  # before guidance has acted the two runs are the same
    np.testing.assert_allclose(plain.mass[step], both.mass[step], atol=1e-5)
    assert abs(plain.mass - both.mass).max() > 1e-3


def test_sums_are_in_fp32_where_the_network_is_not(model, encoder):
    texts = PROMPTS[:1]
    with capture(model, ["blocks.0.cross_attn.pattern"]) as cache:
        sample(model, encoder, texts, [0], steps=1, precision="bf16")
    _, (attention,), _ = role_attention(model, encoder, texts, [0], steps=1, precision="bf16")
    pattern = cache["blocks.0.cross_attn.pattern", 0][:1].float()
    # Rounded, and kept as it is.
    assert not torch.allclose(pattern.sum(-1), torch.ones(1), atol=1e-6)
    torch.testing.assert_close(attention[0].sum(-1), pattern.sum(-1), rtol=0, atol=1e-6)


def test_pictures_are_the_same_with_and_without(model, encoder):
    texts = PROMPTS * 2
    plain = sample(model, encoder, texts, NOISE, steps=3)
    pictures, passes, steps = role_attention(model, encoder, texts, NOISE, steps=3)
    assert torch.equal(pictures, plain) and len(passes) == steps == 3
    assert model.tap is None and not model._forward_hooks


def test_every_pass_of_a_second_order_sampler_is_a_step(model, encoder, good_pictures):
    table = synopsis(model, encoder, PROMPTS, [0], steps=2, sampler="heun")
    assert set(table.step) == {0, 1, 2}


def test_permuted_heads_permute_the_table(model, encoder, good_pictures):
    other = copy.deepcopy(model)
    attention = other.blocks[1].cross_attn
    order = torch.arange(128).view(2, D_HEAD).flip(0).flatten()
    for layer in (attention.W_Q, attention.W_K, attention.W_V):
        layer.weight, layer.bias = (
            torch.nn.Parameter(p[order], False) for p in (layer.weight, layer.bias)
        )
    attention.W_O.weight = torch.nn.Parameter(attention.W_O.weight[:, order], False)
    before, after = (masses(synopsis(m, encoder, PROMPTS, SEEDS, steps=2)) for m in (model, other))
    np.testing.assert_allclose(after[1], before[1, ::-1], atol=1e-5)
    np.testing.assert_allclose(after[0], before[0], atol=1e-5)
    assert abs(before[1, 0] - before[1, 1]).max() > 0.1


@pytest.mark.parametrize(
    "options", [{}, {"over_steps": "max", "reduce": "sum"}], ids=["mean", "paper"]
)
def test_the_size_of_the_batch_does_not_matter(model, encoder, good_pictures, options):
    good_pictures.add(1)
    whole = synopsis(model, encoder, PROMPTS, SEEDS, steps=2, **options)
    # 1: no padding, and a batch with no picture left; 3: the last batch is smaller.
    for batch in (1, 3):
        parts = synopsis(model, encoder, PROMPTS, SEEDS, steps=2, batch=batch, **options)
        np.testing.assert_allclose(parts.mass, whole.mass, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(parts.high, whole.high, rtol=1e-5, atol=1e-5)
        assert parts.attrs == whole.attrs


def test_what_is_left_out_is_counted_and_does_not_count(model, encoder, good_pictures):
    good_pictures.update({1, 2})
    table = synopsis(model, encoder, PROMPTS, SEEDS, steps=2)
    assert table.attrs == {
        "pictures": 4,
        "left_out": 2,
        "maps": 2 * 2 * 2 * 2,
        "reduce": "mean",
        "over_steps": None,
    }
    assert (table.n == 2).all()
    np.testing.assert_allclose(
        masses(table), by_hand(model, encoder, steps=2)[[0, 3]].mean(0), atol=1e-6
    )
    good_pictures.add(3)
    alone = synopsis(model, encoder, PROMPTS, SEEDS, steps=2)
    assert (
        (alone.n == 1).all()
        and np.isnan(alone[["low", "high"]]).to_numpy().all()
        and alone.mass.notna().all()
    )


def test_sum_is_mean_times_area_and_max_is_at_least_mean(model, encoder, good_pictures):
    args = model, encoder, PROMPTS[:1], [0]
    mean, total = (masses(synopsis(*args, steps=3, reduce=how)) for how in ("mean", "sum"))
    picture = render(scene_for(PROMPTS[0], 0))[0]
    area = image_roles(picture, parse(PROMPTS[0])).sum(1)  # tokens a role covers
    np.testing.assert_allclose(total, mean * area[:, None], rtol=1e-5)
    top, middle = (masses(synopsis(*args, steps=3, over_steps=how)) for how in ("max", "mean"))
    assert (top >= middle - 1e-9).all() and (top > middle + 1e-3).any()


# --- image roles


@pytest.mark.parametrize("size", [64, 128])
def test_masks_are_those_of_the_scene(size):
    """To the pixel, of all shapes, colours and places; then as shares of the 8 x 8 tokens."""
    scenes = sample_scenes(60, np.random.default_rng(0))
    truth = object_masks(scenes, size)  # [scene, object, y, x]
    for picture, covered, colors, shapes in zip(
        render(scenes, size), truth, scenes.colors, scenes.shapes, strict=True
    ):
        for found in detect(picture):
            here = covered[list(zip(colors, shapes, strict=True)).index((found.color, found.shape))]
            assert (mask(found) == np.kron(here, np.ones((128 // size,) * 2, bool))).all()
        text = compose(colors, shapes, "above")
        expected = (
            np.stack([*covered, ~covered.any(0)])
            .reshape(3, 8, size // 8, 8, size // 8)
            .mean((2, 4))
        )
        np.testing.assert_array_equal(image_roles(picture, parse(text)), expected.reshape(3, 64))


def test_object_1_is_the_prompts_first_whatever_the_order_of_words():
    scene = scene_for(PROMPTS[0], 0)
    picture = render(scene)[0]
    straight, swapped, reversed_ = (
        image_roles(picture, parse(text))
        for text in (
            PROMPTS[0],
            "blue circle is below red square",
            "above blue circle is red square",
        )
    )
    np.testing.assert_array_equal(straight, swapped[[1, 0, 2]])
    np.testing.assert_array_equal(straight, reversed_)


def test_a_bystander_is_neither_object_nor_background():
    picture = np.full((128, 128, 3), 128, np.uint8)
    for box, color in (((0, 0), 0), ((96, 96), 2), ((0, 96), 2)):
        picture[box[0] : box[0] + 32, box[1] : box[1] + 32] = np.eye(3, dtype=np.uint8)[color] * 255
    # Two blue squares.
    assert image_roles(picture, parse("red square is above blue square")) is None
    picture[96:112, 96:128] = 128  # one of them becomes an oblong
    shares = image_roles(picture, parse("red square is left of blue square"))
    assert shares.sum(1) == pytest.approx([4, 4, 64 - 4 - 4 - 2])


def test_a_picture_without_background_is_left_out():
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[..., 0] = 255
    picture[40:72, 40:72] = (0, 0, 255)
    wide = [found.shape for found in detect(picture)]
    assert wide == [0, 0]  # a red square all over, and a blue one in it
    assert image_roles(picture, parse("red square is above blue square")) is None


# --- profile, memory, errors


def planted(heads: dict[tuple[int, int], dict[str, float]]) -> pd.DataFrame:
    """A synopsis of two steps, mass m - .1 and m + .1 on `shape1` for object 1; elsewhere all on
    the special token.
    """
    return pd.DataFrame(
        [
            {
                "layer": layer,
                "head": head,
                "step": step,
                "image_role": image_role,
                "text_role": role,
                "mass": (
                    parts.get(role, 0)
                    + (0.1 - 0.2 * step) * (role == "shape1")
                    - (0.1 - 0.2 * step) * (role == "shape2")
                    if image_role == "object1"
                    else float(role == "special")
                ),
            }
            for (layer, head), parts in heads.items()
            for step in (0, 1)
            for image_role in IMAGE_ROLES
            for role in ROLES
        ]
    )


def test_profile_of_a_planted_table():
    heads = {
        (0, 0): {"color1": 0.4, "color2": 0.2, "relation": 0.4},
        (0, 1): {"shape1": 0.3, "shape2": 0.3, "filler": 0.4},
        (1, 0): {"relation": 0.51, "shape1": 0.49},
        (1, 1): {"filler": 0.3, "special": 0.3, "color1": 0.4},
        (1, 2): {"relation": 0.45, "shape1": 0.15, "special": 0.4},
    }
    table = profile(planted(heads))
    assert list(table.columns) == [
        "layer",
        "head",
        "color",
        "shape",
        "relation",
        "filler",
        "cluster",
    ]
    assert list(table.cluster) == ["color", "shape", "relation", "filler", "mixed"]
    assert list(zip(table.layer, table["head"], strict=True)) == list(heads)
    assert table[table.columns[2:6]].iloc[0].tolist() == pytest.approx([0.6, 0, 0.4, 0])
    np.testing.assert_allclose(table[["color", "shape", "relation", "filler"]].sum(axis=1), 1)
    assert set(profile(planted(heads), "background").cluster) == {"filler"}


def test_profile_reads_what_synopsis_writes(model, encoder, good_pictures):
    table = profile(synopsis(model, encoder, PROMPTS, SEEDS, steps=2))
    over = profile(synopsis(model, encoder, PROMPTS, SEEDS, steps=2, over_steps="mean"))
    assert len(table) == 4
    pd.testing.assert_frame_equal(table, over)
    with pytest.raises(RelcoreError, match="reduce=mean"):
        profile(synopsis(model, encoder, PROMPTS, SEEDS, steps=2, reduce="sum"))
    with pytest.raises(RelcoreError, match="unknown image role 'sky'"):
        profile(planted({(0, 0): {}}), "sky")


@pytest.mark.parametrize("over_steps", [None, "mean", "max"])
def test_memory_is_what_is_really_held(model, encoder, over_steps):
    _, passes, steps = role_attention(model, encoder, PROMPTS * 2, NOISE, mean=over_steps == "mean")
    with capture(model, ["blocks.*.cross_attn.pattern"]) as cache:
        sample(model, encoder, PROMPTS * 2, NOISE)
    told = memory(model, encoder, PROMPTS, SEEDS, batch=4, over_steps=over_steps)
    assert told["maps"] == sum(pattern.nbytes for pattern in cache.values())
    shown = 1 if over_steps else steps
    assert len(passes) == (1 if over_steps == "mean" else steps)
    sums = 2 * 8 * 2 * 2 * shown * len(IMAGE_ROLES) * len(ROLES)
    assert (
        told["reduction"]
        == sum(attention.nbytes for attention in passes) + passes[0][0].nbytes + sums
    )
    more = memory(model, encoder, PROMPTS, range(20), batch=4, over_steps=over_steps)
    # Grows with the run, or not at all.
    assert more == {"reduction": told["reduction"], "maps": 10 * told["maps"]}


def test_one_batch_is_held_at_a_time(model, encoder, good_pictures, monkeypatch):
    held = []

    def watched(*args, **kwargs):
        assert not any(tensor() is not None for tensor in held)  # of earlier batches
        pictures, passes, number = role_attention(*args, **kwargs)
        held.extend(map(weakref.ref, passes))
        return pictures, passes, number

    monkeypatch.setattr(module, "role_attention", watched)
    synopsis(model, encoder, PROMPTS, SEEDS, steps=2, batch=1)
    assert len(held) == 8


@pytest.mark.parametrize(
    "options, message",
    [
        ({"reduce": "median"}, "unknown reduce 'median': choose from mean, sum"),
        ({"over_steps": "last"}, "unknown over_steps 'last': choose from mean, max"),
        ({}, "none of 2 pictures shows"),
    ],
    ids=["reduce", "over_steps", "nothing drawn"],
)
def test_bad_input_is_refused_with_a_remedy(model, encoder, options, message):
    with pytest.raises(RelcoreError, match=message):
        synopsis(model, encoder, PROMPTS, [0], steps=1, **options)
    assert model.tap is None


# --- the shipped network


def test_the_shipped_network_end_to_end():
    model, header = load_model("rte-micro")
    encoder = make_encoder(header["recipe"]["encoder"])
    prompts = [suite(CANONICAL)[0], suite(PHRASES)[-1]]
    table = synopsis(model, encoder, prompts, range(2))
    bound = int(evaluate(model, encoder, prompts, range(2)).binding.sum())
    # Evaluate's pictures, to the seed.
    assert table.attrs["left_out"] == 4 - bound and (table.n == bound).all()
    np.testing.assert_allclose(masses(table).sum(-1), 1, atol=1e-6)
    assert table.layer.nunique() == 6 and table["head"].nunique() == 3
    assert profile(table).cluster.nunique() > 1

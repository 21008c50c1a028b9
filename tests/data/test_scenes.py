"""Scenes: the generators' statistics, the relation rule, and what is drawn."""

import functools
import hashlib
import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relcore.data.prompts import CANONICAL, Prompt, compose, parse
from relcore.data.scenes import (
    CANVAS,
    RADIUS,
    RELATIONS,
    SHAPES,
    Scenes,
    object_masks,
    place,
    relation_of,
    render,
    sample_scenes,
)
from relcore.data.scoring import detect, score
from relcore.errors import RelcoreError

SEEDS = st.integers(0, 2**32 - 1)
OPPOSITE = [1, 0, 3, 2, 7, 6, 5, 4]  # seen from the other object
MIRRORED = [0, 1, 3, 2, 5, 4, 7, 6]  # left and right swapped
FLIPPED = [1, 0, 2, 3, 6, 7, 4, 5]  # up and down swapped
CELLS = list(itertools.product(itertools.permutations(range(3), 2), ((0, 1), (1, 0)), range(8)))
CHI2_7_P001 = 24.32  # 99.9 % quantile of chi-square with 7 degrees of freedom
STANDARD_ERRORS = 4  # a true share lies further from its estimate once in 16 000


def every_cell(rng: np.random.Generator) -> Scenes:
    """The 96 cells shape pair x colour order x relation, each at a random place."""
    shapes, colors, relations = (np.array(column) for column in zip(*CELLS, strict=True))
    return Scenes(colors, shapes, place(relations, rng), relations)


@functools.cache
def read(colors: tuple[int, int], shapes: tuple[int, int], relation: int) -> Prompt:
    return parse(compose(colors, shapes, CANONICAL[RELATIONS[relation]][0]))


def prompt_of(scenes: Scenes, i: int, relation: int | None = None) -> Prompt:
    relation = scenes.relations[i] if relation is None else relation
    return read(tuple(scenes.colors[i].tolist()), tuple(scenes.shapes[i].tolist()), int(relation))


def verdicts(image: np.ndarray, scenes: Scenes, i: int, order=range(8)) -> list[dict]:
    """The verdict on a picture for each relation that the prompt could name, in the given order."""
    found = detect(image)
    return [
        {k: v for k, v in score(found, prompt_of(scenes, i, r)).items() if k not in ("dx", "dy")}
        for r in order
    ]


@pytest.mark.parametrize("size", [64, 128])
@given(seed=SEEDS)
def test_scorer_reads_back_what_was_rendered(size, seed):
    scenes = every_cell(np.random.default_rng(seed))
    for i, image in enumerate(render(scenes, size)):
        found = {(o.color, o.shape): (o.x, o.y) for o in detect(image)}
        assert found == {
            (scenes.colors[i, k], scenes.shapes[i, k]): tuple(scenes.centers[i, k]) for k in (0, 1)
        }
        verdict = score(detect(image), prompt_of(scenes, i))
        assert all(
            verdict[m] for m in ("color", "shape", "binding", "relation_strict", "relation_loose")
        )


@given(seed=SEEDS)
def test_only_the_true_relation_is_strictly_right(seed):
    scenes = every_cell(np.random.default_rng(seed))
    for i, image in enumerate(render(scenes)):
        assert [v["relation_strict"] for v in verdicts(image, scenes, i)] == [
            r == scenes.relations[i] for r in range(8)
        ]


@given(seed=SEEDS)
def test_size_of_the_picture_does_not_change_the_verdict(seed):
    """At 64 px, at 128 px, and the 64-px picture enlarged."""
    scenes = every_cell(np.random.default_rng(seed))
    for i, (small, large) in enumerate(zip(render(scenes, 64), render(scenes, 128), strict=True)):
        enlarged = cv2.resize(small, (128, 128), interpolation=cv2.INTER_NEAREST)
        assert verdicts(small, scenes, i) == verdicts(large, scenes, i)
        assert detect(small) == detect(enlarged)


@given(seed=SEEDS)
def test_mirror_image_swaps_left_and_right(seed):
    scenes = every_cell(np.random.default_rng(seed))
    for i, image in enumerate(render(scenes)):
        assert verdicts(image[:, ::-1].copy(), scenes, i, MIRRORED) == verdicts(image, scenes, i)


@given(seed=SEEDS)
def test_upside_down_swaps_above_and_below(seed):
    """Squares and circles only: a triangle has a top."""
    scenes = every_cell(np.random.default_rng(seed))
    images = render(scenes)
    for i in np.flatnonzero((scenes.shapes != SHAPES.index("triangle")).all(1)):
        assert verdicts(images[i, ::-1].copy(), scenes, i, FLIPPED) == verdicts(
            images[i], scenes, i
        )


@given(seed=SEEDS)
def test_swapping_the_objects_inverts_the_relation(seed):
    scenes = every_cell(np.random.default_rng(seed))
    swapped = Scenes(
        scenes.colors[:, ::-1],
        scenes.shapes[:, ::-1],
        scenes.centers[:, ::-1],
        np.array(OPPOSITE)[scenes.relations],
    )
    assert (render(scenes) == render(swapped)).all()  # apart, so which is drawn first does not show
    for i, image in enumerate(render(swapped)):
        assert score(detect(image), prompt_of(swapped, i))["relation_strict"]


def test_relation_is_total_and_antisymmetric():
    """But where the centres coincide in height and nearly in width: there the rule says below both
    ways.
    """
    dx, dy = (a.ravel() for a in np.meshgrid(np.arange(-94, 95), np.arange(-94, 95)))
    there, back = relation_of(dx, dy), relation_of(-dx, -dy)
    assert set(there) == set(range(8))
    level = (abs(dx) <= 5) & (dy == 0)
    assert (np.array(OPPOSITE)[there] == back)[~level].all() and (there[level] == back[level]).all()


@pytest.mark.parametrize(
    "dx, dy, relation",
    [
        (0, -6, "above"),
        (5, -40, "above"),
        (-5, 40, "below"),
        (6, -40, "upper right"),
        (-6, 5, "left"),
        (6, -5, "right"),
        (-6, -6, "upper left"),
        (-40, 6, "lower left"),
        (40, 6, "lower right"),
    ],
)
def test_relation_turns_at_five_units(dx, dy, relation):
    assert RELATIONS[relation_of(dx, dy)] == relation


# --- generators


@pytest.fixture(scope="module")
def separated() -> Scenes:
    return sample_scenes(8000, np.random.default_rng(0))


def test_separated_objects_never_touch(separated):
    masks = object_masks(separated, 64)
    ring = np.ones((3, 3), np.uint8)
    for first, second in masks.astype(np.uint8)[:2000]:
        assert not (cv2.dilate(first, ring) & second).any()


def test_separated_scenes_lie_inside_on_even_coordinates(separated):
    assert (separated.centers % 2 == 0).all()
    assert separated.centers.min() >= RADIUS and separated.centers.max() <= CANVAS - RADIUS
    image = render(separated, 64)
    assert (image[:, [0, -1]] == 128).all() and (image[:, :, [0, -1]] == 128).all()


def test_separated_relations_are_balanced_and_true(separated):
    counts = np.bincount(separated.relations, minlength=8)
    assert ((counts - 1000) ** 2 / 1000).sum() < CHI2_7_P001
    assert (
        relation_of(*(separated.centers[:, 0] - separated.centers[:, 1]).T) == separated.relations
    ).all()


@pytest.mark.parametrize("generator", ["separated", "paper"])
def test_colours_and_shape_pairs_are_balanced(generator):
    scenes = sample_scenes(12_000, np.random.default_rng(0), generator)
    assert (scenes.colors.sum(1) == 1).all() and (scenes.shapes[:, 0] != scenes.shapes[:, 1]).all()
    cell = scenes.colors[:, 0] * 9 + scenes.shapes @ [3, 1]
    counts = np.unique(cell, return_counts=True)[1]
    error = STANDARD_ERRORS * np.sqrt(12_000 / 12)
    assert len(counts) == 12 and abs(counts - 1000).max() < error


def test_relation_can_be_fixed():
    wanted = np.arange(80) % 8
    assert (sample_scenes(80, np.random.default_rng(0), relations=wanted).relations == wanted).all()


def test_paper_relation_frequencies():
    """paper_facts 1.1: diagonals .197 each, vertical .055/.057, horizontal .050; given to three
    digits.
    """
    n = 100_000
    share = (
        np.bincount(sample_scenes(n, np.random.default_rng(0), "paper").relations, minlength=8) / n
    )
    facts = np.array([0.055, 0.057, 0.050, 0.050, 0.197, 0.196, 0.196, 0.198])
    # The facts are a sample of 400 000 themselves, rounded.
    error = STANDARD_ERRORS * np.sqrt(facts * (1 - facts) * (1 / n + 1 / 400_000)) + 0.0005
    assert (abs(share - facts) < error).all()


def test_paper_overlap_share():
    """paper_facts 0.2: the boxes overlap in 29.2 % of the pictures, by more than 5 % of the smaller
    in 25.3 %.
    """
    n = 10_000
    scenes = sample_scenes(n, np.random.default_rng(0), "paper")
    low, high = scenes.centers.copy(), scenes.centers.copy()
    triangle = scenes.shapes == SHAPES.index("triangle")
    height = RADIUS * 3**0.5
    low[..., 0] -= RADIUS
    high[..., 0] += RADIUS
    low[..., 1] -= np.where(triangle, height / 3, RADIUS)
    high[..., 1] += np.where(triangle, 2 * height / 3, RADIUS)
    sides = np.clip(high.min(1) - low.max(1), 0, None)
    area = sides.prod(1) / (high - low).prod(2).min(1)
    for share, fact in (((area > 0).mean(), 0.292), ((area > 0.05).mean(), 0.253)):
        # 33-px inclusive boxes against 32-unit ones: one more displacement of 95 overlaps along
        # each axis, which moves the share by 2 x .55 x .014.
        assert abs(share - fact) < STANDARD_ERRORS * np.sqrt(fact * (1 - fact) / n) + 0.015


def test_paper_positions_fill_the_papers_range():
    """Independent, uniform over the whole numbers 17 to 111. Triangles hang over the lower edge by
    up to 2 units.
    """
    scenes = sample_scenes(9500, np.random.default_rng(0), "paper")
    for column in scenes.centers.reshape(-1, 4).T:
        values, counts = np.unique(column, return_counts=True)
        assert (values == np.arange(17, 112)).all()
        # 380 counts: the largest lies near 3 standard errors.
        assert abs(counts - 100).max() < 5 * np.sqrt(100)
    assert abs(
        np.corrcoef(scenes.centers.reshape(-1, 4).T) - np.eye(4)
    ).max() < STANDARD_ERRORS / np.sqrt(9500)


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_lone_paper_object_is_recognised_wherever_it_lies(size, shape):
    """Odd coordinates too: at 64 px they fall between two pixels."""
    kind = SHAPES.index(shape)
    for x, y in itertools.product((40, 41), (80, 81)):
        centers = np.array([[[x, y], [-100.0, -100.0]]])
        scene = Scenes(
            np.array([[0, 1]]),
            np.array([[kind, (kind + 1) % 3]]),
            centers,
            np.array([0]),
            hung=True,
        )
        assert [(o.color, o.shape) for o in detect(render(scene, size)[0])] == [(0, kind)], (x, y)


def test_first_object_lies_underneath():
    scene = Scenes(np.array([[0, 1]]), np.array([[0, 2]]), np.full((1, 2, 2), 64.0), np.array([1]))
    assert tuple(render(scene)[0, 32, 32]) == (0, 0, 255)


def test_unknown_generator_is_named():
    with pytest.raises(RelcoreError, match="'dense'.*separated, paper"):
        sample_scenes(1, np.random.default_rng(0), "dense")


@pytest.mark.parametrize("generator", ["separated", "paper"])
@pytest.mark.parametrize("size", [64, 128])
def test_pixels_of_a_seed_are_golden(golden, generator, size):
    images = render(sample_scenes(256, np.random.default_rng(7), generator), size)
    golden(f"pixels {generator} {size}", hashlib.sha256(images.tobytes()).hexdigest())

"""The scorer on the truth, on nothing and on noise; intervals and summaries."""

import numpy as np
import pandas as pd
import pytest

from relcore.data.prompts import parse
from relcore.data.scenes import RELATIONS, Scenes, render
from relcore.data.scoring import (
    METRICS,
    detect,
    proportion,
    relation_loose,
    score,
    summarise,
    wilson,
)
from relcore.errors import RelcoreError
from relcore.model.evaluation import ceiling, ground_truth

PROMPT = parse("red square is above blue circle")


def picture(colors, shapes, centers) -> np.ndarray:
    """Several objects on one canvas, the later on top."""
    image = np.full((128, 128, 3), 128, np.uint8)
    for color, shape, center in zip(colors, shapes, centers, strict=True):
        scene = Scenes(
            np.array([[color, 1 - color]]),
            np.array([[shape, shape]]),
            np.array([[center, (-100.0, -100.0)]]),
            np.array([0]),
        )
        one = render(scene, 128)[0]
        image[(one != 128).any(-1)] = one[(one != 128).any(-1)]
    return image


@pytest.mark.parametrize("size", [64, 128])
def test_the_truth_of_separated_scenes_scores_one(size):
    assert ceiling("separated", size) == dict.fromkeys(METRICS, 1.0)


@pytest.mark.parametrize("size", [64, 128])
def test_the_truth_of_paper_scenes_scores_as_in_the_paper(size):
    """paper_facts 0.3, at 128 px; at 64 px the same pictures, to the pixel, must not score worse.

    The facts were measured on 6000 pictures and so are these: 3 standard errors of the difference.
    Strict relations at 64 px are left out: centres lie on every other unit there, and the 5-unit
        rule turns on one.
    """
    n = 6000
    facts = {
        "color": 0.989,
        "shape": 0.886,
        "binding": 0.886,
        "relation_strict": 0.858,
        "relation_loose": 0.873,
    }
    found = ground_truth(n, "paper", size)[list(METRICS)].mean()
    for metric, fact in facts.items():
        if size == 64 and metric == "relation_strict":
            continue
        assert abs(found[metric] - fact) < 3 * np.sqrt(2 * fact * (1 - fact) / n), (
            f"{metric}: {found[metric]:.4f}, not {fact}"
        )


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.full((64, 64, 3), 128, np.uint8), id="blank"),
        pytest.param(np.zeros((64, 64, 3), np.uint8), id="black"),
        pytest.param(np.full((64, 64, 3), 255, np.uint8), id="white"),
        pytest.param(
            np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), id="noise"
        ),
    ],
)
def test_a_picture_of_nothing_has_nothing_right(image):
    verdict = score(detect(image), PROMPT)
    assert not any(verdict[m] for m in ("color", "binding", "relation_strict", "relation_loose"))
    assert np.isnan(verdict["dx"]) and np.isnan(verdict["dy"])


def test_blank_pictures_hold_no_object():
    assert detect(np.full((64, 64, 3), 128, np.uint8)) == []


# (color, shape, centre)...; color, shape, binding, strict, loose.
@pytest.mark.parametrize(
    "objects, expected",
    [
        ([(0, 0, (40, 30)), (1, 2, (40, 90))], (1, 1, 1, 1, 1)),
        ([(0, 0, (40, 90)), (1, 2, (40, 30))], (1, 1, 1, 0, 0)),  # below instead
        ([(0, 0, (80, 30)), (1, 2, (40, 90))], (1, 1, 1, 0, 1)),  # upper right: loosely above
        ([(1, 0, (40, 30)), (0, 2, (40, 90))], (1, 1, 0, 0, 0)),  # colours swapped
        ([(0, 0, (40, 30)), (0, 2, (40, 90))], (0, 1, 0, 0, 0)),
        ([(0, 1, (40, 30)), (1, 2, (40, 90))], (1, 0, 0, 0, 0)),
        ([(0, 0, (40, 30))], (0, 0, 0, 0, 0)),
        (
            [(0, 0, (40, 30)), (1, 2, (40, 90)), (0, 0, (90, 30))],
            (1, 1, 0, 0, 0),
        ),  # two red squares
        ([(0, 0, (40, 30)), (1, 2, (40, 90)), (1, 1, (90, 30))], (1, 1, 1, 1, 1)),  # a bystander
    ],
)
def test_verdicts(objects, expected):
    verdict = score(detect(picture(*zip(*objects, strict=True))), PROMPT)
    assert tuple(int(verdict[m]) for m in METRICS) == expected


def test_a_colour_not_named_is_free():
    image = picture((1, 0), (0, 2), ((40, 30), (40, 90)))
    assert score(detect(image), parse("square is above circle"))["relation_strict"]
    assert not score(detect(image), parse("red square is above circle"))["binding"]


def test_one_object_cannot_be_both():
    image = picture((0,), (0,), ((40, 30),))
    assert not score(detect(image), parse("square is above red square"))["binding"]


def test_displacement_is_first_minus_second():
    verdict = score(detect(picture((0, 1), (0, 2), ((40, 30), (50, 90)))), PROMPT)
    assert (verdict["dx"], verdict["dy"]) == (-10, -60)


@pytest.mark.parametrize(
    "color", [(229, 0, 0), (255, 26, 0), (255, 0, 30), (190, 190, 0), (0, 255, 0)]
)
def test_off_colours_are_neither_red_nor_blue(color):
    image = picture((0,), (0,), ((40, 30),))
    image[image[..., 0] == 255] = color
    assert [o.color for o in detect(image)] in ([-1], [-1, -1])


def test_specks_and_oblongs_are_not_squares():
    image = np.full((128, 128, 3), 128, np.uint8)
    image[10:19, 10:19] = (255, 0, 0)
    assert detect(image) == []
    image[40:80, 40:60] = (255, 0, 0)
    assert [(o.color, o.shape) for o in detect(image)] == [(0, -1)]


@pytest.mark.parametrize(
    "dx, dy, right",
    [
        (0, -6, {"above"}),
        (0, -5, set()),
        (-6, 0, {"left"}),
        (5, 5, set()),
        (6, 6, {"below", "right", "lower right"}),
        (-40, -40, {"above", "left", "upper left"}),
    ],
)
def test_loose_relation_asks_only_for_the_directions_named(dx, dy, right):
    assert {name for r, name in enumerate(RELATIONS) if relation_loose(dx, dy, r)} == right


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 32, 3), np.uint8),
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.zeros((64, 64, 3)),
    ],
    ids=["oblong", "gray", "rgba", "float"],
)
def test_what_is_not_a_picture_is_refused(image):
    with pytest.raises(RelcoreError, match="square uint8 picture"):
        detect(image)


# --- intervals


@pytest.mark.parametrize(
    "hits, n", [(0, 10), (1, 10), (5, 10), (10, 10), (810, 960), (960, 960), (1, 100_000)]
)
def test_wilson_interval_solves_its_quadratic(hits, n):
    """The ends are the p at which the observed share lies z standard errors away: (share - p)^2 n =
    z^2 p (1 - p).
    """
    share, z2 = hits / n, 1.96**2
    low, high = sorted(np.roots([n + z2, -(2 * n * share + z2), n * share**2]).real)
    # np.roots goes through eigenvalues: 1e-7 near a double root.
    assert wilson(hits, n) == pytest.approx((low, high), abs=1e-6)


def test_wilson_interval_at_its_ends():
    low, high = wilson(0, 10)
    # Newcombe 1998, to 4 digits.
    assert low == pytest.approx(0, abs=1e-12) and high == pytest.approx(0.2775, abs=5e-5)
    assert np.isnan(wilson(0, 0)).all()
    # To the last bit.
    assert wilson(0, 7)[0] == 0 and all(wilson(n, n)[1] == 1 for n in (7, 264, 1056))


def test_a_proportion_is_the_share_with_its_interval():
    assert proportion([True, False, True, True]) == (0.75, *wilson(3, 4), 4)
    assert np.isnan(proportion([])[:3]).all() and proportion([])[3] == 0


def test_summary_fields():
    rows = pd.DataFrame({m: [True, False, True, True] for m in METRICS})
    out = summarise(rows, {"color": 0.9})
    assert list(out) == list(METRICS)
    low, high = wilson(3, 4)
    assert out["color"] == {"value": 0.75, "low": low, "high": high, "ceiling": 0.9, "n": 4}
    assert out["shape"]["ceiling"] == 1.0
    empty = summarise(rows[:0])["color"]
    assert empty["n"] == 0 and np.isnan(empty["value"])

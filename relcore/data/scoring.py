"""The scorer: picture -> detected objects -> did it draw what the prompt says?

The paper's evaluator: threshold each colour channel, find contours, name a contour by the corners
of its polygon. Every picture is brought to the canvas of 128 x 128 first, so that a picture has one
verdict whatever its size, and all lengths below are canvas units.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..errors import RelcoreError
from .prompts import Prompt
from .scenes import CANVAS, COLORS, RELATIONS, SHAPES, THRESHOLD, relation_of

if TYPE_CHECKING:
    from pandas import DataFrame

LEVEL = 180  # a pixel belongs to a channel's objects above this value
MIN_AREA = 100  # square units: smaller specks are not objects
POLYGON = 0.04  # tolerance of the polygon, as a share of the contour's perimeter
SQUARE_SIDES = 5  # a box whose sides differ by more is a rectangle, not a square
COLOR_MARGIN = 25  # of 255: how far a channel's mean may lie from pure red or blue

METRICS = ("color", "shape", "binding", "relation_strict", "relation_loose")


@dataclass(frozen=True)
class Detection:
    """An object found in a picture. color, shape: index or -1 if it is neither; x, y: box centre.

    bounds: (x, y, width, height) of the bounding box, in canvas units.
    contour: int [corner, 1, 2], the outermost pixels' (x, y) on the canvas; `mask` fills it.
    """

    color: int
    shape: int
    x: float
    y: float
    bounds: tuple[int, int, int, int]
    contour: np.ndarray = field(repr=False, compare=False)


def detect(image: np.ndarray) -> list[Detection]:
    """Objects in a square picture, uint8 [y, x, rgb]; RelcoreError for any other array.

    Meant for a divisor or a multiple of 128 px: of other widths every unit takes the nearest pixel,
    and edges move.
    """
    if (
        image.ndim != 3
        or image.shape[0] != image.shape[1]
        or image.shape[2] != 3
        or image.dtype != np.uint8
    ):
        raise RelcoreError(
            f"cannot score an array of shape {image.shape}, {image.dtype}: "
            "give a square uint8 picture [y, x, rgb]"
        )
    if image.shape[0] != CANVAS:
        image = cv2.resize(image, (CANVAS, CANVAS), interpolation=cv2.INTER_NEAREST)
    found = []
    for channel in range(3):
        binary = (image[..., channel] > LEVEL).view(np.uint8)
        contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        for contour in contours:
            x, y, width, height = cv2.boundingRect(contour)
            if width * height < MIN_AREA:
                continue
            inside = np.zeros((height, width), dtype=np.uint8)
            cv2.drawContours(inside, [contour - (x, y)], -1, 1, cv2.FILLED)
            if cv2.countNonZero(inside) < MIN_AREA:
                continue
            shape = _shape(contour, width, height)
            color = _color(image[y : y + height, x : x + width], inside)
            found.append(
                Detection(
                    color, shape, x + width / 2, y + height / 2, (x, y, width, height), contour
                )
            )
    return found


def _shape(contour: np.ndarray, width: int, height: int) -> int:
    corners = len(cv2.approxPolyDP(contour, POLYGON * cv2.arcLength(contour, True), True))
    if corners == 4:
        return 0 if abs(width - height) < SQUARE_SIDES else -1
    return 1 if corners == 3 else 2 if corners > 4 else -1


def _color(crop: np.ndarray, inside: np.ndarray) -> int:
    red, green, blue, _ = cv2.mean(crop, mask=inside)
    if red > 255 - COLOR_MARGIN and max(green, blue) < COLOR_MARGIN:
        return 0
    if blue > 255 - COLOR_MARGIN and max(red, green) < COLOR_MARGIN:
        return 1
    return -1


def describe(objects: list[Detection]) -> list[str]:
    """Words for what was found, such as "red square"; "?" for what is neither."""
    return [f"{(*COLORS, '?')[o.color]} {(*SHAPES, '?')[o.shape]}" for o in objects]


def mask(found: Detection) -> np.ndarray:
    """Which canvas units the object covers, holes included: bool [y, x], 128 x 128."""
    filled = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.drawContours(filled, [found.contour], -1, 1, cv2.FILLED)
    return filled.view(bool)


def bound_pair(objects: list[Detection], prompt: Prompt) -> tuple[Detection, Detection] | None:
    """The prompt's first and second object; None unless exactly one is found of each pair of colour
    and shape.

    A colour the prompt does not name is free.
    """
    pairs = zip(prompt.colors, prompt.shapes, strict=True)
    matches = [
        [o for o in objects if o.shape == s and (c < 0 or o.color == c) and o.color >= 0]
        for c, s in pairs
    ]
    bound = all(len(m) == 1 for m in matches) and matches[0][0] is not matches[1][0]
    return (matches[0][0], matches[1][0]) if bound else None


def score(objects: list[Detection], prompt: Prompt) -> dict[str, float]:
    """The verdicts of one picture, and where object 1 lies from object 2 (NaN if not bound).

    color, shape: both colours (shapes) are somewhere; binding: exactly one object of each pair of
    colour and shape; relation_strict: bound, and the 5-unit rule gives the prompt's relation;
    relation_loose: bound, and the inequalities that the relation names hold by more than 5 units.
    A colour the prompt does not name is free.
    """
    pair = bound_pair(objects, prompt)
    row = {
        "color": all(c < 0 or any(o.color == c for o in objects) for c in prompt.colors),
        "shape": all(any(o.shape == s for o in objects) for s in prompt.shapes),
        "binding": pair is not None,
        "relation_strict": False,
        "relation_loose": False,
        "dx": np.nan,
        "dy": np.nan,
    }
    if pair:
        first, second = pair
        dx, dy = first.x - second.x, first.y - second.y
        row |= {
            "dx": dx,
            "dy": dy,
            "relation_strict": bool(relation_of(dx, dy) == prompt.relation),
            "relation_loose": relation_loose(dx, dy, prompt.relation),
        }
    return row


def relation_loose(dx: float, dy: float, relation: int) -> bool:
    """Whether each direction word in the relation's name holds by more than the THRESHOLD."""
    name = RELATIONS[relation]
    tests = {"above": -dy, "upper": -dy, "below": dy, "lower": dy, "left": -dx, "right": dx}
    return all(amount > THRESHOLD for word, amount in tests.items() if word in name)


def wilson(successes: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a proportion, 95 % at z = 1.96 (Wilson 1927); NaN of none."""
    if n == 0:
        return np.nan, np.nan
    p = successes / n
    centre, spread = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At 0 and 1 the bound is the proportion itself, which rounding would miss.
    return min(p, float((centre - spread) / (1 + z * z / n))), max(
        p, float((centre + spread) / (1 + z * z / n))
    )


def proportion(hits: Iterable[bool], z: float = 1.96) -> tuple[float, float, float, int]:
    """Share of the hits, its `wilson` interval, and of how many: (value, low, high, n)."""
    hits = np.asarray(hits, float)
    successes, n = float(hits.sum()), len(hits)
    return (successes / n if n else np.nan, *wilson(successes, n, z), n)


def summarise(rows: "DataFrame", ceiling: dict[str, float] | None = None) -> dict[str, dict]:
    """The metrics object: {metric: {value, low, high, ceiling, n}} of a table of `score` rows."""
    out = {}
    for metric in METRICS:
        value, low, high, n = proportion(rows[metric])
        out[metric] = {
            "value": value,
            "low": low,
            "high": high,
            "ceiling": (ceiling or {}).get(metric, 1.0),
            "n": n,
        }
    return out

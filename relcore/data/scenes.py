"""Scenes: two coloured shapes and the spatial relation between them, and how they become pixels.

Axes used throughout: `scene` (batch), `object` (0 = first mentioned in the caption, 1 = second),
`y`, `x` (pixels, y grows downwards). Lengths are in canvas units: the canvas is 128 x 128 units
whatever the size of the picture, as in the paper (its section on the data set; 128-px pictures).
"""

from dataclasses import dataclass

import numpy as np

from ..errors import require

CANVAS = 128
RADIUS = 16  # half the side of a square, radius of a circle, half the base of a triangle
TRIANGLE_HEIGHT = RADIUS * 3**0.5  # equilateral, side 32: height 27.7
LOW, HIGH = RADIUS + 1, CANVAS - RADIUS - 1  # range of a centre: objects stay inside the canvas
THRESHOLD = 5  # closer than this along an axis counts as aligned

COLORS = ("red", "blue")
SHAPES = ("square", "triangle", "circle")
RELATIONS = (
    "above",
    "below",
    "left",
    "right",
    "upper left",
    "upper right",
    "lower left",
    "lower right",
)
GENERATORS = ("separated", "paper")
RGB = np.array([[255, 0, 0], [0, 0, 255]], dtype=np.uint8)  # one row a colour
BACKGROUND = 128


@dataclass
class Scenes:
    """A batch of scenes as arrays.

    colors, shapes: int [scene, object], indices into COLORS and SHAPES.
    centers: float [scene, object, 2], (x, y) in canvas units.
    relations: int [scene], index into RELATIONS: where object 0 lies seen from object 1.
    hung: triangles as the paper draws them, the apex a third of the height above the labelled
        point; otherwise centred on their bounding box, as the scorer measures them.
    """

    colors: np.ndarray
    shapes: np.ndarray
    centers: np.ndarray
    relations: np.ndarray
    hung: bool = False

    def __len__(self) -> int:
        return len(self.relations)


def relation_of(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Index of the relation of object A to object B for displacements A - B, the paper's rule.

    |dx| <= THRESHOLD: above or below; else |dy| <= THRESHOLD: left or right; else a diagonal.
    """
    dx, dy = np.asarray(dx), np.asarray(dy)
    vertical = np.where(dy < 0, 0, 1)
    horizontal = np.where(dx < 0, 2, 3)
    diagonal = 4 + 2 * (dy >= 0) + (dx >= 0)
    return np.where(
        abs(dx) <= THRESHOLD, vertical, np.where(abs(dy) <= THRESHOLD, horizontal, diagonal)
    )


# Centres of the separated generator: every 8 units. No scene is then within 3 units of the 5-unit
# rule, so a pixel of error in a generated picture never turns a right relation into a wrong one;
# and a shape meets the network's patches (16 units wide) at 4 offsets instead of 64, so that
# shapes, which are not the question here, take a fraction of the training.
STEP, FIRST, LAST = 8, 20, 108


def _separated_displacements() -> list[np.ndarray]:
    """Per relation, the displacements (dx, dy, placements) whose bounding boxes do not meet.

    Weighted by the number of placements they follow the law of two independent uniform positions.
    """
    step = np.arange(FIRST - LAST, LAST - FIRST + 1, STEP)
    dx, dy = (axis.ravel() for axis in np.meshgrid(step, step))
    apart = np.maximum(abs(dx), abs(dy)) > 2 * RADIUS
    places = ((LAST - FIRST - abs(dx)) // STEP + 1) * ((LAST - FIRST - abs(dy)) // STEP + 1)
    table = np.stack([dx, dy, places], 1)[apart]
    kind = relation_of(table[:, 0], table[:, 1])
    return [table[kind == r] for r in range(len(RELATIONS))]


_DISPLACEMENTS = _separated_displacements()


def sample_scenes(
    n: int,
    rng: np.random.Generator,
    generator: str = "separated",
    relations: np.ndarray | None = None,
) -> Scenes:
    """Draw n scenes: one red and one blue object of different shapes.

    generator: "separated" (default): no overlap, the eight relations balanced, triangles centred by
        their bounding box so that label and scorer agree; "paper": positions independent, overlap
        allowed, diagonals dominate (about .197 each, .05 the others), triangles hung low.
    relations: int [scene], to fix each scene's relation ("separated" only).
    """
    colors = np.stack([first := rng.integers(0, 2, n), 1 - first], 1)
    shape1 = rng.integers(0, 3, n)
    shapes = np.stack([shape1, (shape1 + rng.integers(1, 3, n)) % 3], 1)
    if generator == "paper":
        centers = rng.integers(LOW, HIGH + 1, (n, 2, 2)).astype(float)
        delta = centers[:, 0] - centers[:, 1]
        return Scenes(colors, shapes, centers, relation_of(*delta.T), hung=True)
    require("generator", generator, GENERATORS)
    if relations is None:
        relations = rng.integers(0, len(RELATIONS), n)
    centers = place(relations, rng)
    return Scenes(colors, shapes, centers, np.asarray(relations))


def place(relations: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Centres [scene, object, 2] of two objects that stand in the given relations, apart."""
    delta = np.empty((len(relations), 2), dtype=int)
    for r, table in enumerate(_DISPLACEMENTS):
        rows = np.flatnonzero(relations == r)
        delta[rows] = table[
            rng.choice(len(table), len(rows), p=table[:, 2] / table[:, 2].sum()), :2
        ]
    free = (LAST - FIRST - abs(delta)) // STEP + 1
    origin = FIRST + np.maximum(delta, 0) + STEP * rng.integers(0, free)
    return np.stack([origin, origin - delta], 1).astype(float)


def object_masks(scenes: Scenes, size: int) -> np.ndarray:
    """Which pixels each object covers, hidden or not: bool [scene, object, y, x]. Hard edges."""
    pixel = (np.arange(size) + 0.5) * (CANVAS / size)
    centers = scenes.centers // (CANVAS / size) * (CANVAS / size)
    masks = np.empty((len(scenes), 2, size, size), dtype=bool)
    for kind, cover in enumerate((_square, _triangle, _circle)):
        rows = scenes.shapes == kind  # [scene, object]
        x = pixel - centers[rows][:, :1]  # [of this kind, x]
        y = pixel - centers[rows][:, 1:]  # [of this kind, y]
        masks[rows] = cover(x[:, None], y[:, :, None], CANVAS / size, scenes.hung)
    return masks


def _square(x, y, pixel, hung):
    return (abs(x) < RADIUS) & (abs(y) < RADIUS)


def _circle(x, y, pixel, hung):
    return x * x + y * y < RADIUS**2


def _triangle(x, y, pixel, hung):
    depth = y + TRIANGLE_HEIGHT / 2 - 4 * hung  # below the apex
    half = np.maximum(depth / 3**0.5, 0.51 * pixel)  # the apex is never thinner than a pixel
    return (depth > 0) & (depth < TRIANGLE_HEIGHT) & (abs(x) < half)


def render(scenes: Scenes, size: int = 64) -> np.ndarray:
    """Pictures of the scenes: uint8 [scene, y, x, rgb]; object 0 is drawn first, underneath."""
    masks = object_masks(scenes, size)
    channels = []
    for channel in range(3):  # one plane at a time: a row of RGB a pixel is four times slower
        paint = RGB[scenes.colors, channel][..., None, None]  # [scene, object, 1, 1]
        plane = np.where(masks[:, 0], paint[:, 0], np.uint8(BACKGROUND))
        channels.append(np.where(masks[:, 1], paint[:, 1], plane))
    return np.stack(channels, -1)

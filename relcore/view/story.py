"""The step-through of a circuit: words, the heads that read them, what they write, the picture.
Drawing only.

A `Circuit` holds the computed numbers and maps of one model and prompt; `scene` draws it up to a
stage, in one layout.
"""

import re
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from .figures import INK, ROLE_COLORS, ROLE_NAMES
from .synopsis import MASS, OBJECT_LINES

STAGES = (
    "the words",
    "reading the relation",
    "the tag",
    "the object heads",
    "the picture",
    "the proof",
)
WIDTH, HEIGHT = 100, 63  # of the canvas, in units of .088 inch
BOXES, BOX = (45, 7.2), 15.6  # the words' boxes: bottom and height, and width
TOP, CELL, SIDE = 27.5, 6.0, 10.5  # top of the heads' maps, side of one of them and of other maps
WIDE, LOW = 2 * CELL + 0.8, 2.5  # width of a head's two maps, bottom of the lower maps
Change = tuple[float, float, float]  # change, low, high


@dataclass
class Reader:
    """Heads that read words; effects: what removing each does to the metric."""

    title: str
    columns: list[str]
    maps: dict[str, list[np.ndarray]]  # of each column, [y, x]
    # To each text role, from object 1's places and from object 2's.
    masses: dict[str, tuple[float, float]]
    metric: str
    effects: dict[str, Change]


@dataclass
class Circuit:
    """One model's circuit for one prompt, as numbers and maps.

    behind: object heads in later layers than the relation head; if none, they stand beside it.
    words: {text role: (word, share of its vector that is the relation; None for none)}; hidden:
    {text role: what is hidden, change of the relation}; written: {head: map, its scale, note}, and
    mixed the same of the MLP, after a title; outlines: both objects' shares of the image tokens
    [object, y, x]; picture: uint8 [y, x, rgb];
    note: {stage: line}; proofs: {title: picture}.
    """

    title: str
    words: dict[str, tuple[str, float | None]]
    hidden: dict[str, tuple[str, Change]]
    relation: Reader
    objects: Reader
    behind: list[str]
    written: dict[str, tuple[np.ndarray, float, str]]
    mixed: tuple[str, np.ndarray, float, str]
    outlines: np.ndarray
    picture: np.ndarray
    note: dict[int, str]
    proofs: dict[str, np.ndarray]


def number(value: float, sign: bool = False) -> str:
    """.75 or -.75, with a sign always if asked; 1.00 and .00."""
    text = f"{value:{'+' if sign else ''}.2f}"
    return (
        text.lstrip("+-")[1:]
        if float(text) == 0
        else re.sub(r"^([+-]?)0\.", r"\1.", text).replace("-", "\u2212")
    )


def interval(value: float, low: float, high: float, sign: bool = False) -> str:
    return f"{number(value, sign)} [{number(low, sign)}, {number(high, sign)}]"


def _arrow(axis, start, end, width: float = 1.5, **look) -> None:
    look = {"color": INK, "alpha": 0.9, "linewidth": width, "shrinkA": 0, "shrinkB": 0, **look}
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7 + width, **look))


def _text(
    axis, x: float, y: float, text: str, size: float = 6.5, ha="center", va="center", **look
) -> None:
    axis.text(x, y, text, fontsize=size, ha=ha, va=va, **look)


def _map(
    axis,
    values: np.ndarray,
    x: float,
    y: float,
    side: float,
    outlines: np.ndarray,
    scale: float | None,
) -> None:
    """A map of the image tokens with its lower left corner at (x, y); scale: of a tag, None for
    attention.
    """
    look = MASS if scale is None else {"vmin": -scale, "vmax": scale, "cmap": "RdBu_r"}
    axis.imshow(
        values, extent=(x, x + side, y, y + side), interpolation="nearest", origin="upper", **look
    )
    places = (np.arange(len(values)) + 0.5) * side / len(values)
    ink = {"colors": "white" if scale is None else "black", "linewidths": 1}
    for outline, line in zip(outlines, OBJECT_LINES, strict=True):
        axis.contour(x + places, y + side - places, outline, [0.3], linestyles=line, **ink)


def _words(axis, circuit: Circuit, effects: bool) -> dict[str, float]:
    """The boxes of the words; the place of each one's middle."""
    gap, middles = (WIDTH - BOX * len(circuit.words)) / (len(circuit.words) - 1), {}
    bottom, height = BOXES
    for k, (role, (word, share)) in enumerate(circuit.words.items()):
        left, color = k * (BOX + gap), ROLE_COLORS[role]
        middles[role] = middle = left + BOX / 2
        look = {"fc": color + "40", "ec": color, "lw": 1.5}
        axis.add_patch(
            FancyBboxPatch((left + 0.5, bottom + 0.5), BOX - 1, height - 1, "round,pad=0.5", **look)
        )
        told = "" if share is None else f"{ROLE_NAMES[role]}: {number(abs(share))}"
        _text(axis, middle, bottom + height * (0.66 if told else 0.5), word, 8, weight="bold")
        _text(axis, middle, bottom + height * 0.25, told, 7)
        if effects and role in circuit.hidden:
            what, change = circuit.hidden[role]
            _text(
                axis,
                middle,
                bottom + height + 0.7,
                f"{what}: relation\n{interval(*change, True)}",
                va="bottom",
            )
    return middles


def _reader(
    axis,
    reader: Reader,
    x: float,
    outlines: np.ndarray,
    middles: dict[str, float],
    now: bool,
    effects: bool,
) -> dict:
    """Heads' maps from x on, with their arrows, numbered where new; {head: the middle height of its
    row}.
    """
    rows, middle = {}, x + WIDE / 2
    for k, (head, maps) in enumerate(reader.maps.items()):
        bottom = TOP - CELL - k * (CELL + 0.4)
        rows[head] = bottom + CELL / 2
        _text(axis, x - 0.5, rows[head], head, 7, "right", rotation=90)
        for c, values in enumerate(maps):
            _map(axis, values, x + c * (WIDE - CELL), bottom, CELL, outlines, None)
    for c, column in enumerate(reader.columns):
        _text(axis, x + c * (WIDE - CELL) + CELL / 2, TOP + 0.5, column, va="bottom")
    _text(axis, middle, TOP + 2.6, reader.title, 7.5, va="bottom", weight="bold")
    for role, masses in reader.masses.items():
        for mass, side, line in zip(masses, (-1, 1), OBJECT_LINES, strict=True):
            start, end = (
                (middles[role] + 3.2 * side, BOXES[0] - 2.7),
                (middle + 1.6 * side, TOP + 5.4),
            )
            look = {
                "linestyle": line,
                "color": ROLE_COLORS[role],
                "alpha": 0.95 if now or effects else 0.25,
            }
            if mass >= 0.05:
                _arrow(axis, start, end, 0.6 + 4 * mass, **look)
                _text(axis, start[0], BOXES[0] - 0.5, number(mass) if now else "", 7, va="top")
    return rows


def _tag(
    axis, x: float, title: str, values: np.ndarray, scale: float, note: str, outlines: np.ndarray
) -> None:
    _map(axis, values, x, LOW, SIDE, outlines, scale)
    _text(axis, x + SIDE / 2, LOW - 0.5, note, va="top")
    _text(axis, x + SIDE / 2, LOW + SIDE + 0.5, title, 7, va="bottom", weight="bold")


def _canvas(figure: Figure, place: tuple, circuit: Circuit, stage: int):
    """An empty canvas with its title and note; every stage's is of one size."""
    axis = figure.add_axes(place)
    axis.set(xlim=(-1, WIDTH + 1), ylim=(-2.5, HEIGHT), aspect="equal")
    axis.axis("off")
    _text(axis, 0, HEIGHT - 0.5, circuit.title, 8.5, "left", "top", weight="bold")
    _text(axis, 0, HEIGHT - 3.2, circuit.note.get(stage, ""), 7.2, "left", "top")
    return axis


def _draw(axis, circuit: Circuit, stage: int) -> None:
    """The circuit up to a stage, from 1 on; at 5 with the effects."""
    effects, line = stage >= 5, LOW + SIDE / 2
    middles, rows = _words(axis, circuit, effects), {}
    mixed, second = (24, 53) if circuit.behind else (44, 24)
    readers = [
        reader for reader, first in ((circuit.relation, 2), (circuit.objects, 4)) if stage >= first
    ]
    for reader, x, first in zip(readers, (3, second), (2, 4), strict=False):
        rows |= _reader(axis, reader, x, circuit.outlines, middles, stage == first, effects)
    changes = {head: (r.metric, change) for r in readers for head, change in r.effects.items()}
    if stage >= 3:
        columns = [
            (head, x) for head, x in zip(circuit.written, (3, 24), strict=False) if head in rows
        ]
        for (head, x), end in zip(
            columns, [24 + (WIDE - SIDE) / 2] * (len(columns) - 1) + [mixed], strict=True
        ):
            left, foot = x + (WIDE - SIDE) / 2, rows[head] - CELL / 2 - 0.5
            middle, (metric, change) = left + SIDE / 2, changes[head]
            _tag(axis, left, "", *circuit.written[head], circuit.outlines)
            _arrow(
                axis,
                (middle, foot),
                (middle, LOW + SIDE + 0.6),
                1 + 5 * abs(change[0]) if effects else 1.5,
            )
            text = (
                f"without it: {metric}\n{interval(*change, True)}" if effects else f"{head} writes"
            )
            _text(axis, middle + 1.2, (foot + LOW + SIDE) / 2, text, ha="left")
            _arrow(axis, (left + SIDE + 0.5, line), (end - 0.5, line))
        _tag(axis, mixed, *circuit.mixed, circuit.outlines)
    if stage >= 4 and circuit.behind:
        _arrow(
            axis,
            (mixed + SIDE + 0.5, line),
            (second - 3.2, np.mean([rows[head] for head in circuit.behind])),
        )
    if effects:
        left, side, bottom = 82, 18, 6 if circuit.behind else LOW
        axis.imshow(
            circuit.picture,
            extent=(left, left + side, bottom, bottom + side),
            interpolation="nearest",
        )
        if not circuit.behind:
            _arrow(axis, (mixed + SIDE + 0.5, line), (left - 0.6, line))
            _text(axis, (mixed + SIDE + left) / 2, line + 1, "later layers draw it")
        for head, change in circuit.objects.effects.items() if circuit.behind else ():
            end = left - 0.6, np.clip(rows[head], bottom + 1, bottom + side - 1)
            _arrow(axis, (second + WIDE + 0.5, rows[head]), end, 0.6 + 5 * abs(change[0]))
            text = f"{circuit.objects.metric} {interval(*change, True)}".replace(" [", "\n[")
            _text(axis, second + WIDE + 1, rows[head] + 1, text, 6.2, "left", "bottom")


def scene(circuit: Circuit, stage: int) -> Figure:
    """One frame of the step-through; the last holds the pictures of the interventions."""
    figure = plt.figure(figsize=(8.8, 5.65))
    axis = _canvas(figure, (0, 0, 1, 1), circuit, stage)
    if stage < len(STAGES):
        _draw(axis, circuit, stage)
        return figure
    margins = {
        "left": 0.02,
        "right": 0.98,
        "bottom": 0.01,
        "top": 0.84,
        "hspace": 0.24,
        "wspace": 0.1,
    }
    places = figure.subplots(2, 3, gridspec_kw=margins).flat
    for axis, (title, picture) in zip(places, circuit.proofs.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=7, pad=3)
        axis.axis("off")
    return figure


def overview(circuits: list[Circuit]) -> Figure:
    """The circuits with their effects, one above the other."""
    figure = plt.figure(figsize=(8.8, 11.3))
    for bottom, circuit in zip((0.5, 0), circuits, strict=True):
        _draw(_canvas(figure, (0, bottom, 1, 0.49), circuit, 5), circuit, 5)
    return figure

"""Figures of one head at work: what it writes where, what can be read from it, what becomes of a
patched picture.

Nothing is computed here.
"""

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..data.scenes import CANVAS
from .figures import GROUP_COLORS, INK, heat_map, token_grid

METRIC_MARKS = {
    "prompt's relation": "#4c9be8",
    "donor's relation": "#e4572e",
    "binding": "#4fb477",
    "shape": "#e8a13c",
    "colour": "#9a9a9a",
}


def heat(
    table: pd.DataFrame, row: str, panel: str, value: str, limits: tuple[float, float], title: str
) -> Figure:
    """Heat maps of `value`, row by step, numbers in the cells; one panel a `panel`, one above the
    other.
    """
    panels, rows = list(dict.fromkeys(table[panel])), table[row].nunique()
    size = (8.6, 0.5 + len(panels) * (0.55 + 0.25 * rows))
    figure, axes = plt.subplots(
        len(panels), 1, figsize=size, squeeze=False, sharex=True, layout="constrained"
    )
    for axis, name in zip(axes[:, 0], panels, strict=True):
        grid = table[table[panel] == name].pivot(index=row, columns="step", values=value)
        heat_map(axis, grid, *limits, "viridis", "{:.2f}")
        axis.set_title(name, fontsize=9, loc="left")
        axis.tick_params(labelsize=7)
    axes[-1, 0].set_xlabel("sampling step")
    figure.suptitle(title, fontsize=9)
    return figure


def two_curves(steps: pd.DataFrame, strengths: pd.DataFrame) -> Figure:
    """Two panels of lines of `value` with bands (low, high) over x, one line a `hue`: patched
    steps, and strengths.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.4), sharey=True, layout="constrained")
    panels = (
        (steps, "sampling step", "donor's output in some steps"),
        (strengths, "strength", "donor's tag, by strength"),
    )
    for axis, (table, xlabel, title) in zip(axes, panels, strict=True):
        for hue, rows in table.groupby("hue", sort=False):
            color = METRIC_MARKS[hue.split(",")[0]]
            axis.plot(
                rows.x,
                rows.value,
                "o--" if " from " in hue else "o-",
                ms=4,
                lw=1.5,
                color=color,
                label=hue,
            )
            axis.fill_between(
                rows.x.astype(float), rows.low, rows.high, color=color, alpha=0.15, lw=0
            )
        axis.set(xlabel=xlabel, ylim=(-0.03, 1.03))
        axis.set_title(title, fontsize=9)
        axis.legend(
            fontsize=7,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
            ncols=1 + (len(axis.lines) > 3),
            handlelength=4,
        )
    axes[0].set_ylabel("share of the pictures")
    return figure


def scatter(table: pd.DataFrame, hue: str, style: str, xlabel: str, ylabel: str) -> Figure:
    """Points x, y, a colour a hue and a marker a style; those of the first hue are larger and lie
    below the others.
    """
    import seaborn as sns

    figure, axis = plt.subplots(figsize=(6.6, 3.6), layout="constrained")
    groups = list(dict.fromkeys(table[hue]))
    sns.scatterplot(
        table,
        x="x",
        y="y",
        hue=hue,
        style=style,
        ax=axis,
        alpha=0.7,
        linewidth=0,
        size=hue,
        sizes=dict(zip(groups, (140, 50, 50, 50), strict=False)),
        palette=dict(zip(groups, GROUP_COLORS, strict=False)),
    )
    axis.axhline(0, color=INK, lw=0.5, alpha=0.5)
    axis.axvline(0, color=INK, lw=0.5, alpha=0.5)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def place_maps(
    pictures: np.ndarray,
    maps: np.ndarray,
    boxes: Sequence[Sequence],
    titles: Sequence[str],
    top: float,
    labels: tuple[str, str],
) -> Figure:
    """Pictures [picture, y, x, rgb] over maps [picture, y, x] of the image tokens, one column a
    picture.

    boxes: for each picture (name, (left, top, width, height)) in canvas units, drawn into both.
    top: the end of the maps' colour scale, red to blue, the same for all; labels: of the two rows.
    """
    size = (0.5 + 1.85 * len(maps), 4.1)
    figure, axes = plt.subplots(2, len(maps), figsize=size, squeeze=False, layout="constrained")
    extent = (0, CANVAS, CANVAS, 0)
    for k, (column, found, title) in enumerate(zip(axes.T, boxes, titles, strict=True)):
        column[0].imshow(pictures[k], extent=extent, interpolation="nearest")
        column[0].set_title(textwrap.fill(title, 22), fontsize=8)
        column[1].imshow(
            maps[k], extent=extent, cmap="RdBu", vmin=-top, vmax=top, interpolation="nearest"
        )
        token_grid(column[1])
        for axis in column:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            for name, (left, above, width, height) in found:
                axis.add_patch(
                    plt.Rectangle((left, above), width, height, fill=False, ec=INK, lw=1.2)
                )
                axis.text(
                    left + width / 2,
                    above + height / 2,
                    name,
                    ha="center",
                    va="center",
                    fontsize=9,
                    color="k",
                    bbox={"fc": "w", "ec": "none", "alpha": 0.6, "pad": 1},
                )
    for axis, label in zip(axes[:, 0], labels, strict=True):
        axis.set_ylabel(label, fontsize=9)
    return figure


def picture_table(rows: dict[str, np.ndarray], titles: Sequence[str]) -> Figure:
    """Pictures of the same noise: one row a way of drawing [column, y, x, rgb], one column a
    prompt.
    """
    titles = [textwrap.fill(title, 15) for title in titles]
    size = (0.3 + 1.05 * len(titles), 0.5 + 1.07 * len(rows))
    figure, axes = plt.subplots(
        len(rows), len(titles), figsize=size, squeeze=False, layout="constrained"
    )
    for row, (label, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(label, fontsize=8)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=7)
    return figure

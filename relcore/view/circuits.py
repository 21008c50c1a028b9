"""Figures of the circuits in the weights: heads' scores, scores against nulls, maps. Nothing is
computed here.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .figures import GROUP_COLORS, INK, heat_map, panelled

OUTSIDE = "#e4572e"  # a head outside every null


def head_scores(
    table: pd.DataFrame, value: str = "cosine", vmin: float = -1, cmap: str = "RdBu_r"
) -> Figure:
    """Heat maps of `value`, layer by head, numbers in the cells: one row of panels an `arm`, one
    panel a `panel`.
    """
    arms, heads, layers = table.arm.unique(), table["head"].max() + 1, table.layer.max() + 1
    columns = table.groupby("arm").panel.nunique().max()
    size = (0.5 + columns * (0.4 + 0.44 * heads), len(arms) * (0.85 + 0.24 * layers))
    figure = plt.figure(figsize=size, layout="constrained")
    for part, arm in zip(figure.subfigures(len(arms), 1, squeeze=False)[:, 0], arms, strict=True):
        part.suptitle(arm, fontsize=10, x=0.01, ha="left")
        axes = part.subplots(1, columns, sharey=True, squeeze=False)[0]
        panels = table[table.arm == arm].groupby("panel", sort=False)
        for axis in axes[len(panels) :]:
            axis.axis("off")
        for axis, (panel, rows) in zip(axes, panels, strict=False):
            grid = rows.pivot(index="layer", columns="head", values=value)
            grid.columns, grid.index = (
                [f"H{head}" for head in grid.columns],
                [f"L{layer}" for layer in grid.index],
            )
            heat_map(axis, grid, vmin, 1, cmap, "{:.2f}")
            axis.set_title(panel, fontsize=8)
            axis.tick_params(labelsize=7)
    return figure


def against_nulls(table: pd.DataFrame, columns: int = 2) -> Figure:
    """Each head's `cosine` as a dot beside the range (null_low, null_high) of each `null`; one
    panel a `panel`.

    outside: whether the head lies outside all its nulls, a red dot; named: whether its name stands
        beside it.
    """
    panels, kinds = list(table.panel.unique()), list(table.null.unique())
    heads = table["head"].max() + 1
    figure, axes = panelled(len(panels), columns, (8.4, 0.5, 2.3))
    for axis, panel in zip(axes.flat, panels, strict=False):
        mine = table[table.panel == panel]
        for k, null in enumerate(kinds):
            ranges = mine[mine.null == null]
            x = ranges.layer * heads + ranges["head"] + (k - (len(kinds) - 1) / 2) * 0.22
            axis.vlines(
                x,
                ranges.null_low,
                ranges.null_high,
                color=GROUP_COLORS[k],
                lw=2.5,
                alpha=0.6,
                label=null,
            )
        dots = mine.drop_duplicates(["layer", "head"])
        x = dots.layer * heads + dots["head"]
        for label, color, these in (
            ("head", INK, ~dots.outside),
            ("head outside all nulls", OUTSIDE, dots.outside),
        ):
            axis.scatter(x[these], dots.cosine[these], 18, color, label=label, zorder=3)
        places = set(x[dots.named])
        for place, dot in zip(x, dots.itertuples(), strict=True):
            if dot.named:  # towards the middle of the panel, but away from a neighbour with a name
                left = place + 1 in places or (
                    place - 1 not in places and dot.layer * 2 > dots.layer.max()
                )
                axis.annotate(
                    f"L{dot.layer}H{dot.head}",
                    (place, dot.cosine),
                    (-4 if left else 4, 0),
                    fontsize=7,
                    textcoords="offset points",
                    va="center",
                    ha="right" if left else "left",
                )
        axis.axhline(0, color=INK, lw=0.6)
        axis.set_title(panel, fontsize=9)
        layers = np.arange(dots.layer.max() + 1)
        axis.set_xticks((layers + 0.5) * heads - 0.5, [f"L{layer}" for layer in layers], fontsize=8)
        axis.vlines(layers[1:] * heads - 0.5, -1.05, 1.05, color=INK, lw=0.4, alpha=0.5)
        axis.tick_params(axis="x", length=0)
        axis.set_ylim(-1.05, 1.05)
    figure.supylabel("mean cosine", fontsize=10, color=INK)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=5, loc="outside upper center")
    return figure


def map_rows(rows: dict[str, tuple[np.ndarray, Sequence[str]]], title: str) -> Figure:
    """Rows {label: (maps [vector, y, x], a caption a map)}; each map has its own colour scale, 0
    white.
    """
    columns = max(len(maps) for maps, _ in rows.values())
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(0.4 + 0.87 * columns, 0.5 + 1.1 * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for row, (label, (maps, captions)) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(label, fontsize=9)
        for axis, picture, caption in zip(row, maps, captions, strict=True):
            top = np.abs(picture).max()
            axis.imshow(picture, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.set_title(caption, fontsize=8)
            axis.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=9)
    return figure

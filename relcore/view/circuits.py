"""Figures of the circuits in the weights: heads' scores, scores against nulls, heads' maps. Nothing is computed here."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from .figures import GROUP_COLORS, INK

OUTSIDE = "#e4572e"  # a head outside every null


def head_scores(table: pd.DataFrame) -> Figure:
    """Heat maps of `cosine`, layer by head, numbers in the cells: one row of panels an `arm`, one panel a `panel`."""
    arms = {arm: list(rows.panel.unique()) for arm, rows in table.groupby("arm", sort=False)}
    columns = max(map(len, arms.values()))
    size = (1.1 + columns * (0.28 + 0.36 * (table["head"].max() + 1)),
            0.3 + len(arms) * (0.85 + 0.24 * (table["layer"].max() + 1)))  # fmt: skip
    figure = plt.figure(figsize=size, layout="constrained")
    parts = np.atleast_1d(figure.subfigures(len(arms), 1))
    for part, (arm, panels) in zip(parts, arms.items(), strict=True):
        part.patch.set_alpha(0)
        part.suptitle(arm, fontsize=10, x=0.01, ha="left")
        axes = part.subplots(1, columns, squeeze=False)[0]
        for axis in axes[len(panels) :]:
            axis.axis("off")
        for axis, panel in zip(axes, panels, strict=False):
            rows = table[(table.arm == arm) & (table.panel == panel)]
            grid = rows.pivot(index="layer", columns="head", values="cosine")
            sns.heatmap(grid, vmin=-1, vmax=1, cmap="RdBu_r", annot=True, fmt=".2f", annot_kws={"size": 7},
                        cbar=False, ax=axis)  # fmt: skip
            axis.set_title(panel, fontsize=8)
            axis.set(xlabel=None, ylabel=None)
            axis.set_xticklabels([f"H{head}" for head in grid.columns], fontsize=7)
            axis.set_yticklabels([f"L{layer}" for layer in grid.index] if axis is axes[0] else [], rotation=0)
            axis.tick_params(length=0, labelsize=7)
    return figure


def against_nulls(table: pd.DataFrame, columns: int = 2) -> Figure:
    """Each head's `cosine` as a dot beside the range (null_low, null_high) of each `null`; one panel a `panel`.

    outside: whether the head lies outside all its nulls; those dots are red and named.
    """
    panels, kinds = list(table.panel.unique()), list(table.null.unique())
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(8.4, 0.5 + 2.3 * rows), sharex=True, sharey=True,
                                squeeze=False, layout="constrained")  # fmt: skip
    heads = table["head"].max() + 1
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, panel in zip(axes.flat, panels, strict=False):
        mine = table[table.panel == panel]
        for k, null in enumerate(kinds):
            ranges = mine[mine.null == null]
            x = ranges.layer * heads + ranges["head"] + (k - (len(kinds) - 1) / 2) * 0.22
            axis.vlines(x, ranges.null_low, ranges.null_high, color=GROUP_COLORS[k], lw=2.5, alpha=0.6, label=null)
        dots = mine.drop_duplicates(["layer", "head"])
        x = dots.layer * heads + dots["head"]
        axis.scatter(x, dots.cosine, s=18, color=np.where(dots.outside, OUTSIDE, INK), zorder=3, label="head")
        for place, dot in zip(x, dots.itertuples(), strict=True):
            if dot.outside:
                right = dot.layer * 2 > dots.layer.max()
                axis.annotate(f"L{dot.layer}H{dot.head}", (place, dot.cosine), (-4 if right else 4, 0), fontsize=7,
                              textcoords="offset points", va="center", ha="right" if right else "left")  # fmt: skip
        for layer in range(1, dots.layer.max() + 1):
            axis.axvline(layer * heads - 0.5, color=INK, lw=0.4, alpha=0.5)
        axis.axhline(0, color=INK, lw=0.6)
        axis.set_title(panel, fontsize=9)
        middle = (np.arange(dots.layer.max() + 1) + 0.5) * heads - 0.5
        axis.set_xticks(middle, [f"layer {layer}" for layer in range(len(middle))], fontsize=8)
        axis.tick_params(axis="x", length=0)
        axis.set_ylim(-1.05, 1.05)
    figure.supylabel("mean cosine", fontsize=10, color=INK)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=4, loc="outside upper center")
    return figure


def maps_over_ramps(maps: np.ndarray, ramps: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """Maps [vector, y, x] above the reference ramps [vector, y, x]; each picture has its own colour scale, 0 white."""
    figure, axes = plt.subplots(2, len(maps), figsize=(0.4 + 0.87 * len(maps), 2.5), squeeze=False,
                                layout="constrained")  # fmt: skip
    for row, pictures, label in zip(axes, (maps, ramps), ("head", "ramp"), strict=True):
        row[0].set_ylabel(label, fontsize=9)
        for axis, picture in zip(row, pictures, strict=True):
            top = np.abs(picture).max()
            axis.imshow(picture, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            sns.despine(ax=axis, left=True, bottom=True)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure

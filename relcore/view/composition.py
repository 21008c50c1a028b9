"""Figures of heads that work on what others wrote: which heads, what their queries meet, what they
write.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..data.scenes import CANVAS
from .figures import GROUP_COLORS, INK, ROLE_NAMES, heat_map, panelled
from .synopsis import attention_map

COLUMNS = 3  # of heat maps on a page


def role_scores(table: pd.DataFrame) -> Figure:
    """Heat maps of `value` with `spread` below it in each cell, tag by text role; one panel a
    `panel`, one scale.
    """
    panels, tags, roles = (list(dict.fromkeys(table[key])) for key in ("panel", "tag", "role"))
    top = table.value.abs().max()
    figure, axes = panelled(
        len(panels), COLUMNS, (1.2 + 2.55 * COLUMNS, 0.35, 0.6 + 0.36 * len(tags))
    )
    for axis, panel in zip(axes.flat, panels, strict=False):
        mine = table[table.panel == panel].set_index(["tag", "role"])
        grids = [mine[key].unstack().loc[tags, roles] for key in ("value", "spread")]
        text = grids[0].map("{:.1f}".format) + "\n±" + grids[1].map("{:.1f}".format)
        heat_map(axis, grids[0].rename(columns=ROLE_NAMES), -top, top, "RdBu_r", text, 6.5)
        axis.set_title(panel, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.tick_params(axis="x", labelrotation=30)
    return figure


def against_null(table: pd.DataFrame, ylabels: Sequence[str]) -> Figure:
    """Heads' `value` (with low, high) beside the range of a null (null_low, null_high); one panel a
    `panel`.
    """
    panels = list(dict.fromkeys(table.panel))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 2.9), squeeze=False, layout="constrained"
    )
    for axis, panel, ylabel in zip(axes[0], panels, ylabels, strict=True):
        rows = table[table.panel == panel]
        x = np.arange(len(rows))
        axis.vlines(
            x, rows.null_low, rows.null_high, color=GROUP_COLORS[0], lw=7, alpha=0.4, label="null"
        )
        axis.vlines(x, rows.low, rows.high, color=GROUP_COLORS[3], lw=1.5)
        axis.scatter(x, rows.value, 26, GROUP_COLORS[3], zorder=3, label="head")
        axis.set_xticks(x, [f"L{row.layer}H{row.head}" for row in rows.itertuples()], fontsize=8)
        axis.set_ylabel(ylabel, fontsize=9)
        axis.set_title(panel, fontsize=9)
        if rows.null_low.min() < 0:
            axis.axhline(0, color=INK, lw=0.6)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, loc="outside upper center")
    return figure


def head_panel(
    pictures: dict[str, np.ndarray],
    maps: dict[str, np.ndarray],
    shares: np.ndarray,
    patches: dict[str, np.ndarray],
    title: str,
) -> Figure:
    """One head at one moment: pictures, its attention to each text role, and what it writes as
    pixels.

    pictures: {title: uint8 [y, x, rgb]}; maps: {title: [y, x]} over the image tokens, from 0 to 1;
    shares: [object, y, x] of the image tokens, drawn as outlines; patches: {title: uint8 [y, x,
    rgb]} of one image token.
    """
    columns = len(pictures) + len(maps) + len(patches)
    figure, axes = plt.subplots(1, columns, figsize=(1.12 * columns, 1.75), layout="constrained")
    for axis, (name, picture) in zip(
        axes, [*pictures.items(), *maps.items(), *patches.items()], strict=True
    ):
        if picture.ndim == 3:
            axis.imshow(picture, interpolation="nearest", extent=(0, CANVAS, CANVAS, 0))
        else:
            attention_map(axis, picture, shares)
        axis.set_title(name, fontsize=7)
        axis.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize=8, x=0.01, ha="left")
    return figure

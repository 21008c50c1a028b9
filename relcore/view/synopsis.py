"""Figures of the attention synopsis: one step of it with its parts, and heads' masses against
another measure.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .figures import INK, ROLE_COLORS, ROLE_NAMES, heat_map

MASS = {"vmin": 0, "vmax": 1, "cmap": "viridis"}
OBJECT_LINES = ("solid", "dashed")  # outlines of object 1 and object 2


def attention_map(axis, values: np.ndarray, shares: np.ndarray) -> None:
    """Attention [y, x] of the image tokens, 0 dark to 1 yellow, with outlines of the objects'
    shares [object, y, x].
    """
    axis.imshow(values, interpolation="nearest", **MASS)
    for outline, line in zip(shares, OBJECT_LINES, strict=True):
        if outline.max() > 0.3:  # else it has no outline
            axis.contour(outline, [0.3], colors="white", linewidths=1, linestyles=line)


def step(
    pictures: dict[str, np.ndarray],
    maps: dict[str, np.ndarray],
    shares: np.ndarray,
    pooled: pd.DataFrame,
    cells: np.ndarray,
    chosen: tuple[int, int],
    titles: tuple[str, str],
) -> Figure:
    """One step of a synopsis: pictures and the chosen head's map of each text role above; what
    becomes of them below.

    pictures: {title: uint8 [y, x, rgb]}; maps: {text role: [y, x]}; shares: of the image tokens,
    [object, y, x], drawn as outlines; pooled: the chosen head's mass, image roles by text roles;
    cells: [layer, head, step], NaN for steps to come, of one image and text role. titles: of the
    figure, and of the cells.
    """
    # Margins by hand: a constrained layout takes longer than all the drawing.
    figure = plt.figure(figsize=(8.8, 4))
    above, below = figure.subfigures(2, 1, height_ratios=(1, 2.1))
    above.suptitle(titles[0], fontsize=9)
    axes = above.subplots(
        1, len(pictures) + len(maps), gridspec_kw={"left": 0, "right": 1, "bottom": 0, "top": 0.72}
    )
    for axis, (title, picture) in zip(axes, [*pictures.items(), *maps.items()], strict=True):
        if picture.ndim == 3:
            axis.imshow(picture, interpolation="nearest")
        else:
            attention_map(axis, picture, shares)
        axis.set_title(ROLE_NAMES.get(title, title), fontsize=8)
        axis.axis("off")
    margins = {"left": 0.09, "right": 1, "bottom": 0.24, "top": 0.9, "wspace": 0.16}
    bars, matrix, grid = below.subplots(1, 3, width_ratios=(1.15, 1.5, 0.75), gridspec_kw=margins)
    left = np.zeros(len(pooled))
    for role, mass in pooled.items():
        bars.barh(pooled.index, mass, left=left, color=ROLE_COLORS[role], label=ROLE_NAMES[role])
        left += mass
    bars.invert_yaxis()
    bars.set_xlim(0, 1)
    bars.set_title("pooled: mean mass per image token", fontsize=8)
    spacing = {"columnspacing": 0.8, "handlelength": 1.2, "handleheight": 1}
    bars.legend(ncols=4, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12), **spacing)
    layers, heads, steps = cells.shape
    lines, rows = {"edgecolors": INK, "linewidth": 0.3}, [f"L{layer}" for layer in range(layers)]
    heat_map(matrix, pd.DataFrame(cells.reshape(-1, steps)), **MASS, **lines)
    matrix.set_yticks(np.arange(layers) * heads + heads / 2, rows)
    matrix.set_xticks([0.5, steps - 0.5], [1, steps])
    matrix.set(xlabel="step")
    matrix.set_title(f"{titles[1]}: every head, step by step", fontsize=8)
    done = int(np.isfinite(cells[0, 0]).sum())
    means = pd.DataFrame(cells[..., :done].mean(-1), rows, [f"H{head}" for head in range(heads)])
    heat_map(grid, means, text="{:.2f}", **MASS, **lines)
    grid.set_title(f"mean of {done} step{'s' * (done > 1)}", fontsize=8)
    frame = {"fill": False, "ec": "#e4572e", "lw": 2, "clip_on": False}
    grid.add_patch(plt.Rectangle(chosen[::-1], 1, 1, **frame))
    matrix.add_patch(plt.Rectangle((done - 1, chosen[0] * heads + chosen[1]), 1, 1, **frame))
    for axis in (bars, matrix, grid):
        axis.tick_params(labelsize=8, length=0)
        axis.xaxis.label.set_size(8)
    return figure

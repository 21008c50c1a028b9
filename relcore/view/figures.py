"""Figures: functions from tables and pictures to matplotlib figures. Nothing is computed here.

Every figure has a transparent background and dark gray ink, so that it reads on a light page and a
dark one, and says which scale and encoder it shows.
"""

from __future__ import annotations  # pandas stands in signatures alone

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ..data.scenes import CANVAS
from ..files import replacing

if TYPE_CHECKING:
    import pandas as pd

GRID = 8  # image tokens along a side of every shipped model's picture
INK = "#5f5f5f"  # dark enough for the light panel that the dark theme puts behind pictures, too
METRIC_NAMES = {
    "color": "colour",
    "shape": "shape",
    "binding": "binding",
    "relation_strict": "relation, strict",
    "relation_loose": "relation, loose",
}
METRIC_COLORS = dict(
    zip(METRIC_NAMES, ("#4c9be8", "#e8a13c", "#4fb477", "#c77dff", "#e4572e"), strict=True)
)
GROUP_COLORS = ("#4c9be8", "#e8a13c", "#4fb477", "#e4572e", "#c77dff", "#9a9a9a")
# An arm has one colour in every figure; what has no name here takes the colours left over.
ARM_COLORS = dict(
    zip(("RTE", "e5-small", "MiniLM", "RTE without positions"), GROUP_COLORS, strict=False)
)
# The arms of seed 0 and what captions call their encoders; further seeds are called NAME-s1,
# NAME-s2, ...
ARMS = {
    "rte-micro": "RTE",
    "rte-nopos-micro": "RTE without positions",
    "e5-micro": "e5-small as contextual encoder",
    "minilm-micro": "MiniLM as contextual encoder",
}
ROLE_COLORS = {
    "color1": "#e4572e",
    "shape1": "#e8a13c",
    "relation": "#c77dff",
    "color2": "#4c9be8",
    "shape2": "#4fb477",
    "filler": "#9a9a9a",
    "special": "#6b6b6b",
}
ROLE_NAMES = {
    role: role.replace("color", "colour ").replace("shape", "shape ") for role in ROLE_COLORS
}


def style() -> None:
    """Set the book's look for all figures of a notebook."""
    import seaborn as sns

    sns.set_theme(
        context="notebook",
        style="ticks",
        rc={
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.titlesize": 11,
            "axes.labelsize": 10,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.dpi": 90,
            "savefig.dpi": 90,
        },
    )


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure on a white ground, for use outside the book, in one step."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight", facecolor="white")
    plt.close(figure)


def to_png(figure: Figure, colors: int = 64, dpi: float | None = None) -> bytes:
    """A figure as a PNG of few colours (a quarter of the size), transparent ground kept; closes
    it.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", dpi=dpi)
    plt.close(figure)
    image = Image.open(buffer).quantize(colors, method=Image.Quantize.FASTOCTREE)
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()


def show(figure: Figure, alt: str, **png):
    """A figure as a notebook's output, with a sentence as alt text; closes it. png: for
    `to_png`.
    """
    from IPython.display import Image  # of the extra "book"

    return Image(to_png(figure, **png), alt=alt)


def picture_png(picture: np.ndarray) -> bytes:
    """One picture, uint8 [y, x, rgb], enlarged fourfold by whole pixels, as a PNG."""
    buffer = io.BytesIO()
    large = picture.repeat(4, 0).repeat(4, 1)
    Image.fromarray(large).quantize(64).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def panelled(
    number: int, columns: int, size: tuple[float, float, float]
) -> tuple[Figure, np.ndarray]:
    """A figure of so many panels that share both axes, and its axes [row, column], the spare ones
    switched off.

    The lowest panel of each column has the numbers of x, also where a spare one is below it.

    size, in inches: the figure's width, the height of what stands around the rows, the height of a
        row.
    """
    (width, around, height), rows = size, -(-number // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, around + height * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[number:]:
        axis.axis("off")
    for axis in axes.flat[max(0, number - columns) : number]:
        axis.tick_params(labelbottom=True)
    return figure, axes


def heat_map(
    axis,
    table: pd.DataFrame,
    vmin: float,
    vmax: float,
    cmap: str,
    text: str | pd.DataFrame | None = None,
    size: float = 7,
    **mesh,
) -> None:
    """A table in colours from vmin to vmax, the first row above, with a text in each cell; NaN has
    neither.

    text: a format such as "{:.2f}", or a text a cell. mesh: for pcolormesh. (seaborn's heat map
        draws the whole figure
    again for every axis it fills: a minute for thirty panels.)
    """
    values = table.to_numpy(float)  # [row, column]
    cells = axis.pcolormesh(np.ma.masked_invalid(values), vmin=vmin, vmax=vmax, cmap=cmap, **mesh)
    axis.set(xlim=(0, values.shape[1]), ylim=(values.shape[0], 0))
    axis.set_xticks(np.arange(values.shape[1]) + 0.5, table.columns)
    axis.set_yticks(np.arange(values.shape[0]) + 0.5, table.index)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    if text is None:
        return
    texts = table.map(text.format) if isinstance(text, str) else text
    # Relative luminance.
    light = cells.cmap(cells.norm(values))[..., :3] ** 2.2 @ (0.2126, 0.7152, 0.0722) > 0.4
    for (y, x), word in np.ndenumerate(texts.to_numpy()):
        if np.isfinite(values[y, x]):
            color = "#262626" if light[y, x] else "white"
            axis.text(
                x + 0.5,
                y + 0.5,
                word,
                size=size,
                color=color,
                ha="center",
                va="center",
                in_layout=False,
            )


def picture_grid(
    pictures: np.ndarray, titles: list[str], columns: int = 4, width: float = 1.5
) -> Figure:
    """Pictures, uint8 [picture, y, x, rgb], in rows of `columns`, with a title each."""
    titles = [textwrap.fill(title, int(12 * width)) for title in titles]
    rows, lines = -(-len(pictures) // columns), max(title.count("\n") + 1 for title in titles)
    size = (width * columns, (width + 0.13 * lines + 0.1) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, title in zip(axes.flat, pictures, titles, strict=False):
        axis.imshow(picture, extent=(0, CANVAS, CANVAS, 0), interpolation="nearest")
        axis.set_title(title, fontsize=7)
    return figure


def token_grid(axis) -> None:
    """Draw the borders of the image tokens over a picture."""
    for k in range(GRID + 1):
        axis.axhline(k * CANVAS / GRID, color="white", lw=0.5, alpha=0.7)
        axis.axvline(k * CANVAS / GRID, color="white", lw=0.5, alpha=0.7)


def detections(
    pictures: np.ndarray, objects: list[list], titles: list[str], columns: int = 4
) -> Figure:
    """Pictures with the image tokens' grid and, for each detected object, its box, centre and name.

    objects: one list of (name, x, y, (left, top, width, height)) a picture, in canvas units.
    """
    figure = picture_grid(pictures, titles, columns, width=2.1)
    for axis, found in zip(figure.axes, objects, strict=False):
        token_grid(axis)
        for rank, (name, x, y, (left, top, width, height)) in enumerate(
            sorted(found, key=lambda one: one[2])
        ):
            axis.add_patch(
                plt.Rectangle((left, top), width, height, fill=False, ec="yellow", lw=1.5)
            )
            axis.plot(x, y, "+", color="yellow", ms=7)
            # The highest is named above its box and the others below, if there is room: names do
            # not meet then.
            above = top > 12 and (rank == 0 or top + height > 116)
            at, side = (top - 1, "bottom") if above else (top + height + 1, "top")
            axis.text(x, at, name, ha="center", va=side, color="yellow", fontsize=7)
    return figure


def palette(groups: list[str]) -> dict[str, str]:
    """A colour for every group: its arm's, darker for each variant of that arm ("RTE, mini"), or
    the next left over.
    """
    arms = [group.split(", ")[0] for group in groups]
    rest = [color for color in GROUP_COLORS if color not in {ARM_COLORS.get(arm) for arm in arms}]
    colors = {}
    for i, (group, arm) in enumerate(zip(groups, arms, strict=True)):
        shade = 0.6 ** arms[:i].count(arm)
        colors[group] = (
            to_hex(shade * np.array(to_rgb(ARM_COLORS[arm]))) if arm in ARM_COLORS else rest.pop(0)
        )
    return colors


def shares(
    table: pd.DataFrame,
    x: str,
    hue: str,
    marks: pd.DataFrame | None = None,
    ylabel: str = "share",
    mark_label: str = "paper",
    level: float | None = None,
) -> Figure:
    """Bars of `share` with intervals (low, high; NaN for none) by x and hue; marks: the paper's
    values, as dashes.

    marks: columns x and share, and hue where the mark belongs to one group only. level: a dotted
        line across.
    """
    order, groups = list(table[x].unique()), list(table[hue].unique())
    figure, axis = plt.subplots(figsize=(8, 3.2))
    width = 0.8 / len(groups)
    spot = {
        g: np.arange(len(order)) + (i - (len(groups) - 1) / 2) * width for i, g in enumerate(groups)
    }
    for group, color in palette(groups).items():
        # A group without some x leaves a gap there.
        rows = table[table[hue] == group].set_index(x).reindex(order)
        error = np.abs(np.stack([rows.share - rows.low, rows.high - rows.share]))
        axis.bar(
            spot[group], rows.share, 0.92 * width, yerr=error, color=color, ecolor=INK, label=group
        )
    for k, mark in enumerate(() if marks is None else marks.itertuples()):
        at = spot[getattr(mark, hue)] if hue in marks else np.arange(len(order))
        half = (width if hue in marks else 0.8) / 2
        centre = at[order.index(getattr(mark, x))]
        axis.hlines(
            mark.share,
            centre - half,
            centre + half,
            color=INK,
            lw=2,
            label=mark_label if k == 0 else None,
        )
    if level is not None:
        axis.axhline(level, color=INK, ls=":", lw=1)
    axis.set_xticks(range(len(order)), order, fontsize=9)
    axis.set(ylabel=ylabel, xlabel=None)
    axis.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    figure.tight_layout()
    return figure


def dots(
    table: pd.DataFrame,
    y: str,
    hue: str,
    marks: pd.DataFrame | None = None,
    *,
    xlabel: str = "share",
    mark_label: str = "paper",
    levels: dict[str, float] | None = None,
    colors: dict[str, str] | None = None,
) -> Figure:
    """Dots of `value` with intervals (low, high; NaN for none), a line a `y`, a colour a `hue`.

    marks: the paper's values, columns y, hue and value, as short dashes in the hue's lane. levels:
        dotted lines.
    """
    lines, groups = list(dict.fromkeys(table[y])), list(dict.fromkeys(table[hue]))
    size = (8.2, 0.9 + 0.13 * (len(groups) + 1) * len(lines))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    for k in range(0, len(lines), 2):
        axis.axhspan(k - 0.5, k + 0.5, color=INK, alpha=0.07, lw=0)
    step = 0.8 / len(groups)
    for i, (group, color) in enumerate((colors or palette(groups)).items()):
        rows, lane = table[table[hue] == group], (i - (len(groups) - 1) / 2) * step
        place = rows[y].map(lines.index) + lane
        axis.hlines(place, rows.low, rows.high, color=color, lw=1.5, alpha=0.7)
        axis.scatter(rows.value, place, 16, color, label=group, zorder=3)
        if marks is not None:
            theirs = marks[marks[hue] == group]
            at = theirs[y].map(lines.index).astype(float) + lane  # float: a group may have no marks
            axis.vlines(theirs.value, at - step / 2, at + step / 2, color=INK, lw=2, zorder=4)
    if marks is not None:
        axis.plot([], [], color=INK, lw=2, label=mark_label)
    for label, level in (levels or {}).items():
        axis.axvline(level, color=INK, ls=":", lw=1, label=label)
    axis.set_yticks(range(len(lines)), lines, fontsize=9)
    axis.tick_params(axis="y", length=0)
    axis.set(ylim=(len(lines) - 0.5, -0.5), xlabel=xlabel)
    figure.legend(*axis.get_legend_handles_labels(), ncols=4, loc="outside upper center")
    return figure


def named_dots(
    table: pd.DataFrame,
    xlabel: str,
    ylabel: str,
    *,
    columns: int = 3,
    marks: tuple[float, float] | None = None,
) -> Figure:
    """Dots x, y, with intervals (low, high) if the table has them; marks: dotted lines at an x and
    a y.

    One panel a `panel` and one colour a `group`, where the table has these columns. `named`:
    whether a dot's `label` stands beside it, or beside the highest of those that share it; without
    that column dots are heads, called by layer and head.
    """
    table = table.assign(**{name: "" for name in ("panel", "group") if name not in table})
    if "label" not in table:
        table = table.assign(label="L" + table.layer.astype(str) + "H" + table["head"].astype(str))
    panels, groups = list(dict.fromkeys(table.panel)), list(dict.fromkeys(table.group))
    columns = min(columns, len(panels))
    middle, gap, line = (
        (table.x.min() + table.x.max()) / 2,
        0.04 * np.ptp(table.x),
        0.08 * np.ptp(table.y),
    )
    size = (6.4, 0, 3.6) if len(panels) == 1 else (2.8 * columns, 0.6, 2.4)
    lead = {"arrowstyle": "-", "lw": 0.5, "color": INK, "shrinkA": 0, "shrinkB": 2}
    figure, axes = panelled(len(panels), columns, size)
    for axis, panel in zip(axes.flat, panels, strict=False):
        # Free: no name stands above it.
        mine, free = table[table.panel == panel], {True: -np.inf, False: -np.inf}
        for group, color in palette(groups).items():
            dots_ = mine[mine.group == group]
            if "low" in dots_:
                axis.vlines(dots_.x, dots_.low, dots_.high, color=color, lw=1.5, alpha=0.6)
            axis.scatter(dots_.x, dots_.y, 18, color, alpha=0.8, label=group, zorder=3)
        for dot in (
            mine[mine.named]
            .sort_values("y", kind="stable")
            .drop_duplicates("label", keep="last")
            .itertuples()
        ):
            left = dot.x > middle
            free[left] = max(free[left] + line, dot.y)
            axis.annotate(
                dot.label,
                (dot.x, dot.y),
                (dot.x + (-gap if left else gap), free[left]),
                fontsize=7,
                va="center",
                ha="right" if left else "left",
                arrowprops=lead,
            )
        for draw, level in zip((axis.axvline, axis.axhline), marks or (), strict=False):
            draw(level, color=INK, ls=":", lw=1)
        axis.set_title(panel, fontsize=9)
    figure.supxlabel(xlabel, fontsize=10, color=INK)
    figure.supylabel(ylabel, fontsize=10, color=INK)
    if len(groups) > 1:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=4, loc="outside upper center")
    return figure


def curves(
    table: pd.DataFrame,
    hue: str,
    col: str | None = None,
    colors: dict[str, str] | None = None,
    *,
    x: str = "samples",
    xlabel: str = "samples seen (thousands)",
    ylabel: str = "share",
    marks: dict[str, float] | None = None,
    ylim: tuple | None = (-0.02, 1.02),
    unit: str | None = None,
) -> Figure:
    """Lines of `value` with bands (low, high) over x, one colour a hue, one panel a col; samples in
    thousands.

    unit: a column whose values (runs, say) get a line each, without bands.
    marks: {label: level}, drawn as dotted horizontal lines in every panel.
    """
    panels, groups = (
        list(dict.fromkeys(table[col])) if col else [""],
        list(dict.fromkeys(table[hue])),
    )
    shown = colors or palette(groups)
    # A page is about three panels wide.
    columns = 2 if len(panels) % 4 == 0 else min(len(panels), 3)
    figure, axes = panelled(len(panels), columns, (max(5, 3.4 * columns), 0, 3.2))
    for axis, panel in zip(axes.flat, panels, strict=False):
        for group in groups:
            mine = table[
                (table[hue] == group) & (table[col] == panel if col else True)
            ].sort_values(x)
            lines = [line for _, line in mine.groupby(unit)] if unit else [mine]
            for k, line in enumerate(lines):
                at, label = line[x] / (1000 if x == "samples" else 1), group if k == 0 else None
                axis.plot(at, line.value, "o-", ms=3, lw=1.5, color=shown[group], label=label)
                if not unit:
                    axis.fill_between(at, line.low, line.high, color=shown[group], alpha=0.2, lw=0)
        for label, level in (marks or {}).items():
            axis.axhline(level, color=INK, ls=":", lw=1)
            axis.annotate(
                label,
                (1, level),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=8,
            )
        axis.set_title(panel)
        axis.set_ylim(ylim)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supxlabel(xlabel, fontsize=10, color=INK)
    axes[0, 0].set_ylabel(ylabel)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=min(3, len(groups)), loc="outside upper center")
    return figure


def strips(files: dict[str, Path]) -> Figure:
    """Stored strips of pictures one above the other, each with its label."""
    figure, axes = plt.subplots(
        len(files), 1, figsize=(8, 1.1 * len(files)), squeeze=False, layout="constrained"
    )
    for axis, (label, file) in zip(axes.flat, files.items(), strict=True):
        strip = Image.open(file).convert("RGB")
        axis.imshow(strip, interpolation="nearest")
        for edge in range(strip.height, strip.width, strip.height):  # the pictures are square
            axis.axvline(edge - 0.5, color="white", lw=1)
        axis.set_title(label, fontsize=8, loc="left")
        axis.axis("off")
    return figure


def matrices(
    tables: dict[str, pd.DataFrame], label: str = "cosine", low: float = -1, numbers: bool = False
) -> Figure:
    """Square tables beside each other, each with its title, on one scale from `low` (-1 or 0)
    to 1.
    """
    size = (1 + (4 if numbers else 2.7) * len(tables), 4.2 if numbers else 3.3)
    figure, axes = plt.subplots(
        1, len(tables), figsize=size, squeeze=False, sharey=True, layout="constrained"
    )
    for axis, (title, table) in zip(axes[0], tables.items(), strict=True):
        heat_map(
            axis, table, low, 1, "RdBu_r" if low else "viridis", "{:.1f}" if numbers else None, 8
        )
        axis.set_aspect("equal")
        axis.set(xlabel=table.columns.name, ylabel=table.index.name if axis is axes[0, 0] else None)
        axis.tick_params(labelsize=8 if numbers else 7)
        axis.tick_params(axis="x", labelrotation=90)
        axis.set_title(title, fontsize=9)
    figure.colorbar(axes[0, 0].collections[0], ax=axes, shrink=0.6, label=label)
    return figure

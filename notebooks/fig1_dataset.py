# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,mystnb,-all
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext,-all
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Figure 1: the controlled set-up
#
# How does a sentence such as "red square is above blue circle" come to decide where things stand in
# a picture?
# To take that apart one needs a task where everything but the relation is held still. The paper
# {cite:p}`wang2026circuit`
# uses pictures of exactly **one red and one blue object of different shapes**, on gray, and
# captions that say how the first
# stands to the second. This chapter builds that world: the scenes, the captions, and the scorer
# that later decides whether
# a generated picture obeys its prompt.
#
# **What is shown here.** (1) Scenes of the eight relations. (2) Two generators: ours, which is
# balanced and free of overlap,
# and the paper's, which is not. (3) The grammar of the prompts and the role of each word. (4) The
# scorer at work on pictures
# whose truth is known, with the 8 x 8 image tokens through which the network will see them, and the
# ceiling this puts on every accuracy of the book.

# %% tags=["parameters", "hide-input"]
quick = True  # fewer scenes; the statistics below keep their meaning, with wider intervals

# %% tags=["hide-input"]
import html

import ipywidgets as w
import numpy as np
import pandas as pd
from IPython.display import HTML, display

from relcore.data import prompts, scenes, scoring
from relcore.model.evaluation import ground_truth
from relcore.view import controls, figures

figures.style()
n = 2000 if quick else 20000
rng = np.random.default_rng(0)

# %% [markdown]
# ## Eight relations
#
# The relation is a rule on the two centres: at most 5 units apart along one axis (the canvas
# has 128) counts as aligned,
# and then the first object is *above*, *below*, *left* or *right* of the second; otherwise it is
# one of four diagonals.
# Below, eight scenes a row with their captions. The first-mentioned object is the one the relation
# speaks of.

# %% mystnb={"figure": {"caption": "Two scenes of each relation, from the separated generator, with their captions (canonical phrases). 64 x 64 pixels, enlarged. The network is trained on pictures exactly like these.", "name": "fig-scenes"}}
relations = np.repeat(np.arange(8), 2)
batch = scenes.sample_scenes(16, rng, relations=relations)
captions = prompts.caption(batch, rng, "canonical")
figures.show(
    figures.picture_grid(scenes.render(batch), captions, columns=8),
    "Sixteen gray squares, two for each of the eight relations, each with one red and one blue "
    "object of different shapes that stand as the caption above says.",
)

# %% [markdown]
# ### Build one yourself
#
# Pick the colours, the shapes and the relation. The menus work on this page as it is; with a
# running kernel you can type any prompt of the grammar as well.

# %% tags=["hide-input"]
COLOR_ORDERS = {"red, then blue": (0, 1), "blue, then red": (1, 0)}
SHAPE_PAIRS = {
    f"{a}, {b}": (i, j)
    for i, a in enumerate(scenes.SHAPES)
    for j, b in enumerate(scenes.SHAPES)
    if i != j
}


def draw(colors, shapes, relation):
    """One scene of this kind, always with the same random position."""
    index = np.array([scenes.RELATIONS.index(relation)])
    center = scenes.place(index, np.random.default_rng(7))
    kind = scenes.Scenes(np.array([colors]), np.array([shapes]), center, index)
    return figures.picture_png(scenes.render(kind)[0])


controls.grid(
    lambda colours, shapes, relation: draw(COLOR_ORDERS[colours], SHAPE_PAIRS[shapes], relation),
    colours=list(COLOR_ORDERS),
    shapes=list(SHAPE_PAIRS),
    relation=scenes.RELATIONS,
    alt="One red and one blue object on gray, of the chosen shapes and in the chosen relation.",
)


# %% tags=["hide-input"]
def draw_prompt(prompt):
    """The scene that a typed prompt describes; an unnamed colour is the one left over."""
    read = prompts.parse(prompt)
    first = read.colors[0] if read.colors[0] >= 0 else 1 - max(read.colors[1], 0)
    return draw((first, 1 - first), read.shapes, scenes.RELATIONS[read.relation])


controls.live(
    draw_prompt,
    prompt=w.Text(
        "blue triangle is diagonally up and left from red circle", continuous_update=False
    ),
    alt="One red and one blue object on gray, as the typed prompt describes them.",
)

# %% [markdown]
# ## Two generators
#
# The paper draws both positions independently. That has three side effects: diagonals make up four
# fifths of the data, three
# pictures in ten have overlapping objects, and the second-mentioned object then hides part of the
# first. Our default generator draws
# the same world with the relations balanced and no overlap, so that no later result can be an
# effect of the imbalance.
# Both are kept; the paper's statistics are checked here.

# %% tags=["hide-input"]
PAPER_SHARE = dict.fromkeys(scenes.RELATIONS, 0.197) | {
    "above": 0.055,
    "below": 0.057,
    "left": 0.050,
    "right": 0.050,
}
rows, overlap = [], {}
for generator in scenes.GENERATORS:
    drawn = scenes.sample_scenes(10 * n, rng, generator)
    gap = abs(drawn.centers[:, 0] - drawn.centers[:, 1]).max(1)
    overlap[generator] = (gap < 2 * scenes.RADIUS).mean()
    for r, relation in enumerate(scenes.RELATIONS):
        hits = (drawn.relations == r).sum()
        low, high = scoring.wilson(hits, len(drawn))
        rows.append(
            {
                "relation": relation,
                "generator": generator,
                "share": hits / len(drawn),
                "low": low,
                "high": high,
            }
        )
frequencies = pd.DataFrame(rows)

# %% mystnb={"figure": {"caption": "How often each relation occurs, by generator, 20 000 scenes each, with 95 % intervals. Dark lines: the paper's generator as its authors' code draws it (.197 for a diagonal, .05 to .06 for the rest).", "name": "fig-frequencies"}}
paper = pd.DataFrame(
    [{"relation": r, "generator": "paper", "share": s} for r, s in PAPER_SHARE.items()]
)
figures.show(
    figures.shares(
        frequencies,
        "relation",
        "generator",
        paper,
        ylabel="share of scenes",
        mark_label="the paper's own code",
    ),
    "Bars of how often each relation occurs: all eight alike with the separated generator, and "
    "with the paper's each diagonal far more often than above, below, left or right.",
)

# %% tags=["nbval-check-output"]
diagonal = frequencies[frequencies.relation.str.contains(" ")].groupby("generator").share.mean()
print(
    f"share of one diagonal: paper {diagonal['paper']:.2f}, separated {diagonal['separated']:.2f}"
)
print(
    f"scenes whose boxes overlap: paper {overlap['paper']:.2f}, separated "
    f"{overlap['separated']:.2f}"
)

# %% [markdown]
# ## The prompts
#
# A caption is `COLOUR SHAPE is PHRASE COLOUR SHAPE`. There are eight *canonical* phrases, one a
# relation, and 22 in all: the
# paper's. The paper also drops each colour word with probability one half. Every word has a
# **role**, found by its place in
# the sentence and not by its token number, so that roles hold for any tokenizer:

# %% tags=["hide-input"]
EXAMPLES = [
    "red square is above blue circle",
    "blue triangle is diagonally up and left from red circle",
    "square is to the right of blue triangle",
    "the red circle is lower than the blue square",
    "to the left of blue circle is red triangle",
]


def with_roles(prompt):
    """The prompt as HTML, each word underlined in its role's colour and named below."""
    spans = prompts.parse(prompt).spans
    word = '<span style="display:inline-block;text-align:center;margin:0 .35em"><span style="border-bottom:3px solid {color}">{word}</span><br><small style="opacity:.7">{role}</small></span>'
    return "".join(
        word.format(color=figures.ROLE_COLORS[role], word=html.escape(prompt[start:end]), role=role)
        for start, end, role in spans
    )


display(HTML("<br>".join(f"<div>{with_roles(prompt)}</div>" for prompt in EXAMPLES)))

# %% [markdown]
# The last two are *perturbed* prompts: articles before both objects, a reversed order. Only
# e5-templates-micro is trained on the first of them, no model on the second; they are for
# tests of robustness ({doc}`fig8_robustness`). The 22 phrases:

# %% tags=["hide-input"]
pd.DataFrame(
    [
        {"relation": r, "canonical": p[0], "others": "; ".join(p[1:])}
        for r, p in prompts.PHRASES.items()
    ]
).style.hide()

# %% tags=["nbval-check-output"]
words = {word for prompt in prompts.suite(prompts.PHRASES) for word in prompt.split()}
print(f"{sum(map(len, prompts.PHRASES.values()))} phrases, {len(words)} words")
print(
    f"closed suites: {len(prompts.suite())} canonical prompts, "
    f"{len(prompts.suite(prompts.PHRASES))} with every phrase"
)

# %% [markdown]
# ## The scorer, and its ceiling
#
# Whether a picture obeys its prompt is decided by a program, the paper's: threshold each colour
# channel, find the outlines,
# name a shape by the corners of its polygon, and compare box centres. Five verdicts, from easy to
# hard:
#
# | metric | true when |
# |---|---|
# | colour | both colours are somewhere in the picture |
# | shape | both shapes are somewhere |
# | binding | exactly one object has the first colour *and* shape, exactly one the second |
# | relation, strict | bound, and the 5-unit rule gives exactly the prompt's relation, one of eight |
# | relation, loose | bound, and each direction the prompt names holds by more than 5 units |

# %% mystnb={"figure": {"caption": "The scorer on true pictures of the paper's generator (128 pixels): boxes, centres and names of what it found; thin lines are the borders of the 8 x 8 image tokens. In the second row objects overlap: the hidden one's box may shrink, which moves its centre, and in the last picture it is misread, a square as a circle.", "name": "fig-scorer"}}
drawn = scenes.sample_scenes(400, np.random.default_rng(3), "paper")
gap = abs(drawn.centers[:, 0] - drawn.centers[:, 1]).max(1)
chosen = np.concatenate([np.flatnonzero(gap > 40)[:4], np.flatnonzero(gap < 20)[:4]])
pictures = scenes.render(drawn, 128)[chosen]
texts = np.array(prompts.caption(drawn, np.random.default_rng(3), "canonical"))[chosen]
found = [scoring.detect(p) for p in pictures]
boxes = [
    [(name, o.x, o.y, o.bounds) for name, o in zip(scoring.describe(f), f, strict=True)]
    for f in found
]
figures.show(
    figures.detections(pictures, boxes, list(texts)),
    "Eight true scenes under the grid of image tokens, with the boxes, centres and names that the "
    "scorer found; in the lower row objects overlap, boxes shrink, and in the last picture a "
    "square is taken for a circle.",
)

# %% [markdown]
# Run on true pictures, the scorer shows what it can see at best. On the paper's data that is well
# below one, since objects
# hide each other: an accuracy of .84 there, which the paper calls near-perfect, is about .97 of
# what is attainable.
# On the separated generator the scorer reads every picture right, at 64 and at 128 pixels.

# %% tags=["hide-input"]
PAPER_CEILING = {
    "color": 0.989,
    "shape": 0.886,
    "binding": 0.886,
    "relation_strict": 0.858,
    "relation_loose": 0.873,
}
kinds = {
    "separated, 64 px": ("separated", 64),
    "separated, 128 px": ("separated", 128),
    "paper, 128 px": ("paper", 128),
}
tables = {name: scoring.summarise(ground_truth(n, *kind)) for name, kind in kinds.items()}
ceilings = pd.DataFrame(
    [
        {
            "metric": figures.METRIC_NAMES[metric],
            "data": name,
            "share": m["value"],
            "low": m["low"],
            "high": m["high"],
            "n": m["n"],
        }
        for name, table in tables.items()
        for metric, m in table.items()
    ]
)

# %% mystnb={"figure": {"caption": "The ceiling: what the scorer gives the truth itself, 2000 scenes a generator, with 95 % intervals. Dark lines: the ceiling of the paper's generator under a re-implementation of the authors' evaluator (n = 6000).", "name": "fig-ceiling"}}
marks = pd.DataFrame(
    [
        {"metric": figures.METRIC_NAMES[m], "data": "paper, 128 px", "share": s}
        for m, s in PAPER_CEILING.items()
    ]
)
figures.show(
    figures.shares(
        ceilings,
        "metric",
        "data",
        marks,
        ylabel="share judged right",
        mark_label="paper, re-implemented",
    ),
    "Bars of what the scorer gives the truth itself on five metrics: everything on the separated "
    "generator at either size, and on the paper's nearly all colours but visibly less of shapes, "
    "binding and relation.",
)

# %% tags=["nbval-check-output"]
for name, table in tables.items():
    print(
        f"{name}: "
        + ", ".join(f"{metric} {m['value']:.2f}" for metric, m in table.items())
        + f" (n = {table['color']['n']})"
    )

# %% [markdown]
# ## What differs from the paper
#
# - Pictures are 64 pixels wide and the network works on pixels; the paper's are 128 wide and pass
#   through a pretrained
#   autoencoder. The geometry in units of the canvas is the same, and so is the number of image
#   tokens: 64, each an eighth of
#   the canvas wide.
# - The default generator is balanced and without overlap, and its centres lie on a grid of 8 units:
#   aligned objects are
#   exactly aligned and others differ by 8 units or more, so no scene hangs on the 5-unit rule by
#   less than a pixel's error.
#   The paper's positions are any whole numbers. Read every accuracy of this book against a ceiling
#   of 1, and the
#   paper's against the dark lines above.
# - Triangles of the default generator are centred on their bounding box, as the scorer measures
#   them; the paper labels a
#   point that lies some units above, which costs its strict metric a few points even on the truth.

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
# # Figure 2: learning to place things
#
# What does a diffusion transformer learn first, what decides when it learns the relation, and does
# the text encoder matter? The paper
# trains its models for 160 000 steps of 256 pictures on one H100 (41 million pictures; ours see 192
# thousand, one two-hundredth) and finds a fixed order: colours, then shapes, then which colour
# belongs
# to which shape (*binding*), then the relation, which jumps up last, and later with random
# embeddings than with T5 {cite:p}`wang2026circuit`.
#
# **What is shown here.** (1) The accuracies and pictures of a model small enough to train on a
# laptop, as it learns. (2) The same recipe
# with four text encoders: random token embeddings with and without positions, and two pretrained
# contextual ones. (3) That "the relation
# comes last" depends on how training is spread over noise levels. (4) When the text is heard, and
# what that decides. (5) What the paper's captions
# cost. (6) Muon against AdamW. (7) How guidance is best spent (it draws the text's part of every
# step several times as strong), and how few steps do. (8) Where the models stand in the end, with
# intervals, beside the paper's. (9) Smaller and larger networks.
#
# Scale of every figure but the last two, which compare sizes: **micro** (6 layers, width 192, 3
# heads; the paper's size of that name), 64-pixel pictures of the separated generator.
# Encoders: **RTE** (random token embeddings), **e5-small** and **MiniLM** as contextual encoders;
# none of them is the paper's T5-XXL. All numbers come
# from the tables in `results/`, written by the training runs and evaluations themselves, or from
# the cells below; the cell at the end draws fresh
# pictures and checks them against those tables.

# %% tags=["parameters", "hide-input"]
quick = True  # the check at the end: 24 fresh pictures a model, or 264

# %% tags=["hide-input"]
from functools import partial

import numpy as np
import pandas as pd
import torch

from relcore.data import prompts, scenes, scoring
from relcore.data.encoders import make_encoder
from relcore.model.checkpoints import load_model, manifest
from relcore.model.diffusion import (
    RectifiedFlow,
    fast_precision,
    guided,
    initial_noise,
    sample_dpm,
    to_pixels,
    to_signal,
)
from relcore.model.dit import PRESETS, DiT
from relcore.model.evaluation import evaluate, reached, resumable, training_curve
from relcore.paths import RESULTS
from relcore.view import controls, figures

figures.style()
ARMS = {
    "rte-micro": "RTE",
    "rte-nopos-micro": "RTE without positions",
    "e5-micro": "e5-small",
    "minilm-micro": "MiniLM",
    "rte-unshifted-micro": "RTE, usual noise levels",
    "paper-captions": "RTE, the paper's captions",
    "e5-paper-micro": "e5-small, the paper's captions",
    "adamw": "RTE, AdamW alone",
    "rte-small-caption-init": "RTE, caption MLP initialised small",
    "rte-nano": "RTE, nano",
    "e5-nano": "e5-small, nano",
    "rte-mini": "RTE, mini",
    "e5-mini": "e5-small, mini",
    "e5-mini-collapsed": "e5-small, mini, first run",
    "e5-slow-micro": "e5-small, slow caption MLP",
}
SHAPE_TO_RELATION = ("shape", "binding", "relation_loose")
COLOR_TO_RELATION = ("color", *SHAPE_TO_RELATION)


def runs_of(arm):
    """The runs of an arm: seed 0, and NAME-s1, NAME-s2, ... where there are more."""
    return [arm, *sorted(p.name for p in (RESULTS / "training").glob(f"{arm}-s[0-9]*"))]


curve = pd.concat(
    [training_curve(run).assign(arm=label) for arm, label in ARMS.items() for run in runs_of(arm)]
)
shares = curve[curve.metric != "loss"]
seeds = shares.groupby("arm").seed.nunique()


def arms(names, metrics=COLOR_TO_RELATION, suite="canonical", last=None):
    """The accuracies of these arms' runs with seed 0."""
    labels = [ARMS[name] for name in names]
    rows = shares[shares.run.isin(names) & shares.metric.isin(metrics)]
    rows = rows[(rows.suite == suite) & (rows.samples <= (last or rows.samples.max()))]
    order = [*labels, *figures.METRIC_NAMES]
    rows = rows.sort_values(
        by=["metric", "arm"],
        key=lambda column: column.map({name: i for i, name in enumerate(order)}),
    )
    return rows.assign(metric_name=rows.metric.map(figures.METRIC_NAMES))


print("seeds of each arm", *(f"{label}: {seeds[label]}" for label in ARMS.values()), sep="\n")

# %% [markdown]
# ## The order of learning
#
# Every 8 thousand training pictures the model (its running average, as it would be shipped) draws
# 96 prompts with the eight
# canonical phrases, and 96 that spread over all 22. All 22 phrases are in training from the start.

# %% mystnb={"figure": {"caption": "The five accuracies of rte-micro against training pictures seen, on prompts with canonical phrases and with all 22 phrases (96 pictures a point, 14 steps, guidance 2 throughout). Seed 0; bands are 95 % intervals. Micro scale, random token embeddings.", "name": "fig-order"}}
rte = pd.concat([arms(["rte-micro"], scoring.METRICS, suite) for suite in ("canonical", "phrases")])
rte = rte.assign(
    suite=rte.suite.map({"canonical": "canonical phrases", "phrases": "all 22 phrases"})
)
colors = {figures.METRIC_NAMES[m]: c for m, c in figures.METRIC_COLORS.items()}
figures.show(
    figures.curves(rte, "metric_name", "suite", colors),
    "Two panels of accuracy against pictures seen, with canonical and with all phrases, much "
    "alike: colour is there first, shape, binding and loose relation then rise nearly together, "
    "the relation last, and the strict relation stays far behind.",
)

# %% [markdown]
# Colours come first. Shape, binding and relation then rise nearly together: rte-micro (seed 0)
# reaches one half in all three after 56 thousand pictures. The relation still comes last: its
# shape and binding reach .95 after 112 thousand pictures and its loose relation never does on these
# curves (of the other seeds of RTE, seed 2 does, after 176); e5-micro (seed 0) takes 192 thousand,
# against 152 for shape and 176 for
# binding, and its four other seeds do not get there. But the gap is small, and the shapes take most
# of the time. The strict relation stays behind, as it also asks that "above" be in line, to within
# 5 units to
# either side. The cell below has every run, with the minutes of training on whatever trained it:
# one core with bf16 units mostly, one or two without, beside other work, for e5-micro-s4,
# minilm-micro-s2, rte-nopos-micro-s1 and e5-nano.

# %% tags=["nbval-check-output", "hide-output"]
TRAINED = ["rte-micro", "e5-micro", "minilm-micro", "rte-nopos-micro"]
times = reached(
    shares[
        shares.arm.isin([ARMS[a] for a in (*TRAINED, "rte-nano", "e5-nano", "rte-mini", "e5-mini")])
        & (shares.suite == "canonical")
    ]
)
times["shown"] = [
    "-" if np.isnan(row.samples) else f"{row.samples / 1000:.0f} ({row.minutes:.0f} min)"
    for row in times.itertuples()
]
print(
    "thousand pictures (minutes of training, without the evaluations) to one half and to .95, "
    "canonical prompts; - where it is not reached"
)
for run in times.run.unique():
    mine = times[times.run == run].set_index(["metric", "level"]).shown
    print(
        f"{run}: "
        + ", ".join(
            f"{name} {mine[m, 0.5]} and {mine[m, 0.95]}" for m, name in figures.METRIC_NAMES.items()
        )
    )

# %% mystnb={"figure": {"caption": "The training loss of the four arms (mean squared error of the velocity that the network predicts, the picture less the noise), averaged over each 8 thousand pictures, a line a seed. Micro scale; RTE with and without positions, e5-small, MiniLM.", "name": "fig-loss"}}
losses = curve[(curve.metric == "loss") & curve.arm.isin([ARMS[a] for a in TRAINED])]
loss = (
    pd.concat([losses[losses.arm == ARMS[name]] for name in TRAINED])
    .assign(panel="velocity loss")
    .query("samples > 8000")
)
figures.show(
    figures.curves(loss, "arm", "panel", ylabel="velocity loss", ylim=None, unit="run"),
    "The training loss of all runs falls steeply at first and slowly later, with little between "
    "the encoders; one run of MiniLM and one of e5-small jump up on the way and come back.",
)

# %% [markdown]
# The same eight prompts with the same noise, as training goes on, with two encoders. From left to
# right: red square above blue triangle, blue triangle below red circle, red circle to the left of
# blue square, blue square to the right of red triangle, red triangle to the upper left of blue
# circle, blue circle to the upper right of red square, red square to the lower left of blue
# triangle, blue
# triangle to the lower right of red circle. Press play.

# %% tags=["hide-input"]
STRIPS = {ARMS[name]: RESULTS / "training" / name / "frames" for name in ("rte-micro", "e5-micro")}
moments = sorted(file.name for file in STRIPS["RTE"].glob("*.png"))[2::3]  # every 24 thousand
controls.frames(
    lambda moment: figures.to_png(
        figures.strips({label: folder / moment for label, folder in STRIPS.items()})
    ),
    moments,
    "samples",
    [f"{int(moment.split('.')[0]) // 1000} thousand pictures" for moment in moments],
    alt="Eight pictures in a row for either encoder, the same prompts from the same noise, after more and more training pictures: blurs become two clear objects in their places.",
)

# %% [markdown]
# ## Four encoders, one task
#
# Same captions, same scenes in the same order, same recipe; only the text encoder differs.
# **e5-small** mixes the relation strongly into the words of
# the shapes, **MiniLM** weakly (the chapter on text fusion measures how much); RTE not at all.
# Without positions RTE is a bag of words: "red square above
# blue circle" and "blue circle above red square" are the same input, and so are "red square ...
# blue circle" and "blue square ... red circle".
# A network that draws two right shapes in two right colours can then do no better than one half on
# binding, and half of that again on the relation.

# %% mystnb={"figure": {"caption": "Training with four text encoders, a line a seed: canonical prompts, 96 pictures a point (95 % intervals are up to .1 either way), 14 steps, guidance 2 throughout. RTE without positions, seed 1, over half as many pictures. Micro scale.", "name": "fig-encoders"}}
every = pd.concat(
    [
        shares[
            (shares.arm == ARMS[name]) & (shares.suite == "canonical") & (shares.metric == m)
        ].assign(metric_name=figures.METRIC_NAMES[m])
        for m in COLOR_TO_RELATION
        for name in TRAINED
    ]
)
figures.show(
    figures.curves(every, "arm", "metric_name", unit="run"),
    "Four panels of accuracy against pictures seen, a line a run: most runs of RTE, e5-small and "
    "MiniLM rise to the top, while two runs of RTE stay at the bottom in binding and relation, "
    "with the control without positions.",
)

# %% [markdown]
# **Whether RTE learns is a matter of luck.** With seeds 0, 2 and 3 the loose relation passes one
# half after 56 or 64 thousand pictures, with shape and binding. With seeds 1 and 4 it never does:
# to the end of their training these models
# draw like the control without positions (binding about .3 and loose relation .1 in the end, as the
# control). They read their words as a bag and never find out which belongs to which. With random
# embeddings nothing but a word's *place* tells whose colour it is. Our reading, not tested here:
# binding then takes two steps of attention, each of no use before the other is there. A contextual
# encoder hands over words that are bound already. All
# eight of its runs learn: the relation passes one half after 56 to 80 thousand pictures with
# e5-small (five seeds) and after 64 and 72 with MiniLM (three). So does the one run of RTE at twice
# the width, sooner than any (below).
#
# The paper has its T5 model learn the relation two to three times *earlier* than RTE. In the runs
# that learn we see no such lead. But two RTE runs in five do not get there within 192 thousand
# pictures, and the recipe was chosen on seed 0,
# which does; so the mean over seeds would be later for RTE, by how much five seeds cannot tell.
#
# The contextual arms train less smoothly. The loss jumps at 88 and 120 thousand pictures (e5-small,
# seed 0), at 96 (seed 3), at 136 (seed 2) and at 128 (MiniLM, seed 0), and but for that at 120 the
# pictures fall apart for a while. All recover. MiniLM's seed 0 ends a
# little short of the others (loose relation .94 on all phrases); seeds 1 and 2, without a jump, do
# not (.97 and .97). What grows all the while in these networks, and not in RTE's, is the length of
# the text's vectors: {doc}`fig7_text_fusion`. At twice the width that ended a run (below).
#
# ## Where training time is spent
#
# "Relations are learned last" is a matter of noise levels. A picture's layout is decided between
# t = .05 and t = .2, where t is the share of the picture in
# picture plus noise: the cell below hides a true scene in that much noise and lets rte-micro finish
# it. At t = .05 its places are hardly better than the model's own,
# at t = .2 about seven in eight are the scene's. The usual way to spread training over noise
# levels, logit t ~ N(-0.4, 1), spends one picture in six there; ours, N(-1.6, 0.9), more than half.

# %% tags=["hide-input"]
model, header = load_model("rte-micro")
encoder, process = make_encoder("rte"), RectifiedFlow()
count = 48 if quick else 480
truth = scenes.sample_scenes(count, np.random.default_rng(5), relations=np.arange(count) % 8)
told = prompts.caption(truth, np.random.default_rng(6), "canonical")
clean, noise = (
    to_signal(torch.from_numpy(scenes.render(truth))),
    initial_noise(list(range(count)), 64),
)
rows = []
for level in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3):
    left = torch.linspace(
        level / (level + (1 - level) / process.shift), 1, 15
    )  # the default times, from this level on
    times = left / (left + process.shift * (1 - left))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=fast_precision() == "bf16"):
        denoise = guided(model, process, encoder.encode([*told, ""]), guidance=1)
        done = to_pixels(sample_dpm(denoise, process, level * clean + (1 - level) * noise, times))
    for picture, prompt, centers in zip(done.numpy(), told, truth.centers, strict=True):
        found = scoring.score(scoring.detect(picture), prompts.parse(prompt))
        dx, dy = centers[0] - centers[1]
        kept = (
            max(abs(found["dx"] - dx), abs(found["dy"] - dy)) < 4
        )  # half a step of the scenes' grid; False if not bound
        rows.append({"t": f"t = {level:g}", "share": kept})

# %% mystnb={"figure": {"caption": "True scenes hidden in noise (t is the share of the scene) and finished by rte-micro without guidance: share of pictures whose objects end where they truly stand to each other, within 4 units (48 pictures a bar, 95 % intervals). Micro scale, random token embeddings, seed 0.", "name": "fig-decided"}}
kept = pd.DataFrame(
    [
        {"t": t, "what": "true displacement kept", "share": hits.mean(), "low": low, "high": high}
        for t, hits in pd.DataFrame(rows).groupby("t", sort=False).share
        for low, high in [scoring.wilson(hits.sum(), len(hits))]
    ]
)
figures.show(
    figures.shares(kept, "t", "what", ylabel="share of pictures"),
    "Bars of how many pictures keep the true displacement, by the share of the scene in the noise "
    "at the start: none without it, more and more with it, and nearly all at the largest.",
)

# %% [markdown]
# With the usual levels shapes come, but after 96 thousand pictures binding is still at chance,
# below one half of shape, and few pictures are in the right relation; with ours both are there from
# 56 thousand on.

# %% mystnb={"figure": {"caption": "Two distributions of noise levels: the shipped one and the usual one, to 96 thousand pictures at constant rate. Canonical prompts, 96 pictures a point; one seed, bands are 95 % intervals. Micro scale, random token embeddings, all 22 phrases in training.", "name": "fig-noise-levels"}}
figures.show(
    figures.curves(arms(["rte-micro", "rte-unshifted-micro"], last=96_000), "arm", "metric_name"),
    "Four panels of accuracy against pictures seen: with the usual noise levels colours come as "
    "well, but shape stays far below the shipped levels' curve, and binding and relation stay near "
    "the bottom.",
)


# %% [markdown]
# Shapes rise over the whole of training, and an object that cannot be recognised cannot be bound.
# So it says more to ask:
# *of the pictures with both shapes, how many are bound; and of the bound, how many stand in the
# right relation?*
# Chance is one half for the first. For the second it is at most one half without positions (the
# pair or its mirror image), and about a quarter
# for a network that places bound objects without regard to the phrase.


# %% tags=["hide-input"]
def given(table, metric, condition):
    """Share of pictures with `metric` among those with `condition`, with Wilson intervals; seeds pooled."""
    wide = table.pivot_table(
        index=["arm", "samples", "run", "n"], columns="metric", values="value"
    ).reset_index()
    counts = wide.assign(
        base=(wide[condition] * wide.n).round(), hits=(wide[metric] * wide.n).round()
    )
    counts = (
        counts.groupby(["arm", "samples"], as_index=False)[["base", "hits"]]
        .sum()
        .query("base >= 10")
    )
    low, high = zip(*map(scoring.wilson, counts.hits, counts.base), strict=True)
    name = f"{figures.METRIC_NAMES[metric]}, given {figures.METRIC_NAMES[condition]}"
    return counts.assign(value=counts.hits / counts.base, low=low, high=high, what=name)


# %% mystnb={"figure": {"caption": "Binding among pictures with both shapes, and loose relation among bound pictures (points with fewer than ten such pictures are left out), on canonical prompts. Seeds pooled: RTE five, two of which never bind, e5-small five, RTE without positions three (one of them to 96 thousand pictures), the others one; bands are 95 % intervals. Micro scale. The run with a small caption MLP is of an earlier recipe (canonical phrases, batches of 32, high noise levels throughout, Euler's method, guidance 3).", "name": "fig-given"}}
asked = [
    ARMS[name]
    for name in (
        "rte-micro",
        "e5-micro",
        "rte-nopos-micro",
        "rte-unshifted-micro",
        "rte-small-caption-init",
    )
]
table = shares[(shares.suite == "canonical") & shares.arm.isin(asked)]
ratios = pd.concat([given(table, "binding", "shape"), given(table, "relation_loose", "binding")])
ratios = ratios.sort_values("arm", key=lambda column: column.map(asked.index), kind="stable")
figures.show(
    figures.curves(ratios, "arm", "what", marks={"one half": 0.5, "a quarter": 0.25}),
    "Two panels of conditional accuracy: e5-small and RTE bind most shapes that they draw and "
    "place most bound pairs right, while the control, the usual noise levels and the small caption "
    "MLP stay near the lines of chance.",
)

# %% [markdown]
# ## When the text is heard
#
# A network that does not read the prompt can draw two clean shapes, but the right relation only by
# chance. With PixArt's initialisation of the
# caption MLP, N(0, .02), the words are far smaller than the position vectors in the residual stream
# that reads them:

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
untrained = DiT(PRESETS["micro"]).requires_grad_(False)
words = encoder.encode(prompts.suite(prompts.PHRASES))


def text_size():
    """Root mean square of what the words are after the caption MLP."""
    return float(untrained.caption_mlp(words.embeddings)[words.mask].square().mean().sqrt())


print(f"image positions: {float(untrained.positions.square().mean().sqrt()):.2f}")
print(f"words, ordinary (Xavier) initialisation: {text_size():.2f}")
for layer in (untrained.caption_mlp[0], untrained.caption_mlp[2]):
    torch.nn.init.normal_(layer.weight, std=0.02)
print(f"words, PixArt's N(0, .02): {text_size():.3f}")

# %% [markdown]
# In the one run with that initialisation (above) the bound pictures obey the relation no more often
# than chance up to 64 thousand pictures. That run used an earlier recipe
# throughout, so the initialisation is a suspect and not a shown cause. In the shipped model the
# prompt decides the layout before there is anything to see: below is what it
# predicts from *pure noise*, the first step of sampling, averaged over 32 noises.

# %% mystnb={"figure": {"caption": "The picture that rte-micro predicts from pure noise for 'red square R blue circle', without guidance and averaged over 32 noises, for the eight relations R: the layout is there at the first step, the shapes are not. Micro scale, random token embeddings, seed 0.", "name": "fig-from-noise"}}
relations = {
    relation: prompts.compose((0, 1), (0, 2), prompts.CANONICAL[relation][0])
    for relation in scenes.RELATIONS
}
noise, at_start = initial_noise(list(range(32)), model.config.image_size), torch.zeros(32)
first = torch.stack(
    [model(noise, at_start, encoder.encode([text] * 32)).mean(0) for text in relations.values()]
)
figures.show(
    figures.picture_grid(to_pixels(first).numpy(), list(relations), columns=8, width=1.2),
    "Eight blurred gray pictures, one a relation, predicted from pure noise: a red and a blue "
    "cloud without shape already lie on the sides that the relation asks for.",
)

# %% tags=["nbval-check-output"]
mass = (first[:, [0, 2]].clamp(-1, 1) + 1) / 2  # [relation, red or blue, y, x]
place = torch.arange(model.config.image_size) + 0.5
scale = scenes.CANVAS / model.config.image_size
x = (mass.sum(2) * place).sum(-1) / mass.sum((2, 3)) * scale  # [relation, red or blue]
y = (mass.sum(3) * place).sum(-1) / mass.sum((2, 3)) * scale
for relation, dx, dy in zip(relations, x[:, 0] - x[:, 1], y[:, 0] - y[:, 1], strict=True):
    sides = [
        side for side, by in {"above": -dy, "below": dy, "left": -dx, "right": dx}.items() if by > 2
    ]
    print(
        f"{relation}: the centre of red lies more than 2 units {' and '.join(sides)} of that of "
        "blue"
    )

# %% [markdown]
# ## Captions decide too
#
# The paper's captions use all 22 phrases and drop each colour word with probability one half. The
# same network and recipe, with both
# colours always named and with the paper's captions.

# %% mystnb={"figure": {"caption": "Training with both colours named (RTE) and with the paper's captions, which drop each colour word with probability one half, to 96 thousand pictures at constant rate; scored on canonical prompts with both colours, 96 pictures a point. One seed; bands are 95 % intervals. Micro scale, random token embeddings.", "name": "fig-captions"}}
figures.show(
    figures.curves(
        arms(["rte-micro", "paper-captions"], SHAPE_TO_RELATION, last=96_000), "arm", "metric_name"
    ),
    "Three panels of accuracy against pictures seen, with random embeddings: with the paper's "
    "captions shapes come more slowly, and binding and relation hardly leave the bottom.",
)

# %% tags=["nbval-check-output"]
late = shares[
    (shares.run == "paper-captions") & (shares.suite == "canonical") & (shares.samples == 96_000)
]
for row in pd.concat(
    [given(late, "binding", "shape"), given(late, "relation_loose", "binding")]
).itertuples():
    print(
        f"{row.arm}, after 96 thousand pictures: {row.what} {row.value:.2f} [{row.low:.2f}, "
        f"{row.high:.2f}], n = {row.base:.0f}"
    )

# %% [markdown]
# With the paper's captions shapes come, more slowly, but after 96 thousand pictures binding is .40
# [.28, .53] of shape and the relation right in .45 [.27, .65] of 22 bound pairs, too few to tell
# from chance: with a colour left out the
# relation can only be applied through shapes, which appear at lower noise than colours do. That is
# a guess at the reason; the delay is measured.
#
# With e5-small and 288 thousand pictures, three times as many, the paper's captions lead further,
# and not to the end:

# %% tags=["hide-input"]
figures.show(
    figures.curves(arms(["e5-micro", "e5-paper-micro"], SHAPE_TO_RELATION), "arm", "metric_name"),
    "Three panels of accuracy against pictures seen, with e5-small: with the paper's captions "
    "shape and binding come as well, but the relation stops far below what captions with both "
    "colours reach.",
    colors=32,
)

# %% [markdown]
# *Training with both colours named, to 192 thousand pictures, and with the paper's captions, to 288
# thousand; canonical prompts with both colours, 96 pictures a point, bands are 95 % intervals.
# Micro scale, e5-small as contextual encoder, seed 0.*

# %% tags=["nbval-check-output"]
for name in ("e5-micro", "e5-paper-micro"):
    drawn = pd.read_parquet(RESULTS / "evaluations" / f"{name}-canonical.parquet")
    pairs = drawn[drawn.binding]
    asked = [scenes.RELATIONS.index(r) for r in pairs.relation]
    right = np.array(
        [
            scoring.relation_loose(dx, dy, r)
            for dx, dy, r in zip(pairs.dx, pairs.dy, asked, strict=True)
        ]
    )
    turned = np.array(
        [
            scoring.relation_loose(-dx, -dy, r)
            for dx, dy, r in zip(pairs.dx, pairs.dy, asked, strict=True)
        ]
    )
    for kind, these in (
        ("above, below, left, right", pairs.relation.isin(["above", "below", "left", "right"])),
        ("diagonals", ~pairs.relation.isin(["above", "below", "left", "right"])),
    ):
        print(
            f"{name}, {kind}, bound pairs: the relation {right[these].mean():.2f}, its opposite "
            f"{turned[these].mean():.2f}, n = {these.sum()}"
        )

# %% [markdown]
# Shapes and binding come, to .97. Of the relation it has learned the *axis* and not the *side*: two
# objects that should stand above and below one another, or side by side, do so, in .52 of bound
# pairs the right way round, in .48 the wrong way; diagonals are anywhere. The paper's curves rest
# on such a plateau, at about .2, before they
# jump; with 288 thousand pictures against its millions, ours has not jumped. Which words this
# network reads, {doc}`fig7_text_fusion` tells.
#
# ## Muon against AdamW
#
# The blocks' matrices are trained with Muon {cite:p}`jordan2024muon`, everything else with AdamW.
# Against it, at equal samples, AdamW for everything
# at the same rate of 0.001, the one rate tried. AdamW's loss is three tenths higher, and after 64
# thousand pictures its network still draws hardly any clean shape.

# %% mystnb={"figure": {"caption": "Muon for the blocks' matrices and AdamW for the rest (RTE), against AdamW throughout, at constant rate; same scenes and noise. Canonical prompts, 96 pictures a point; one seed, bands are 95 % intervals. Micro scale, random token embeddings.", "name": "fig-optimizer"}}
figures.show(
    figures.curves(arms(["rte-micro", "adamw"], last=64_000), "arm", "metric_name"),
    "Four panels of accuracy against pictures seen: with AdamW alone shapes, binding and relation "
    "stay at the bottom, where with Muon they rise in the second half.",
)

# %% tags=["nbval-check-output"]
for run in ("rte-micro", "adamw"):
    late = curve.query("run == @run and metric == 'loss' and 48000 < samples <= 64000")
    print(f"{ARMS[run]}: velocity loss {late.value.mean():.4f} over pictures 48 to 64 thousand")

# %% [markdown]
# ## How guidance is best spent
#
# Guidance pushes the picture away from what the network would draw without a prompt. A guidance of
# 4 to the end costs shapes (.955 against .987 with 2); 4 until the share of signal is .2, and none
# after it, keeps the shapes (.989) and raises the loose relation (.975 against .945), in 18 steps,
# for as many passes of the network (28) as 2 throughout in 14 steps: an unguided step is one pass
# and not two. So all final
# scores in this book are taken that way {cite:p}`kynkaanniemi2024interval`. The setting was chosen
# on an earlier checkpoint of the same recipe, with other noise. The curves above use a guidance
# of 2 throughout.

# %% mystnb={"figure": {"caption": "rte-micro drawn with different guidance: 2 throughout (14 steps), 4 throughout (14 steps), and 4 until the share of signal is .2 and none after it (18 steps, as many passes of the network as the first). 264 prompts with every phrase, on seeds used for nothing else; n = 528 a bar, 95 % intervals. Micro scale, random token embeddings.", "name": "fig-guidance"}}
HOW = {
    "guidance-2": "2 throughout",
    "guidance-4": "4 throughout",
    "guidance-4-early": "4 until .2, then none",
}
drawn = {
    label: pd.read_parquet(RESULTS / "sampling" / f"rte-micro-{name}.parquet")
    for name, label in HOW.items()
}
guidance = pd.DataFrame(
    [
        {
            "metric": figures.METRIC_NAMES[metric],
            "guidance": label,
            "share": v["value"],
            "low": v["low"],
            "high": v["high"],
        }
        for label, table in drawn.items()
        for metric, v in scoring.summarise(table).items()
    ]
)
figures.show(
    figures.shares(guidance, "metric", "guidance", ylabel="share of pictures"),
    "Bars of five accuracies under three ways of guidance: strong guidance throughout costs "
    "shapes, and strong guidance in the early steps alone keeps them and is best on the loose "
    "relation.",
)

# %% tags=["nbval-check-output"]
for row in guidance.itertuples():
    print(f"guidance {row.guidance}: {row.metric} {row.share:.3f} [{row.low:.3f}, {row.high:.3f}]")

# %% [markdown]
# ## How few steps do
#
# What a picture costs is passes of the network; a guided step takes two, an unguided one one, and
# Heun's sampler asks twice a step. So the samplers are compared by passes: DPM-Solver++ (2M), the
# paper's and the one of this book,
# Euler and Heun, each with 4 to 27 steps, guidance 4 until the share of signal is .2.

# %% tags=["hide-input"]
STEPS, SAMPLERS = (4, 6, 9, 12, 18, 27), {"dpm": "DPM-Solver++", "euler": "Euler", "heun": "Heun"}
settings = {
    f"{sampler} {steps}": {"sampler": sampler, "steps": steps}
    for sampler in SAMPLERS
    for steps in STEPS
}
DRAWN = {"rte-micro": "RTE", "e5-micro": "e5-small"}


def passes(sampler, steps, until=0.2):
    """Of the network, for one picture: two where guidance is on, twice a step with Heun but for the last."""
    times = RectifiedFlow().sampling_times(steps)
    each = [1 + (t < until) for t in times[:-1].tolist()]  # the share of signal is the time itself
    return sum(each) + (sum(each[1:]) if sampler == "heun" else 0)


ladder = {}
for name, label in DRAWN.items():
    path = RESULTS / "sampling" / f"{name}-steps.parquet"
    if not quick:
        model, header = load_model(name)
        encoder, how = make_encoder(header["recipe"]["encoder"]), {"precision": fast_precision()}
        runs = {
            s: partial(evaluate, model, encoder, prompts.suite(), range(2), **options, **how)
            for s, options in settings.items()
        }
        resumable(
            runs,
            path,
            {"checkpoint": manifest()[name]["sha256"]},
            "setting",
            command="relcore notebooks --full --only fig2",
            progress=name,
        )
    ladder[label] = pd.read_parquet(path)
cost = pd.DataFrame(
    [
        {
            "sampler": SAMPLERS[settings[s]["sampler"]],
            "steps": settings[s]["steps"],
            "passes": passes(**settings[s]),
            "metric": metric,
            "n": len(rows),
            "panel": f"{label}: {figures.METRIC_NAMES[metric]}",
            **{key: v[key] for key in ("value", "low", "high")},
        }
        for label, table in ladder.items()
        for metric in ("shape", "relation_loose")
        for s, rows in table.groupby("setting")
        for v in [scoring.summarise(rows)[metric]]
    ]
)

# %% mystnb={"figure": {"caption": "Shape and loose relation accuracy against passes of the network a picture, for three samplers of 4, 6, 9, 12, 18 and 27 steps. 96 canonical prompts, two pictures each, n = 192 a point, 95 % intervals. Micro scale, seed 0: RTE, and e5-small as contextual encoder.", "name": "fig-steps"}}
figures.show(
    figures.curves(
        cost,
        "sampler",
        "panel",
        x="passes",
        xlabel="passes of the network a picture",
        ylabel="share of pictures",
        ylim=(0.55, 1.02),
    ),
    "Four panels of shape and relation accuracy against passes of the network, for two models: "
    "three samplers rise along nearly one curve, steep at few passes and then flat.",
)

# %% tags=["nbval-check-output", "hide-output"]
for (panel, sampler), rows in cost.groupby(["panel", "sampler"], sort=False):
    print(
        f"{panel}, {sampler}: "
        + ", ".join(
            f"{r.steps} steps, {r.passes} passes {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]"
            for r in rows.sort_values("steps").itertuples()
        )
    )

# %% [markdown]
# What counts is passes, whoever spends them: at 14 DPM-Solver++ and Euler are within .03 of each
# other, and Heun is no better (.84 to .90 at 12, .93 to .95 at 18); at 26 and more nothing is
# gained that 192 pictures could show. Below ten passes shapes are torn, and the relation falls with
# them. DPM-Solver++ is nowhere clearly
# behind; this book draws its tables with 18 of its steps (28 passes), and half of these would cost
# .03 to .04.

# %% [markdown]
# ## Where it ends

# %% tags=["hide-input"]
SUITES = {"canonical": "96 prompts, canonical phrases", "phrases": "264 prompts, all 22 phrases"}
tables = {
    (m, s): pd.read_parquet(RESULTS / "evaluations" / f"{m}-{s}.parquet")
    for m in TRAINED
    for s in SUITES
}


def accuracies(suite):
    return pd.DataFrame(
        [
            {
                "metric": figures.METRIC_NAMES[metric],
                "model": ARMS[m],
                "share": v["value"],
                "low": v["low"],
                "high": v["high"],
                "n": v["n"],
            }
            for m in TRAINED
            for metric, v in scoring.summarise(tables[m, suite]).items()
        ]
    )


# The paper's accuracies on its 264 training prompts, 49 pictures each, size B, 160 000 steps
PAPER = {
    "RTE": (0.928, 0.877, 0.855, 0.758, 0.843),
    "e5-small": (0.892, 0.857, 0.820, 0.749, 0.808),  # its T5
    "RTE without positions": (0.899, 0.859, 0.415, 0.192, 0.207),
}
paper = pd.DataFrame(
    [
        {"metric": metric, "model": model, "share": share}
        for model, values in PAPER.items()
        for metric, share in zip(figures.METRIC_NAMES.values(), values, strict=True)
    ]
)

# %% mystnb={"figure": {"caption": "Final accuracies on the 264 prompts with every phrase, with 95 % intervals (n = 1056, the control 528); the scorer's ceiling on our scenes is 1. Dark lines: the paper's models of size B on its own data, where the ceiling is .86 to .99: RTE, RTE without positions, and T5-XXL (drawn over our e5-small). Ours: micro, seed 0.", "name": "fig-final"}}
figures.show(
    figures.shares(
        accuracies("phrases"),
        "metric",
        "model",
        paper,
        ylabel="share of pictures",
        mark_label="paper, size B",
    ),
    "Bars of five accuracies: RTE, e5-small and MiniLM are near the top but for the strict "
    "relation, and the control without positions falls to the bottom from shape to relation, as in "
    "the paper.",
)

# %% tags=["nbval-check-output", "hide-output"]
for (name, s), table in tables.items():
    values = scoring.summarise(table)
    print(
        f"{name}, {SUITES[s]}: "
        + ", ".join(
            f"{m} {v['value']:.3f} [{v['low']:.3f}, {v['high']:.3f}]" for m, v in values.items()
        )
        + f", n = {len(table)}"
    )

# %% [markdown]
# Every seed (of some only the tables are shipped):

# %% tags=["hide-input"]
final = pd.DataFrame(
    [
        {
            "model": name,
            "pictures": entry["metrics"]["phrases"]["color"]["n"],
            **{
                figures.METRIC_NAMES[metric]: f"{v['value']:.3f} [{v['low']:.3f}, {v['high']:.3f}]"
                for metric, v in entry["metrics"]["phrases"].items()
            },
        }
        for arm in TRAINED
        for name, entry in sorted(manifest().items())
        if name == arm or name.startswith(f"{arm}-s")
    ]
)
final.style.hide().set_caption("The 264 prompts with every phrase, 95 % intervals. Micro scale.")

# %% mystnb={"figure": {"caption": "Loose relation accuracy by relation, with 95 % intervals (n = 96 or 144 a bar), on the 264 prompts with every phrase. Micro scale, seed 0; RTE, e5-small and MiniLM.", "name": "fig-by-relation"}}
by_relation = pd.DataFrame(
    [
        {
            "relation": relation,
            "model": ARMS[m],
            "share": v["value"],
            "low": v["low"],
            "high": v["high"],
        }
        for m in TRAINED[:3]
        for relation in scenes.RELATIONS
        for v in [
            scoring.summarise(tables[m, "phrases"].query("relation == @relation"))["relation_loose"]
        ]
    ]
)
figures.show(
    figures.shares(by_relation, "relation", "model", ylabel="loose relation accuracy"),
    "Bars of loose relation accuracy by relation for RTE, e5-small and MiniLM: all are high, and "
    "no relation falls behind.",
)

# %% [markdown]
# What is left to learn shows in the strict relation, which also asks of "above" that the two be in
# line, to within 5 units. Diagonals satisfy it nearly always;
# above, below, left and right less than half of the time: the objects stand on the right sides, but
# not in line. Here we are behind the paper: .71 of an attainable 1 with RTE, against .76 of an
# attainable .86; on the other accuracies ahead, on easier scenes.

# %% tags=["nbval-check-output"]
for m in TRAINED[:3]:
    bound = pd.concat([tables[m, s] for s in SUITES]).query("binding")
    for kind, rows in bound.groupby(
        bound.relation.str.contains(" ").map(
            {False: "above, below, left, right", True: "diagonals"}
        )
    ):
        print(
            f"{ARMS[m]}, {kind}, bound pairs: loose relation {rows.relation_loose.mean():.2f}, "
            f"strict {rows.relation_strict.mean():.2f}, n = {len(rows)}"
        )

# %% [markdown]
# ## The size of the network
#
# Three of the paper's sizes: **nano** (3 layers of width 192 with 3 heads), **micro** (6 of 192
# with 3) and **mini** (6 of 384 with 6); size B has 12 layers of width 768 with 12 heads and is
# beyond a laptop. Same captions, pictures and recipe.

# %% mystnb={"figure": {"caption": "Training at three sizes, a line a run: loose relation accuracy on canonical prompts (96 pictures a point, 14 steps, guidance 2 throughout). RTE and e5-small; micro with every seed, nano and mini with seed 0, e5-small at nano over 96 thousand pictures and at mini in two runs: one that broke down between 88 and 96 thousand, one over 96 thousand in all. 95 % intervals are up to .1 either way.", "name": "fig-sizes"}}
SIZES = {"rte": ["rte-nano", "rte-micro", "rte-mini"], "e5": ["e5-nano", "e5-micro", "e5-mini"]}
LINES = {"rte": SIZES["rte"], "e5": [*SIZES["e5"], "e5-mini-collapsed"]}
by_size = pd.concat(
    [
        shares[
            (shares.arm == ARMS[name])
            & (shares.suite == "canonical")
            & (shares.metric == "relation_loose")
        ].assign(panel=ARMS[f"{encoder}-micro"])
        for encoder, names in LINES.items()
        for name in names
    ]
)
figures.show(
    figures.curves(by_size, "preset", "panel", unit="run", ylabel="loose relation accuracy"),
    "Two panels of loose relation accuracy against pictures seen, at three sizes: with RTE mini "
    "rises first, three runs of micro follow and two stay down with nano; with e5-small all rise, "
    "one run of mini breaks down, and nano rises late.",
)

# %% mystnb={"figure": {"caption": "Final loose relation accuracy by size, with 95 % intervals, on the 264 prompts with every phrase: RTE and e5-small, seed 0; 192 thousand pictures, e5-small at nano and mini 96 thousand; n = 1056 pictures at micro, 528 at the other sizes. Dark lines: the paper's networks of the same sizes with RTE and, over our e5-small, T5-XXL, on its own data, where .873 is attainable.", "name": "fig-size-final"}}
PAPER_SIZES = {
    ("nano", "RTE"): 0.090,
    ("micro", "RTE"): 0.489,
    ("mini", "RTE"): 0.828,
    ("mini", "e5-small"): 0.810,
}
released = manifest()
sizes = pd.DataFrame(
    [
        {
            "size": released[name]["preset"],
            "encoder": ARMS[f"{encoder}-micro"],
            "share": v["value"],
            "low": v["low"],
            "high": v["high"],
            "n": v["n"],
            "strict": released[name]["metrics"]["phrases"]["relation_strict"]["value"],
        }
        for encoder, names in SIZES.items()
        for name in names
        for v in [released[name]["metrics"]["phrases"]["relation_loose"]]
    ]
)
figures.show(
    figures.shares(
        sizes,
        "size",
        "encoder",
        pd.DataFrame([{"size": s, "encoder": e, "share": v} for (s, e), v in PAPER_SIZES.items()]),
        ylabel="loose relation accuracy",
        mark_label="paper, same size",
    ),
    "Bars of final loose relation accuracy at three sizes: low at nano, more so with RTE than with "
    "e5-small, high at micro and mini with either, and above the paper's dashes wherever there is "
    "one.",
)

# %% tags=["nbval-check-output", "hide-output"]
for row in sizes.itertuples():
    print(
        f"{row.encoder}, {row.size}: loose relation {row.share:.3f} [{row.low:.3f}, "
        f"{row.high:.3f}], strict {row.strict:.3f}, n = {row.n}"
    )
for run in (name for names in LINES.values() for name in names):
    late = shares[
        (shares.run == run) & (shares.suite == "canonical") & (shares.metric == "relation_loose")
    ].sort_values("samples")
    jump = late[late.value >= 0.5].samples.min()
    print(
        f"{run}: loose relation one half "
        f"{'never' if np.isnan(jump) else f'after {jump / 1000:.0f} thousand pictures'}; "
        f"{late.seconds.max() / 60:.0f} minutes in all"
    )
for name in (name for names in SIZES.values() for name in names):
    drawn = pd.read_parquet(RESULTS / "evaluations" / f"{name}-phrases.parquet")
    for condition, metric in (("shape", "binding"), ("binding", "relation_loose")):
        value, low, high, n = scoring.proportion(drawn[drawn[condition]][metric])
        print(
            f"{name}: {figures.METRIC_NAMES[metric]}, given {figures.METRIC_NAMES[condition]}, "
            f"{value:.2f} [{low:.2f}, {high:.2f}], n = {n}"
        )

# %% [markdown]
# **With RTE it goes as in the paper, but for micro.** Nano does not learn the relation (.13, the
# paper's .09), micro does in three seeds of five, and then nearly as well as mini (the paper's has
# .49 in the end, after .74 on the way), and mini learns it soonest: one half after 40 thousand
# pictures, where micro needs 56 or 64, and .985 in the end. The
# paper's sizes B and mini are nearly alike (.843 and .828); what S and B would bring here is open.
#
# **With e5-small nano does learn the relation**, in this one run and over half as many pictures, as
# far as it can draw shapes. It gets both right in .43 of pictures; of these .89 [.84, .92] are
# bound, and of the bound .97 [.94, .99] are in the relation.
# RTE's nano, after twice as many pictures, draws more shapes (.69), binds half of them, as a bag of
# words would, and places .39 [.32, .46] of the bound. Our reading: what nano lacks is not room for
# the relation but, with RTE, what must be found out before, which words belong together; a
# contextual encoder hands that over. Where this network reads it, {doc}`fig7_text_fusion` tells.
#
# **With e5-small the first run of mini broke down.** It was to have 192 thousand pictures like all
# others, and had .84 after 88 thousand. Over the next 8 thousand the mean loss was .10, after .04,
# the pictures went to noise, and the run was stopped. {doc}`fig7_text_fusion` shows what, in other
# runs, grows out of bounds. The e5-mini that is shipped is a new run
# over half as many pictures, 96 thousand, whose learning rate starts to fall after 67 thousand;
# both lines are in the figure, and they are the same up to there. The paper saw one of its T5
# networks collapse as well (size B with weight decay, after 60 thousand steps).
# What helps is to let the caption MLP learn at a tenth of the rate: with that a third run of mini,
# **e5-slow-mini** (tables alone), goes over all 192 thousand pictures and comes to .972 [.954,
# .983] (n = 528), .72 strict. {doc}`fig7_text_fusion` has its curve.
#
# ### Checked again, just now
#
# The shipped models draw pictures they were not scored on before (new seeds), and the stored share
# must lie in their
# 99.9 % interval, which is wide when they are few.

# %% tags=["hide-input"]
suite = prompts.suite(prompts.PHRASES)
subset = suite[::11] if quick else suite  # every 11th prompt meets every relation and shape pair
fresh = {}
for name in TRAINED[:3]:
    model, header = load_model(name)
    fresh[name] = evaluate(
        model, make_encoder(header["recipe"]["encoder"]), subset, [1000], precision=fast_precision()
    )

# %% tags=["nbval-check-output"]
for name, pictures in fresh.items():
    stored = tables[name, "phrases"]
    for metric in scoring.METRICS:
        low, high = scoring.wilson(pictures[metric].sum(), len(pictures), z=3.29)
        agrees = low <= stored[metric].mean() <= high
        assert agrees, (
            f"{name}, {metric}: fresh {pictures[metric].mean():.2f} (n = {len(pictures)}), stored "
            f"{stored[metric].mean():.2f}"
        )
    print(
        f"{name}: {len(pictures)} fresh pictures agree with the stored table in all "
        f"{len(scoring.METRICS)} accuracies"
    )

# %% [markdown]
# ## The claims of this chapter
#
# How the paper's claims fare here; open one for its tests. {doc}`claims` has them all.

# %% tags=["hide-input"]
from relcore.claims import rows as claims_of

claims_of("fig2_training")

# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     cell_metadata_filter: tags,mystnb,-all
#     notebook_metadata_filter: kernelspec,jupytext,-all
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Figure 2: learning to place things
#
# What does a diffusion transformer learn first, and what decides when it learns the relation? The paper trains its models for
# 160 000 steps of 256 pictures on one H100 and finds a fixed order: colours, then shapes, then which colour belongs to which
# shape (*binding*), then the relation, which jumps up last {cite:p}`wang2026circuit`.
#
# **What is shown here.** (1) The accuracies and the pictures of a model small enough to train on a laptop, as it learns.
# (2) The control without word positions, which cannot bind. (3) That "the relation comes last" depends on how training is spread
# over noise levels. (4) When the text is heard, and what that decides. (5) What the paper's captions cost. (6) Muon against AdamW.
# (7) Where the models stand in the end, with intervals, beside the paper's.
#
# Scale and encoder of every figure: **micro** (6 layers, width 192, 3 heads; the paper's size of that name), **random token
# embeddings** (RTE), 64-pixel pictures of the separated generator, one seed. All numbers come from the tables in `results/`, written by
# the training runs and evaluations themselves, or from the cells below; the cell at the end draws fresh pictures and checks them against those tables.

# %% tags=["parameters", "hide-input"]
quick = True  # the check at the end: 24 fresh pictures, or 264

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch

from relcore.data import prompts, scenes, scoring
from relcore.data.encoders import make_encoder
from relcore.model.checkpoints import load_model
from relcore.model.diffusion import initial_noise, to_pixels
from relcore.model.dit import PRESETS, DiT
from relcore.model.evaluation import evaluate, training_curve
from relcore.paths import RESULTS
from relcore.view import controls, figures

figures.style()
RUNS = {
    "rte-micro": "RTE",
    "rte-nopos-micro": "RTE without positions",
    "rte-high-noise": "RTE, high noise levels throughout",
    "rte-unshifted-micro": "RTE, usual noise levels",
    "rte-small-caption-init": "RTE, caption MLP initialised small",
    "paper-captions": "RTE, the paper's captions",
    "adamw": "RTE, AdamW alone",
}
curve = pd.concat([training_curve(name) for name in RUNS])
curve = curve.assign(metric_name=curve.metric.map(figures.METRIC_NAMES))
shares = curve[curve.metric != "loss"]


def first_above(run, metric, level=0.5, suite="canonical"):
    """Samples seen when the metric first exceeds the level; NaN if never."""
    rows = shares[(shares.run == run) & (shares.metric == metric) & (shares.suite == suite) & (shares.value > level)]
    return rows.samples.min() if len(rows) else np.nan


def compared(runs, metrics=("shape", "binding", "relation_loose")):
    """Canonical-prompt accuracies of these runs, as far as the longest but the first goes."""
    last = max(shares[shares.run == run].samples.max() for run in runs[1:])
    rows = shares[shares.run.isin(runs) & (shares.suite == "canonical") & shares.metric.isin(metrics)]
    return rows[rows.samples <= last].assign(arm=lambda t: t.run.map(RUNS))


# %% [markdown]
# ## The order of learning
#
# Every 8 thousand training pictures the model (its running average, as it would be shipped) draws 96 prompts with the eight
# canonical phrases, and 96 that spread over all 22. All 22 phrases are in training from the start. The first 24 thousand pictures are
# seen at high noise levels (logit t about -1.8), where the layout is decided; the rest at lower ones (about -0.8), where shapes are.
# Colours come first. Shape, binding and relation then rise *together*: a picture with two clean shapes
# is nearly always bound and nearly always in the right relation. The strict relation stays behind, as
# it also asks that "above" be above by more than 5 units and to neither side by more than 5.

# %% mystnb={"figure": {"caption": "The five accuracies of rte-micro against training pictures seen, on prompts with canonical phrases and with all 22 phrases; bands are 95 % intervals (n = 96 a point; Euler's method, 14 steps). Micro scale, random token embeddings.", "name": "fig-order"}}
ours = shares[shares.run == "rte-micro"].assign(
    suite=lambda t: t.suite.map({"canonical": "canonical phrases", "phrases": "all 22 phrases"})
)
colors = {figures.METRIC_NAMES[m]: c for m, c in figures.METRIC_COLORS.items()}
_ = figures.curves(ours, "metric_name", "suite", colors)

# %% tags=["nbval-check-output"]
for metric, name in figures.METRIC_NAMES.items():
    reached = first_above("rte-micro", metric)
    print(f"{name}: " + (f"above one half at {reached / 1000:.0f} thousand pictures" if reached > 0 else "not above one half yet"))

# %% mystnb={"figure": {"caption": "The training loss of rte-micro, averaged over each 8 thousand pictures. The fall after 24 thousand is the change to lower noise levels, where the error is smaller; the step at 192 thousand is a restart: the learning rate had fallen to 0 there and rose again. Micro scale, random token embeddings.", "name": "fig-loss"}}
loss = curve[(curve.run == "rte-micro") & (curve.metric == "loss")].assign(low=np.nan, high=np.nan, arm="rte-micro", panel="loss")
_ = figures.curves(loss, "arm", "panel", ylabel="velocity loss", ylim=None)

# %% [markdown]
# The same eight prompts with the same noise, as training goes on. Press play.

# %% tags=["hide-input"]
strips = sorted((RESULTS / "training" / "rte-micro" / "frames").glob("*.png"))
controls.frames(
    lambda file: figures.enlarge(file, 2), strips, "samples", [f"{int(file.stem) // 1000} thousand pictures" for file in strips]
)

# %% [markdown]
# ## The control without positions
#
# Without positions the text is a bag of words: "red square above blue circle" and "blue circle above red square" are the same
# input, and so are "red square ... blue circle" and "blue square ... red circle". A network that draws two right shapes in two
# right colours can then do no better than one half on binding, and half of that again on the relation. The paper measures .41 and .21.

# %% mystnb={"figure": {"caption": "Training with and without word positions: canonical prompts, bands are 95 % intervals (n = 96 a point). Micro scale, random token embeddings, one seed.", "name": "fig-nopos"}}
_ = figures.curves(compared(["rte-micro", "rte-nopos-micro"], ("color", "shape", "binding", "relation_loose")), "arm", "metric_name")

# %% [markdown]
# ## Where training time is spent
#
# "Relations are learned last" is a matter of noise levels. The usual choice (logit t ~ N(-0.4, 1)) spends one picture in twenty-five
# below t = .1, where a picture's layout is decided. Three ways of spending the time, at equal samples: high levels first and then lower
# ones (the shipped recipe), high levels throughout, and the usual ones. With the usual ones shapes come, but after 96 thousand pictures
# binding and relation are no better than chance; the shipped recipe has both from 64 thousand on. High levels throughout find the layout too, with shapes to follow.

# %% mystnb={"figure": {"caption": "Three distributions of noise levels: first high and then lower (RTE, as shipped), high throughout, and the usual unshifted one. Canonical prompts, bands are 95 % intervals (n = 96 a point). Micro scale, random token embeddings, all 22 phrases in training, one seed.", "name": "fig-noise-levels"}}
_ = figures.curves(compared(["rte-micro", "rte-high-noise", "rte-unshifted-micro"], ("color", "shape", "binding", "relation_loose")), "arm", "metric_name")

# %% [markdown]
# Shapes rise over the whole of training, and an object that cannot be recognised cannot be bound. So it says more to ask:
# *of the pictures with both shapes, how many are bound; and of the bound, how many stand in the right relation?*
# Chance is one half for the first. For the second it is one half without positions (the pair or its mirror image), and about a quarter
# for a network that places bound objects without regard to the phrase.

# %% tags=["hide-input"]


def given(table, metric, condition):
    """Share of pictures with `metric` among those with `condition`, with Wilson intervals."""
    wide = table.pivot_table(index=["run", "suite", "samples", "n"], columns="metric", values="value").reset_index()
    base = (wide[condition] * wide.n).round()
    hits = (wide[metric] * wide.n).round()
    low, high = zip(*map(scoring.wilson, hits, base), strict=True)
    name = f"{figures.METRIC_NAMES[metric]}, given {figures.METRIC_NAMES[condition]}"
    return wide[["run", "suite", "samples"]].assign(value=hits / base, low=low, high=high, base=base, what=name)[base >= 10]


def both_ratios(table):
    return pd.concat([given(table, "binding", "shape"), given(table, "relation_loose", "binding")])


# %% mystnb={"figure": {"caption": "Binding among pictures with both shapes, and loose relation among bound pictures (points with fewer than ten such pictures are left out), for the shipped recipe, the control without positions, the usual noise levels, and the caption MLP initialised at N(0, .02) (that run had canonical phrases and batches of 32, not 64). Canonical prompts, bands are 95 % intervals. Micro scale, random token embeddings, one seed.", "name": "fig-given"}}
asked = ["rte-micro", "rte-nopos-micro", "rte-unshifted-micro", "rte-small-caption-init"]
ratios = both_ratios(shares[(shares.suite == "canonical") & shares.run.isin(asked)])
_ = figures.curves(ratios.assign(arm=ratios.run.map(RUNS)), "arm", "what", marks={"one half": 0.5, "a quarter": 0.25})

# %% [markdown]
# ## When the text is heard
#
# A network that does not read the prompt can draw two clean shapes, but the right relation only by chance. With PixArt's initialisation of the
# caption MLP, N(0, .02), the words are far smaller than the position vectors in the residual stream that reads them:

# %% tags=["nbval-check-output"]
torch.manual_seed(0)
untrained = DiT(PRESETS["micro"]).requires_grad_(False)
encoder = make_encoder("rte")
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
# Such a whisper can be learned from, but slowly: in the run with that initialisation (above) the bound pictures obey the
# relation no more often than chance. In the shipped model the prompt decides the layout before there is anything to see: below is what it
# predicts from *pure noise*, the first step of sampling, averaged over 32 noises.

# %% mystnb={"figure": {"caption": "The picture that rte-micro predicts from pure noise for 'red square R blue circle', without guidance and averaged over 32 noises, for the eight relations R: the layout is there at the first step, the shapes are not. Micro scale, random token embeddings, seed 0.", "name": "fig-from-noise"}}
model, header = load_model("rte-micro")
relations = {relation: prompts.compose((0, 1), (0, 2), prompts.CANONICAL[relation][0]) for relation in scenes.RELATIONS}
noise, at_start = initial_noise(list(range(32)), model.config.image_size), torch.zeros(32)
first = torch.stack([model(noise, at_start, encoder.encode([text] * 32)).mean(0) for text in relations.values()])
_ = figures.picture_grid(to_pixels(first).numpy(), list(relations), columns=8, width=1.2)

# %% tags=["nbval-check-output"]
mass = (first[:, [0, 2]].clamp(-1, 1) + 1) / 2  # [relation, red or blue, y, x]
place = torch.arange(model.config.image_size) + 0.5
scale = scenes.CANVAS / model.config.image_size
x = (mass.sum(2) * place).sum(-1) / mass.sum((2, 3)) * scale  # [relation, red or blue]
y = (mass.sum(3) * place).sum(-1) / mass.sum((2, 3)) * scale
for relation, dx, dy in zip(relations, x[:, 0] - x[:, 1], y[:, 0] - y[:, 1], strict=True):
    sides = [side for side, by in {"above": -dy, "below": dy, "left": -dx, "right": dx}.items() if by > 2]
    print(f"{relation}: the centre of red lies more than 2 units {' and '.join(sides)} of that of blue")

# %% [markdown]
# ## Captions decide too
#
# The paper's captions use all 22 phrases and drop each colour word with probability one half. The same network and recipe, with both
# colours always named and with the paper's captions. These teach the shapes nearly as fast, but after 96 thousand pictures binding and
# relation are still at chance: with a colour left out the relation can only be applied through shapes, which appear at lower noise than colours do.
# That is a guess at the reason; the delay is measured.

# %% mystnb={"figure": {"caption": "Training with both colours named (RTE) and with the paper's captions, which drop each colour word with probability one half; scored on canonical prompts with both colours. Bands are 95 % intervals (n = 96 a point). Micro scale, random token embeddings, one seed.", "name": "fig-captions"}}
_ = figures.curves(compared(["rte-micro", "paper-captions"]), "arm", "metric_name")

# %% [markdown]
# ## Muon against AdamW
#
# The blocks' matrices are trained with Muon {cite:p}`jordan2024muon`, everything else with AdamW. Against it, at equal samples, AdamW for everything
# at the same rate of 0.001, the one rate tried, for 48 thousand pictures (its rate falls to 0 at their end, Muon's is still at its peak there).

# %% mystnb={"figure": {"caption": "Muon for the blocks' matrices and AdamW for the rest (RTE), against AdamW throughout; same seed, scenes and noise. Canonical prompts, bands are 95 % intervals (n = 96 a point). Micro scale, random token embeddings.", "name": "fig-optimizer"}}
_ = figures.curves(compared(["rte-micro", "adamw"], ("color", "shape", "binding", "relation_loose")), "arm", "metric_name")

# %% tags=["nbval-check-output"]
for run in ("rte-micro", "adamw"):
    late = curve.query("run == @run and metric == 'loss' and 32000 < samples <= 48000")
    print(f"{RUNS[run]}: velocity loss {late.value.mean():.3f} over pictures 32 to 48 thousand")

# %% [markdown]
# ## Where it ends

# %% tags=["hide-input"]
SUITES = {"canonical": "96 prompts, canonical phrases", "phrases": "264 prompts, all 22 phrases"}
tables = {(m, s): pd.read_parquet(RESULTS / "evaluations" / f"{m}-{s}.parquet") for m in ("rte-micro", "rte-nopos-micro") for s in SUITES}
final = pd.DataFrame([
    {"metric": figures.METRIC_NAMES[metric], "model": f"{m}, {SUITES[s].split(', ')[1]}", "share": v["value"], "low": v["low"], "high": v["high"], "n": v["n"]}
    for (m, s), table in tables.items()
    for metric, v in scoring.summarise(table).items()
])
PAPER = {"colour": 0.928, "shape": 0.877, "binding": 0.855, "relation, strict": 0.758, "relation, loose": 0.843}
paper = pd.DataFrame([{"metric": m, "share": s} for m, s in PAPER.items()])

# %% mystnb={"figure": {"caption": "Final accuracies with 95 % intervals; the scorer's ceiling on these scenes is 1. Gray dashes: the paper's RTE model at size B on its own data (264 prompts), where the ceiling is .86 to .99. Ours: micro, random token embeddings.", "name": "fig-final"}}
_ = figures.shares(final, "metric", "model", paper, ylabel="share of pictures", mark_label="paper, size B")

# %% [markdown]
# The loose relation is what this model has left to learn. Where it fails on a bound pair, the prompt is nearly always a diagonal, and the
# picture has one of its two directions; and where the strict relation fails, the prompt is "above", "below", "left" or "right", and the
# objects stand on the right sides but not in line. Both are the same imprecision: along the axis the prompt fixes at "in line" or
# at "well apart", the two objects are placed too independently of each other.

# %% tags=["nbval-check-output"]
bound = pd.concat([tables["rte-micro", s] for s in SUITES]).query("binding")
for kind, rows in bound.groupby(bound.relation.str.contains(" ").map({False: "above, below, left, right", True: "diagonals"})):
    print(f"{kind}, bound pairs: loose relation {rows.relation_loose.mean():.2f}, strict {rows.relation_strict.mean():.2f}, n = {len(rows)}")

# %% tags=["nbval-check-output"]
for (name, s), table in tables.items():
    values = scoring.summarise(table)
    print(f"{name}, {SUITES[s]}: " + ", ".join(f"{m} {v['value']:.2f} [{v['low']:.2f}, {v['high']:.2f}]" for m, v in values.items()) + f", n = {len(table)}")

# %% mystnb={"figure": {"caption": "Loose relation accuracy of rte-micro by relation, with 95 % intervals, on canonical prompts and on all 22 phrases. Micro scale, random token embeddings.", "name": "fig-by-relation"}}
by_relation = pd.DataFrame([
    {"relation": relation, "suite": SUITES[s].split(", ")[1], "share": v["value"], "low": v["low"], "high": v["high"]}
    for s in SUITES
    for relation in tables["rte-micro", s].relation.unique()
    for v in [scoring.summarise(tables["rte-micro", s].query("relation == @relation"))["relation_loose"]]
])
_ = figures.shares(by_relation, "relation", "suite", ylabel="loose relation accuracy")

# %% [markdown]
# ### Checked again, just now
#
# The shipped model draws pictures it was not scored on before (new seeds), and their score must lie within what the stored
# table allows: the two shares may differ by no more than their 99.9 % range.

# %% tags=["hide-input"]
suite = prompts.suite(prompts.PHRASES)
subset = suite[::11] if quick else suite  # every 11th prompt meets every relation and shape pair
fresh = evaluate(model, encoder, subset, [1000])
stored = tables["rte-micro", "phrases"]

# %% tags=["nbval-check-output"]
for metric in scoring.METRICS:
    low, high = scoring.wilson(fresh[metric].sum(), len(fresh), z=3.29)
    agrees = low - 1e-9 <= stored[metric].mean() <= high + 1e-9  # a bound of 1 may be rounded below it
    assert agrees, f"{metric}: fresh {fresh[metric].mean():.2f} (n = {len(fresh)}), stored {stored[metric].mean():.2f}"
    print(f"{metric}: fresh pictures agree with the stored table: {agrees}")

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
# **What is shown here.** A model small enough to train on a laptop, as it learns: (1) its accuracies and its pictures,
# (2) what its binding and its relation wait for, (3) where it stands after 72 thousand pictures, with intervals, beside the paper's.
# This first model is short of its goal: it places its objects, but does not yet draw every shape cleanly. The control without
# positions, the unshifted noise levels, the paper's captions and the optimisers are still to come in this chapter.
#
# Scale and encoder of every figure: **micro** (6 layers, width 192, 3 heads; the paper's size of that name), **random token
# embeddings** (RTE), 64-pixel pictures of the separated generator, one seed. All numbers come from the tables in `results/`, written by
# the training runs and evaluations themselves, save those on how the text is heard, which were read off the runs' weights and have no cell yet; the cell at the end draws fresh pictures and checks them against those tables.

# %% tags=["parameters", "hide-input"]
quick = True  # the check at the end: 24 fresh pictures, or 264

# %% tags=["hide-input"]
import numpy as np
import pandas as pd

from relcore.data import prompts, scoring
from relcore.data.encoders import make_encoder
from relcore.model.checkpoints import load_model
from relcore.model.evaluation import evaluate, training_curve
from relcore.paths import RESULTS
from relcore.view import controls, figures

figures.style()
RUNS = {
    "rte-micro": "RTE, noise levels lowered at 40 thousand",
    "rte-high-noise": "RTE, high noise levels throughout",
    "rte-small-caption-init": "RTE, caption MLP initialised small",
}
curve = pd.concat([training_curve(name) for name in RUNS])
curve = curve.assign(metric_name=curve.metric.map(figures.METRIC_NAMES))
shares = curve[curve.metric != "loss"]


def first_above(run, metric, level=0.5, suite="canonical"):
    """Samples seen when the metric first exceeds the level; NaN if never."""
    rows = shares[(shares.run == run) & (shares.metric == metric) & (shares.suite == suite) & (shares.value > level)]
    return rows.samples.min() if len(rows) else np.nan


# %% [markdown]
# ## The order of learning
#
# Every 16 thousand training pictures the model (its running average, as it would be shipped) draws 96 prompts with the eight
# canonical phrases and, once those are in training, 96 that spread over all 22. This run had two parts: 40 thousand pictures with
# canonical phrases at high noise levels (logit t about -1.8), where the layout is decided; then all 22 phrases at lower ones
# (about -0.8), where shapes are.

# %% mystnb={"figure": {"caption": "The five accuracies of rte-micro against training pictures seen, on prompts with canonical phrases and with all 22 phrases; bands are 95 % intervals (n = 96 a point). Micro scale, random token embeddings.", "name": "fig-order"}}
ours = shares[shares.run == "rte-micro"].assign(
    suite=lambda t: t.suite.map({"canonical": "canonical phrases", "phrases": "all 22 phrases"})
)
colors = {figures.METRIC_NAMES[m]: c for m, c in figures.METRIC_COLORS.items()}
_ = figures.curves(ours, "metric_name", "suite", colors)

# %% tags=["nbval-check-output"]
for metric, name in figures.METRIC_NAMES.items():
    reached = first_above("rte-micro", metric)
    print(f"{name}: " + (f"above one half at {reached / 1000:.0f} thousand pictures" if reached > 0 else "not above one half yet"))

# %% mystnb={"figure": {"caption": "The training loss of rte-micro, averaged over each 16 thousand pictures. The fall after 40 thousand is the change to lower noise levels, where the error is smaller. Micro scale, random token embeddings.", "name": "fig-loss"}}
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
# ### Which comes first, when shapes take all of training?
#
# Shapes rise over the whole of training, and an object that cannot be recognised cannot be bound. So it says more to ask:
# *of the pictures with both shapes, how many are bound; and of the bound, how many stand in the right relation?*
# Chance is one half for the first, and about a quarter for a network that places bound objects without regard to the phrase.
#
# What delays both is whether the text is *heard*. With PixArt's initialisation of the caption MLP, N(0, .02), the text enters at
# a tenth of the size of the image tokens. It is noise to the network at first and is turned down: after 56 thousand pictures the
# prediction from pure noise was the same for every prompt. With an ordinary initialisation the same prediction put red and
# blue on the right sides after 16 to 32 thousand pictures.

# %% tags=["hide-input"]


def given(table, metric, condition):
    """Share of pictures with `metric` among those with `condition`, with Wilson intervals."""
    wide = table.pivot_table(index=["run", "suite", "samples", "n"], columns="metric", values="value").reset_index()
    base = (wide[condition] * wide.n).round()
    hits = (wide[metric] * wide.n).round()
    low, high = zip(*map(scoring.wilson, hits, base))
    name = f"{figures.METRIC_NAMES[metric]}, given {figures.METRIC_NAMES[condition]}"
    return wide[["run", "suite", "samples"]].assign(value=hits / base, low=low, high=high, base=base, what=name)[base >= 10]


def both_ratios(table):
    return pd.concat([given(table, "binding", "shape"), given(table, "relation_loose", "binding")])


# %% mystnb={"figure": {"caption": "Binding among pictures with both shapes, and loose relation among bound pictures (points with fewer than ten such pictures are left out), for three runs: rte-micro; all 22 phrases with high noise levels throughout; and the caption MLP initialised at N(0, .02) (canonical phrases, batches of 32 and not 64). Canonical prompts, bands are 95 % intervals. Micro scale, random token embeddings, one seed.", "name": "fig-given"}}
ratios = both_ratios(shares[shares.suite == "canonical"])
_ = figures.curves(ratios.assign(arm=ratios.run.map(RUNS)), "arm", "what", marks={"one half": 0.5, "a quarter": 0.25})

# %% [markdown]
# ## Where it ends

# %% tags=["hide-input"]
SUITES = {"canonical": "96 prompts, canonical phrases", "phrases": "264 prompts, all 22 phrases"}
tables = {(m, s): pd.read_parquet(RESULTS / "evaluations" / f"{m}-{s}.parquet") for m in ["rte-micro"] for s in SUITES}
final = pd.DataFrame([
    {"metric": figures.METRIC_NAMES[metric], "model": f"{m}, {SUITES[s].split(', ')[1]}", "share": v["value"], "low": v["low"], "high": v["high"], "n": v["n"]}
    for (m, s), table in tables.items()
    for metric, v in scoring.summarise(table).items()
])
PAPER = {"colour": 0.928, "shape": 0.877, "binding": 0.855, "relation, strict": 0.758, "relation, loose": 0.843}
paper = pd.DataFrame([{"metric": m, "share": s} for m, s in PAPER.items()])

# %% mystnb={"figure": {"caption": "Final accuracies with 95 % intervals; the scorer's ceiling on these scenes is 1. Gray dashes: the paper's RTE model at size B on its own data (264 prompts), where the ceiling is .86 to .99. Ours: micro, random token embeddings.", "name": "fig-final"}}
_ = figures.shares(final, "metric", "model", paper, ylabel="share of pictures", mark_label="paper, size B")

# %% tags=["nbval-check-output"]
for (model, s), table in tables.items():
    values = scoring.summarise(table)
    print(f"{model}, {SUITES[s]}: " + ", ".join(f"{m} {v['value']:.2f} [{v['low']:.2f}, {v['high']:.2f}]" for m, v in values.items()) + f", n = {len(table)}")

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
model, header = load_model("rte-micro")
suite = prompts.suite(prompts.PHRASES)
subset = suite[::11] if quick else suite  # every 11th prompt meets every relation and shape pair
encoder = make_encoder(header["recipe"]["encoder"])
fresh = evaluate(model, encoder, subset, [1000])
stored = tables["rte-micro", "phrases"]

# %% tags=["nbval-check-output"]
for metric in scoring.METRICS:
    low, high = scoring.wilson(fresh[metric].sum(), len(fresh), z=3.29)
    agrees = low <= stored[metric].mean() <= high
    assert agrees, f"{metric}: fresh {fresh[metric].mean():.2f} (n = {len(fresh)}), stored {stored[metric].mean():.2f}"
    print(f"{metric}: fresh pictures agree with the stored table: {agrees}")

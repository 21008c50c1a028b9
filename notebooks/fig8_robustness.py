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
# # Figure 8: the same request in other words
#
# "Red square is above the blue circle" asks for the same picture as "red square is above blue
# circle". The paper {cite:p}`wang2026circuit` finds that its T5 model falls from .81 to .50 on the
# one word "the", and to .40 if "is"
# goes as well, while colours and shapes stay right and all first objects drift to the upper left;
# its RTE model does not mind. The cause it gives: the relation is fused into the object words, and
# a stray word shifts their vectors along the relation's own directions.
#
# **What is measured here.** (1) Fourteen ways to put the same request, for three models: other
# articles and fillers, another order, synonyms, capitals, doubled spaces. Every one of them *keeps
# the meaning*: a reader would draw the same picture. (2) Which words carry
# the harm: each group of words is given back the vectors that it has in the training template, and
# nothing else is changed. (3) Whether the mean shift of the words foretells where the objects
# drift. (4) A remedy: training on several templates.
# (5) How all this goes with how fused the text is.
#
# Encoders: RTE, **e5-small** and **MiniLM** as contextual encoders; none is the paper's T5-XXL.
# Models: **micro** (6 layers, width 192, 3 heads), seed 0 where nothing else is said. RTE gives a
# word that it has never met a random vector of its own.

# %% tags=["parameters", "hide-input"]
quick = True  # the check of the last section: 24 fresh pictures a suite, or 96; False makes the tables anew, too

# %% tags=["hide-input"]
from functools import cache

import numpy as np
import pandas as pd

from relcore.data.prompts import CANONICAL, TRAINED_TEMPLATES, suite
from relcore.data.scoring import wilson
from relcore.kernels.circuits import qk_maps, score, screen
from relcore.kernels.factors import fusion, relation_effects
from relcore.kernels.interventions import outcomes
from relcore.kernels.robustness import SUITES, drops, restored, robustness, shift, shifts
from relcore.model.checkpoints import digest
from relcore.model.diffusion import fast_precision, sample
from relcore.options import open_model
from relcore.paths import RESULTS
from relcore.view import controls, figures
from relcore.view.tags import picture_table

figures.style()
ARMS = {
    "rte-micro": "RTE",
    "e5-micro": "e5-small",
    "minilm-micro": "MiniLM",
    "e5-templates-micro": "e5-small, four templates",
}
STANDARD = list(ARMS)[:3]  # trained on one template
LABELS = {
    "train": "O1 is R O2 (training)",
    "is-the": "O1 is R the O2",
    "no-is": "O1 R O2",
    "no-is-the": "O1 R the O2",
    "the-the": "the O1 is R the O2",
    "articles": "a O1 is R a O2",
    "filler": "there O1 is really R this O2",
    "reversed": "R O2 is O1",
    "reversed-the": "R the O2 is the O1",
    "color-synonyms": "crimson, navy",
    "shape-synonyms": "box, pyramid, disc",
    "relation-synonyms": "over, under, leftward of",
    "capitals": "Red Square Is Above",
    "spaces": "doubled spaces",
}
METRICS = {
    "color": "colour",
    "shape": "shape",
    "binding": "binding",
    "relation_loose": "loose relation",
}
FOLDER = RESULTS / "robustness"
opened = {name: open_model(name) for name in ARMS}  # (model, header, encoder, noise process)
tables = {name: pd.read_parquet(FOLDER / f"{name}.parquet") for name in ARMS}
found = pd.concat(
    [drops(table).assign(model=name, arm=ARMS[name]) for name, table in tables.items()],
    ignore_index=True,
)
found["words"] = found.suite.map(LABELS)

# %% [markdown]
# ## What other words do to the pictures

# %% mystnb={"figure": {"caption": "Loose relation accuracy on the same requests in other words: O1 and O2 are the objects (\"red square\"), R the relation's phrase. 264 prompts a line (48 for the relation synonyms), eight pictures each, with 95 % intervals. Micro scale, seed 0: RTE, e5-small and MiniLM as contextual encoders. Short dark lines: the paper's models of size B with RTE and with T5-XXL (beside our e5-small), 264 prompts, 49 pictures each.", "name": "fig-robustness"}}
# The paper's models of size B, loose relation: 264 prompts, 49 pictures each
PAPER = {
    "RTE": (0.843, 0.862, 0.823, 0.842, 0.833),
    "e5-small": (0.808, 0.498, 0.608, 0.400, 0.529),
}
paper = pd.DataFrame(
    [
        {"arm": arm, "words": LABELS[s], "value": v}
        for arm, values in PAPER.items()
        for s, v in zip(SUITES, values, strict=False)
    ]
)
figures.show(
    figures.dots(
        found[(found.metric == "relation_loose") & found.model.isin(STANDARD)],
        "words",
        "arm",
        marks=paper,
        xlabel="loose relation accuracy",
        mark_label="paper: RTE, T5-XXL (size B)",
    ),
    "Dots of relation accuracy by wording for three encoders: all keep it with one added the, lose "
    "some with other articles and much with other fillers, reversed orders and new words, and only "
    "e5-small falls with capitals.",
)


# %% tags=["nbval-check-output", "hide-output"]
for (arm, words), rows in found.groupby(["arm", "words"], sort=False):
    values = rows.set_index("metric")
    shares = ", ".join(f"{title} {values.value[m]:.3f}" for m, title in METRICS.items())
    loose = values.loc["relation_loose"]
    change = (
        ""
        if words == LABELS["train"]
        else f", change {loose.change:+.3f} [{loose.change_low:+.3f}, {loose.change_high:+.3f}]"
    )
    print(
        f"{arm}; {words}: {shares} [{loose.low:.3f}, {loose.high:.3f}]{change}; object 1 is "
        f"displaced by ({values.value['dx']:+.1f}, {values.value['dy']:+.1f}); n = {loose.n}"
    )

# %% [markdown]
# **One "the" breaks none of the three.** With "the" before the second object e5-micro keeps .97,
# MiniLM .92, RTE .97: the paper's T5 falls to .50 there. Without "is" e5-micro is at .91, with
# "the" twice at .89; MiniLM falls furthest, to .80 with "the" twice.
#
# **But the failure that the paper describes is there, with other words.** "A ... a ..." and "there
# ... really ... this ..." leave most of e5-micro's colours (.99, .94) and shapes (.96, .88) and
# take the relation (.79, .54), and the first objects drift to one side, by (-12, +5) and (-11, +21)
# units. RTE fails otherwise with the same
# fillers: the shapes go as well (.66). The places alone do not explain it ("the ... the" moves
# every word as far as "a ... a" does, and costs .03): these are words that it has never met, new
# random vectors. So "RTE does not mind" holds at micro scale for words that it has met, and not
# beyond.
#
# A reversed order RTE reads as what it saw in training: the object named first is taken for object
# 1, with some confusion, and the relation is right in .07 of pictures. The contextual models do
# better (.24 and .60): their encoders have seen sentences. With colour or shape words that the
# network has never met few pictures have the right objects (binding .36 at the most, with e5-small
# and new shape words), and synonyms of the relation work in most pictures with the pretrained
# encoders (.71, .72; RTE, for which they are new random vectors, .29). Capital letters are other
# words to e5-small's tokenizer, and the same to the others. Doubled spaces change nothing (with
# e5-small one picture in a thousand, by rounding).
#
# Further seeds of e5-small and of RTE and the control without word positions (six other wordings),
# two networks of size mini (seven) and the three with a slower caption MLP (three), one picture a
# prompt:

# %% tags=["nbval-check-output", "hide-output"]
for name in (
    "e5-micro-s1",
    "e5-micro-s2",
    "e5-micro-s3",
    "e5-micro-s4",
    "e5-mini",
    "e5-slow-micro-s1",
    "e5-slow-micro-s2",
    "e5-slow-mini",
    "rte-micro-s2",
    "rte-mini",
    "rte-nopos-micro",
):
    others = drops(pd.read_parquet(FOLDER / f"{name}.parquet"))
    for words, rows in others.groupby("suite", sort=False):
        values = rows.set_index("metric")
        loose = values.loc["relation_loose"]
        moved_by = (
            ""
            if values.value[["dx", "dy"]].isna().any()
            else f"; object 1 is displaced by ({values.value.dx:+.0f}, {values.value.dy:+.0f})"
        )
        print(
            f"{name}; {LABELS[words]}: colour {values.value.color:.2f}, shape "
            f"{values.value['shape']:.2f}, loose relation {loose.value:.2f} [{loose.low:.2f}, "
            f"{loose.high:.2f}]{moved_by}; n = {loose.n}"
        )

# %% [markdown]
# e5-micro-s1 is as robust as e5-micro, e5-micro-s3 more so with the fillers of "there ... really
# ... this" (.81); e5-micro-s2 is not: with "the" twice it falls to .74, with shapes and colours
# whole (.97) and the first objects drifting by (-13, -10) units, to the upper left: what the
# paper's T5 does, in a smaller size. With "the" and no "is" it falls to .77, without such a drift.
# One training run in five of the same recipe: how brittle
# a network is belongs to the run, and not to the encoder alone. e5-micro-s4, which reads its shape
# words where the others read their colour words ({doc}`fig7_text_fusion`), stands between: .83 with
# "the" twice, and .61 and .54 with "a" and with "there ... really ... this", where shapes go as
# well (.86, .76 and .72) and nothing drifts.
#
# **Of the networks with the slower caption MLP one breaks as far as T5.** e5-slow-micro-s1, which
# reads its shape words and relation words ({doc}`fig7_text_fusion`), falls from .82 to .32 with
# "the" twice, colours (.99) and most shapes (.84) whole: as far as the paper's T5 falls (.81 to
# .50, .53 and .40). Without "is", and with "the" before the second object, it is at .67; "is the"
# alone, at which T5 breaks, costs it nothing (.80). The
# objects do not drift to one side, though (mean displacement (+3, -3) units). e5-slow-micro-s2, of
# the same recipe, falls less and less cleanly: from .88 to .67 with "the" twice and to .71 without
# "is", with some shapes (.90 to .82 and .78). These two saw half as many pictures. e5-slow-mini, of
# size mini and over all 192 thousand, falls from .97 to .77 with "the" twice, with colours and
# shapes whole (1.00, .96) and the first objects drifting by (-3, +17) units, downwards: the paper's
# failure in kind, in a smaller size; with "the" and no "is" it is at .86. e5-slow-micro-s2 and
# e5-slow-mini lose no more than e5-micro-s2
# does at the common rate, so whether the recipe makes a network brittle these runs do not tell.
#
# rte-mini minds none of these articles and fillers, new words included (.98 with "a" and .97 with
# "there ... really ... this", where rte-micro-s2 falls to .72 and .67); a reversed order it reads
# as the other RTE models do (.06).
#
# The control has no relation to lose, and shows what it reads: a bag of words. Another "the" or a
# reversed order changes not one of its numbers, a missing "is" changes them a little (shapes .64 to
# .59, the relation .11 to .08), and a word that it has never met, "a" or "there", leaves nothing at
# all of its pictures, not even the colours.

# %% tags=["hide-input"]
SHOWN = (
    "red square is above blue circle",
    "blue triangle is to the right of red circle",
    "red circle is to the lower left of blue square",
)
PLACES = [suite().index(prompt) for prompt in SHOWN]


@cache
def drawn(model, suite_):
    """The three prompts in the suite's words, and their pictures."""
    network, _, encoder, process = opened[model]
    prompts = [suite(CANONICAL, suite_)[place] for place in PLACES]
    return prompts, sample(
        network, encoder, prompts, PLACES, process=process, precision=fast_precision()
    ).numpy()


def pictures(words, model):
    prompts, these = drawn(
        model, next(suite_ for suite_, label in LABELS.items() if label == words)
    )
    return figures.to_png(
        picture_table({"training": drawn(model, "train")[1], "these words": these}, prompts), 48
    )


controls.grid(
    pictures,
    words=[LABELS[s] for s in SUITES if s not in ("train", "relation-synonyms", "spaces")],
    model=list(ARMS),
    alt="Pictures of three prompts in the training template's words above and in the chosen other words below, from the same noise.",
)

# %% [markdown]
# *Three prompts in the words of the training template (above) and in other words (below, titles),
# from the same noise. Micro scale, seed 0: RTE, e5-small and MiniLM as contextual encoders, and
# e5-small trained on four templates, for which three of these wordings are not new.*
#
# ## Which words carry the harm
#
# A wording changes the vectors of all words at once. Which of them matter? Here the words of some
# roles are given the vectors that they have in the training template's prompt, before the network
# sees them; all others keep what the new wording made of them.

# %% mystnb={"figure": {"caption": "Loose relation accuracy of e5-micro on other wordings when some words are given back the vectors that they have in the training template; 96 canonical prompts, one picture each, 95 % intervals. Micro scale, e5-small as contextual encoder, seed 0.", "name": "fig-restored"}}
WORDS = {
    "": "nothing",
    "color1 color2": "colours",
    "shape1 shape2": "shapes",
    "relation": "relation words",
    "special filler": "fillers, special tokens",
    "color1 color2 shape1 shape2": "colours and shapes",
}
healed = pd.read_parquet(FOLDER / "e5-micro-restored.parquet")
HEALED = list(healed.suite.unique())
parts = pd.DataFrame(
    [
        {
            "suite": name,
            "words": LABELS[name],
            "restored": WORDS[group],
            "value": rows.relation_loose.mean(),
            "low": low,
            "high": high,
            "n": len(rows),
        }
        for (name, group), rows in healed.groupby(["suite", "words"], sort=False)
        for low, high in [wilson(rows.relation_loose.sum(), len(rows))]
    ]
)
figures.show(
    figures.dots(
        parts[parts.restored != "colours and shapes"],
        "words",
        "restored",
        xlabel="loose relation accuracy",
    ),
    "Dots of e5-small's relation accuracy by wording when some words get their old vectors back: "
    "with the colour words it is high for every wording, and with any others it stays as low as "
    "with none.",
)

# %% tags=["nbval-check-output", "hide-output"]
for words, rows in parts.groupby("words", sort=False):
    print(
        f"e5-micro; {words}; restored: "
        + ", ".join(
            f"{r.restored} {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in rows.itertuples()
        )
        + f"; n = {rows.n.iloc[0]}"
    )

# %% [markdown]
# **All of it goes through the colour words.** With the two colour words restored, and everything
# else as the new wording made it, e5-micro is back at .95 to .97, from as low as .07 (.92 with new
# shape words, whose shapes it then draws: it reads those, too, in the colour words). The shape
# words, the relation words,
# the fillers and the special tokens can be restored or not: no share changes by more than .03. This
# is chapter 7 from the other side ({doc}`fig7_text_fusion`): the network reads the relation in the
# colour words, and what harms it is what reaches them.
#
# That also explains why "is the" does so little here. After e5-micro's caption MLP it moves the
# second *shape* word by more than the relation itself does, and the colour words, which the network
# reads, hardly at all (next section).
#
# ## Where the words are pushed
#
# In each object's colour word the relation is eight effect vectors, and a plane in which they point
# up, down, left and right: the word's compass. A wording moves the word by its own mean shift. The
# part of it in that plane reads as a direction: so far to the right, so far down,
# in units of one relation's own effect. If the network reads the relation there, that is where it
# should put object 1. Nothing is fitted to the pictures here.

# %% tags=["hide-input"]
READ = ("color1", "color2")
moved = []
for name in ("e5-micro", "minilm-micro"):
    network, _, encoder, _ = opened[name]
    pushed = shifts(
        encoder,
        [s for s in SUITES if s not in ("train", "relation-synonyms", "spaces", "color-synonyms")],
        mlp=network.caption_mlp,
    )
    shown = found[(found.model == name) & found.metric.isin(["dx", "dy"])].pivot(
        index="suite", columns="metric", values="value"
    )
    moved.append(pushed.merge(shown, left_on="suite", right_index=True).assign(model=name))
moved = pd.concat(moved, ignore_index=True)
read = (
    moved[moved.word.isin(READ)]
    .groupby(["model", "suite"], sort=False)[["right", "down", "dx", "dy"]]
    .mean()
    .reset_index()
)

# %% mystnb={"figure": {"caption": "Mean displacement of object 1 from object 2 over all pictures of a wording (0 if the prompts are obeyed) against the mean shift of the two colour words, after the caption MLP, in the directions in which the relation moves these words. A dot a wording; by name where the displacement is over 14 canvas units (of 128): the-the is \"the O1 is R the O2\", articles \"a O1 is R a O2\", filler \"there O1 is really R this O2\", capitals \"Red Square Is Above\", shape-synonyms \"box, pyramid, disc\". 2112 pictures a wording, of which those with both objects count. e5-micro and minilm-micro: micro scale, e5-small and MiniLM as contextual encoders, seed 0.", "name": "fig-shifts"}}
AXES = {"to the right": ("right", "dx"), "downwards": ("down", "dy")}
points = pd.concat(
    [
        read.assign(
            panel=panel, x=read[told], y=read[shown], group=read.model.map(ARMS), label=read.suite
        )
        for panel, (told, shown) in AXES.items()
    ]
)
figures.show(
    figures.named_dots(
        points.assign(named=points.y.abs() > 14),
        "mean shift of the colour words, in units of a relation's own effect",
        "mean displacement of object 1\n(canvas units)",
    ),
    "Two scatter plots of object 1's drift against the shift of the colour words: e5-small's "
    "wordings lie along a rising line in both directions, and MiniLM's do not do so downwards.",
)

# %% tags=["nbval-check-output", "hide-output"]
for (name, words), rows in moved.groupby(["model", "suite"], sort=False):
    print(
        f"{name}; {LABELS[words]}: size of the mean shift, in relation effects: "
        + ", ".join(
            f"{r.word} {r.size_:.2f}" for r in rows.rename(columns={"size": "size_"}).itertuples()
        )
    )
print(
    "e5-small, as encoded; O1 is R the O2: size of the mean shift, in relation effects: "
    + ", ".join(
        f"{r.word} {r.size_:.2f}"
        for r in shifts(opened["e5-micro"][2], ["is-the"])
        .rename(columns={"size": "size_"})
        .itertuples()
    )
)
for (name, panel), rows in points.groupby(["model", "panel"], sort=False):
    rho = np.corrcoef(rows.x, rows.y)[0, 1]
    low, high = np.tanh(
        np.arctanh(rho) + np.array([-1.96, 1.96]) / (len(rows) - 3) ** 0.5
    )  # Fisher's z
    print(
        f"{name}, {panel}: correlation over {len(rows)} wordings {rho:.2f} [{low:.2f}, {high:.2f}]"
    )

# %% [markdown]
# **In e5-micro the shift of the colour words foretells the drift**: correlations of .86 to the
# right and .98 downwards over ten wordings (synonyms of the colours, which replace the very words
# that are read, are left out). So the paper's account, a bias along the relation's own directions,
# holds in the words that the network reads. In
# minilm-micro it holds at best to the right, .72, and not downwards: its colour words carry little
# of the relation, and the network also reads its shape words.
#
# "Is the" moves e5-micro's second shape word by 1.35 relation effects, more than the relation
# itself does, and its colour words by .13 and .23. That is the caption MLP's work: as e5-small
# encodes them, the second shape word moves by .53 and the colour words by .46 and .49.
#
# And the heads? The paper follows its strongest head, whose maps turn from a cosine of -.98 to -.45
# under "the". The strongest heads of e5-micro on either colour word, with the mean shift of a
# wording added to every relation's effect:

# %% tags=["nbval-check-output"]
network, _, encoder, _ = opened["e5-micro"]
for word in READ:
    effect = relation_effects(encoder, word, network.caption_mlp)  # [relation, d]

    def cosines(push, effect=effect):
        """Mean cosine of every head's maps of the pushed effects with the relations' ramps [layer, head]."""
        return score(qk_maps(network, effect + push))[0].diagonal(dim1=2, dim2=3).mean(-1)

    still = cosines(0)
    layer, head = divmod(int(still.abs().argmax()), network.config.heads)
    after = {
        LABELS[name]: float(
            cosines(shift(encoder, name, word, network.caption_mlp).mean(0))[layer, head]
        )
        for name in ("is-the", "no-is-the", "the-the", "articles", "filler", "reversed", "capitals")
    }
    print(
        f"e5-micro, {word}, L{layer}H{head}: mean cosine {still[layer, head]:+.2f}; with the mean "
        "shift of " + "; ".join(f"{words} {value:+.2f}" for words, value in after.items())
    )

# %% [markdown]
# The maps suffer as in the paper: L2H2 from -.82 to -.33 with "the" twice, and L3H2 from .90 to .27
# with the fillers of "there ... really ... this".
#
# ## A remedy: train on several templates
#
# If the harm is a shift that training has not met, training can meet it. e5-templates-micro has the
# recipe, pictures and number of samples of e5-micro, and each caption in one of four templates at
# random. The other wordings are new to it, too.

# %% mystnb={"figure": {"caption": "Loose relation accuracy by wording after training on one template, as all other models here, and on four (marked *, a quarter of the captions each), with the same pictures, recipe and number of samples; 264 prompts a line (48 for the relation synonyms), eight pictures each after one template and two after four, 95 % intervals. Micro scale, e5-small as contextual encoder, seed 0.", "name": "fig-remedy"}}
TAUGHT = {"e5-micro": "one template", "e5-templates-micro": "four templates"}
taught = found[(found.metric == "relation_loose") & found.model.isin(TAUGHT)]
taught = taught.assign(
    training=taught.model.map(TAUGHT),
    words=taught.words + taught.suite.map(lambda s: " *" if s in TRAINED_TEMPLATES else ""),
)
figures.show(
    figures.dots(taught, "words", "training", xlabel="loose relation accuracy"),
    "Dots of relation accuracy by wording after training on one template and on four: four "
    "templates are better on articles, fillers, reversed orders and capitals, also where not "
    "trained, and no better on new words for colours and shapes.",
)

# %% tags=["nbval-check-output", "hide-output"]
for words, rows in taught.groupby("words", sort=False):
    print(
        f"{words}: "
        + ", ".join(
            f"{r.training} {r.value:.3f} [{r.low:.3f}, {r.high:.3f}], n = {r.n}"
            for r in rows.itertuples()
        )
    )

# %% [markdown]
# **It works, and beyond the templates trained.** The two templates with one "the", which it has not
# seen, are at .96 and .97; the fillers of "there ... really ... this", not seen either, rise from
# .54 to .82, reversed orders from .24 to .48 and .28 to .57, capitals from .29 to .64. New words
# for colours and shapes stay new. The price on the
# training template is at most .01.
#
# **Which circuit does it have then?** One of the same kind: it reads the colour words, and can do
# without all others (the masks of {doc}`fig7_text_fusion`). The strongest heads by the weights
# ({doc}`fig3b_weight_screening`), and those whose loss costs the relation most:

# %% tags=["nbval-check-output"]
for name in TAUGHT:
    network, _, encoder, _ = opened[name]
    for token in ("color1", "shape1", "color2", "shape2"):
        mean = screen(network, encoder, token, draws=1).query("relation == 'mean'")
        best = mean.loc[mean.cosine.abs().idxmax()]
        print(
            f"{name}, {token} effect: L{best.layer}H{best['head']}, mean cosine {best.cosine:.2f}"
        )
    table = outcomes(
        pd.read_parquet(RESULTS / "interventions" / f"{name}-heads-mean.parquet")
    ).query("metric == 'relation_loose' and not intervention.str.startswith('self')")
    print(
        f"{name}, loose relation without a head: "
        + ", ".join(
            f"{r.intervention} {r.change:+.2f} [{r.change_low:+.2f}, {r.change_high:+.2f}]"
            for r in table.nsmallest(3, "change").itertuples()
        )
        + f"; n = {table.n.iloc[0]}"
    )

# %% [markdown]
# Here weights and experiment agree: L0H1, the first by the weights on every word (-.92 on either
# colour word), is also the head whose loss costs the most (.60), with L2H2 beside it. Only L0H1
# costs the relation itself, and no shape; L2H2 and L4H0 cost it through the shapes that go with
# them (tables in `results/interventions`). In e5-micro one of the two heads that matter is the
# weights' first, and the other is not. In both networks the relation is read off the colour words.
#
# ## How fused, how far it relies on the relation words, how robust
#
# The paper sets one encoder against another. Here are four models side by side: how much of the
# relation stands in the objects' words, what the network loses without the relation words, and what
# other fillers and articles cost it.

# %% tags=["hide-input"]
SAME_WORDS = [
    "is-the",
    "no-is",
    "no-is-the",
    "the-the",
    "articles",
    "filler",
]  # other fillers and articles; the words and their order stay
dose = []
for name, arm in ARMS.items():
    network, _, encoder, _ = opened[name]
    fused = (
        fusion(encoder, network.caption_mlp)
        .set_index(["measure", "token"])
        .value["relation at equal length"][["color1", "shape1", "color2", "shape2"]]
        .max()
    )
    hidden = (
        outcomes(pd.read_parquet(RESULTS / "interventions" / f"{name}-masks.parquet"))
        .set_index(["intervention", "metric"])
        .loc[("relation", "relation_loose")]
    )
    rows = tables[name]
    harmed, plain = (
        rows[rows.suite.isin(suites)].relation_loose for suites in (SAME_WORDS, ["train"])
    )
    error = 1.96 * np.sqrt(harmed.var() / len(harmed) + plain.var() / len(plain))
    lost = plain.mean() - harmed.mean()
    dose += [
        {
            "arm": arm,
            "measure": "relation's share in an object's word",
            "value": fused,
            "low": np.nan,
            "high": np.nan,
        },
        {
            "arm": arm,
            "measure": "lost without the relation words",
            "value": -hidden.change,
            "low": -hidden.change_high,
            "high": -hidden.change_low,
        },
        {
            "arm": arm,
            "measure": "lost with other fillers and articles",
            "value": lost,
            "low": lost - error,
            "high": lost + error,
        },
    ]
dose = pd.DataFrame(dose)

# %% mystnb={"figure": {"caption": "For each model: the relation's share of the variance of an object's word, beyond what its place tells (after the caption MLP, the largest of the four words, 96 canonical prompts); the loose relation lost when the relation words are hidden from it; and lost on average over six wordings with other fillers and articles. RTE, e5-small, MiniLM, and e5-small trained on four templates, three of which are among the six wordings; n = 192 pictures for the words hidden, 528 to 2112 a wording; 95 % intervals, the share of variance is exact. Micro scale, seed 0.", "name": "fig-dose"}}
figures.show(
    figures.dots(dose, "arm", "measure", xlabel="share of variance, or of pictures"),
    "Dots of three measures for four models: a larger share of the relation in the objects' words "
    "does not go with a larger loss in other wordings, and only RTE loses without the relation "
    "words.",
)

# %% tags=["nbval-check-output"]
for arm, rows in dose.groupby("arm", sort=False):
    print(
        f"{arm}: "
        + ", ".join(
            f"{r.measure} {abs(r.value):.3f}"
            + ("" if np.isnan(r.low) else f" [{r.low:.3f}, {r.high:.3f}]")
            for r in rows.itertuples()
        )
    )

# %% [markdown]
# **No dose-response.** The more fused text is not the more fragile: e5-small, with ten times
# MiniLM's share, loses .14 and MiniLM .20; RTE, with none, .13. Of these four, RTE loses .75
# without its relation words and the others nothing. What the network was trained on matters more:
# the same
# fused text loses .02 after training on four templates (three of the six wordings are among them;
# on the other three it loses .04, and e5-micro .17), if in one run, and runs differ (above). Four
# models, three encoders, one seed each: that is enough to refute a simple rule and not enough for
# another one.
#
# ### Checked again, just now

# %% tags=["nbval-check-output"]
if not quick:  # make the tables anew, or go on with them
    for name in ARMS:
        network, _, encoder, process = opened[name]
        kept = {
            "settings": {"checkpoint": digest(name)},
            "process": process,
            "precision": fast_precision(),
            "progress": name,
        }
        robustness(
            network,
            encoder,
            range(8),
            file=FOLDER / f"{name}.parquet",
            command="relcore notebooks --full --only fig8",
            **kept,
        )
        if name == "e5-micro":
            restored(
                network,
                encoder,
                HEALED,
                WORDS,
                [0],
                file=FOLDER / f"{name}-restored.parquet",
                command="relcore notebooks --full --only fig8",
                **kept,
            )
outside = 0
few = {
    relation: CANONICAL[relation][:1] for relation in (list(CANONICAL)[::4] if quick else CANONICAL)
}
for name in ("rte-micro", "e5-micro"):
    network, _, encoder, process = opened[name]
    for suite_ in ("is-the", "articles", "filler"):
        fresh = robustness(
            network,
            encoder,
            [1000],
            [suite_],
            phrases=few,
            process=process,
            precision=fast_precision(),
        ).relation_loose
        low, high = wilson(fresh.sum(), len(fresh), z=3.29)
        kept = tables[name][
            (tables[name].suite == suite_) & tables[name].prompt.isin(suite(few, suite_))
        ].relation_loose.mean()
        outside += not low <= kept <= high
        print(
            f"{name}; {LABELS[suite_]}: stored share {kept:.2f}, within the 99.9 % interval of "
            f"{len(fresh)} fresh pictures: {low <= kept <= high}"
        )
assert not outside

# %% [markdown]
# ## The claims of this chapter
#
# How the paper's claims fare here; open one for its tests. {doc}`claims` has them all.

# %% tags=["hide-input"]
from relcore.claims import rows as claims_of

claims_of("fig8_robustness")

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
# # The playground
#
# Everything that the chapters do to a model, at one desk: write a prompt, choose a model, take
# heads away, hide words, tell the model another relation, and see what it draws and how the scorer
# judges it.
# On this page the menus choose among pictures drawn beforehand.
# {doc}`Open the notebook with a kernel <../running>`, and the form at its end takes any prompt, any
# heads and any noise.
#
# Scale of everything: **micro** (6 layers of 3 heads), 64-pixel pictures, one seed a model; the
# form at the end also takes the shipped models of other sizes and seeds; its list of heads is that
# of micro, so that most of mini's are missing and nano has no layers 3 to 5.

# %% tags=["parameters", "hide-input"]
quick = True  # the mean that stands in for a head is taken from 32 pictures; False takes 96

# %% tags=["hide-input"]
from functools import lru_cache

import ipywidgets as w
import numpy as np
import pandas as pd

from relcore.data.prompts import ROLES, parse, suite
from relcore.data.scenes import RELATIONS
from relcore.data.scoring import describe, detect, score
from relcore.errors import RelcoreError
from relcore.kernels import interventions as iv
from relcore.kernels.factors import Rewired
from relcore.model.checkpoints import shipped
from relcore.model.diffusion import fast_precision
from relcore.options import open_model
from relcore.paths import RESULTS
from relcore.view import controls, figures

figures.style()
ARMS = {"RTE": "rte-micro", "e5-small as contextual encoder": "e5-micro"}
WORDS = [role for role in ROLES if role != "special"]
AS_IT_IS = "(the prompt's own)"
opened = lru_cache(4)(open_model)


def sampling(process, steps):
    return {
        "process": process,
        "steps": steps,
        "guidance": 4.0,
        "guided_until": 0.2,
        "precision": fast_precision(),
    }


@lru_cache(4)
def mean_of_heads(name, steps):
    """What every head puts out in the mean over prompts with every relation equally often: see `iv.reference`."""
    model, _, encoder, process = opened(name)
    prompts = suite()[:: 3 if quick else 1]
    return iv.reference(
        model, encoder, prompts, iv.REFERENCE_SEEDS, iv.heads_of(model), **sampling(process, steps)
    )


@lru_cache(256)
def draw(
    name,
    prompt,
    noises,
    steps,
    heads=(),
    by="mean",
    hidden=(),
    relation=AS_IT_IS,
    into=(),
    strength=1.0,
):
    """A picture a noise, with its objects and its verdicts."""
    model, _, encoder, process = opened(name)
    parsed, changes = parse(prompt), []
    if heads:
        chosen = [
            iv.find_head(model, h.split()[-1], "attn" if h.startswith("self") else "cross_attn")
            for h in heads
        ]
        changes.append(iv.ablate(chosen, mean_of_heads(name, steps) if by == "mean" else None))
    if hidden:
        changes.append(iv.mask_tokens(hidden))
    if relation != AS_IT_IS:
        if not into:
            raise RelcoreError("choose the words that are to tell the other relation")
        encoder = Rewired(encoder, list(into), lambda _: relation, strength)
    together = iv.drawn_with(
        lambda batch: {k: edit for change in changes for k, edit in change(batch).items()}
    )
    pictures = together(
        model, encoder, [prompt] * len(noises), list(noises), **sampling(process, steps)
    ).numpy()
    return [
        (picture, found, score(found, parsed))
        for picture in pictures
        for found in [detect(picture)]
    ]


def verdict(row):
    said = {"colour": "color", "shape": "shape", "binding": "binding", "relation": "relation_loose"}
    return " ".join(f"{word} {'✓' if row[metric] else '✗'}" for word, metric in said.items())


def shown(drawn, titles, columns):
    """Pictures with what the scorer found in them, and its verdicts."""
    boxes = [
        [(n, o.x, o.y, o.bounds) for n, o in zip(describe(found), found, strict=True)]
        for _, found, _ in drawn
    ]
    titles = [f"{title}: {verdict(row)}" for title, (_, _, row) in zip(titles, drawn, strict=True)]
    return figures.to_png(
        figures.detections(np.stack([p for p, _, _ in drawn]), boxes, titles, columns), 48
    )


def most_needed(name):
    """The cross-attention heads whose removal costs the most relation, and the most shape of the others (chapter 6)."""
    table = iv.outcomes(pd.read_parquet(RESULTS / "interventions" / f"{name}-heads-mean.parquet"))
    cross = table[~table.intervention.str.startswith(("self", "none"))]
    falls = cross.pivot(index="intervention", columns="metric", values="change")
    relation = falls.relation_loose.idxmin()
    return relation, falls["shape"].drop(relation).idxmin()


# %% [markdown]
# ## Without a kernel
#
# A relation head and an object head are chosen by the criterion of
# {doc}`chapter 6 <fig6_circuits>`: the head whose removal costs the most relation (loose), and of
# the others the one that costs the most shape.
# A head is removed by putting its mean output in its place. Words are hidden in the conditional
# branch alone. The opposite relation is put into the relation words with RTE, which works for
# "above" and "below" and
# hardly for longer phrases, of which a mean effect is only a part
# ({doc}`chapter 7 <fig7_text_fusion>`), and into both colour words with e5-micro, which reads these
# and does not need its relation words.

# %% tags=["hide-input"]
PROMPTS = [
    "red square is above blue circle",
    "blue triangle is to the lower right of red square",
    "red circle is to the left of blue triangle",
]
NOISE = range(3)
HEADS = {label: most_needed(name) for label, name in ARMS.items()}
CHANGES = [
    "nothing changed",
    "without the relation head",
    "without an object head",
    "relation words hidden",
    "colour words hidden",
    "opposite relation put in",
]


def changed(encoder, change, prompt):
    """The settings of `draw` for a row of CHANGES."""
    relation_head, object_head = HEADS[encoder]
    return {
        "nothing changed": {},
        "without the relation head": {"heads": (relation_head,)},
        "without an object head": {"heads": (object_head,)},
        "relation words hidden": {"hidden": ("relation",)},
        "colour words hidden": {"hidden": ("color1", "color2")},
        "opposite relation put in": {
            "relation": iv.opposite_relation(prompt),
            "into": ("relation",) if encoder == "RTE" else ("color1", "color2"),
        },
    }[change]


def frame(encoder, prompt, change):
    drawn = draw(ARMS[encoder], prompt, NOISE, 18, **changed(encoder, change, prompt))
    return shown(drawn, [f"noise {noise}" for noise in NOISE], len(NOISE))


controls.grid(
    frame,
    encoder=list(ARMS),
    prompt=PROMPTS,
    change=CHANGES,
    alt="Three pictures of one prompt from three noises, with the boxes and names of what the scorer found and its verdicts, under the chosen change to the model.",
)

# %% [markdown]
# *Three pictures of one prompt, from the same three noises under every change; boxes and names:
# what the scorer found ("?" is neither a colour nor a shape it knows). Relation: loose. 18 steps;
# micro scale; RTE, and
# e5-small as contextual encoder; one seed each.*

# %% tags=["hide-input"]
rows = []
for encoder in ARMS:
    for change in CHANGES:
        verdicts = [
            v
            for p in PROMPTS
            for *_, v in draw(ARMS[encoder], p, NOISE, 18, **changed(encoder, change, p))
        ]
        counts = {
            figures.METRIC_NAMES[m]: sum(bool(v[m]) for v in verdicts)
            for m in ("color", "shape", "binding", "relation_loose")
        }
        rows.append({"encoder": encoder, "change": change, **counts})
pd.DataFrame(rows).set_index(["encoder", "change"])


# %% [markdown]
# *How many of the nine pictures of each change are right. Nine pictures show a direction, no more:
# the chapters have the numbers with intervals. The removed heads are L3H2 and L4H2 with RTE, L3H1
# and L3H2 with e5-small.
# Micro scale; RTE, and e5-small as contextual encoder; one seed each.*
#
# ## With a kernel
#
# Above, the prompt as it is; below, with the changes, from the same noise. Without a change there
# is one row.
#
# - **prompt**: two objects and a relation, in any of the ways the grammar reads. What it cannot
#   read it names. Contextual encoders know the prompts of the book's suites; others need the
#   encoder's package.
# - **heads away**: several with Ctrl or Shift; "self" are self-attention heads. **by mean** puts in
#   what the head puts out on average; **by zero** puts in nothing, which is further from anything
#   the network is used to.
# - **hide words**: no image token may attend to them. Not all of them can be hidden.
# - **tell instead**: another relation, put **into** the words chosen by vector arithmetic: the mean
#   effect of the prompt's own relation is taken out, and the other's put in times **strength**.


# %% tags=["hide-input"]
def live(model, prompt, heads, by, hidden, relation, into, strength, noise, pictures, steps):
    noises = range(noise, noise + pictures)
    change = {
        "heads": heads,
        "by": by,
        "hidden": hidden,
        "relation": relation,
        "into": into,
        "strength": strength,
    }
    rows = [{}, change] if heads or hidden or relation != AS_IT_IS else [{}]
    drawn = [one for settings in rows for one in draw(model, prompt, noises, steps, **settings)]
    titles = [f"noise {k}{', changed' if settings else ''}" for settings in rows for k in noises]
    return shown(drawn, titles, pictures)


names = [
    str(iv.Head(layer, head, kind))
    for kind in ("cross_attn", "attn")
    for layer in range(6)
    for head in range(3)
]
controls.live(
    live,
    model=w.Dropdown(options=list(shipped()), value="rte-micro", description="model"),
    prompt=w.Text(
        "red square is above blue circle",
        description="prompt",
        continuous_update=False,
        layout=w.Layout(width="40em", max_width="100%"),
    ),
    heads=w.SelectMultiple(options=names, rows=6, description="heads away"),
    by=w.ToggleButtons(options=["mean", "zero"], description="by"),
    hidden=w.SelectMultiple(options=WORDS, rows=6, description="hide words"),
    relation=w.Dropdown(options=[AS_IT_IS, *RELATIONS], description="tell instead"),
    into=w.SelectMultiple(options=WORDS[:5], value=["relation"], rows=5, description="into"),
    strength=w.FloatSlider(
        1.0, min=0, max=4, step=0.5, description="strength", continuous_update=False
    ),
    noise=w.BoundedIntText(0, 0, 9999, description="noise seed"),
    pictures=w.IntSlider(3, 1, 4, description="pictures", continuous_update=False),
    steps=w.IntSlider(18, 4, 36, description="steps", continuous_update=False),
    alt="Pictures of the typed prompt, with the boxes and names of what the scorer found and its verdicts, as the model is and below it with the chosen changes.",
)

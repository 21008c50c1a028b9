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
# # Spatial relations in a small diffusion transformer
#
# Ask an image generator for *a red square to the left of a blue circle* and you may well get the
# colours and the shapes, but on the wrong sides.
# When a diffusion transformer does get it right, how does it know where each object goes?
#
# {cite:t}`wang2026circuit` trained small diffusion transformers from scratch on nothing but
# pictures of two objects, and took them apart. What they report:
#
# - **Same accuracy, different circuits.** With random token embeddings (RTE) or with a pretrained
#   T5 encoder the networks draw the relation about equally well, but they do not do it in the same
#   way.
# - **Relations are learned last**: first colours, then shapes, then which colour goes with which
#   shape, and the relation at the end.
# - **With random embeddings there is a two-stage circuit.** One cross-attention head reads the
#   relation word and marks the region of the picture where each object belongs; another reads the
#   object's own words and draws it there.
# - **With T5 there is no need for the relation word.** The encoder has already mixed the relation
#   into the words of the objects, and the network reads the layout from those.
# - **The second way is brittle.** An added "the" is enough to spoil the layout of the T5 network;
#   the RTE network does not mind.
#
# ## The two circuits, step by step
#
# From the words to the picture, drawn from computed numbers: press play, or drag the slider, and
# choose the text encoder. {doc}`fig6_circuits` says how every number is made, and has more prompts.

# %% tags=["remove-input"]
from base64 import b64decode

import nbformat

from relcore.claims import rows
from relcore.paths import NOTEBOOKS
from relcore.view import controls, story

ENCODERS = ["RTE", "e5-small as contextual encoder"]
chapter = nbformat.read(NOTEBOOKS / "fig6_circuits.ipynb", as_version=4)
pictures = {
    output.metadata["scrapbook"]["name"]: output.data["application/papermill.record/image/png"]
    for cell in chapter.cells
    for output in cell.get("outputs", ())
    if "scrapbook" in output.get("metadata", {})
}


def frame(stage, encoder):
    return b64decode(pictures[f"circuit {stage} {encoder}"])


names = [f"{k}: {name}" for k, name in enumerate(story.STAGES, 1)]
controls.frames(
    frame,
    range(1, len(names) + 1),
    "step",
    names,
    2500,
    poster=4,
    encoder=ENCODERS,
    alt="The circuit of one prompt, built up in six steps for either encoder: the words, the heads that read the relation, the tag that they write, the object heads, the picture, and six pictures that prove it by interventions.",
)

# %% [markdown]
# *The circuit of one prompt, step by step. Number in a word's box: the share of its vector that is
# the relation. Maps show the 8 x 8 image tokens; outlines, the objects of the finished picture, the
# first solid and the second dashed. AUC: how well what is written there tells object 1's places
# from object 2's (.5 is chance). Object heads are here the heads, other than the relation head,
# that cost many shapes (with RTE one more than {doc}`fig5_object_head` counts). Micro scale (6
# layers, width 192, 3 heads); random token embeddings (RTE), and e5-small as contextual encoder;
# one seed each.*
#
# ## What this book is
#
# An independent reproduction, written from scratch, in which every figure is computed by a notebook
# of this book from models that anyone can train:
# on two processor cores, with no GPU. It is built around a Python package, `relcore`, that keeps
# four things apart:
# the scenes and prompts, the model and its training, the kernels that analyse a trained network,
# and the figures.
#
# Several things differ from the paper, and the chapters say what they change. Pictures: 64 pixels,
# drawn directly {cite:p}`li2025jit`, with the paper's 8 × 8 grid of image tokens but no
# autoencoder. Data: relations balanced,
# no overlap, both colours always named. Training: a rectified flow {cite:p}`liu2022flow` with more
# than half of its time at the noise levels where the layout is decided, Muon
# {cite:p}`jordan2024muon` for the matrices, and
# 192 thousand pictures against the paper's 41 million. Text: e5-small and MiniLM in place of
# T5-XXL.
#
# ## What came out
#
# In short, at this scale:
#
# - **Random embeddings: the two stages are there.** One to three cross-attention heads turn the
#   relation words into a half of the picture, from the first step on, and their output, taken from
#   another prompt, moves the objects. But the tag that they write is a *colour* ("red goes here"),
#   not "object 1": {doc}`fig4_relation_head`, {doc}`fig5_object_head`.
# - **A contextual encoder: little or no need for the relation words**, as in the paper (none in
#   most of the networks; four lose .11 to .28 without them). Which words say it instead differs:
#   four seeds of e5-small in five read the layout from the *colour* words, one from the two *shape*
#   words, the paper's; trained on the paper's captions, which leave colours out, it is the shape
#   words again: {doc}`fig7_text_fusion`.
# - **Its circuit is smaller at micro scale, and larger at twice the width**: to keep .95 of the
#   accuracy, all other cross-attention heads at their mean, takes two to four of 18 heads in three
#   seeds of e5-small that read colour words, where random embeddings need five to eight; at size
#   mini eleven of 36 against six: {doc}`fig5_object_head`.
# - **"is the", which takes the paper's T5 model from .81 to .50, costs at most .04 here.** Other
#   fillers and articles do break contextual networks: "the" before both objects takes e5-micro-s2
#   from .97 to .74, and three networks with a slower caption MLP from .82 to .32, from .88 to .67
#   and from .97 to .77. In e5-micro all of the harm goes through the colour words, and training on
#   four templates mends most of it: {doc}`fig8_robustness`.
# - **Two runs in five with random embeddings never learn** which word belongs to which, and with a
#   contextual encoder the vectors of words that are not read grow without bound, which broke one
#   run. A slower caption MLP slows that tenfold, and the three micro networks trained so have the
#   paper's head on the shape words: in the two taken apart it is the head that the relation needs
#   most (.55 and .24 are lost without it), and it reads more than one kind of word. Mini comes to
#   .97 that way, and loses this head again before the end: {doc}`fig2_training`,
#   {doc}`fig7_text_fusion`.
# - **The smallest network, nano, learns the relation with e5-small and not with random
#   embeddings**, in one run each (e5-small's over half as many pictures): it draws few shapes, but
#   of the pairs that it binds .97 stand right, against .39: {doc}`fig2_training`.
# - **At twice the width the paper's circuit stands out cleanly**: one of 36 heads decides the
#   relation, and with five more it draws the pictures: {doc}`fig4_relation_head`,
#   {doc}`fig5_object_head`.
#
# And the paper's claims, each tested with a number. Open {doc}`claims` for the tests behind a
# verdict, with intervals and seeds; `claims.yml` says what was fixed beforehand.

# %% tags=["remove-input"]
rows(brief=True)

# %% [markdown]
# ## The chapters
#
# Chapters are named after the paper's figures; the figures inside them are numbered through.
#
# - 1: {doc}`The controlled set-up <fig1_dataset>`: two objects, eight relations, the prompts, and
#   how a picture is scored.
# - 2: {doc}`Learning to place things <fig2_training>`: colours, shapes, binding and relation over
#   training, with four text encoders; what delays them; and the control without word positions.
# - 3a: {doc}`What the picture looks at <fig3a_attention_synopsis>`: from which kind of place to
#   which kind of word every attention head looks.
# - 3b: {doc}`Finding the heads from the weights alone <fig3b_weight_screening>`: which attention
#   head turns a relation into a direction, with no picture drawn.
# - 4: {doc}`The relation head <fig4_relation_head>`: one to three heads decide the relation with
#   random embeddings; what it writes, and what becomes of the pictures when it is exchanged.
# - 5: {doc}`The object heads <fig5_object_head>`: which heads draw the shapes, how they learn
#   where, and how few heads suffice.
# - 6: {doc}`The two circuits, step by step <fig6_circuits>`: from the words to the picture, with
#   random embeddings and with a contextual encoder.
# - 7: {doc}`How the encoder mixes the relation into the words <fig7_text_fusion>`: how much of each
#   word's vector is the relation, before and after training, which words a network reads, and when,
#   and what it does if they tell another relation.
# - 8: {doc}`The same request in other words <fig8_robustness>`: articles, fillers, order, synonyms;
#   which words carry the harm, and a remedy.
#
# Then {doc}`the claims, one by one <claims>`, and what you can do yourself:
# {doc}`play <playground>`, {doc}`train your own model <../train_your_own>`, bring
# {doc}`your own encoder <../your_own_encoder>` or
# {doc}`your own PixArt <../own_model>`, {doc}`use more processes, GPUs or machines <../scale_out>`.
# {doc}`../glossary` explains the words and axes, {doc}`../benchmark` says how fast all this is.
#
# Sliders and menus on these pages work as they are, without any server. {doc}`../running` tells how
# to open the chapters as live notebooks.

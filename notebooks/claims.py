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
# # The claims, one by one
#
# What {cite:t}`wang2026circuit` claim, and whether it is so here. Every claim has tests with
# numbers that would count as the paper's finding or as part of the way; they are taken from the
# paper where it gives one, and stand in `claims.yml`
# with the verdict and with what was fixed beforehand and what was not. `relcore claims` measures
# all of them again, from the stored tables and the shipped weights, and fails if a verdict has
# changed.
#
# - **reproduced**: every test says so, in every model and seed that it names;
# - **partly**: some do, or the same effect is there in a smaller size or another place;
# - **not reproduced**: the test that the sentence turns on fails in every model;
# - **untested**: it cannot be measured here, or not yet; the note says why.
#
# A test goes by its value; the interval (95 %, of pictures) says how firmly. Seeds that did not
# learn count like the others where accuracy is asked for (S1, S5, S16); claims about a circuit name
# networks that have one, and times of learning are of runs that get there. Our networks are small
# (micro: 6 layers, width 192) and none of our encoders is T5-XXL: *not reproduced* says that the
# finding does not carry over to them,
# not that the paper is wrong about its own.
#
# In brackets: how many of the claim's tests, counted for every model, came out as in the paper.
# Open a line for the paper's number, ours, and the figure that shows it.

# %% tags=["hide-input"]
from relcore.claims import ledger, rows
from relcore.view.claims import VERDICTS

claims = ledger()

# %% tags=["hide-input", "nbval-check-output"]
for verdict in VERDICTS:
    mine = [claim["id"] for claim in claims if claim["computed"] == verdict]
    print(f"{verdict}: {len(mine)} ({', '.join(mine)})")
assert all(claim["computed"] == claim["verdict"] for claim in claims), (
    "a verdict has changed: run `relcore claims`"
)

# %% tags=["hide-input"]
rows()

# %% [markdown]
# *Brackets are 95 % intervals of pictures, but for four kinds of number: a mean cosine has the
# range over the relations, a time of learning the range over the runs, a ratio of two readings the
# widest range their intervals allow, and a share of variance, a place among the heads and a cosine
# of words none.
# n counts pictures, image tokens (areas under the curve), prompts, words, relations, nulls, heads
# or runs, as the number wants.*

"""Which heads turn a relation into a direction, by their weights alone.

No network is run (`relcore.kernels.circuits`). RTE is screened on its relation words, and on the
paper's nine; a contextual encoder on the relation's effect in each of the objects' words.
"""

from functools import partial

import pandas as pd

from relcore.experiment import experiment
from relcore.kernels.circuits import screen
from relcore.kernels.factors import OBJECT_WORDS

TOKENS = ("relation", "words")
AXES = {"up and down": ("above", "below"), "left and right": ("left", "right")}


@experiment(runs="learned and keeps == 'weights'", minutes=0.2)
def screening(model):
    """How far every head's map of a text vector is a linear ramp in the relation's direction.

    layer, head; token (what was screened); vector (a relation, or one of the nine words; "mean");
    relation (of the vector; "mean"; "up and down" and "left and right": the mean over the straight
    relations of an axis); cosine with the relation's ramp, projection on it and energy of the map,
    both in units of query times key; null_low, null_high: the 95 % range of the mean cosine with
    the relations shuffled (NaN where relation is not "mean").
    """
    for token in OBJECT_WORDS if model.encoder.contextual else TOKENS:
        yield token, partial(screened, model, token)


def screened(model, token):
    """The rows of one token."""
    table = screen(model.network, model.encoder, token)
    tables = [table]
    for axis, relations in AXES.items():
        mine = table[table.relation.isin(relations)].groupby(["layer", "head", "token"])
        mean = mine[["cosine", "projection", "energy"]].mean().reset_index()
        tables.append(mean.assign(vector="mean", relation=axis))
    return pd.concat(tables, ignore_index=True)

"""Which words of a contextual encoder the network obeys: another relation told in some words alone.

In these words' embeddings the relation's effect is exchanged, e - v[told] + factor v[target],
before the caption MLP (paper, T5 vector manipulation; `relcore.kernels.factors.Rewired`). All other
words still tell the prompt's own relation.
"""

from dataclasses import replace
from functools import partial

import pandas as pd

from experiments.shared import drawn, every_phrase
from relcore.data.prompts import FORMS
from relcore.data.scenes import RELATIONS
from relcore.experiment import experiment
from relcore.kernels.factors import Rewired
from relcore.kernels.interventions import in_relation

WORDS = ("shape2", "shape1 shape2", "color1 color2", "relation")
FACTORS = (1.0, 3.0)
EVERY = 11  # of the 264 prompts: coprime to 12, so that phrases, colours and shapes all vary


def some_phrases() -> list[str]:
    """24 of the 264 training prompts, one of each phrase and of two phrases two."""
    return every_phrase()[::EVERY]


@experiment(
    runs="learned and keeps == 'weights' and encoder in ('e5', 'minilm')",
    minutes=11,
    seeds=1,
    prompts=some_phrases,
)
def rewiring(model, prompts, seeds):
    """Pictures of prompts whose words tell two relations, in each of the four caption forms.

    form; words (the roles edited; those a form lacks are skipped); factor; target (the relation put
    in); prompt, seed, relation (the prompt's own), and the scorer's verdicts on that; target_loose,
    target_strict: whether the picture shows the target. A target equal to the prompt's own relation
    changes nothing at factor 1.
    """
    for form, gone in FORMS.items():
        missing = {f"color{k + 1}" for k in gone}
        for words in WORDS:
            if roles := [role for role in words.split() if role not in missing]:
                for factor in FACTORS:
                    yield (
                        f"{form}, {words} x {factor:g}",
                        partial(rewired, model, prompts, seeds, form, words, roles, factor),
                    )


def rewired(model, prompts, seeds, form, words, roles, factor):
    """The rows of one part: all targets."""
    tables = []
    for index, target in enumerate(RELATIONS):
        told = Rewired(model.encoder, roles, lambda _, target=target: target, factor)
        rows = drawn(replace(model, encoder=told), prompts, seeds, form)
        shown = {
            f"target_{kind}": in_relation(rows, [index] * len(rows), kind == "strict")
            for kind in ("loose", "strict")
        }
        tables.append(rows.assign(words=words, factor=factor, target=target, **shown))
    return pd.concat(tables, ignore_index=True)

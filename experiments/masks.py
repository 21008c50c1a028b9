"""Which words a network needs: words hidden from all image tokens.

The words of some roles are masked out of the attention in the conditional branch, in every layer at
every step, as in the paper's prompt ablation. Guidance extrapolates from the conditional branch, so
the words that matter most are also hidden without guidance.
"""

from functools import partial

from experiments.shared import drawn
from relcore.data.prompts import FORMS
from relcore.experiment import experiment
from relcore.kernels.interventions import mask_tokens

HIDDEN = ("relation", "shape1", "shape2", "shape1 shape2", "color1 color2", "filler")


@experiment(runs="learned and keeps != 'curve'", minutes=8, seeds=1)
def masks(model, prompts, seeds):
    """Accuracy with words hidden, by kind of word, in each caption form."""
    for form in FORMS:
        for guidance, kinds in ((4.0, ("", *HIDDEN)), (1.0, ("", "relation"))):
            for hidden in kinds:
                yield (
                    f"{form}, {hidden or 'nothing'} hidden, guidance {guidance:g}",
                    partial(hide, model, prompts, seeds, form, hidden, guidance),
                )


def hide(model, prompts, seeds, form, hidden, guidance):
    """The rows of one part."""
    mask = mask_tokens(hidden.split()) if hidden else None
    rows = drawn(model, prompts, seeds, form, intervention=mask, guidance=guidance)
    return rows.assign(hidden=hidden, guidance=guidance)

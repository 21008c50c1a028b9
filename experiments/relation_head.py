"""Whether the relation head carries the relation: without it, or with another prompt's output.

The relation heads are found from the weights (`composition.relation_heads`) and are changed
together. What stands in for them is drawn from captions of the same form, or it would name colours
that the caption leaves out.
"""

from functools import partial

from experiments.shared import drawn
from relcore.data.prompts import FORMS, in_form
from relcore.experiment import experiment
from relcore.kernels.composition import relation_heads
from relcore.kernels.interventions import heads_of, obeys, patch

CHANGES = (
    ("none", ""),
    ("resample", "relation"),
    ("mean", "relation"),
    ("patch", "relation"),
    ("patch", "others"),
)


@experiment(runs="encoder == 'rte' and learned and keeps == 'weights'", minutes=12, seeds=1)
def relation_head(model, prompts, seeds):
    """Pictures with the relation heads resampled, at their mean, or with the opposite's output.

    One row per picture: the columns of `Model.evaluate`, and
    donor_loose   whether it shows the opposite of its prompt's relation
    form          of its caption (`data.prompts.FORMS`)
    guidance
    intervention  none; resample, mean: heads replaced by another prompt's output or by the mean;
                  patch: by what they put out for the opposite prompt and the same noise
    heads         which: relation; others, all other cross-attention heads of the same layers; "" in
                  none
    names         these heads, such as "L3H2"
    """
    relation = relation_heads(model.network, model.encoder)
    layers = {head.layer for head in relation}
    cross = heads_of(model.network, ["cross_attn"])
    others = [head for head in cross if head.layer in layers and head not in relation]
    groups = {"": [], "relation": relation, "others": others}
    for form in FORMS:
        for guidance in (4.0, 1.0):
            for intervention, which in CHANGES:
                what, chosen = f"{intervention} {which}".strip(), groups[which]
                if chosen or intervention == "none":  # a layer may have no others
                    settings = (form, guidance, intervention, which, chosen)
                    yield (
                        f"{form}, {what}, guidance {guidance:g}",
                        partial(change, model, prompts, seeds, *settings),
                    )


def change(model, prompts, seeds, form, guidance, intervention, which, heads):
    """The rows of one part."""
    edit = None
    if intervention == "patch":
        edit = patch(heads)
    elif heads:
        stand_ins = [in_form(prompt, form) for prompt in prompts]
        edit = model.ablate(*heads, method=intervention, prompts=stand_ins, guidance=guidance)
    rows = drawn(model, prompts, seeds, form, intervention=edit, guidance=guidance)
    return obeys(rows).assign(
        guidance=guidance,
        intervention=intervention,
        heads=which,
        names=" ".join(map(str, heads)),
    )

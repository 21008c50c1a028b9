"""What the relation head looks at and writes, step by step while pictures are drawn.

The relation heads are found from the weights; a *tag* is the difference between what they write, in
sum, at the places that become object 1 and at those that become object 2. It is taken over the
steps EARLY, in which the layout is decided, and judged on requests that it was not taken from: a
request is shapes and relation, so that all its captions and noises stand together in the fit, the
test and the intervals.
"""

from functools import cache, partial

import pandas as pd
import torch

from experiments.shared import drawn, request
from relcore.data.prompts import FORMS, in_form
from relcore.experiment import experiment
from relcore.kernels.composition import relation_heads
from relcore.kernels.geometry import agreement_by_step
from relcore.kernels.interventions import obeys, patch
from relcore.kernels.tags import Tokens, collect, over_prompts, prediction, tag

EARLY = range(9)
STEPS = (0, 2, 4, 8, 12, 17)  # of 18
# Within which column of `Tokens.table` each kind of tag is fitted.
TAGS = {"one for all prompts": None, "one per order of the colours": "color1"}


@experiment(runs="encoder == 'rte' and learned and keeps == 'weights'", minutes=8, seeds=2)
def tags(model, prompts, seeds):
    """How well what the relation head writes tells the objects' places, and how its map lasts.

    One row per number, with its 95 % bootstrap interval over requests:
    measure   auc: area under the ROC curve of the projection on the tag, at object 1's and object
              2's places; exchanged: share of pictures in the opposite relation if the heads' output
              along the tag is the opposite prompt's (on noise of their own); cosine, size: of a
              direction word's map while drawing and its map from the weights (size: their ratio)
    form      of the captions (`data.prompts.FORMS`), or "all" four together
    tag       one for all prompts, or one per order of the colours (in the picture, named or not);
              "" for maps. The auc's is fitted on the captions of `form`, the exchanged on all four
    heads     all relation heads together; of the maps the first
    step      of the sampling; -1: the whole of it
    value, low, high
    n         image tokens (auc), pictures (exchanged), words in pictures (cosine, size)
    """
    heads = relation_heads(model.network, model.encoder)
    tokens = cache(partial(collected, model, prompts, seeds, heads))
    for form in (*FORMS, "all"):
        yield f"{form}, tag", partial(foretold, tokens, form, heads)
    for form in FORMS:
        yield f"{form}, map", partial(looked, model, prompts, seeds, form, heads[0])
    for form in FORMS:
        yield (
            f"{form}, exchanged",
            partial(exchanged, model, prompts, seeds, form, heads, tokens),
        )


def collected(model, prompts, seeds, heads, form) -> Tokens:
    """The objects' tokens in the captions of a form, `prompt` being the request."""
    texts, options = [in_form(prompt, form) for prompt in prompts], model.how(background=0)
    held = collect(model.network, model.encoder, texts, seeds, heads=heads, **options)
    return Tokens(held.table.assign(prompt=request(held.table.prompt)), held.values)


def joined(parts: list[Tokens]) -> Tokens:
    """The tokens of several forms together."""
    table = pd.concat([part.table for part in parts], ignore_index=True)
    values = {name: torch.cat([p.values[name] for p in parts], 1) for name in parts[0].values}
    return Tokens(table, values)


def foretold(tokens, form, heads) -> pd.DataFrame:
    """The rows of the tag, in one form or all."""
    held = joined([tokens(name) for name in (FORMS if form == "all" else [form])])
    together = Tokens(held.table, {"sum": sum(held.values.values())})
    parts = []
    for kind, within in TAGS.items():
        rows = prediction(together, "sum", STEPS, within=within, pooled=EARLY)
        parts.append(rows.rename(columns={"auc": "value"}).assign(tag=kind))
    rows = pd.concat(parts, ignore_index=True).drop(columns="prompts")
    return rows.assign(measure="auc", form=form, heads=" ".join(map(str, heads)))


def looked(model, prompts, seeds, form, head) -> pd.DataFrame:
    """The rows of the map, in one form."""
    texts = [in_form(prompt, form) for prompt in prompts]
    network, encoder = model.network, model.encoder
    table = agreement_by_step(network, encoder, head, texts, seeds[:1], **model.how())
    table = table.assign(prompt=request(table.prompt))
    rows = [
        (measure, step, *over_prompts(part, measure), len(part))
        for measure in ("cosine", "size")
        for step, part in table.groupby("step")
    ]
    rows = pd.DataFrame(rows, columns=["measure", "step", "value", "low", "high", "n"])
    return rows.assign(form=form, tag="", heads=str(head))


def exchanged(model, prompts, seeds, form, heads, tokens) -> pd.DataFrame:
    """The rows of the exchange, in one form."""
    held, rows = joined([tokens(name) for name in FORMS]), []
    for kind, within in TAGS.items():
        groups = [held.where(color1=c) for c in held.table.color1.unique()] if within else [held]
        units = [tag(group, str(head), EARLY)[0] for group in groups for head in heads]
        span = torch.linalg.qr(torch.stack(units, 1))[0].T
        edit = patch(heads, directions=span)
        table = obeys(drawn(model, prompts, [max(seeds) + 1], form, intervention=edit))
        table = table.assign(prompt=request(table.prompt))
        rows.append((kind, *over_prompts(table, "donor_loose"), len(table)))
    rows = pd.DataFrame(rows, columns=["tag", "value", "low", "high", "n"])
    names = " ".join(map(str, heads))
    return rows.assign(measure="exchanged", form=form, heads=names, step=-1)

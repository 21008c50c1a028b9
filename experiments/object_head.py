"""What the heads after the relation head follow: its output, or the picture that is coming up.

In stored states of the sampling one thing is changed for one pass of the network, such that the
objects would change places (`composition.causes`). A state is a picture with a noise of its own in
every form, so that all of them together are independent.
"""

from functools import cache, partial

import torch

from relcore.data.prompts import FORMS, in_form, suite
from relcore.experiment import experiment
from relcore.kernels.composition import States, causes, relation_heads, states

STEPS = (0, 1, 2, 3, 4, 6, 8, 10, 13, 16)


def half() -> list[str]:
    """Every other canonical prompt: six per relation, in both orders of the colours."""
    return [prompt for i, prompt in enumerate(suite()) if (i + i // 12) % 2 == 0]


@experiment(
    runs="encoder == 'rte' and learned and keeps == 'weights'", minutes=6, seeds=1, prompts=half
)
def object_head(model, prompts, seeds):
    """How far later heads' attention goes over to the other object's if a cause is exchanged.

    One row per step, cause and head of the layers after the first relation head:
    step, layer, head
    cause    relation head: it puts out what it does for the opposite relation; relation head,
             direct path: all else puts out what it did before; colour in the picture: red and blue
             of the noisy picture are exchanged; both: the first and the third
    value    0: the attention at each object's places stays, 1: it is the other's; NaN if the two
             differ by less than `composition.APART`. low, high: 95 % bootstrap over pictures
    gap      how different the two are to begin with (total variation)
    n        pictures
    form     of the captions (`data.prompts.FORMS`), or "all" four together
    sources  the relation heads, such as "L3H2"
    """
    sources = relation_heads(model.network, model.encoder)
    kept = cache(partial(stored, model, prompts, seeds))
    for form in (*FORMS, "all"):
        yield form, partial(followed, model, kept, form, sources)


def stored(model, prompts, seeds, form) -> States:
    """Pictures of one form on their way."""
    texts, k = [in_form(prompt, form) for prompt in prompts], list(FORMS).index(form)
    noise = [(len(FORMS) * seed + k) * len(texts) + i for seed in seeds for i in range(len(texts))]
    return states(model.network, model.encoder, texts * len(seeds), noise, **model.how())


def followed(model, kept, form, sources):
    """The rows of one part."""
    parts = [kept(name) for name in (FORMS if form == "all" else [form])]
    at = States(
        [prompt for part in parts for prompt in part.prompts],
        torch.cat([part.pictures for part in parts]),
        torch.cat([part.places for part in parts]),
        torch.cat([part.noisy for part in parts], 1),
        parts[0].times,
    )
    table = causes(model.network, model.encoder, at, STEPS, sources)
    return table.assign(form=form, sources=" ".join(map(str, sources)))

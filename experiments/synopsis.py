"""Where every head looks: attention from places of the picture to kinds of words.

Attention is reduced while a picture is drawn (`relcore.kernels.synopsis`); one drawing gives every
reduction:

- "steps": attention of an image token to the words of a role, on average over the tokens of an
  image role, at each step; "mean": its mean over the steps.
- "paper": the same summed over the tokens, and its largest over the steps. It grows with the object
  and has no upper bound.
- "largest": the largest attention of any image token to the words of a role, at each step.

All but "largest" need pictures that show the prompt's two objects, each once; if there are none
they are NaN, with n = 0.
"""

from functools import partial

import numpy as np
import pandas as pd

from relcore.data.prompts import FORMS, ROLES, in_form, parse
from relcore.experiment import experiment
from relcore.kernels.synopsis import IMAGE_ROLES, image_roles, role_attention
from relcore.model.diffusion import fast_precision
from relcore.model.evaluation import batches

BATCH = 24
ANYWHERE = "any"  # the image role of "largest"
ALL = -1  # for a step: none, as the reduction is over the steps; for a seed: the mean over pictures


@experiment(runs="learned and keeps == 'weights'", minutes=2, seeds=1)
def synopsis(model, prompts, seeds):
    """Attention from objects and background to kinds of words, by head, in each caption form.

    form, reduction; layer, head; step (-1: over all); image_role (object1, object2, background;
    "any" for "largest"); text_role; seed; value; low, high; n.

    Rows with seed -1 are means over n pictures with their normal 95 % interval. Rows with a seed
    are single pictures, for ratios within pictures: of "paper" from either object to the relation
    words and to the object's own shape word, of "largest" to the relation words at the first and
    the last step.
    """
    for form in FORMS:
        yield form, partial(attention, model, prompts, seeds, form)


def attention(model, prompts, seeds, form):
    """The rows of one caption form."""
    texts = [in_form(prompt, form) for prompt in prompts]
    drawn = [masses(model, *batch) for batch in batches(texts, seeds, BATCH)]
    mass, area, bound, largest, noise = map(np.concatenate, zip(*drawn, strict=True))
    paper = (mass * area[:, None, None, None, :, None]).max(3, keepdims=True)
    each = range(mass.shape[3])
    ends = [each[0], each[-1]]
    tables = [
        means("steps", mass, each),
        means("mean", mass.mean(3, keepdims=True)),
        means("paper", paper),
        means("largest", largest, each, [ANYWHERE]),
        pictures("paper", paper, bound),
        pictures("largest", largest[:, :, :, ends], noise, ends, [ANYWHERE]),
    ]
    return pd.concat(tables, ignore_index=True).assign(form=form)


def masses(model, texts, noise):
    """One batch: what every reduction is made from.

    Of the pictures with both objects: mass per image token [picture, layer, head, step, image role,
    text role], area in image tokens [picture, image role] and noise seed [picture]. Of all:
    largest attention [picture, layer, head, step, 1, text role] and noise seed.
    """
    options = {"process": model.process, "precision": fast_precision()}
    images, passes, _ = role_attention(model.network, model.encoder, texts, noise, **options)
    # Of a step: [layer, picture, head, image, text role].
    passes = [step.cpu().numpy().transpose(1, 0, 2, 3, 4) for step in passes]
    grid = model.network.config.grid
    roles = [image_roles(i.numpy(), parse(t), grid) for i, t in zip(images, texts, strict=True)]
    keep = [k for k, shares in enumerate(roles) if shares is not None]
    shape = len(keep), len(IMAGE_ROLES), grid**2
    shares = np.array([roles[k] for k in keep], np.float32).reshape(shape)
    area = shares.sum(2)
    weights = (shares / area[..., None])[:, None, None]
    mass = np.stack([weights @ step[keep] for step in passes], 3)
    largest = np.stack([step.max(3, keepdims=True) for step in passes], 3)
    return mass, area, np.array(noise)[keep], largest, np.array(noise)


def rows(reduction, axes, **columns):
    """A tidy table of arrays over all combinations of the axes."""
    index = pd.MultiIndex.from_product(axes.values(), names=axes.keys())
    table = pd.DataFrame({name: np.ravel(v) for name, v in columns.items()}, index)
    return table.astype(np.float32).reset_index().assign(reduction=reduction)


def axes_of(values, steps, image_roles):
    """The axes of an array [picture, layer, head, step, image role, text role] but for pictures."""
    layers, heads = map(range, values.shape[1:3])
    names = ("layer", "head", "step", "image_role", "text_role")
    return dict(zip(names, (layers, heads, steps, image_roles, ROLES), strict=True))


def means(reduction, values, steps=(ALL,), image_roles=IMAGE_ROLES):
    """Means over pictures, with their intervals."""
    n = len(values)
    nothing = np.full(values.shape[1:], np.nan)
    mean = values.mean(0) if n else nothing
    half = 1.96 * values.std(0, ddof=1) / n**0.5 if n > 1 else nothing
    axes = axes_of(values, steps, image_roles)
    table = rows(reduction, axes, value=mean, low=mean - half, high=mean + half)
    return table.assign(n=n, seed=ALL)


def pictures(reduction, values, noise, steps=(ALL,), image_roles=IMAGE_ROLES):
    """Single pictures' attention to the relation words and to an object's own shape word."""
    table = rows(reduction, {"seed": noise, **axes_of(values, steps, image_roles)}, value=values)
    own = table.image_role.str[-1] == table.text_role.str.removeprefix("shape")
    kept = table[(table.text_role == "relation") & (table.image_role != "background") | own]
    return kept.assign(low=np.float32("nan"), high=np.float32("nan"), n=1)

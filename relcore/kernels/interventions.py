"""Interventions: what becomes of the pictures when a part of the network is taken away, blinded or
swapped.

An intervention is a function from a `Batch` (what is about to be drawn) to the edits of `capture`;
`drawn_with` turns it into the `draw` of `model.evaluation.evaluate`, so that every experiment is
scored as the models themselves are:

    evaluate(model, encoder, prompts, seeds, draw=drawn_with(ablate([Head(3, 2)], reference)))

Ablations act on a head's `z` (before W_O) in both branches of guidance. Masks and patches act on
the conditional branch alone, as in the paper's code: the unconditional one has no words to mask and
none to swap.
Sources: mean and resample ablation, Wang et al. 2022 (IOI) and Chan et al. 2022 (causal scrubbing);
activation patching, Meng et al. 2022; token masking, the paper's prompt ablation.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from ..data.prompts import CANONICAL, ROLES, compose, parse, suite
from ..data.scenes import RELATIONS, relation_of
from ..data.scoring import METRICS, proportion, relation_loose
from ..errors import RelcoreError, require
from ..model.diffusion import sample
from ..model.dit import DiT
from ..model.evaluation import batches, evaluate, plain, resumable, stored
from .capture import capture

METHODS = ("mean", "resample", "zero")
# Of the pictures that stand in for a head: a hundred evaluations away from any in use.
REFERENCE_SEEDS = [1000]
SHUFFLES = 500  # of the prompts' relations, for the accuracy of `chance`
OPPOSITE = {
    "above": "below",
    "left": "right",
    "upper left": "lower right",
    "upper right": "lower left",
}
OPPOSITE |= {b: a for a, b in OPPOSITE.items()}


class Head(NamedTuple):
    """One attention head; kind: "cross_attn" or "attn" (self-attention)."""

    layer: int
    head: int
    kind: str = "cross_attn"

    def __str__(self) -> str:
        return f"{'' if self.kind == 'cross_attn' else 'self '}L{self.layer}H{self.head}"

    @property
    def name(self) -> str:
        """The attention layer's name in `capture`."""
        return f"blocks.{self.layer}.{self.kind}"


def heads_of(model: DiT, kinds: Iterable[str] = ("cross_attn", "attn")) -> list[Head]:
    layers, heads = range(model.config.depth), range(model.config.heads)
    return [Head(layer, head, kind) for kind in kinds for layer in layers for head in heads]


def find_head(model: DiT, name: str, kind: str = "cross_attn") -> Head:
    """The head called `name`, such as "L3H2"; RelcoreError if the model has none of that name."""
    found = re.fullmatch(r"L(\d+)H(\d+)", name)
    head = Head(int(found[1]), int(found[2]), kind) if found else None
    if head not in heads_of(model, [kind]):
        raise RelcoreError(
            f"no head '{name}': heads are called L0H0 to "
            f"L{model.config.depth - 1}H{model.config.heads - 1}"
        )
    return head


def by_layer(heads: Iterable[Head], part: str) -> dict[str, list[int]]:
    """{name of the part in `capture`: the numbers of the heads in that layer}."""
    found: dict[str, list[int]] = {}
    for head in heads:
        found.setdefault(f"{head.name}.{part}", []).append(head.head)
    return found


def at_heads(
    heads: list[Head],
    part: str,
    change: Callable[[str, Tensor, int], Tensor],
    steps: Iterable[int] | None = None,
) -> dict:
    """Edits of `capture`: the heads' values at `part` become change(name, theirs, step), at these
    steps (None: all).

    theirs: [batch, head, ...], of that layer's heads among them; a copy, which may be changed.
    """
    layers, when = by_layer(heads, part), None if steps is None else set(steps)

    def edit(name: str, value: Tensor, step: int) -> Tensor:
        if when is not None and step not in when:
            return value
        value[:, layers[name]] = change(name, value[:, layers[name]], step)
        return value

    return {name: partial(edit, name) for name in layers}


@dataclass(frozen=True)
class Batch:
    """What is about to be drawn: a picture a (prompt, seed). sampling: as in `diffusion.sample`."""

    model: DiT
    encoder: object
    prompts: list[str]
    seeds: list[int]
    sampling: dict = field(default_factory=dict)

    def draw(
        self, names: Iterable[str] = (), edits: dict | None = None, prompts: list[str] | None = None
    ) -> tuple:
        """(pictures, cache) of one run, with other prompts if given."""
        with capture(self.model, names, edits) as cache:
            pictures = sample(
                self.model,
                self.encoder,
                prompts or self.prompts,
                self.seeds,
                **{**self.sampling, "batch": len(self.prompts)},
            )
        return pictures, cache


Intervention = Callable[[Batch], dict[str, Callable[[Tensor, int], Tensor]]]


def drawn_with(intervention: Intervention) -> Callable[..., Tensor]:
    """The `draw` of `evaluate`: `diffusion.sample` under an intervention."""

    def draw(model: DiT, encoder, prompts: list[str], seeds: list[int], **sampling) -> Tensor:
        batch = Batch(model, encoder, prompts, seeds, sampling)
        return batch.draw(edits=intervention(batch))[0]

    return draw


# --- ablation of heads


def reference(
    model: DiT,
    encoder,
    prompts: list[str],
    seeds: range | list[int],
    heads: Iterable[Head],
    *,
    mean: bool = True,
    batch: int = 48,
    progress: str | None = None,
    **sampling,
) -> dict:
    """What heads put out over a reference set of pictures, to put in their place: {(name of z,
    step): z}.

    z: [branch, picture, head, image, d_head]; with `mean` the picture axis is 1, the mean at every
    step, place and branch; else every picture is kept: .7 MB a picture and layer for micro. Take
    seeds that the experiment does not use, and prompts whose relations are balanced: the mean then
    tells no relation.
    """
    names = sorted({f"{head.name}.z" for head in heads})
    kept: dict[tuple[str, int], list[Tensor]] = {}
    parts = batches(prompts, seeds, batch)
    for texts, noise in tqdm(
        parts, desc=progress, unit="batch", disable=progress is None, leave=False
    ):
        _, cache = Batch(model, encoder, texts, noise, sampling).draw(names)
        for key, value in cache.items():
            value = value.unflatten(0, (-1, len(texts)))  # [branch, picture, head, image, d_head]
            kept.setdefault(key, []).append(value.float().sum(1, keepdim=True) if mean else value)
    count = sum(len(texts) for texts, _ in parts)
    return {
        key: torch.stack(values).sum(0) / count if mean else torch.cat(values, 1)
        for key, values in kept.items()
    }


def ablate(heads: list[Head], reference: dict | None = None, seed: int = 0) -> Intervention:
    """Replace what heads put out: by the reference's mean, by one of its pictures each (resample),
    or by 0 (None).

    A resampled picture's donor is drawn from (seed, the picture's own seed) and is the same for all
    heads and steps.
    """
    layers = by_layer(heads, "z")

    def edits(batch: Batch) -> dict:
        missing = [name for name in layers if reference is not None and (name, 0) not in reference]
        if missing:
            raise RelcoreError(
                f"the reference does not hold {', '.join(missing)}: make it with the heads to "
                "ablate"
            )
        rows = np.array([np.random.default_rng([seed, s]).integers(2**31) for s in batch.seeds])

        def replace(name: str, z: Tensor, step: int) -> Tensor:
            """z: [batch, head, image, d_head], one or two branches of the pictures."""
            if reference is None:
                return torch.zeros_like(z)
            kept = reference[name, step]  # [branch, picture, head, image, d_head]
            donor = kept[: len(z) // len(rows), rows % kept.shape[1]].flatten(0, 1)
            return donor[:, layers[name]].to(z)

        return at_heads(heads, "z", replace)

    return edits


def reference_for(
    model: DiT,
    encoder,
    heads: Iterable[Head],
    method: str,
    *,
    prompts: list[str] | None = None,
    progress: str | None = None,
    **sampling,
) -> dict | None:
    """The `reference` of a method of METHODS; None for "zero".

    prompts: the 96 canonical ones if not given.
    """
    require("method", method, METHODS)
    if method == "zero":
        return None
    return reference(
        model,
        encoder,
        suite() if prompts is None else prompts,
        REFERENCE_SEEDS,
        heads,
        mean=method == "mean",
        progress=progress,
        **sampling,
    )


def most_needed(model: DiT, changes: pd.DataFrame) -> list[Head]:
    """All cross-attention heads, first the one whose ablation costs the most of the loose relation
    accuracy.

    changes: of `outcomes`, for single ablations named as `str(Head)`. Raises RelcoreError if a head
        is missing.
    """
    loss = changes[changes.metric == "relation_loose"].set_index("intervention").change
    heads = heads_of(model, ["cross_attn"])
    if missing := [str(head) for head in heads if str(head) not in loss.index]:
        raise RelcoreError(
            f"no ablation of {', '.join(missing)} in the table: relcore ablate --every makes it"
        )
    return sorted(heads, key=lambda head: loss[str(head)])


def smallest_set(
    ranked: list[Head], accuracy: Callable[[list[Head]], float], enough: float
) -> list[Head]:
    """A set of heads that suffices and of which none can be spared, by backward elimination.

    ranked: the most needed first. accuracy: of pictures in which only the given heads do their
    work. The first heads that together have `enough` are taken, and then left out one by one, the
    least needed first, while enough remains.
    """
    kept = next(
        (ranked[:k] for k in range(len(ranked)) if accuracy(ranked[:k]) >= enough), list(ranked)
    )
    for head in reversed(kept[:]):
        without = [other for other in kept if other != head]
        kept = without if accuracy(without) >= enough else kept
    return kept


# --- masking of words, patching of heads


def mask_tokens(
    roles: Iterable[str], steps: Iterable[int] | None = None, heads: list[Head] | None = None
):
    """No image token may attend to words of these roles, in the conditional branch. -> Intervention

    steps: only at these sampling steps; heads: only these cross-attention heads. None: all.
    Raises RelcoreError for an unknown role, or if a prompt would have no token left.
    """
    roles = list(roles)
    for role in roles:
        require("role", role, ROLES)

    def edits(batch: Batch) -> dict:
        text = batch.encoder.encode(batch.prompts)
        hidden = (
            torch.isin(text.roles, torch.tensor([ROLES.index(role) for role in roles])) & text.mask
        )
        if (hidden | ~text.mask).all(1).any():
            raise RelcoreError(
                f"masking {', '.join(roles)} would leave some prompt without a token: mask fewer "
                "roles"
            )

        def hide(name: str, scores: Tensor, step: int) -> Tensor:
            """scores: [batch, head, image, token]; in guided steps longer than `hidden`, the
            conditional half first.
            """
            scores[: len(hidden)].masked_fill_(hidden[:, None, None].to(scores.device), -torch.inf)
            return scores

        return at_heads(
            heads_of(batch.model, ["cross_attn"]) if heads is None else heads, "scores", hide, steps
        )

    return edits


def opposite_relation(prompt: str) -> str:
    """The name of the relation opposite to the prompt's."""
    return OPPOSITE[RELATIONS[parse(prompt).relation]]


def opposite(prompt: str) -> str:
    """The same objects in the opposite relation, in canonical words."""
    return with_relation(prompt, opposite_relation(prompt))


def with_relation(prompt: str, relation: str) -> str:
    """The same objects in another relation, in canonical words and the training template."""
    parsed = parse(prompt)
    return compose(parsed.colors, parsed.shapes, CANONICAL[relation][0])


def patch(
    heads: list[Head],
    donor: Callable[[str], str] = opposite,
    *,
    directions: Tensor | None = None,
    strength: float = 1.0,
    steps: Iterable[int] | None = None,
) -> Intervention:
    """Give heads the results they have when another prompt is drawn from the same noise.

    donor: prompt -> the prompt whose results are put in. directions: orthonormal rows [k, d]; only
    what the results hold along them is exchanged. strength: 1 puts the donor's in, 0 changes
    nothing, 2 goes as far again.
    steps: only at these sampling steps.
    """
    layers = by_layer(heads, "result")

    def edits(batch: Batch) -> dict:
        n = len(batch.prompts)
        _, cache = batch.draw(layers, prompts=[donor(prompt) for prompt in batch.prompts])

        def exchange(name: str, result: Tensor, step: int) -> Tensor:
            """result: [batch, head, image, d]"""
            gap = cache[name, step][:n, layers[name]] - result[:n]
            if directions is not None:
                gap = gap @ directions.to(gap).T @ directions.to(gap)
            result[:n] += strength * gap
            return result

        return at_heads(heads, "result", exchange, steps)

    return edits


# --- tables


def sweep(
    model: DiT,
    encoder,
    interventions: dict[str, Intervention | None],
    prompts: list[str],
    seeds: range | list[int],
    file: Path | None = None,
    settings: dict | None = None,
    *,
    command: str = "",
    progress: str | None = None,
    **sampling,
) -> pd.DataFrame:
    """`evaluate` under each named intervention (None: none), one table with a column
    `intervention`.

    The pictures of all have the same prompts and noise. file, settings, command, progress: as in
    `model.evaluation.resumable`; the prompts' number, the seeds and the sampling are settings, too.
    """
    held = stored(file)
    if len(held) and set(held.get("prompt", ())) != set(prompts):
        raise RelcoreError(f"'{file}' holds a sweep over other prompts: name another file")

    def run(intervention: Intervention | None) -> pd.DataFrame:
        draw = drawn_with(intervention) if intervention else None
        return evaluate(model, encoder, prompts, seeds, draw=draw, **sampling)

    runs = {name: partial(run, intervention) for name, intervention in interventions.items()}
    settings = {
        **(settings or {}),
        "prompts": len(prompts),
        "seeds": list(seeds),
        **plain(sampling),
    }
    return resumable(runs, file, settings, "intervention", command=command, progress=progress)


def outcomes(table: pd.DataFrame) -> pd.DataFrame:
    """Each metric under each intervention, and its change against the same pictures without it
    ("none").

    table: of `sweep`. Tidy: intervention, metric, value, low, high (Wilson), change, change_low,
    change_high (normal 95 % interval of the mean of paired differences; those of "none" are 0), n.
    RelcoreError without "none".
    """
    paired = {
        name: rows.set_index(["prompt", "seed"])
        for name, rows in table.groupby("intervention", sort=False)
    }
    if "none" not in paired:
        raise RelcoreError("the table has no intervention 'none' to compare with")
    rows = []
    for name, mine in paired.items():
        for metric in METRICS:
            hits = mine[metric].astype(float)
            value, low, high, n = proportion(hits)
            change = hits - paired["none"][metric].astype(float).loc[mine.index]
            spread = 1.96 * change.std(ddof=1) / n**0.5 if n > 1 else np.nan
            rows.append(
                {
                    "intervention": name,
                    "metric": metric,
                    "value": value,
                    "low": low,
                    "high": high,
                    "change": change.mean(),
                    "change_low": change.mean() - spread,
                    "change_high": change.mean() + spread,
                    "n": n,
                }
            )
    return pd.DataFrame(rows)


def obeys(table: pd.DataFrame, donor: Callable[[str], str] = opposite) -> pd.DataFrame:
    """`sweep`'s table with the column `donor_loose`: whether a picture shows the relation of its
    donor's prompt.

    The loose relation, judged by where the objects lie; False if they are not both there.
    """
    relations = {prompt: parse(donor(prompt)).relation for prompt in table.prompt.unique()}
    return table.assign(donor_loose=in_relation(table, table.prompt.map(relations)))


def in_relation(table: pd.DataFrame, relations: Iterable[int], strict: bool = False) -> list[bool]:
    """Whether each picture, by its binding, dx and dy, shows a relation (an index each); never
    without both objects.
    """
    return [
        bool(b) and bool(relation_of(dx, dy) == r if strict else relation_loose(dx, dy, r))
        for b, dx, dy, r in zip(table.binding, table.dx, table.dy, relations, strict=True)
    ]


def chance(rows: pd.DataFrame) -> tuple[float, float, float]:
    """The loose relation accuracy of these pictures if the prompts' relations are shuffled: mean
    and 95 % range.

    Pictures without both objects stay wrong, so chance is that of a model that binds as often and
    places blindly.
    """
    rng = np.random.default_rng(0)
    # [picture, relation]
    holds = np.array([in_relation(rows, [r] * len(rows)) for r in range(len(RELATIONS))]).T
    mine = np.array([RELATIONS.index(r) for r in rows.relation])
    shuffled = [holds[np.arange(len(mine)), rng.permutation(mine)].mean() for _ in range(SHUFFLES)]
    return float(np.mean(shuffled)), *map(float, np.quantile(shuffled, (0.025, 0.975)))

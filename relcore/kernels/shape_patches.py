"""Whole pictures under changes of shape and colour: whose shapes do they show?

`scored_twice` draws with `interventions.patch` or the like and scores every picture for its own
prompt and for the one that the heads' results come from. `recoloured` leaves the network alone and
exchanges the colours of the noisy picture.
"""

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor

from ..data.prompts import compose, parse
from ..data.scoring import METRICS, detect, score
from ..model.diffusion import sample
from ..model.dit import DiT
from .interventions import Batch, Intervention


def swapped_shapes(prompt: str) -> str:
    """The two shapes exchanged; colours and relation stay. Its own inverse."""
    return _with_shapes(prompt, parse(prompt).shapes[::-1])


def other_first_shape(prompt: str) -> str:
    """Object 1 has the shape that the prompt does not name. Its own inverse."""
    first, second = parse(prompt).shapes
    return _with_shapes(prompt, (3 - first - second, second))


def _with_shapes(prompt: str, shapes: tuple[int, int]) -> str:
    parsed = parse(prompt)
    phrase = " ".join(prompt[start:end] for start, end, role in parsed.spans if role == "relation")
    return compose(parsed.colors, shapes, phrase)


def recoloured(step: int) -> Callable[..., Tensor]:
    """The `draw` of `evaluate` whose pictures have red and blue exchanged, once, before the given
    step (from 1 on).

    Nothing else of the noisy picture changes, nor does the prompt: where a red object was coming up
    a blue one is.
    """

    def draw(model: DiT, encoder, prompts: list[str], seeds: list[int], **sampling) -> Tensor:
        before: list[Tensor] = []

        def swap(state: dict) -> None:
            """The sampler goes on from these tensors; DPM-Solver++ also looks back at the last
            estimate.
            """
            if state["step"] == step - 1:
                for value in (state["x"], state["denoised"], *before[-1:]):
                    value.copy_(value.flip(1))  # the channels are red, green, blue
            before.append(state["denoised"])

        return sample(
            model, encoder, prompts, seeds, callback=swap, **{**sampling, "batch": len(prompts)}
        )

    return draw


def scored_twice(
    model: DiT,
    encoder,
    interventions: dict[str, Intervention | None],
    prompts: list[str],
    seeds: list[int],
    donor: Callable[[str], str],
    batch: int = 48,
    **sampling,
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Draw a picture per (prompt, seed) under each intervention, and score it for its own prompt
    and for its donor's.

    One row a picture and intervention: intervention, prompt, seed, own_* and donor_* for every
    metric of `scoring`; and the pictures of each intervention, uint8 [picture, y, x, rgb].
    """
    rows, pictures = [], {}
    for name, intervention in interventions.items():
        drawn = []
        for at in range(0, len(prompts), batch):
            run = Batch(model, encoder, prompts[at : at + batch], seeds[at : at + batch], sampling)
            drawn.append(run.draw(edits=intervention(run) if intervention else None)[0])
        pictures[name] = torch.cat(drawn)
        for text, seed, picture in zip(prompts, seeds, pictures[name], strict=True):
            row = {"intervention": name, "prompt": text, "seed": seed}
            for whose, prompt in (("own", text), ("donor", donor(text))):
                verdict = score(detect(picture.numpy()), parse(prompt))
                row |= {f"{whose}_{metric}": verdict[metric] for metric in METRICS}
            rows.append(row)
    return pd.DataFrame(rows), pictures

"""A trained model, opened once: the network with its text encoder and its noise process."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .data.prompts import suite
from .kernels import interventions
from .kernels.capture import capture
from .kernels.interventions import Head, Intervention
from .model.checkpoints import open_model
from .model.diffusion import fast_precision, sample
from .model.dit import DiT
from .model.evaluation import evaluate


@dataclass(frozen=True, eq=False)
class Model:
    """What `load` gives: a network and all that is needed to draw with it and to take it apart.

    network: the `DiT`. encoder: prompts -> `Text`. process: its noise process. header: of its
    checkpoint, with recipe and metrics. Drawing takes the options of `diffusion.sample` (steps,
    guidance, sampler, ...); precision is the fast one of this machine unless given.
    """

    name: str
    network: DiT
    encoder: object
    process: object
    header: dict

    def draw(
        self,
        prompts: str | list[str],
        seeds: int | Iterable[int] = 0,
        *,
        intervention: Intervention | None = None,
        **sampling,
    ) -> np.ndarray:
        """Pictures, uint8 [picture, y, x, rgb]: one per prompt and seed, of which one may stand for
        all.

        intervention: what is changed inside the network, such as `ablate` gives. Raises
        RelcoreError for a prompt that cannot be parsed.
        """
        seeds = [seeds] if isinstance(seeds, int) else list(seeds)
        prompts = [prompts] * len(seeds) if isinstance(prompts, str) else list(prompts)
        seeds = seeds * len(prompts) if len(seeds) == 1 else seeds
        draw = interventions.drawn_with(intervention) if intervention else sample
        return draw(self.network, self.encoder, prompts, seeds, **self.how(**sampling)).numpy()

    def evaluate(
        self,
        prompts: list[str] | None = None,
        seeds: Iterable[int] = (0,),
        *,
        intervention: Intervention | None = None,
        progress: str | None = None,
        **sampling,
    ) -> pd.DataFrame:
        """One row per prompt and seed with the scorer's verdicts; see `model.evaluation.evaluate`.

        prompts: the 96 canonical ones if not given.
        """
        draw = interventions.drawn_with(intervention) if intervention else None
        prompts = suite() if prompts is None else prompts
        options = {"draw": draw, "progress": progress, **self.how(**sampling)}
        return evaluate(self.network, self.encoder, prompts, list(seeds), **options)

    def capture(self, names: Iterable[str] = (), edits: dict | None = None):
        """`with model.capture(names) as cache:` as `kernels.capture.capture`."""
        return capture(self.network, names, edits)

    def head(self, name: str) -> Head:
        """The cross-attention head of that name, such as "L3H2"; RelcoreError if there is none."""
        return interventions.find_head(self.network, name)

    def ablate(
        self,
        *heads: str | Head,
        method: str = "mean",
        prompts: list[str] | None = None,
        **sampling,
    ) -> Intervention:
        """Heads replaced by their mean, by another prompt's output ("resample") or by "zero".

        The reference is drawn for the occasion, with a seed that no experiment uses. prompts: its
        prompts, the 96 canonical ones if not given.
        """
        chosen = [self.head(head) if isinstance(head, str) else head for head in heads]
        pool = interventions.reference_for(
            self.network, self.encoder, chosen, method, prompts=prompts, **self.how(**sampling)
        )
        return interventions.ablate(chosen, pool)

    def how(self, **sampling) -> dict:
        """How this model draws, as the options of `diffusion.sample` that the kernels take."""
        return {"process": self.process, "precision": fast_precision(), **sampling}


def load(name: str, compiled: bool = False) -> Model:
    """Open a model by the name of a released run, the path of a checkpoint, or a training run's
    folder.

    compiled: see `DiT.compiled`. Raises RelcoreError for an unknown name or a damaged file.

    Example: load("rte-micro").draw("red square is above blue circle", seeds=range(4))
    """
    network, header, encoder, process = open_model(name, compiled)
    return Model(name, network, encoder, process, header)


def change(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """What an intervention changes, from two tables of `Model.evaluate` of the same prompts and
    seeds.

    One row per metric: before, after, change with its 95 % interval (paired), n.
    """
    named = {"none": before, "after": after}
    table = interventions.outcomes(
        pd.concat([rows.assign(intervention=name) for name, rows in named.items()])
    )
    values = table.pivot(index="metric", columns="intervention", values="value")
    after = table[table.intervention == "after"].set_index("metric")
    columns = after[["change", "change_low", "change_high", "n"]].rename(
        columns={"change_low": "low", "change_high": "high"}
    )
    return values.rename(columns={"none": "before"})[["before", "after"]].join(columns)

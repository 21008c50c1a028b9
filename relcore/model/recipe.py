"""The recipe: what makes a training run, and what a checkpoint's header says of it."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from ..data.encoders import BASE, POSITIONS, make_encoder
from ..data.prompts import CAPTIONS
from ..errors import RelcoreError
from .diffusion import PROCESSES, RectifiedFlow
from .dit import PRESETS


@dataclass(frozen=True)
class TrainConfig:
    """What makes a run; with the same values and machine, the same bits."""

    preset: str = "micro"
    encoder: str = "rte"
    seed: int = 0
    # Pictures seen in all; the learning rate falls over the last 30 % of them.
    samples: int = 192_000
    batch: int = 64  # pictures a step, over all processes
    # Length of RTE's positions over that of its words, as the encoder takes it.
    positions: float = POSITIONS
    positions_base: float = BASE  # of their wavelengths
    captions: str = "phrases"  # see data.prompts.caption
    # Captions "paper" come in three stages. The first so many samples name both colours, ...
    named: int = 0
    named_phrases: str = "phrases"  # in all 22 phrases or the 8 "canonical" ones;
    # of the next so many a share names no colour and the others both; ...
    mixed: int = 0
    bare_share: float = 0.5
    # and in the rest each colour is left out with p = .5.
    process: str = "flow"
    noise_mean: float = RectifiedFlow.mean  # of logit t; -0.4 is the usual, unshifted choice
    noise_std: float = RectifiedFlow.std
    optimizer: str = "muon"
    lr: float = 1e-3  # AdamW
    caption_lr: float = 0.0  # AdamW, for the caption MLP; 0: lr
    muon_lr: float = 0.02
    warmup: int = 50  # steps
    drop_text: float = 0.1  # share of captions replaced by the empty prompt, for guidance
    eval_every: int = 8_000  # samples; like their number, --resume may change it

    def __post_init__(self):
        object.__setattr__(self, "caption_lr", self.caption_lr or self.lr)  # frozen

    def rate(self, samples: int) -> float:
        """Learning rate as a share of its peak: warm-up, constant, linear to 0 over the last 30
        %.
        """
        left = (self.samples - samples) / (0.3 * self.samples)
        return min(1.0, (samples / self.batch + 1) / self.warmup, left)

    def left_out(self, samples: int, rng: np.random.Generator) -> np.ndarray:
        """(batch,) probability that a colour is left out, per caption, after so many samples."""
        if self.captions != "paper" or samples < self.named:
            return np.zeros(self.batch)
        if samples < self.named + self.mixed:
            return (rng.random(self.batch) < self.bare_share).astype(float)
        return np.full(self.batch, 0.5)

    def captions_at(self, samples: int) -> str:
        """The kind of captions after so many samples, see data.prompts.caption."""
        return self.named_phrases if samples < self.named else self.captions

    def make_encoder(self):
        return make_encoder(self.encoder, self.positions, self.positions_base)

    def make_process(self):
        if self.process == "flow":
            return RectifiedFlow(self.noise_mean, self.noise_std)
        return PROCESSES[self.process]()


def recipe_fields() -> dict[str, type]:
    """{name: type} of every value of a recipe."""
    return {field.name: field.type for field in fields(TrainConfig)}


def check(config: TrainConfig) -> None:
    """Raise RelcoreError for a value no run can start from."""
    for value, choices in (
        (config.preset, PRESETS),
        (config.process, PROCESSES),
        (config.optimizer, ("muon", "adamw")),
        (config.captions, CAPTIONS),
        (config.named_phrases, ("phrases", "canonical")),
    ):
        if value not in choices:
            raise RelcoreError(
                f"unknown value '{value}' in the training recipe: choose from {', '.join(choices)}"
            )
    if min(config.samples, config.batch, config.eval_every, config.warmup) < 1 or config.seed < 0:
        raise RelcoreError(
            "samples, batch, eval_every and warmup must be at least 1, seed at least 0"
        )
    if min(config.named, config.mixed) < 0 or (
        config.named + config.mixed and config.captions != "paper"
    ):
        raise RelcoreError("named and mixed are numbers of samples, and go with captions=paper")
    if config.positions_base <= 1:
        raise RelcoreError(f"positions_base={config.positions_base} must be above 1")
    if not 0 <= config.bare_share <= 1:
        raise RelcoreError(f"bare_share={config.bare_share} is a share: from 0 to 1")


def recipe_of(header: dict) -> TrainConfig:
    """The recipe in a checkpoint's header; what only another version knows is left out.

    Raises RelcoreError if there is none, or one of a noise process that this version does not have.
    """
    recipe = header.get("recipe", {})
    if not isinstance(recipe, dict) or not recipe or recipe.get("process", "flow") not in PROCESSES:
        raise RelcoreError(
            "the checkpoint's header has no recipe this version can read: release it again"
        )
    return TrainConfig(**{key: value for key, value in recipe.items() if key in recipe_fields()})


def recipe_in(folder: Path) -> TrainConfig:
    """The recipe of the run in a folder; RelcoreError if it holds none that this version reads."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RelcoreError(
            f"'{folder}' holds no training run ({error}): name the folder of one, or start one: "
            f"relcore train --out {folder}"
        ) from error
    if unknown := sorted(values.keys() - recipe_fields()):
        raise RelcoreError(
            f"'{folder}' was trained by another version, with {', '.join(unknown)} in its recipe, "
            "which this one does not have: train it anew in another folder"
        )
    return TrainConfig(**values)


def changed(config: TrainConfig, given: dict, settings: list[str]) -> TrainConfig:
    """The recipe with named values (None: as it is) and "key=value" strings put in.

    caption_lr follows lr unless it has a value of its own.
    """
    kinds = recipe_fields()
    values = {"caption_lr": 0.0} if config.caption_lr == config.lr else {}
    values |= {key: value for key, value in given.items() if value is not None}
    for setting in settings:
        key, _, text = setting.partition("=")
        if key not in kinds:
            raise RelcoreError(f"the recipe has no '{key}': choose from {', '.join(kinds)}")
        try:
            values[key] = kinds[key](text)
        except ValueError as error:
            raise RelcoreError(
                f"'{setting}': {key} must be of type {kinds[key].__name__}"
            ) from error
    return replace(config, **values)

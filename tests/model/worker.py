"""A tiny training run and an evaluation, alone or as one of several processes:

python worker.py FOLDER PROCESSES [key=value...]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState

from relcore.data.prompts import suite
from relcore.data.scenes import render, sample_scenes
from relcore.model import dit, training
from relcore.model.evaluation import evaluate

dit.PRESETS["tiny"] = dit.DiTConfig(depth=2, width=128)
training.evaluation_suites = lambda captions: {"canonical": ["red square is above blue circle"]}


def draw(model, encoder, prompts, seeds, **sampling):
    """True scenes in place of drawn ones: what becomes of a picture depends on its seed alone."""
    return torch.from_numpy(np.concatenate([render(sample_scenes(1, np.random.default_rng(seed))) for seed in seeds]))


if __name__ == "__main__":
    settings = {k: type(getattr(training.TrainConfig, k))(v) for k, v in (a.split("=") for a in sys.argv[3:])}
    config = training.TrainConfig(preset="tiny", **settings)
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    assert accelerator.num_processes == int(sys.argv[2]), accelerator.state
    training.Run(config, Path(sys.argv[1]), accelerator=accelerator).train(progress=False)
    table = evaluate(None, None, suite()[::5], [0, 1], batch=3, draw=draw, processes=PartialState())
    table.to_parquet(Path(sys.argv[1]) / f"evaluation-{accelerator.process_index}.parquet")

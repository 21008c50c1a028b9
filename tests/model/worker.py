"""A tiny training run and an evaluation, alone or as one of several processes:

python worker.py FOLDER PROCESSES [key=value...]
"""

import sys
from pathlib import Path

import numpy as np
import torch

from relcore.cli import app
from relcore.data.encoders import RandomTokenEncoder
from relcore.data.prompts import suite
from relcore.data.scenes import render, sample_scenes
from relcore.model import dit, training
from relcore.model.evaluation import evaluate, processes

dit.PRESETS["tiny"] = dit.DiTConfig(depth=2, width=128)
training.fast_precision = lambda device: "fp32"
training.evaluation_suites = lambda captions: {"canonical": ["red square is above blue circle"]}


def draw(model, encoder, prompts, seeds, **sampling):
    """True scenes in place of drawn ones: what becomes of a picture depends on its seed alone."""
    return torch.from_numpy(
        np.concatenate([render(sample_scenes(1, np.random.default_rng(seed))) for seed in seeds])
    )


if __name__ == "__main__":
    folder, number, settings = (
        sys.argv[1],
        int(sys.argv[2]),
        [word for a in sys.argv[3:] for word in ("--set", a)],
    )
    app(["train", "--preset", "tiny", "--out", folder, *settings], standalone_mode=False)
    shared = processes()
    assert shared.num_processes == number, shared
    table = evaluate(
        None, RandomTokenEncoder(), suite()[::5], [0, 1], batch=3, draw=draw, processes=shared
    )
    table.to_parquet(Path(folder) / f"evaluation-{shared.process_index}.parquet")

"""A tiny training run, alone or as one of several processes: python worker.py FOLDER PROCESSES [key=value...]"""

import sys
from pathlib import Path

from accelerate import Accelerator

from relcore.model import dit, training

dit.PRESETS["tiny"] = dit.DiTConfig(depth=2, width=128)
training.evaluation_suites = lambda captions: {"canonical": ["red square is above blue circle"]}

if __name__ == "__main__":
    settings = {k: type(getattr(training.TrainConfig, k))(v) for k, v in (a.split("=") for a in sys.argv[3:])}
    config = training.TrainConfig(preset="tiny", **settings)
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    assert accelerator.num_processes == int(sys.argv[2]), accelerator.state
    training.Run(config, Path(sys.argv[1]), accelerator=accelerator).train(progress=False)

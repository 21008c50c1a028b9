"""What starting costs: a command imports what it uses, and nothing else."""

import json
import subprocess
import sys

import pytest

TELLING = """
import json, sys
from relcore import cli
try:
    cli.main()
finally:
    print(json.dumps(sorted(sys.modules)))
"""
COMPILER = {"torch._dynamo", "torch._inductor", "sympy"}
TRAINING = {"accelerate", "relcore.model.training", "relcore.model.optim"}
STATISTICS = {"scipy", "sklearn", "seaborn"}
UNUSED = {
    "--help": {"torch", "numpy", "pandas", "PIL"},
    "models": COMPILER | TRAINING | STATISTICS | {"pandas", "matplotlib"},
    "screen": COMPILER | TRAINING | STATISTICS | {"matplotlib"},
    "claims": COMPILER | TRAINING | STATISTICS | {"matplotlib"},
    "sample": COMPILER | TRAINING | STATISTICS | {"pandas"},
}
ARGUMENTS = {
    "claims": ["--only", "S3"],
    "sample": ["red square is above blue circle", "-n", "1", "--steps", "1"],
}


@pytest.mark.parametrize("command", UNUSED)
def test_a_command_imports_what_it_uses(command, tmp_path):
    started = [sys.executable, "-c", TELLING, command, *ARGUMENTS.get(command, ())]
    done = subprocess.run(started, capture_output=True, text=True, check=True, cwd=tmp_path)
    imported = UNUSED[command].intersection(json.loads(done.stdout.splitlines()[-1]))
    assert not imported

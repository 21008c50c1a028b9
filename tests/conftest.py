"""Shared fixtures. `pytest --regen-goldens` rewrites tests/data/goldens.json: after a change meant
to alter bits.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import settings

from relcore import cli
from relcore.model import dit

GOLDENS = Path(__file__).parent / "data" / "goldens.json"

# derandomize: the same examples on every run; no deadline: the first call pays for imports.
settings.register_profile("relcore", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("relcore")


def pytest_addoption(parser):
    parser.addoption(
        "--regen-goldens",
        action="store_true",
        help="rewrite tests/data/goldens.json from this code",
    )


@pytest.fixture
def golden(request):
    """golden(name, value): value must be the recorded one; with --regen-goldens it is recorded
    instead.
    """

    def check(name: str, value: str) -> None:
        known = json.loads(GOLDENS.read_text()) if GOLDENS.exists() else {}
        if request.config.getoption("--regen-goldens"):
            known[name] = value
            GOLDENS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n")
        assert known.get(name) == value, (
            f"golden '{name}' changed: if that was meant, run pytest --regen-goldens"
        )

    return check


@pytest.fixture
def relcore(capsys, monkeypatch):
    """relcore(*arguments, cwd=None): the command and what it prints, in this process: a new one
    loads torch anew.
    """

    def run(*arguments, cwd=None) -> SimpleNamespace:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["relcore", *map(str, arguments)])
            patch.chdir(cwd or Path.cwd())
            try:
                status = cli.main()
            except SystemExit as end:
                status = end.code
        stdout, stderr = capsys.readouterr()
        return SimpleNamespace(returncode=status or 0, stdout=stdout, stderr=stderr)

    return run


@pytest.fixture
def tiny_preset(monkeypatch):
    """PRESETS["tiny"]: small enough that a test can train it."""
    monkeypatch.setitem(dit.PRESETS, "tiny", dit.DiTConfig(depth=2, width=128))
    return "tiny"


@pytest.fixture
def tiny() -> dit.DiT:
    """An untrained tiny network whose zero-initialised outputs are random, so that text and pixels
    matter.
    """
    torch.manual_seed(0)
    model = dit.DiT(dit.DiTConfig(depth=2, width=128))
    for layer in (*(block.cross_attn.W_O for block in model.blocks), model.unembed):
        torch.nn.init.xavier_uniform_(layer.weight)
    return model.eval().requires_grad_(False)

"""A tiny model, and a folder of results of its own."""

from dataclasses import replace

import pytest
import torch

from relcore import experiment
from relcore.data.encoders import make_encoder
from relcore.face import Model
from relcore.model.diffusion import RectifiedFlow
from relcore.model.dit import DiT, DiTConfig


@pytest.fixture(scope="session")
def model() -> Model:
    """Untrained, with noise on every parameter, so that text and heads matter."""
    torch.manual_seed(0)
    network = DiT(DiTConfig(depth=2, width=128)).eval().requires_grad_(False)
    for p in network.parameters():
        p.add_(0.05 * torch.randn_like(p))
    return Model("tiny", network, make_encoder("rte"), RectifiedFlow(), {})


@pytest.fixture(scope="session")
def contextual(model) -> Model:
    """The same with text that passes for a contextual encoder's, of any prompt."""
    encoder = make_encoder("rte")
    encoder.contextual = True
    return replace(model, encoder=encoder)


@pytest.fixture
def stage(model, tmp_path, monkeypatch):
    """Experiments open the tiny model under any name, and write into a folder of their own."""
    monkeypatch.setattr(experiment, "load", lambda name: model)
    monkeypatch.setattr(experiment, "digest", lambda name: "0" * 64)
    monkeypatch.setattr(experiment, "RESULTS", tmp_path)
    monkeypatch.setattr(experiment, "ROOT", tmp_path.parent)
    return tmp_path

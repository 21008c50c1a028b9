"""A tiny model, and a folder of results of its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from relcore import experiment
from relcore.data.encoders import make_encoder
from relcore.data.scenes import Scenes, render
from relcore.data.scoring import detect
from relcore.face import Model
from relcore.kernels import synopsis, tags
from relcore.model.diffusion import RectifiedFlow
from relcore.model.dit import DiT, DiTConfig


@pytest.fixture(scope="session")
def model() -> Model:
    """Untrained, with noise on every parameter, so that text and heads matter.

    The second layer's queries are weak, so that the relation heads have a layer after them.
    """
    torch.manual_seed(0)
    network = DiT(DiTConfig(depth=2, width=128)).eval().requires_grad_(False)
    for p in network.parameters():
        p.add_(0.05 * torch.randn_like(p))
    for p in network.blocks[1].cross_attn.W_Q.parameters():
        p.mul_(0.1)
    return Model("tiny", network, make_encoder("rte"), RectifiedFlow(), {})


@pytest.fixture(scope="session")
def contextual(model) -> Model:
    """The same with text that passes for a contextual encoder's, of any prompt."""
    encoder = make_encoder("rte")
    encoder.contextual = True
    return replace(model, encoder=encoder)


@pytest.fixture
def shown(monkeypatch):
    """Every picture shows the prompt's objects, one above the other on the left.

    An untrained network's shows none: the analyses that need their places would only say so, which
    is right for whoever asks it of such a network, but would leave their tables untested.
    """
    xy, both = np.array([[[32.0, 32], [32, 96]]]), np.array([[0, 1]])
    pair = detect(render(Scenes(both, both, xy, np.array([0])), 64)[0])
    for module in (synopsis, tags):
        monkeypatch.setattr(module, "detect", lambda picture: pair)
        monkeypatch.setattr(module, "bound_pair", lambda objects, prompt: tuple(objects))


@pytest.fixture
def stage(model, tmp_path, monkeypatch):
    """Experiments open the tiny model under any name, and write into a folder of their own."""
    monkeypatch.setattr(experiment, "load", lambda name: model)
    monkeypatch.setattr(experiment, "digest", lambda name: "0" * 64)
    monkeypatch.setattr(experiment, "RESULTS", tmp_path)
    monkeypatch.setattr(experiment, "ROOT", tmp_path.parent)
    return tmp_path

"""Muon and the weights' average."""

import copy

import pytest
import torch

from relcore.model.optim import Muon, ema_update, make_optimizers, orthogonalise

# fp32 through four matrix iterations whose slope is up to 3.44 each.
ITERATED = {"atol": 1e-3, "rtol": 1e-3}


def polynomial(s: torch.Tensor, steps: int = 4) -> torch.Tensor:
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


@pytest.mark.parametrize("rows, columns", [(16, 16), (16, 64)])
def test_orthogonalise_keeps_singular_vectors_and_maps_the_values(rows, columns):
    stack = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(0))
    u, s, vt = torch.linalg.svd(stack, full_matrices=False)
    mapped = polynomial(s / s.norm(dim=1, keepdim=True))
    torch.testing.assert_close(orthogonalise(stack), u @ torch.diag_embed(mapped) @ vt, **ITERATED)


def test_orthogonalise_brings_singular_values_near_one():
    """Jordan et al. 2024: the quintic's values end within .7 to 1.2 of those that four steps lift
    at all: a value grows 3.44 times a step while it is small, so from .7 / 3.44^4 = .005 up.
    """
    share = torch.logspace(-2, 0, 200)
    assert polynomial(share).min() > 0.65 and polynomial(share).max() < 1.25
    stack = torch.randn(2, 32, 128, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(stack))
    assert values.min() > 0.65 and values.max() < 1.25


def test_orthogonalise_ignores_scale_and_survives_zero():
    stack = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(orthogonalise(1000 * stack), orthogonalise(stack), **ITERATED)
    assert (orthogonalise(torch.zeros(1, 4, 8)) == 0).all()


def test_muon_steps_by_the_orthogonalised_gradient():
    """First step: momentum m = .05 g, Nesterov .05 g + .95 m, whose direction is g.

    Tall matrices step by sqrt(rows / columns) more.
    """
    wide, tall = torch.nn.Parameter(torch.zeros(8, 32)), torch.nn.Parameter(torch.zeros(32, 8))
    gradient = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    wide.grad, tall.grad = gradient, gradient.T.clone()
    Muon([wide, tall], lr=0.1).step()
    torch.testing.assert_close(wide.data, -0.1 * orthogonalise(gradient[None])[0], **ITERATED)
    torch.testing.assert_close(tall.data, 2 * wide.data.T, **ITERATED)


def test_muon_finds_the_bottom_of_a_bowl():
    weight, target = (
        torch.nn.Parameter(torch.zeros(4, 6)),
        torch.randn(4, 6, generator=torch.Generator().manual_seed(0)),
    )
    optimizer = Muon([weight], lr=0.02)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = (weight - target).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_every_parameter_has_one_optimiser(tiny):
    """Muon: the blocks' matrices and nothing else."""
    adamw, muon = make_optimizers(tiny, "muon", 1e-3, 0.02)
    groups = [{id(p) for group in o.param_groups for p in group["params"]} for o in (adamw, muon)]
    names = {id(p): name for name, p in tiny.named_parameters()}
    assert groups[0] | groups[1] == names.keys() and not groups[0] & groups[1]
    assert all(names[i].startswith("blocks.") and names[i].endswith(".weight") for i in groups[1])
    (alone,) = make_optimizers(tiny, "adamw", 1e-3, 0.02)
    assert sum(len(group["params"]) for group in alone.param_groups) == len(names)


def test_the_caption_mlp_can_have_its_own_rate(tiny):
    adamw, muon = make_optimizers(tiny, "muon", 1e-3, 0.02, caption_lr=1e-4)
    names = {id(p): name for name, p in tiny.named_parameters()}
    peaks = {names[id(p)]: group["peak"] for group in adamw.param_groups for p in group["params"]}
    assert {name for name, peak in peaks.items() if peak == 1e-4} == {
        n for n in peaks if n.startswith("caption_mlp.")
    }
    assert set(peaks.values()) == {1e-3, 1e-4} and muon.param_groups[0]["peak"] == 0.02


def test_average_warms_up_then_decays_slowly(tiny):
    for step, rate in ((0, 0.9), (10, 9 / 20), (10**6, 0.001)):
        average = copy.deepcopy(tiny).requires_grad_(False)
        for p in average.parameters():
            p.zero_()
        ema_update(average, tiny, step)
        for name, p in tiny.named_parameters():
            torch.testing.assert_close(average.get_parameter(name), rate * p)

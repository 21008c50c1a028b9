"""Capture: what is recorded is what the network computes, and looking changes nothing."""

import pytest
import torch
from networks import stirred

from relcore.errors import RelcoreError
from relcore.kernels.capture import activation_names, capture
from relcore.model.diffusion import initial_noise, sample

PROMPTS = ["red square is above blue circle", "blue triangle is to the lower left of red square"]
# The explicit softmax and the fused kernel sum in a different order: a few units in fp32's last place.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def model():
    return stirred(0.02)


def forward(model, encoder):
    return model(initial_noise([0, 1], 64), torch.tensor([0.1, 0.6]), encoder.encode(PROMPTS))


def test_capturing_nothing_changes_nothing(model, encoder):
    plain = sample(model, encoder, PROMPTS, [0, 1], steps=2)
    with capture(model):
        assert torch.equal(plain, sample(model, encoder, PROMPTS, [0, 1], steps=2))


def test_recording_leaves_the_output_as_it_was(model, encoder):
    plain = forward(model, encoder)
    with capture(model, activation_names(model)) as cache:
        torch.testing.assert_close(forward(model, encoder), plain, **CLOSE)
    assert {name for name, _ in cache} == set(activation_names(model))


def test_residual_stream_alone_is_recorded_without_touching_attention(model, encoder):
    plain = forward(model, encoder)
    with capture(model, ["blocks.*.resid_post"]) as cache:
        assert torch.equal(forward(model, encoder), plain)
    assert len(cache) == 2


@pytest.mark.parametrize("kind", ["attn", "cross_attn"])
def test_head_results_and_bias_sum_to_the_layers_output(model, encoder, kind):
    with capture(model, [f"blocks.1.{kind}.result", f"blocks.1.{kind}_out"]) as cache:
        forward(model, encoder)
    bias = getattr(model.blocks[1], kind).W_O.bias
    total = cache[f"blocks.1.{kind}.result", 0].sum(1) + bias
    torch.testing.assert_close(total, cache[f"blocks.1.{kind}_out", 0], **CLOSE)


def test_patterns_sum_to_one_and_ignore_padding(model, encoder):
    with capture(model, ["*.pattern"]) as cache:
        forward(model, encoder)
    mask = encoder.encode(PROMPTS).mask
    for (name, _), pattern in cache.items():
        torch.testing.assert_close(pattern.sum(-1), torch.ones_like(pattern[..., 0]), **CLOSE)
        if "cross" in name:
            assert (pattern[~mask[:, None, None].expand_as(pattern)] == 0).all()


def test_step_counts_the_sampling_steps(model, encoder):
    with capture(model, ["blocks.0.resid_pre"]) as cache:
        sample(model, encoder, PROMPTS, [0, 1], steps=3)
    assert [step for _, step in cache] == [0, 1, 2]


def test_an_edit_changes_the_picture_and_is_gone_afterwards(model, encoder):
    plain = forward(model, encoder)
    with capture(model, edits={"blocks.*.cross_attn_out": lambda value, step: torch.zeros_like(value)}):
        blind = forward(model, encoder)
        other = model(initial_noise([0, 1], 64), torch.tensor([0.1, 0.6]), encoder.encode(PROMPTS[::-1]))
    assert not torch.allclose(plain, blind)
    torch.testing.assert_close(blind, other, **CLOSE)  # without cross-attention the prompt does not matter
    assert torch.equal(forward(model, encoder), plain)


def test_the_tap_is_removed_after_an_exception(model, encoder):
    with pytest.raises(ZeroDivisionError), capture(model, ["*.pattern"]):
        1 / 0  # noqa: B018
    assert model.tap is None and not model._forward_hooks


def test_unknown_names_and_nested_captures_are_refused(model):
    with pytest.raises(RelcoreError, match="nosuch"), capture(model, ["nosuch"]):
        pass
    with capture(model, ["*.pattern"]), pytest.raises(RelcoreError, match="another capture"), capture(model, ["*.z"]):
        pass
    assert model.tap is None

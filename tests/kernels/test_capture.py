"""Capture: what is recorded is what the network computes, and looking changes nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import stirred

from relcore.data.prompts import suite
from relcore.errors import RelcoreError
from relcore.kernels.capture import activation_names, capture
from relcore.model.diffusion import SAMPLERS, initial_noise, sample

PROMPTS = ["red square is above blue circle", "blue triangle is to the lower left of red square"]
# Sums over heads, tokens or padding in another order: a few units in fp32's last place.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
FIRST = torch.tensor([0])
# The same change in place and out of place.
CHANGES = [
    (lambda v: v.mul_(1.5), lambda v: v * 1.5),
    (lambda v: v.index_fill_(1, FIRST, 0), lambda v: v.index_fill(1, FIRST, 0)),
    (lambda v: v.copy_(v.flip(0)), lambda v: v.flip(0)),
    (lambda v: v.clamp_(min=0), lambda v: v.clamp(min=0)),
]


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
        assert torch.equal(forward(model, encoder), plain)
    assert {name for name, _ in cache} == set(activation_names(model))


def test_residual_stream_alone_is_recorded_without_touching_attention(model, encoder):
    plain = forward(model, encoder)
    with capture(model, ["blocks.*.resid_post"]) as cache:
        assert torch.equal(forward(model, encoder), plain)
    assert len(cache) == 2


def test_an_edit_that_hands_on_what_it_got_changes_nothing(model, encoder):
    plain = forward(model, encoder)
    names = [name for name in activation_names(model) if not name.endswith("result")]
    with capture(model, edits=dict.fromkeys(names, lambda value, step: value)):
        assert torch.equal(forward(model, encoder), plain)
    with capture(model, edits={"*.result": lambda value, step: value}):  # heads are then summed
        torch.testing.assert_close(forward(model, encoder), plain, **CLOSE)


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
    with capture(
        model, edits={"blocks.*.cross_attn_out": lambda value, step: torch.zeros_like(value)}
    ):
        blind = forward(model, encoder)
        other = model(
            initial_noise([0, 1], 64), torch.tensor([0.1, 0.6]), encoder.encode(PROMPTS[::-1])
        )
    assert not torch.allclose(plain, blind)
    # Without cross-attention the prompt does not matter.
    torch.testing.assert_close(blind, other, **CLOSE)
    assert torch.equal(forward(model, encoder), plain)


def test_the_tap_is_removed_after_an_exception(model, encoder):
    with pytest.raises(ZeroDivisionError), capture(model, ["*.pattern"]):
        1 / 0  # noqa: B018
    assert model.tap is None and not model._forward_hooks


def test_unknown_names_and_nested_captures_are_refused(model):
    with pytest.raises(RelcoreError, match="nosuch"), capture(model, ["nosuch"]):
        pass
    with (
        capture(model, ["*.pattern"]),
        pytest.raises(RelcoreError, match="another capture"),
        capture(model, ["*.z"]),
    ):
        pass
    assert model.tap is None


# --- copies: nothing is shared with the caller


def two_passes(model, encoder, names=("*",), edits=None):
    """Outputs and cache of two passes on one TextState, which must stay as it is."""
    state = model.read_text(encoder.encode(PROMPTS))
    before = [tensor.clone() for tensor in (*state.keys, *state.values)]
    with capture(model, names, edits) as cache:
        outputs = [model(initial_noise([0, 1], 64), torch.full((2,), t), state) for t in (0.1, 0.6)]
    for was, tensor in zip(before, (*state.keys, *state.values), strict=True):
        assert torch.equal(was, tensor)
    return outputs, cache


@given(st.data())
def test_edits_in_place_are_the_edits_out_of_place(model, encoder, data):
    names = st.sampled_from(activation_names(model))
    chosen = data.draw(st.dictionaries(names, st.sampled_from(CHANGES), min_size=1, max_size=6))
    plain, _ = two_passes(model, encoder, ())

    def edits(kind):
        return {name: lambda v, _, f=pair[kind]: f(v) for name, pair in chosen.items()}

    outputs, cache = two_passes(model, encoder, edits=edits(0))
    expected, recorded = two_passes(model, encoder, edits=edits(1))
    assert all(map(torch.equal, outputs, expected))
    assert cache.keys() == recorded.keys()
    assert [key for key in cache if not torch.equal(cache[key], recorded[key])] == []
    assert all(map(torch.equal, two_passes(model, encoder, ())[0], plain))


def test_an_edit_in_place_sees_the_prompts_own_keys_at_every_step(model, encoder):
    norms = []

    def louder(k, step):
        norms.append(float(k[:2].norm()))
        return k.mul_(1.5)

    with capture(model, edits={"blocks.1.cross_attn.k": louder}):
        sample(model, encoder, PROMPTS, [0, 1], steps=5)
    assert norms == [norms[0]] * 5


def test_no_two_activations_share_memory_and_changing_one_reaches_nothing(model, encoder):
    plain, _ = two_passes(model, encoder, ())

    def late(value, step):
        for recorded in cache.values():
            recorded.zero_()
        return value

    state = model.read_text(encoder.encode(PROMPTS))
    with capture(model, ["*"], {"blocks.0.mlp_out": late, "blocks.1.attn.q": late}) as cache:
        outputs = [model(initial_noise([0, 1], 64), torch.full((2,), t), state) for t in (0.1, 0.6)]
    assert all(map(torch.equal, outputs, plain))
    assert len({value.untyped_storage().data_ptr() for value in cache.values()}) == len(cache)


def test_an_edit_may_return_its_own_tensor_and_change_it_later(model, encoder):
    def edits(copied):
        kept = torch.zeros(2, 2, 64, 64)

        def running(value, step):
            kept.add_(value)
            return kept.clone() if copied else kept

        return {"blocks.*.attn.[kv]": running}

    (outputs, cache), (expected, recorded) = (
        two_passes(model, encoder, edits=edits(copied)) for copied in (False, True)
    )
    assert all(map(torch.equal, outputs, expected))
    assert all(torch.equal(cache[key], recorded[key]) for key in recorded)


@pytest.mark.parametrize(
    "edit, got",
    [
        (lambda value, step: None, "None"),
        (lambda value, step: value.tolist(), "a list"),
        (lambda value, step: value[:1], r"\[1, 64, 128\] of float32"),
        (lambda value, step: value.double(), r"\[2, 64, 128\] of float64"),
        (lambda value, step: value.to("meta"), r"\[2, 64, 128\] of float32 on meta"),
    ],
)
def test_what_an_edit_must_return_is_said(model, encoder, edit, got):
    message = rf"'blocks.1.mlp_out'.*\[2, 64, 128\] of float32.*{got}"
    edits = {"blocks.1.mlp_out": edit}
    with capture(model, edits=edits), pytest.raises(RelcoreError, match=message) as error:
        forward(model, encoder)
    assert "\n" not in str(error.value)


# --- batches: as if all pictures were drawn in one


def drawn(model, encoder, batch, **sampling):
    """Every activation of seven pictures whose prompts have different lengths, edited at step 1."""
    prompts = [*suite()[:2], PROMPTS[1], *suite()[2:6]]
    edits = {"blocks.0.cross_attn.z": lambda z, step: z.mul_(3) if step == 1 else z}
    with capture(model, ["*"], edits) as cache:
        pictures = sample(model, encoder, prompts, list(range(7)), batch=batch, steps=3, **sampling)
    return pictures, cache, encoder.encode([*prompts, ""]).mask


@pytest.mark.parametrize("guidance", [1, 4.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_batches_are_recorded_and_edited_as_one(model, encoder, sampler, guidance):
    how = {"sampler": sampler, "guidance": guidance}
    whole, expected, mask = drawn(model, encoder, 7, **how)
    for batch in (1, 3):
        pictures, cache, _ = drawn(model, encoder, batch, **how)
        assert (pictures.int() - whole.int()).abs().max() <= 1  # rounding at the pixel
        assert cache.keys() == expected.keys()
        assert {step for _, step in cache} == set(range(5 if sampler == "heun" else 3))
        for (name, step), value in cache.items():
            one = expected[name, step]
            if name.endswith(("cross_attn.k", "cross_attn.v")):  # unused where there is padding
                real = mask[[*range(7), *[7] * (len(one) - 7)], None, :, None]
                one, value = one * real, value * real
            torch.testing.assert_close(value, one, rtol=1e-3, atol=1e-4)


def test_pictures_of_a_second_call_follow_those_of_the_first(model, encoder):
    with capture(model, ["*.resid_post"]) as cache:
        for k in range(2):
            sample(model, encoder, PROMPTS[k : k + 1], [k], steps=3)
    with capture(model, ["*.resid_post"]) as together:
        sample(model, encoder, PROMPTS, [0, 1], steps=3)
    assert cache.keys() == together.keys()
    for key, value in together.items():
        torch.testing.assert_close(cache[key], value, rtol=1e-3, atol=1e-4)


def test_guided_and_unguided_pictures_are_not_mixed(model, encoder):
    with capture(model, ["*.resid_post"]):
        sample(model, encoder, PROMPTS, [0, 1], steps=2)
        with pytest.raises(RelcoreError, match="blocks.0.resid_post.*step 0.*a capture of its own"):
            sample(model, encoder, PROMPTS, [0, 1], steps=2, guidance=1)
